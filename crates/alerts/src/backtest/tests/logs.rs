//! The same of rules about logs.

use model::{LogEvent, Severity};

use super::*;

const LOG_RULES: [&str; 4] = [
    "log = 'level:>=error refused'\nwindow = '10s'\nabove = { warning = 2, critical = 5 }",
    "log = 'refused'\nwindow = '5s'",
    "log = 'service:api refused'\nwindow = '8s'\nabove = { warning = 1 }\nfor = '3s'\nkeep_firing_for = '4s'",
    "log = 'level:error -refused'\nwindow = '20s'\nabove = { critical = 3, recover = 1 }",
];

fn event(time: UnixMillis, (api, refused, error): (bool, bool, bool)) -> LogEvent {
    LogEvent {
        time,
        severity: Severity::new(if error { 17 } else { 9 }).expect("valid"),
        service: if api { "api" } else { "db" }.to_owned(),
        body: if refused { "connection refused" } else { "something else" }.to_owned(),
        body_truncated: false,
        attributes: Labels::empty(),
        source: "file".to_owned(),
    }
}

/// Events as they come in batches, each some time after its last event, in their order.
fn live_logs(
    rule: &Arc<Rule>,
    batches: &[Vec<LogEvent>],
    delays: &[i64],
    (start, end): (UnixMillis, UnixMillis),
) -> Vec<Change> {
    let mut engine = Engine::new(100, UnixMillis(0));
    let mut steps = Vec::new();
    engine.set_rules(std::slice::from_ref(rule), UnixMillis(0), &mut steps);
    engine.set_machine(machine(), Identity::default(), UnixMillis(0), &mut steps);
    engine.set_status(machine(), MachineStatus::Online, UnixMillis(0), &mut steps);
    let mut hub = Hub { tick: start, heard: end, away: false };
    let mut latest = start;
    for (batch, delay) in batches.iter().zip(delays.iter().cycle()) {
        let Some(last) = batch.last() else { continue };
        latest = latest.max(last.time + *delay);
        hub.pass(&mut engine, latest, &mut steps);
        engine.observe_logs(machine(), batch, latest, &mut steps);
    }
    hub.pass(&mut engine, end, &mut steps);
    steps
}

async fn stored_logs(
    frames: &[(Layout, Frame)],
    batches: &[Vec<LogEvent>],
) -> (storage::Stores, tempfile::TempDir) {
    let (stores, dir) = stored(frames).await;
    let first = frames.len() as u64 + 1;
    let items = (first..).zip(batches);
    let items = items.map(|(seq, batch)| Item { seq, payload: Payload::Logs(batch.clone()) });
    let delivery = Delivery {
        machine: machine(),
        epoch: SpoolEpoch(1),
        received: frames[0].1.time,
        layouts: Vec::new(),
        items: items.collect(),
    };
    stores.history.append(vec![delivery]).await.expect("appended");
    (stores, dir)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_backtest_of_logs_says_what_the_live_engine_did(
        batches in prop::collection::vec(
            prop::collection::vec((1..900i64, any::<(bool, bool, bool)>()), 1..6), 1..25,
        ),
        // No event comes 5 s late or later, the first of a batch included (4 pauses before its last): by then a
        // window may have moved on without it.
        delays in prop::collection::vec(0..1200i64, 1..20),
    ) {
        let start = UnixMillis(1_700_000_000_000);
        let mut time = start;
        let mut next = |(pause, kind): &(i64, (bool, bool, bool))| {
            time = time + *pause;
            event(time, *kind)
        };
        let batches: Vec<Vec<LogEvent>> =
            batches.iter().map(|batch| batch.iter().map(&mut next).collect()).collect();
        let end = (time + 40_000).ceil(1000);
        // The machine is there all the time.
        let seconds = end.since(start) as usize / 1000;
        let frames = recorded(&vec![Some((0.5, 0.5)); seconds], start);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (stores, _dir) = runtime.block_on(stored_logs(&frames, &batches));
        for text in LOG_RULES {
            let rule = rule(&format!("name = 'r'\n{text}"));
            let steps = live_logs(&rule, &batches, &delays, (start, end));
            let range = TimeRange::new(start, end);
            let report = run(&*stores.history, &*stores.registry, &rule, range);
            let report = runtime.block_on(report).expect("a report");
            let mut tested: Told = report.firings.iter().map(|f| {
                let peak = if f.resolved.is_some() { &f.last } else { &f.change };
                (f.change.at.0, f.resolved.map(|at| at.0), format!("{:.9}", peak.alert.peak))
            }).collect();
            let mut expected = told_by_service(&steps);
            tested.sort();
            expected.sort();
            prop_assert_eq!(tested, expected, "{}", text);
        }
    }
}

#[tokio::test]
async fn a_rule_that_finds_too_much_is_told_so_and_is_no_failure_of_the_store() {
    let start = UnixMillis(1_700_000_000_000);
    let frames = recorded(&[Some((0.5, 0.5))], start);
    let batch = (0..3).map(|i| event(start + i, (true, true, true))).collect();
    let (stores, _dir) = stored_logs(&frames, &[batch]).await;
    let rule = rule("name = 'r'\nlog = 'refused'");
    let range = TimeRange::new(start, start + 1000);
    let read = async |max| crate::backtest::logs::read(&*stores.history, &rule, range, max).await;
    assert_eq!(read(3).await.expect("found")[&machine()].len(), 3);
    let error = read(2).await.expect_err("too much");
    assert!(matches!(error, TestError::FindsTooMuch { max: 2 }), "{error}");
}

/// As [`told_live`], of several alerts at once.
fn told_by_service(steps: &[Change]) -> Told {
    let ids: std::collections::BTreeSet<_> = steps.iter().map(|step| step.alert.id).collect();
    let of = |id| steps.iter().filter(|step| step.alert.id == id).cloned().collect::<Vec<_>>();
    ids.into_iter().flat_map(|id| told_live(&of(id))).collect()
}
