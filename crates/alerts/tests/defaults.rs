//! The default rules, on the series that collectors send: each fires when it should and is over when it should.

use std::sync::Arc;

use alerts::alert::Identity;
use alerts::engine::Engine;
use alerts::lifecycle::Phase;
use alerts::rule::{Rule, RuleId, defaults};
use model::{Frame, Labels, Layout, MachineId, MachineStatus, Series, UnixMillis, metric};

/// One machine that sends these series once a second, under the default rules: when each alert fired and
/// was over, as `out-of-memory-process-killed F60 R660`, and what its summaries said.
fn story(
    series: Vec<Series>,
    seconds: i64,
    values: impl Fn(i64) -> Vec<f64>,
) -> (String, Vec<String>) {
    let rules: Vec<_> = defaults().expect("valid").into_iter().map(in_force).collect();
    let mut engine = Engine::new(100, UnixMillis(0));
    let mut steps = Vec::new();
    let machine = MachineId::from_u128(1).expect("not zero");
    let identity = Identity { host_name: "web".into(), labels: Labels::empty() };
    engine.set_rules(&rules, UnixMillis(0), &mut steps);
    engine.set_machine(machine, identity, UnixMillis(0), &mut steps);
    engine.set_status(machine, MachineStatus::Online, UnixMillis(0), &mut steps);
    let layout = Layout::new(series).expect("valid");
    for second in 0..seconds {
        let time = UnixMillis(second * 1000);
        let frame = Frame { time, layout: layout.id(), values: values(second) };
        engine.observe(machine, &layout, &frame, false, time, &mut steps);
        engine.tick(time, &mut steps);
    }
    let (mut told, mut summaries) = (Vec::new(), Vec::new());
    for step in steps {
        let letter = match (step.from, step.to) {
            (Phase::Firing, Phase::Firing) => "^",
            (_, Phase::Firing) => "F",
            (_, Phase::Resolved) => "R",
            _ => continue,
        };
        told.push(format!("{} {letter}{}", step.alert.rule.id, step.at.0 / 1000));
        summaries.extend(step.level.map(|level| step.alert.summary(level)));
    }
    (told.join(", "), summaries)
}

fn in_force(spec: alerts::rule::Spec) -> Arc<Rule> {
    Arc::new(Rule { id: RuleId::from_name(&spec.name), revision: 1, spec })
}

#[test]
fn a_process_that_the_kernel_killed_for_want_of_memory_is_told_at_once_and_for_ten_minutes() {
    let kills = || vec![metric::OOM_KILLS.alone()];
    let (told, summaries) =
        story(kills(), 1000, |second| vec![if second < 60 { 3.0 } else { 4.0 }]);
    let rule = "out-of-memory-process-killed";
    assert_eq!(told, format!("{rule} F60, {rule} R660"));
    assert_eq!(summaries[0], "web: the kernel killed 1 processes for want of memory");
    let (told, _) = story(kills(), 1000, |_| vec![7.0]);
    assert_eq!(told, "", "what was before it was watched is not told");
    let (told, _) = story(kills(), 1000, |second| vec![if second < 60 { 7.0 } else { 0.0 }]);
    assert_eq!(told, "", "a reboot is none");
}

#[test]
fn a_probe_that_fails_for_five_minutes_is_told_by_its_name() {
    let failing = ["cpu", "disk"]
        .map(|probe| metric::PROBE_FAILING.with(Labels::of([("muster.probe", probe)])));
    let (told, summaries) = story(failing.to_vec(), 500, |second| {
        vec![f64::from(u8::from(second == 5)), f64::from(u8::from((10..400).contains(&second)))]
    });
    assert_eq!(told, "probe-failing F310, probe-failing R400");
    assert_eq!(summaries[0], "web: the probe disk fails");
}

#[test]
fn a_watched_process_or_container_that_is_gone_for_a_minute_is_told() {
    let watched = vec![
        metric::PROCESS_WATCHED.with(Labels::of([("process.pattern", "postgres")])),
        metric::CONTAINER_WATCHED.with(Labels::of([("container.pattern", "web*")])),
    ];
    let (told, summaries) = story(watched, 500, |second| {
        let gone = |from| if (from..from + 100).contains(&second) { 0.0 } else { 2.0 };
        vec![gone(100), gone(300)]
    });
    let expected = "watched-process-gone F160, watched-process-gone R200, \
                    watched-container-gone F360, watched-container-gone R400";
    assert_eq!(told, expected);
    assert_eq!(summaries[0], "web: no process postgres runs");
    assert_eq!(summaries[2], "web: no container web* runs");
}

#[test]
fn a_container_that_its_engine_restarts_or_that_is_unhealthy_is_told_by_its_name() {
    let labels = || Labels::of([("container.id", "4f0c8d2e7b1a"), ("container.name", "api")]);
    let series =
        vec![metric::CONTAINER_RESTARTS.with(labels()), metric::CONTAINER_HEALTHY.with(labels())];
    let (told, summaries) = story(series, 1200, |second| {
        let restarts = [100, 110, 120].iter().filter(|at| second >= **at).count();
        let healthy = !(200..300).contains(&second);
        vec![restarts as f64, f64::from(u8::from(healthy))]
    });
    let expected = "container-restarting F100, container-restarting ^120, \
                    container-unhealthy F260, container-unhealthy R300, container-restarting R720";
    assert_eq!(told, expected);
    assert_eq!(summaries[0], "web: the container api was restarted 1 times in ten minutes");
    assert_eq!(summaries[2], "web: the container api is unhealthy");
}
