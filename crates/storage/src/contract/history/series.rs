//! Finding series and reading their values.

use std::sync::Arc;

use model::{Labels, LayoutId, MatchOp, Matcher, Payload, Series, TimeRange};

use super::{
    DAY, HOUR, MINUTE, SECOND, START, Sender, counter, forever, frame, gauge, layout, settle,
};
use crate::contract::Dice;
use crate::history::{History, Retention, Samples, SeriesSelector};

pub async fn series_are_found_by_name_labels_and_machine(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let cpu = |core: &str| Series::gauge("cpu", "1", Labels::of([("core", core)]));
    let both = vec![layout(vec![cpu("1"), gauge("cpu"), cpu("0"), gauge("other")])];
    for machine in [2, 1] {
        Sender::new(&history, machine, both.clone()).send_frames(&[(0, &[1.0; 4])]).await;
    }
    let find = async |selector: SeriesSelector, limit: usize| -> Vec<String> {
        let found = history.find_series(&selector, limit).await.expect("found");
        found.iter().map(|s| format!("{} {}", s.machine.as_u128(), s.series)).collect()
    };
    let cpu = SeriesSelector { metric: "cpu".into(), ..SeriesSelector::default() };
    assert_eq!(
        find(cpu.clone(), 100).await,
        [
            "1 cpu",
            r#"1 cpu{core="0"}"#,
            r#"1 cpu{core="1"}"#,
            "2 cpu",
            r#"2 cpu{core="0"}"#,
            r#"2 cpu{core="1"}"#,
        ]
    );
    assert_eq!(find(cpu.clone(), 4).await.last().expect("four"), "2 cpu");
    let second = SeriesSelector {
        machines: Some(vec!["00000000000000000000000000000002".parse().expect("an id")]),
        labels: vec![Matcher { name: "core".into(), op: MatchOp::NotEqual, value: "0".into() }],
        ..cpu.clone()
    };
    assert_eq!(find(second, 100).await, ["2 cpu", r#"2 cpu{core="1"}"#]);
    let nobody = SeriesSelector { machines: Some(vec![]), ..cpu };
    assert_eq!(find(nobody, 100).await, Vec::<String>::new());
}

pub async fn absent_values_are_left_out(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a"), gauge("b")])]);
    sender.send_frames(&[(0, &[f64::NAN, -0.0]), (SECOND, &[f64::INFINITY, f64::NAN])]).await;
    for now in [START, START + DAY] {
        settle(&history, now).await;
        assert_eq!(sender.raw("a").await, [(SECOND, f64::INFINITY)]);
        let zero = sender.raw("b").await;
        assert_eq!(zero, [(0, 0.0)]);
        assert!(zero[0].1.is_sign_negative());
    }
}

pub async fn a_series_in_two_layouts_is_one_series(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let small = layout(vec![gauge("a")]);
    let large = layout(vec![gauge("b"), gauge("a")]);
    let mut sender = Sender::new(&history, 1, vec![small.clone(), large.clone()]);
    let at =
        |id: LayoutId, seconds: i64, values: &[f64]| frame(id, START + seconds * SECOND, values);
    sender.send(vec![at(small.id(), 0, &[1.0]), at(large.id(), 1, &[0.0, 2.0])]).await;
    // At one time in both: an absence hides nothing.
    sender.send(vec![at(small.id(), 2, &[3.0]), at(large.id(), 2, &[0.0, f64::NAN])]).await;
    for now in [START, START + DAY] {
        settle(&history, now).await;
        assert_eq!(sender.raw("a").await, [(0, 1.0), (SECOND, 2.0), (2 * SECOND, 3.0)]);
    }
}

pub async fn frames_are_read_as_they_came_sealed_or_not(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let small = layout(vec![gauge("a")]);
    // Wider than what is compressed together.
    let wide = layout((0..150).map(|i| counter(&format!("c{i:03}"))).collect());
    let mut sender = Sender::new(&history, 1, vec![small.clone(), wide.clone()]);
    let at =
        |id: LayoutId, seconds: i64, values: &[f64]| frame(id, START + seconds * SECOND, values);
    let values: Vec<f64> = (0..150).map(f64::from).collect();
    sender.send(vec![at(small.id(), 3, &[3.0]), at(wide.id(), 1, &values)]).await;
    sender.send(vec![at(small.id(), 1, &[1.0]), at(small.id(), 9, &[9.0])]).await;
    Sender::new(&history, 2, vec![small.clone()]).send_frames(&[(SECOND, &[7.0])]).await;
    let range = TimeRange::new(START + SECOND, START + 9 * SECOND);
    for now in [START, START + HOUR / 2, START + DAY] {
        settle(&history, now).await;
        let found = history.read_frames(sender.machine, &|_| true, range).await.expect("read");
        let mut found: Vec<_> = found
            .into_iter()
            .map(|live| {
                assert_eq!(live.layout.id(), live.frame.layout);
                (live.frame.time.since(START), live.frame.layout, live.frame.values.clone())
            })
            .collect();
        assert!(found.is_sorted_by_key(|(time, ..)| *time));
        found.sort_by_key(|(time, _, values)| (*time, values.len()));
        assert_eq!(found[0], (SECOND, small.id(), vec![1.0]));
        assert_eq!(found[1], (SECOND, wide.id(), values.clone()));
        assert_eq!(found[2], (3 * SECOND, small.id(), vec![3.0]));
        assert_eq!(found.len(), 3);
        let wanted = |metric: &str| metric == "c100";
        let found = history.read_frames(sender.machine, &wanted, range).await.expect("read");
        let [only] = &found[..] else { panic!("{found:?}") };
        assert_eq!(only.layout.id(), wide.id());
        let there = only.frame.values.iter().enumerate().filter(|(_, value)| !value.is_nan());
        assert_eq!(there.collect::<Vec<_>>(), [(100, &100.0)]);
    }
    let nobody = "00000000000000000000000000000009".parse().expect("an id");
    assert_eq!(history.read_frames(nobody, &|_| true, range).await.expect("read").len(), 0);
}

pub async fn a_frame_sent_again_with_the_same_time_replaces(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a")])]);
    sender.send_frames(&[(0, &[1.0]), (SECOND, &[2.0])]).await;
    sender.send_frames(&[(0, &[10.0])]).await;
    assert_eq!(sender.raw("a").await, [(0, 10.0), (SECOND, 2.0)]);
    settle(&history, START + DAY).await;
    sender.send_frames(&[(SECOND, &[20.0])]).await;
    for now in [START, START + DAY, START + DAY + HOUR] {
        settle(&history, now).await;
        assert_eq!(sender.raw("a").await, [(0, 10.0), (SECOND, 20.0)]);
    }
}

pub async fn answers_come_in_the_order_asked(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    let history = open(forever()).await;
    let both = vec![layout(vec![gauge("a"), gauge("b")])];
    let mut first = Sender::new(&history, 1, both.clone());
    let mut second = Sender::new(&history, 2, both);
    first.send_frames(&[(0, &[1.0, 2.0])]).await;
    second.send_frames(&[(0, &[3.0, 4.0])]).await;
    let mut asked = Vec::new();
    for (sender, metric) in [(&second, "b"), (&first, "a"), (&second, "b"), (&first, "b")] {
        asked.extend(sender.find(metric).await);
    }
    for now in [START, START + DAY] {
        settle(&history, now).await;
        let samples = history.read_raw(&asked, TimeRange::ALL).await.expect("read");
        let values: Vec<f64> = samples.iter().map(|s| s.values[0]).collect();
        assert_eq!(values, [4.0, 1.0, 4.0, 2.0]);
    }
}

/// Two hours of two layouts, wide enough for several blocks, with absences.
pub(super) fn two_hours(small: LayoutId, wide: LayoutId, width: usize) -> Vec<Payload> {
    let mut dice = Dice::new(1);
    let mut payloads = Vec::new();
    for second in (0..2 * 3600).step_by(20) {
        let time = START + second * SECOND + dice.below(900) as i64;
        payloads.push(frame(small, time, &[second as f64, dice.below(1000) as f64 / 10.0]));
        let values: Vec<f64> = (0..width)
            .map(|column| match (dice.below(20), column % 3) {
                (0, _) => f64::NAN,
                (_, 0) => 5.0,
                (_, 1) => (second * 1000) as f64,
                _ => dice.below(10_000) as f64 / 10_000.0,
            })
            .collect();
        payloads.push(frame(wide, time + 7, &values));
    }
    payloads
}

pub async fn sealing_changes_no_answer(open: impl AsyncFn(Retention) -> Arc<dyn History>) {
    const WIDTH: usize = 150;
    let history = open(forever()).await;
    let small = layout(vec![counter("small.counter"), gauge("small.gauge")]);
    let wide = layout(
        (0..WIDTH)
            .map(|i| Series::gauge("wide", "1", Labels::of([("column", i.to_string().as_str())])))
            .collect(),
    );
    let mut sender = Sender::new(&history, 1, vec![small.clone(), wide.clone()]);
    for chunk in two_hours(small.id(), wide.id(), WIDTH).chunks(100) {
        sender.send(chunk.to_vec()).await;
    }
    let mut series = sender.find("wide").await;
    series.extend(sender.find("small.counter").await);
    series.extend(sender.find("small.gauge").await);
    assert_eq!(series.len(), WIDTH + 2);
    let ranges = [
        TimeRange::ALL,
        TimeRange::new(START + 7 * MINUTE + 13, START + 93 * MINUTE + 1),
        TimeRange::new(START + 3 * HOUR, START + 4 * HOUR),
    ];
    let read = async || -> Vec<Vec<Samples>> {
        let mut answers = Vec::new();
        for range in ranges {
            answers.push(history.read_raw(&series, range).await.expect("read"));
        }
        answers
    };
    let before = read().await;
    assert!(before[0][0].times.len() > 300);
    assert!(before[2][0].times.is_empty());
    for minutes in (0..130).step_by(5).chain([24 * 60]) {
        settle(&history, START + minutes * MINUTE).await;
        assert!(read().await == before, "maintained at minute {minutes}");
    }
}

pub async fn a_late_frame_opens_its_stretch_again(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a")])]);
    sender.send_frames(&[(MINUTE, &[1.0]), (30 * MINUTE, &[2.0])]).await;
    let mut now = START + DAY;
    settle(&history, now).await;
    let mut expected = vec![(MINUTE, 1.0), (30 * MINUTE, 2.0)];
    for (ms, value) in [(20 * MINUTE, 3.0), (0, 4.0), (59 * MINUTE, 5.0)] {
        sender.send_frames(&[(ms, &[value])]).await;
        expected.push((ms, value));
        expected.sort_by_key(|(ms, _)| *ms);
        assert_eq!(sender.raw("a").await, expected);
        settle(&history, now).await;
        assert_eq!(sender.raw("a").await, expected);
        now = now + HOUR;
        settle(&history, now).await;
        assert_eq!(sender.raw("a").await, expected);
    }
}
