//! The prober with probes that fail, panic, hang and overflow on purpose, and with the real ones.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use model::metric::{LOAD_1M, LOAD_5M, LOAD_15M};

use super::*;

/// Fails while this is set.
static BROKEN: AtomicBool = AtomicBool::new(false);
/// Hangs while this is set.
static HANGING: AtomicBool = AtomicBool::new(false);
static PANICS_LEFT: AtomicU32 = AtomicU32::new(0);

struct Steady;
struct Fragile;
struct Hanging;
struct Panicking;

impl Probe for Steady {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        sheet.put(&LOAD_1M, [], 1.0);
        Ok(())
    }
}

impl Probe for Fragile {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        sheet.put(&LOAD_5M, [], 5.0);
        anyhow::ensure!(!BROKEN.load(SeqCst), "the sensor fell off");
        Ok(())
    }
}

impl Probe for Hanging {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        while HANGING.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        sheet.put(&LOAD_15M, [], 15.0);
        Ok(())
    }
}

impl Probe for Panicking {
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        sheet.put(&LOAD_5M, [("n", "1")], 0.0);
        let left = PANICS_LEFT.load(SeqCst);
        PANICS_LEFT.store(left.saturating_sub(1), SeqCst);
        assert!(left == 0, "out of cheese");
        Ok(())
    }
}

const fn entry(name: &'static str, lane: LaneKind, open: fn(&Setup) -> Box<dyn Probe>) -> Entry {
    Entry { name, lane, pace: Pace::Tick, open }
}

fn prober(probes: &'static [Entry]) -> Prober {
    prober_with(probes, ProberConfig::default())
}

/// Waits for its readings however busy the machine is that runs the tests.
fn prober_with(probes: &'static [Entry], config: ProberConfig) -> Prober {
    let mut prober = Prober::with_probes(probes, config, Arc::default());
    prober.grace = Duration::from_secs(60);
    prober
}

/// What one probe reads under a configuration.
pub(super) fn read_once(
    open: fn(&Setup) -> Box<dyn Probe>,
    config: ProberConfig,
) -> (Layout, Vec<f64>) {
    let vitals = Arc::new(Vitals::new([].into_iter()));
    let mut probe = open(&Setup { config, stats: Arc::default(), vitals });
    let mut sheet = Sheet::default();
    let at = At { wall: UnixMillis(1), instant: Instant::now() };
    probe.read(at, &mut sheet).expect("reads");
    sheet.finish().expect("valid").filled.expect("something to measure")
}

/// Makes every probe due, as if its pause were over.
fn end_pauses(prober: &mut Prober) {
    prober.slots.iter_mut().for_each(|slot| slot.due = None);
}

fn kinds(readings: &Readings) -> Vec<EventKind> {
    readings.events.iter().map(|event| event.kind).collect()
}

/// Each frame as its metric and value.
fn values(readings: &Readings) -> Vec<(String, f64)> {
    let mut values = Vec::new();
    for frame in &readings.frames {
        let layout = readings.layouts.iter().find(|l| l.id() == frame.layout).expect("sent along");
        let names = layout.series().iter().map(|s| s.metric.to_string());
        values.extend(names.zip(frame.values.iter().copied()));
    }
    values
}

#[tokio::test]
async fn a_failing_probe_is_told_once_goes_absent_and_recovers_while_others_go_on() {
    static PROBES: [Entry; 2] = [
        entry("fragile", LaneKind::Shared, |_| Box::new(Fragile)),
        entry("steady", LaneKind::Shared, |_| Box::new(Steady)),
    ];
    let mut prober = prober(&PROBES);
    let readings = prober.tick(UnixMillis(1)).await;
    assert!(readings.events.is_empty());
    assert_eq!(readings.frames.len(), 2);

    BROKEN.store(true, SeqCst);
    end_pauses(&mut prober);
    let readings = prober.tick(UnixMillis(2)).await;
    assert_eq!(kinds(&readings), [EventKind::ProbeFailed]);
    assert_eq!(readings.events[0].detail, "probe fragile failed: the sensor fell off");
    assert_eq!(readings.events[0].attributes.get("muster.probe"), "fragile");
    let values = values(&readings);
    let value = |name: &str| values.iter().find(|(n, _)| n == name).expect("has a frame").1;
    assert!(value("system.cpu.load_average.5m").is_nan());
    assert_eq!(value("system.cpu.load_average.1m"), 1.0);

    let readings = prober.tick(UnixMillis(3)).await;
    assert_eq!(readings.frames.len(), 1, "left alone during its pause");
    end_pauses(&mut prober);
    assert!(prober.tick(UnixMillis(4)).await.events.is_empty(), "told once");
    BROKEN.store(false, SeqCst);
    end_pauses(&mut prober);
    let readings = prober.tick(UnixMillis(5)).await;
    assert_eq!(kinds(&readings), [EventKind::ProbeRecovered]);
    assert_eq!(readings.frames.len(), 2);
}

#[tokio::test]
async fn a_panic_is_a_failure_and_the_probe_starts_afresh() {
    static PROBES: [Entry; 2] = [
        entry("panicking", LaneKind::Shared, |_| Box::new(Panicking)),
        entry("steady", LaneKind::Shared, |_| Box::new(Steady)),
    ];
    PANICS_LEFT.store(1, SeqCst);
    let mut prober = prober(&PROBES);
    let readings = prober.tick(UnixMillis(1)).await;
    assert_eq!(readings.events[0].detail, "probe panicking failed: panicked: out of cheese");
    assert_eq!(readings.frames.len(), 1);
    end_pauses(&mut prober);
    let readings = prober.tick(UnixMillis(2)).await;
    assert_eq!(kinds(&readings), [EventKind::ProbeRecovered]);
    assert_eq!(readings.frames.len(), 2);
}

#[tokio::test]
async fn a_hanging_probe_delays_nobody_is_told_and_comes_back() {
    static PROBES: [Entry; 2] = [
        entry("hanging", LaneKind::Own, |_| Box::new(Hanging)),
        entry("steady", LaneKind::Shared, |_| Box::new(Steady)),
    ];
    let mut prober = prober(&PROBES);
    assert_eq!(prober.tick(UnixMillis(1)).await.frames.len(), 2);
    HANGING.store(true, SeqCst);
    prober.grace = Duration::from_secs(1);
    let readings = prober.tick(UnixMillis(2)).await;
    assert_eq!(values(&readings), [("system.cpu.load_average.1m".to_owned(), 1.0)]);
    // A lane that is known to be busy is not waited for.
    prober.grace = Duration::from_secs(60);
    let before = Instant::now();
    assert_eq!(prober.tick(UnixMillis(3)).await.frames.len(), 1);
    assert!(before.elapsed() < Duration::from_secs(30), "waited {:?}", before.elapsed());

    let later = At { wall: UnixMillis(4), instant: Instant::now() + HUNG_AFTER };
    prober.report_hung(later);
    prober.report_hung(later);
    let readings = prober.tick(UnixMillis(5)).await;
    assert_eq!(kinds(&readings), [EventKind::ProbeFailed]);
    assert_eq!(readings.events[0].detail, "probe hanging failed: no answer for 10 s");

    HANGING.store(false, SeqCst);
    let mut recovered = Vec::new();
    for _ in 0..1000 {
        recovered = kinds(&prober.tick(UnixMillis(6)).await);
        if !recovered.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(recovered, [EventKind::ProbeRecovered]);
}

#[tokio::test]
async fn probes_are_switched_off_and_on_by_name() {
    static PROBES: [Entry; 2] = [
        entry("one", LaneKind::Shared, |_| Box::new(Steady)),
        entry("two", LaneKind::Own, |_| Box::new(Steady)),
    ];
    let config = ProberConfig { disabled: vec!["one".to_owned()], ..ProberConfig::default() };
    let mut prober = prober_with(&PROBES, config);
    assert_eq!(prober.tick(UnixMillis(1)).await.frames.len(), 1);
    prober.set_disabled(vec!["one".to_owned(), "two".to_owned(), "three".to_owned()]);
    assert!(prober.tick(UnixMillis(2)).await.frames.is_empty());
    prober.set_disabled(Vec::new());
    assert_eq!(prober.tick(UnixMillis(3)).await.frames.len(), 2);
}

#[tokio::test]
async fn a_tick_that_is_cancelled_loses_no_reading() {
    static PROBES: [Entry; 1] = [entry("steady", LaneKind::Shared, |_| Box::new(Steady))];
    let mut prober = prober(&PROBES);
    // Polled once: the job is given, and the future dropped.
    assert!(futures::poll!(std::pin::pin!(prober.tick(UnixMillis(1)))).is_pending());
    let mut frames = Vec::new();
    for _ in 0..1000 {
        frames = prober.tick(UnixMillis(2)).await.frames;
        if !frames.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(frames[0].time, UnixMillis(1));
}

#[test]
fn slow_probes_are_due_at_their_pace_however_ticks_jitter() {
    let slot = |pace| Slot {
        name: "x",
        lane: 0,
        pace,
        enabled: true,
        health: Health::default(),
        due: None,
        layout: None,
        left_out: 0,
        cost: ProbeCost::default(),
    };
    fn check(mut slot: Slot, read_ms: u64, asked_ms: u64, expected: bool) {
        let start = Instant::now();
        let (interval, cpu) = (Duration::from_secs(2), Duration::from_micros(100));
        slot.plan(start + Duration::from_millis(read_ms), interval, cpu, false);
        let due = slot.is_due(start + Duration::from_millis(asked_ms));
        assert_eq!(due, expected, "{:?} read at {read_ms}, asked at {asked_ms}", slot.pace);
    }
    check(slot(Pace::Tick), 0, 1, true);
    check(slot(Pace::Every(Duration::from_secs(10))), 3, 10_000, true);
    check(slot(Pace::Every(Duration::from_secs(10))), 3, 9_003, false);
    check(slot(Pace::Processes), 0, 1_000, false);
    check(slot(Pace::Processes), 0, 2_000, true);
}

#[test]
fn a_costly_probe_is_read_less_often() {
    let mut slot = prober(PROBES).slots.remove(0);
    slot.pace = Pace::Processes;
    let start = Instant::now();
    let cpu = Duration::from_millis(20);
    slot.plan(start, Duration::from_secs(2), cpu, false);
    assert!(!slot.is_due(start + Duration::from_secs(5)));
    assert!(slot.is_due(start + cpu * CPU_SHARE));
    slot.pace = Pace::Tick;
    slot.plan(start, Duration::from_secs(2), cpu, false);
    assert!(slot.is_due(start + Duration::from_millis(1)), "no tick is left out");
}

/// The probes of this machine, ticked until every one of them was read twice.
async fn real_readings(probes: &'static [Entry]) -> Vec<Readings> {
    let config = ProberConfig {
        process_interval: Duration::ZERO,
        processes_top: 100_000,
        ..ProberConfig::default()
    };
    let mut prober = prober_with(probes, config);
    let mut all = Vec::new();
    for tick in 0..100 {
        end_pauses(&mut prober);
        all.push(prober.tick(UnixMillis(tick)).await);
        if prober.slots.iter().all(|slot| slot.cost.readings >= 2) {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("probes without readings: {:?}", prober.costs().collect::<Vec<_>>());
}

fn check_real(all: &[Readings], names: &[&str]) {
    let events = all.iter().flat_map(|r| &r.events);
    let failed: Vec<_> = events.filter(|e| e.kind == EventKind::ProbeFailed).collect();
    assert!(failed.is_empty(), "{failed:?}");
    for readings in all {
        for frame in &readings.frames {
            let layout = readings.layouts.iter().find(|l| l.id() == frame.layout);
            assert_eq!(layout.expect("sent along").len(), frame.values.len());
        }
    }
    let values: Vec<_> = all.iter().flat_map(values).collect();
    for name in names {
        assert!(values.iter().any(|(n, v)| n == name && !v.is_nan()), "no value of {name}");
    }
}

#[tokio::test]
async fn the_probes_of_other_systems_read_this_one_too() {
    let all = real_readings(portable::PROBES).await;
    check_real(&all, &["system.cpu.utilization", "system.memory.usage", "system.uptime"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn this_machine_is_read_without_a_failure() {
    let all = real_readings(PROBES).await;
    let names = [
        "system.cpu.utilization",
        "system.cpu.load_average.1m",
        "system.memory.utilization",
        "system.disk.io",
        "system.network.io",
        "system.uptime",
        "system.filesystem.utilization",
        "system.process.count",
        "muster.collector.memory.usage",
    ];
    check_real(&all, &names);
    let report = all.iter().rev().find_map(|r| r.processes.as_ref()).expect("reported");
    let own = report.processes.iter().find(|p| p.pid == std::process::id()).expect("listed");
    assert!(own.memory_bytes > 0);
    assert!(!own.user.is_empty());
    assert!(own.command_line.contains("collector"), "{}", own.command_line);
}
