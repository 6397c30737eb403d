//! Backtest equals live, on the same data, through a real history.

use model::{Item, Labels, MachineFacts, Payload, Series, SpoolEpoch};
use proptest::prelude::*;
use storage::history::Delivery;

use super::*;
use crate::rule::{Document, RuleId};

mod logs;

const MACHINE: u128 = 7;

fn machine() -> MachineId {
    MachineId::from_u128(MACHINE).expect("not zero")
}

fn rule(text: &str) -> Arc<Rule> {
    let document: Document = toml::from_str(text).expect("TOML");
    let spec = document.to_spec().expect("valid");
    Arc::new(Rule { id: RuleId::from_name(&spec.name), revision: 1, spec })
}

fn layouts() -> [Layout; 2] {
    let uptime = metric::UPTIME.alone();
    let gauge = |metric: &str| Series::gauge(metric, "1", Labels::empty());
    [vec![uptime, gauge("cpu")], vec![gauge("disk"), gauge("size")]]
        .map(|series| Layout::new(series).expect("valid"))
}

/// Frames as a collector reads them: one layout every second, the other every five. `None`: it says nothing.
fn recorded(values: &[Option<(f64, f64)>], start: UnixMillis) -> Vec<(Layout, Frame)> {
    let [fast, slow] = layouts();
    let mut frames = Vec::new();
    for (second, values) in (0..).zip(values) {
        let Some((cpu, disk)) = values else { continue };
        let time = start + second * 1000 + 137;
        // NaN stands for a value that could not be read.
        let values = vec![second as f64, *cpu];
        frames.push((fast.clone(), Frame { time, layout: fast.id(), values }));
        if second % 5 == 0 {
            let frame = Frame { time, layout: slow.id(), values: vec![*disk, 2.0] };
            frames.push((slow.clone(), frame));
        }
    }
    frames
}

/// How frames come: how late each is, and which come once more after which, as after a connection that broke.
struct Arrival<'a> {
    delays: &'a [i64],
    again: &'a [(usize, usize)],
}

/// What the live engine does: frames arrive with their delays, ticks when it is their time, and the hub tells
/// of a machine that is silent.
fn live(
    rule: &Arc<Rule>,
    frames: &[(Layout, Frame)],
    arrival: &Arrival<'_>,
    end: UnixMillis,
) -> Vec<Change> {
    let mut engine = Engine::new(100, UnixMillis(0));
    let mut steps = Vec::new();
    engine.set_rules(std::slice::from_ref(rule), UnixMillis(0), &mut steps);
    engine.set_machine(machine(), Identity::default(), UnixMillis(0), &mut steps);
    engine.set_status(machine(), MachineStatus::Online, UnixMillis(0), &mut steps);
    let delays = arrival.delays.iter().cycle();
    let mut arrivals: Vec<_> = frames.iter().zip(delays).map(|(f, d)| (f.1.time + *d, f)).collect();
    // One stream keeps the order; delays only stretch it.
    let mut latest = UnixMillis(0);
    for (arrival, _) in &mut arrivals {
        latest = latest.max(*arrival);
        *arrival = latest;
    }
    let mut hub = Hub { tick: frames[0].1.time.floor(1000), heard: frames[0].1.time, away: false };
    for (place, (at, (layout, frame))) in arrivals.into_iter().enumerate() {
        hub.pass(&mut engine, at, &mut steps);
        hub.hear(&mut engine, frame.time, &mut steps);
        engine.observe(machine(), layout, frame, false, at, &mut steps);
        for (after, which) in arrival.again {
            if after % frames.len() == place {
                let (layout, frame) = &frames[which % (place + 1)];
                engine.observe(machine(), layout, frame, which % 2 == 0, at, &mut steps);
            }
        }
    }
    hub.pass(&mut engine, end, &mut steps);
    steps
}

/// What tells the live engine the time, and that a machine is silent.
struct Hub {
    tick: UnixMillis,
    heard: UnixMillis,
    away: bool,
}

impl Hub {
    fn pass(&mut self, engine: &mut Engine, to: UnixMillis, steps: &mut Vec<Change>) {
        while self.tick < to {
            let offline = self.heard + OFFLINE_AFTER_MS;
            if !self.away && self.tick > offline {
                engine.set_status(machine(), MachineStatus::Offline, offline, steps);
                self.away = true;
            }
            engine.tick(self.tick, steps);
            self.tick = self.tick + 1000;
        }
    }

    fn hear(&mut self, engine: &mut Engine, time: UnixMillis, steps: &mut Vec<Change>) {
        if std::mem::take(&mut self.away) {
            engine.set_status(machine(), MachineStatus::Online, time, steps);
        }
        self.heard = time;
    }
}

async fn stored(frames: &[(Layout, Frame)]) -> (storage::Stores, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let stores = storage::open(&storage::Config::default(), dir.path()).await.expect("stores");
    let items = (1..).zip(frames);
    let items = items.map(|(seq, (_, frame))| Item { seq, payload: Payload::Frame(frame.clone()) });
    let delivery = Delivery {
        machine: machine(),
        epoch: SpoolEpoch(1),
        received: frames[0].1.time,
        layouts: layouts().to_vec(),
        items: items.collect(),
    };
    stores.history.append(vec![delivery]).await.expect("appended");
    let record = MachineRecord {
        id: machine(),
        facts: MachineFacts::default(),
        labels: Labels::empty(),
        first_seen: UnixMillis(0),
        last_seen: UnixMillis(0),
        status: MachineStatus::Online,
        status_since: UnixMillis(0),
    };
    stores.registry.put_machine(record).await.expect("kept");
    (stores, dir)
}

/// Beginning, end, worst value.
type Told = Vec<(i64, Option<i64>, String)>;

fn told_live(steps: &[Change]) -> Told {
    let mut told: Told = Vec::new();
    for step in steps {
        match (step.from, step.to) {
            (Phase::Pending, Phase::Firing) => {
                told.push((step.at.0, None, format!("{:.9}", step.alert.peak)));
            }
            (_, Phase::Resolved) => {
                let last = told.last_mut().expect("fired before");
                *last = (last.0, Some(step.at.0), format!("{:.9}", step.alert.peak));
            }
            _ => {}
        }
    }
    told
}

const RULES: [&str; 21] = [
    "metric = 'cpu'\nabove = { warning = 0.8, recover = 0.6 }",
    "metric = 'cpu'\nabove = { warning = 0.7, critical = 0.9 }\nfor = '3s'\nkeep_firing_for = '4s'",
    "metric = 'cpu'\nwindow = '7s'\naggregate = 'mean'\nabove = { warning = 0.6 }",
    "metric = 'cpu'\nwindow = '5s'\ntumbling = true\naggregate = 'p95'\nabove = { warning = 0.8 }",
    "metric = 'cpu'\nwindow_values = 6\naggregate = 'deviation'\nabove = { warning = 1.5 }",
    "metric = 'disk'\ndivide_by = 'size'\nbelow = { critical = 0.2 }\nfor = '6s'",
    "metric = 'cpu'\nabove = { warning = 0.9 }\nno_data = 'alert'\nno_data_after = '4s'\nfor = '2s'",
    "metric = 'cpu'\nwindow = '20s'\naggregate = 'max'\nabove = { critical = 0.95 }",
    "metric = 'cpu'\nwindow = '9s'\naggregate = 'min'\nbelow = { warning = 0.1 }",
    "metric = 'cpu'\nwindow = '6s'\naggregate = 'sum'\nabove = { warning = 3.5 }",
    "metric = 'cpu'\nwindow = '10s'\ntumbling = true\naggregate = 'sum'\nabove = { warning = 5 }",
    "metric = 'cpu'\nwindow = '10s'\ntumbling = true\naggregate = 'count'\nbelow = { warning = 7 }",
    "metric = 'cpu'\nwindow = '8s'\naggregate = 'count'\nbelow = { warning = 4 }",
    "metric = 'cpu'\nwindow = '12s'\naggregate = 'stddev'\nabove = { warning = 0.3 }",
    "metric = 'cpu'\nwindow = '10s'\naggregate = 'rate'\nabove = { warning = 0.1 }",
    "metric = 'cpu'\nwindow = '10s'\naggregate = 'increase'\nabove = { warning = 1.5 }",
    "metric = 'cpu'\nwindow = '10s'\nforecast = '20s'\nabove = { warning = 1.2 }",
    "metric = 'cpu'\nabove = { warning = 0.9 }\nno_data = 'keep'\nno_data_after = '4s'",
    "metric = 'disk'\ndivide_by = 'size'\nwindow_values = 3\naggregate = 'mean'\nabove = { warning = 0.3 }",
    "offline = 'critical'",
    "offline = 'warning'\nfor = '6s'",
];

fn value() -> impl Strategy<Value = f64> {
    // Short runs that stay on one side make windows and `for` matter.
    prop_oneof![6 => 0.0..1.0f64, 2 => Just(0.99), 2 => Just(0.05), 3 => Just(f64::NAN)]
}

#[derive(Clone, Debug)]
enum Happening {
    Values(f64, f64),
    /// So short that it is not missed, however late what follows is; or so long that it is.
    Silence(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        12 => (value(), value()).prop_map(|(cpu, disk)| Happening::Values(cpu, disk)),
        1 => (2..8usize).prop_map(Happening::Silence),
        1 => (22..40usize).prop_map(Happening::Silence),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_backtest_says_what_the_live_engine_did(
        runs in prop::collection::vec((happening(), 1usize..8), 3..30),
        delays in prop::collection::vec(0..4000i64, 1..20),
        again in prop::collection::vec((0..1000usize, 0..1000usize), 0..20),
    ) {
        // It begins with a value, so that the recording does.
        let mut values = vec![Some((0.5, 0.5))];
        for (happening, seconds) in &runs {
            match happening {
                Happening::Values(cpu, disk) => {
                    values.extend(std::iter::repeat_n(Some((*cpu, *disk)), *seconds));
                }
                Happening::Silence(seconds) => {
                    values.extend(std::iter::repeat_n(None, *seconds));
                    // Two silences would be one of a length that was not meant.
                    values.push(Some((0.5, 0.5)));
                }
            }
        }
        let start = UnixMillis(1_700_000_000_000);
        let frames = recorded(&values, start);
        let end = (frames[frames.len() - 1].1.time + 6000).ceil(1000);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (stores, _dir) = runtime.block_on(stored(&frames));
        for text in RULES {
            let rule = rule(&format!("name = 'r'\n{text}"));
            let arrival = Arrival { delays: &delays, again: &again };
            let steps = live(&rule, &frames, &arrival, end + 6000);
            let within: Vec<_> = steps.into_iter().filter(|step| step.at < end).collect();
            let range = TimeRange::new(start, end + 6000);
            let report = run(&*stores.history, &*stores.registry, &rule, range);
            let report = runtime.block_on(report).expect("a report");
            let tested: Told = report.firings.iter().map(|f| {
                let resolved = f.resolved.filter(|at| *at < end).map(|at| at.0);
                let peak = if resolved.is_some() { &f.last } else { &f.change };
                (f.change.at.0, resolved, format!("{:.9}", peak.alert.peak))
            }).filter(|f| f.0 < end.0).collect();
            prop_assert_eq!(tested, told_live(&within), "{}", text);
        }
    }
}

/// As they may come over several connections: each up to four seconds after its time, in any order.
fn tumbling_live(
    rule: &Arc<Rule>,
    frames: &[(Layout, Frame)],
    delays: &[i64],
    end: UnixMillis,
) -> Vec<Change> {
    let mut engine = Engine::new(100, UnixMillis(0));
    let mut steps = Vec::new();
    engine.set_rules(std::slice::from_ref(rule), UnixMillis(0), &mut steps);
    engine.set_machine(machine(), Identity::default(), UnixMillis(0), &mut steps);
    engine.set_status(machine(), MachineStatus::Online, UnixMillis(0), &mut steps);
    let late = frames.iter().zip(delays.iter().cycle()).map(|(f, delay)| (f.1.time + *delay, f));
    let mut arrivals: Vec<_> = late.collect();
    arrivals.sort_by_key(|(at, _)| *at);
    let mut hub = Hub { tick: frames[0].1.time.floor(1000), heard: end, away: false };
    for (at, (layout, frame)) in arrivals {
        hub.pass(&mut engine, at, &mut steps);
        engine.observe(machine(), layout, frame, false, at, &mut steps);
    }
    hub.pass(&mut engine, end, &mut steps);
    steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_backtest_says_it_of_tumbling_windows_also_where_frames_overtook_each_other(
        runs in prop::collection::vec((value(), 1usize..8), 3..30),
        delays in prop::collection::vec(0..4000i64, 1..20),
    ) {
        let runs = runs.iter().map(|(cpu, n)| std::iter::repeat_n(Some((*cpu, 0.5)), *n));
        let values: Vec<_> = std::iter::once(Some((0.5, 0.5))).chain(runs.flatten()).collect();
        let start = UnixMillis(1_700_000_000_000);
        let frames = recorded(&values, start);
        let end = (frames[frames.len() - 1].1.time + 12_000).ceil(1000);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (stores, _dir) = runtime.block_on(stored(&frames));
        for text in RULES.iter().filter(|text| text.contains("tumbling")) {
            let rule = rule(&format!("name = 'r'\n{text}"));
            let steps = tumbling_live(&rule, &frames, &delays, end);
            let report = run(&*stores.history, &*stores.registry, &rule, TimeRange::new(start, end));
            let report = runtime.block_on(report).expect("a report");
            let tested: Told = report.firings.iter().map(|f| {
                let peak = if f.resolved.is_some() { &f.last } else { &f.change };
                (f.change.at.0, f.resolved.map(|at| at.0), format!("{:.9}", peak.alert.peak))
            }).collect();
            prop_assert_eq!(tested, told_live(&steps), "{}", text);
        }
    }
}

#[tokio::test]
async fn a_machine_that_said_nothing_for_a_while_was_offline() {
    let start = UnixMillis(1_700_000_000_000);
    let mut frames = recorded(&[Some((0.5, 0.5)); 30], start);
    frames.extend(recorded(&[Some((0.5, 0.5)); 30], start + 600_000));
    let (stores, _dir) = stored(&frames).await;
    let rule = rule("name = 'gone'\noffline = 'critical'\nfor = '1m'");
    let range = TimeRange::new(start, start + 630_000);
    let report = run(&*stores.history, &*stores.registry, &rule, range).await.expect("a report");
    let times: Vec<_> = report
        .firings
        .iter()
        .map(|f| (f.change.at.since(start), f.resolved.map(|at| at.since(start))))
        .collect();
    assert_eq!(times, [(29_137 + 15_000 + 60_000, Some(600_137))]);
    assert_eq!((report.notifications, report.machines), (2, 1));
}
