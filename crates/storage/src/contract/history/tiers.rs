//! Roll-ups: exact, complete, whatever the order of arrival.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{Kind, TimeRange, UnixMillis};

use super::{DAY, HOUR, MINUTE, SECOND, START, Sender, counter, forever, gauge, layout, settle};
use crate::contract::Dice;
use crate::history::{History, Maintained, Retention, Tier};
use crate::rollup::Rollup;

/// Of gauges, `first` is not kept; of counters, the sum is not. Sums are compared but for their last bits.
pub(super) fn assert_same(kind: Kind, found: &[Rollup], expected: &[Rollup], when: &str) {
    let starts = |windows: &[Rollup]| -> Vec<(i64, u32)> {
        windows.iter().map(|w| (w.start.since(START), w.count)).collect()
    };
    assert_eq!(starts(found), starts(expected), "{when}");
    for (found, expected) in found.iter().zip(expected) {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (a.abs().max(b.abs()) + 1.0);
        let same = found.last == expected.last
            && found.min == expected.min
            && found.max == expected.max
            && match kind {
                Kind::Gauge => close(found.sum, expected.sum),
                Kind::Counter => {
                    found.first == expected.first && close(found.increase, expected.increase)
                }
            };
        assert!(same, "{when}: found {found:?}, expected {expected:?}");
    }
}

async fn check(sender: &Sender, model: &BTreeMap<i64, (f64, f64)>, range: TimeRange, when: &str) {
    for (metric, kind, of) in [
        ("gauge", Kind::Gauge, (|v| v.0) as fn(&(f64, f64)) -> f64),
        ("counter", Kind::Counter, |v| v.1),
    ] {
        let series = sender.find(metric).await;
        for tier in [Tier::Minute, Tier::Hour] {
            let samples = model.iter().map(|(ms, values)| (START + *ms, of(values)));
            let mut expected = Rollup::of(kind, tier.window_ms(), samples);
            expected.retain(|window| range.contains(window.start));
            let found = sender.history.read_tier(&series, tier, range).await.expect("read");
            assert_same(kind, &found[0], &expected, &format!("{when}, {metric} by {tier:?}"));
        }
    }
}

pub async fn tiers_equal_a_plain_computation_whatever_the_order_of_arrival(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    for seed in 0..4 {
        let history = open(forever()).await;
        let mut dice = Dice::new(seed);
        let mut sender =
            Sender::new(&history, 1, vec![layout(vec![gauge("gauge"), counter("counter")])]);
        let mut total = 0;
        let mut frames: Vec<(i64, f64, f64)> = Vec::new();
        for step in 0..400 {
            // Over midnight, with pauses and counter resets.
            let ms = 22 * HOUR + step * 37 * SECOND + dice.below(900) as i64;
            if dice.below(10) == 0 {
                continue;
            }
            total = if dice.below(50) == 0 { 0 } else { total + dice.below(1000) };
            let value = match dice.below(12) {
                0 => f64::NAN,
                _ => dice.below(1000) as f64 / 10.0 - 30.0,
            };
            frames.push((ms, value, total as f64));
        }
        // Nearly in order, as a backlog beside fresh frames is, then wholly mixed.
        match seed % 2 {
            0 => dice.shuffle(&mut frames),
            _ => frames.chunks_mut(25).for_each(|chunk| dice.shuffle(chunk)),
        }
        let mut model = BTreeMap::new();
        let mut now = START + 22 * HOUR;
        for (round, chunk) in frames.chunks(40).enumerate() {
            for &(ms, value, total) in chunk {
                sender.send_frames(&[(ms, &[value, total])]).await;
                model.insert(ms, (value, total));
            }
            now = now + 20 * MINUTE;
            if round % 3 == 2 {
                now = now + HOUR;
            }
            let when = format!("seed {seed}, round {round}");
            check(&sender, &model, TimeRange::ALL, &format!("{when}, appended")).await;
            settle(&history, now).await;
            check(&sender, &model, TimeRange::ALL, &format!("{when}, maintained")).await;
        }
        settle(&history, START + 3 * DAY).await;
        check(&sender, &model, TimeRange::ALL, "all closed").await;
        let middle = TimeRange::new(START + 23 * HOUR + 30 * SECOND, START + 25 * HOUR);
        check(&sender, &model, middle, "a part of it").await;
    }
}

pub async fn a_tier_answers_for_time_that_is_not_rolled_up_yet(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a")])]);
    for minute in 0..90 {
        sender.send_frames(&[(minute * MINUTE, &[minute as f64])]).await;
        if minute % 7 == 0 {
            settle(&history, START + minute * MINUTE).await;
        }
        let series = sender.find("a").await;
        let range = TimeRange::new(START, START + (minute + 1) * MINUTE);
        let minutes = history.read_tier(&series, Tier::Minute, range).await.expect("read");
        assert_eq!(minutes[0].len() as i64, minute + 1);
        let hours = history.read_tier(&series, Tier::Hour, range).await.expect("read");
        let counts: u32 = hours[0].iter().map(|w| w.count).sum();
        assert_eq!(i64::from(counts), minute + 1);
    }
}

pub async fn maintenance_that_is_done_does_nothing(
    open: impl AsyncFn(Retention) -> Arc<dyn History>,
) {
    let history = open(forever()).await;
    assert_eq!(history.maintain(START).await.expect("maintained"), Maintained::default());
    let mut sender = Sender::new(&history, 1, vec![layout(vec![gauge("a")])]);
    for minute in 0..120 {
        sender.send_frames(&[(minute * MINUTE, &[1.0])]).await;
    }
    let mut done = Maintained::default();
    for now in [START + 3 * HOUR, START + 4 * HOUR] {
        for _ in 0..100 {
            let round = history.maintain(now).await.expect("maintained");
            done.sealed += round.sealed;
            done.rolled_up += round.rolled_up;
        }
    }
    assert!(done.sealed >= 2 && done.rolled_up >= 2, "{done:?}");
    assert_eq!(
        history.maintain(START + 5 * HOUR).await.expect("maintained"),
        Maintained::default()
    );
    // A clock that was set back changes nothing.
    assert_eq!(history.maintain(UnixMillis(0)).await.expect("maintained"), Maintained::default());
    assert_eq!(sender.raw("a").await.len(), 120);
}
