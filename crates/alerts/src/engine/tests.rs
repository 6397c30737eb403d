use model::{Labels, Severity};

use super::*;
use crate::rule::{Document, Level};

/// One engine and what it said, as `web:cpu P0 F0 R9` reads: machine, rule, step, second.
struct Scene {
    engine: Engine,
    told: Vec<Change>,
}

fn rule(text: &str) -> Arc<Rule> {
    let document: Document = toml::from_str(text).expect("TOML");
    let spec = document.to_spec().expect("valid");
    Arc::new(Rule { id: RuleId::from_name(&spec.name), revision: 1, spec })
}

fn machine(n: u128) -> MachineId {
    MachineId::from_u128(n).expect("not zero")
}

fn at(second: f64) -> UnixMillis {
    UnixMillis((second * 1000.0) as i64)
}

fn layout(metrics: &[&str]) -> Layout {
    let series = metrics.iter().map(|text| match text.split_once('/') {
        Some((metric, label)) => Series::gauge(metric, "1", Labels::of([("device", label)])),
        None => Series::gauge(text, "1", Labels::empty()),
    });
    Layout::new(series.collect()).expect("valid")
}

impl Scene {
    fn new(rules: &[&str]) -> Self {
        let mut scene = Self { engine: Engine::new(100, UnixMillis(0)), told: Vec::new() };
        scene.rules(rules);
        scene.machine(1, "web");
        scene
    }

    fn rules(&mut self, rules: &[&str]) {
        let rules: Vec<_> = rules.iter().map(|text| rule(text)).collect();
        self.engine.set_rules(&rules, UnixMillis(0), &mut self.told);
    }

    fn machine(&mut self, n: u128, name: &str) {
        let identity = Identity { host_name: name.into(), labels: Labels::of([("env", "dev")]) };
        self.engine.set_machine(machine(n), identity, UnixMillis(0), &mut self.told);
        self.status(n, MachineStatus::Online, 0.0);
    }

    fn status(&mut self, n: u128, status: MachineStatus, since: f64) {
        self.engine.set_status(machine(n), status, at(since), &mut self.told);
    }

    fn frame(&mut self, n: u128, layout: &Layout, second: f64, values: &[f64]) {
        self.frame_that_is(false, n, layout, second, values);
    }

    fn frame_that_is(&mut self, late: bool, n: u128, layout: &Layout, second: f64, values: &[f64]) {
        let frame = Frame { time: at(second), layout: layout.id(), values: values.to_vec() };
        let received = if late { at(1000.0) } else { at(second) };
        self.engine.observe(machine(n), layout, &frame, late, received, &mut self.told);
    }

    /// Errors of services, at their times, as they come together.
    fn logs(&mut self, received: f64, events: &[(&str, f64, &str)]) {
        let event = |(service, second, body): &(&str, f64, &str)| LogEvent {
            time: at(*second),
            severity: Severity::new(17).expect("valid"),
            service: (*service).to_owned(),
            body: (*body).to_owned(),
            body_truncated: false,
            attributes: Labels::empty(),
            source: "file".to_owned(),
        };
        let events: Vec<LogEvent> = events.iter().map(event).collect();
        self.engine.observe_logs(machine(1), &events, at(received), &mut self.told);
    }

    fn tick(&mut self, second: i64) {
        self.engine.tick(at(second as f64), &mut self.told);
    }

    fn story(&mut self) -> String {
        let tell = |change: Change| {
            let letter = match (change.from, change.to) {
                (Phase::Firing, Phase::Firing) => "^",
                (_, Phase::Firing) => "F",
                (_, Phase::Pending) => "P",
                (_, Phase::Resolved) => "R",
                (_, Phase::Inactive) => "I",
                (_, Phase::Unknown) => "U",
            };
            let seconds = change.at.0 as f64 / 1000.0;
            format!(
                "{}:{} {letter}{seconds}",
                change.alert.identity.host_name, change.alert.rule.id
            )
        };
        self.told.drain(..).map(tell).collect::<Vec<_>>().join(", ")
    }
}

const CPU: &str = "name = 'cpu'\nmetric = 'cpu'\nabove = { warning = 0.8 }";

#[test]
fn one_rule_serves_the_fleet_and_machines_that_join_later() {
    let mut scene = Scene::new(&[CPU]);
    let cpu = layout(&["cpu"]);
    scene.frame(1, &cpu, 1.0, &[0.9]);
    scene.machine(2, "db");
    scene.frame(2, &cpu, 2.0, &[0.9]);
    scene.frame(1, &cpu, 3.0, &[0.1]);
    assert_eq!(scene.story(), "web:cpu P1, web:cpu F1, db:cpu P2, db:cpu F2, web:cpu R3");
    assert_eq!(scene.engine.active().len(), 1);
}

#[test]
fn a_rule_watches_only_what_its_matchers_accept() {
    let text = "name = 'disk'\nmetric = 'disk'\nlabels = ['device=~sd*']\nmachines = ['host.name=~w*', 'env=dev']\nabove = { warning = 0.8 }";
    let mut scene = Scene::new(&[text]);
    scene.machine(2, "db");
    let disks = layout(&["disk/sda", "disk/loop0", "other/sda"]);
    scene.frame(1, &disks, 1.0, &[0.9, 0.9, 0.9]);
    scene.frame(2, &disks, 1.0, &[0.9, 0.9, 0.9]);
    assert_eq!(scene.story(), "web:disk P1, web:disk F1");
    let alert = scene.engine.active().remove(0);
    assert_eq!(alert.series.expect("a series").labels.get("device"), "sda");
}

#[test]
fn late_frames_neither_raise_nor_resolve_and_are_counted() {
    let mut scene = Scene::new(&[CPU]);
    let cpu = layout(&["cpu"]);
    scene.frame_that_is(true, 1, &cpu, 5.0, &[0.9]);
    scene.frame(1, &cpu, 100.0, &[0.9]);
    scene.frame_that_is(true, 1, &cpu, 101.0, &[0.1]);
    scene.frame(1, &cpu, 99.0, &[0.1]);
    scene.frame(1, &cpu, 100.0, &[0.1]);
    assert_eq!(scene.story(), "web:cpu P100, web:cpu F100");
    assert_eq!(scene.engine.counters().late_frames, 4);
}

#[test]
fn a_machine_that_goes_offline_raises_one_alert_and_silences_its_others() {
    let offline = "name = 'off'\noffline = 'critical'\nfor = '10s'";
    let mut scene = Scene::new(&[offline, CPU]);
    let cpu = layout(&["cpu"]);
    scene.frame(1, &cpu, 1.0, &[0.9]);
    scene.story();
    scene.status(1, MachineStatus::Offline, 5.0);
    scene.tick(14);
    assert_eq!(scene.story(), "web:cpu U5, web:off P5");
    scene.tick(20);
    assert_eq!(scene.story(), "web:off F15", "at its deadline, not when it is noticed");
    scene.status(1, MachineStatus::Online, 30.0);
    scene.frame(1, &cpu, 31.0, &[0.9]);
    scene.frame(1, &cpu, 32.0, &[0.1]);
    assert_eq!(scene.story(), "web:off R30, web:cpu F31, web:cpu R32");
}

#[test]
fn a_machine_that_says_goodbye_or_sleeps_is_not_offline() {
    let mut scene = Scene::new(&["name = 'off'\noffline = 'critical'", CPU]);
    scene.frame(1, &layout(&["cpu"]), 1.0, &[0.9]);
    scene.status(1, MachineStatus::Stopped, 5.0);
    scene.tick(1000);
    assert_eq!(scene.story(), "web:cpu P1, web:cpu F1, web:cpu U5");
}

#[test]
fn what_no_data_means_is_the_rules_choice() {
    let check = |policy: &str, expected: &str| {
        let text = format!("{CPU}\nno_data = '{policy}'\nno_data_after = '30s'\nfor = '10s'");
        let mut scene = Scene::new(&[&text]);
        for second in 0..=10 {
            scene.frame(1, &layout(&["cpu", "x"]), f64::from(second), &[0.9, 1.0]);
        }
        scene.story();
        for second in 11..=100 {
            scene.frame(1, &layout(&["x"]), f64::from(second), &[1.0]);
            scene.tick(i64::from(second));
        }
        assert_eq!(scene.story(), expected, "{policy}");
    };
    check("ok", "web:cpu R40");
    check("keep", "");
    check("alert", "");
    let text = format!("{CPU}\nno_data = 'alert'\nno_data_after = '30s'\nfor = '10s'");
    let mut scene = Scene::new(&[&text]);
    scene.frame(1, &layout(&["cpu", "x"]), 0.0, &[0.1, 1.0]);
    scene.tick(100);
    assert_eq!(scene.story(), "web:cpu P30, web:cpu F40");
}

#[test]
fn a_ratio_divides_by_the_latest_value_of_the_other_series() {
    let text = "name = 'load'\nmetric = 'load'\ndivide_by = 'cpus'\nabove = { warning = 2.0 }";
    let mut scene = Scene::new(&[text]);
    let (load, cpus) = (layout(&["load"]), layout(&["cpus"]));
    scene.frame(1, &load, 1.0, &[7.0]);
    assert_eq!(scene.story(), "", "nothing to divide by yet");
    scene.frame(1, &cpus, 1.0, &[4.0]);
    scene.frame(1, &load, 2.0, &[7.0]);
    scene.frame(1, &load, 3.0, &[9.0]);
    assert_eq!(scene.story(), "web:load P3, web:load F3");
    assert_eq!(scene.engine.active()[0].value, 2.25);
}

#[test]
fn an_alert_goes_on_under_a_changed_rule_and_ends_with_a_deleted_one() {
    let mut scene = Scene::new(&[CPU]);
    let cpu = layout(&["cpu"]);
    scene.frame(1, &cpu, 1.0, &[0.9]);
    scene.story();
    scene.rules(&["name = 'cpu'\nmetric = 'cpu'\nabove = { warning = 0.5 }"]);
    scene.frame(1, &cpu, 2.0, &[0.6]);
    assert_eq!(scene.story(), "", "still above the lower threshold");
    scene.rules(&[]);
    assert_eq!(scene.story(), "web:cpu R0");
    scene.frame(1, &cpu, 3.0, &[0.9]);
    assert_eq!(scene.story(), "");
}

#[test]
fn an_alert_is_the_same_after_a_restart() {
    let mut scene = Scene::new(&[CPU]);
    let cpu = layout(&["cpu"]);
    scene.frame(1, &cpu, 1.0, &[0.9]);
    let alert = scene.engine.active().remove(0);
    let kept = Kept {
        rule: alert.rule.id.clone(),
        machine: alert.machine,
        series: alert.series,
        life: alert.life,
        value: alert.value,
        peak: alert.peak,
    };
    let mut again = Scene::new(&[CPU]);
    assert!(again.engine.restore(kept.clone()));
    assert_eq!(again.engine.active()[0].id, alert.id);
    again.frame(1, &cpu, 60.0, &[0.9]);
    assert_eq!(again.story(), "", "it fires already");
    again.frame(1, &cpu, 61.0, &[0.1]);
    assert_eq!(again.story(), "web:cpu R61");
    assert!(!Scene::new(&[]).engine.restore(kept), "without its rule it is over");
}

#[test]
fn a_hub_that_starts_again_gives_machines_time_to_come_back() {
    let text = "name = 'off'\noffline = 'critical'\nfor = '60s'";
    let mut scene = Scene { engine: Engine::new(100, at(1000.0)), told: Vec::new() };
    scene.rules(&[text]);
    scene.engine.set_machine(machine(1), Identity::default(), at(1000.0), &mut scene.told);
    scene.status(1, MachineStatus::Offline, 500.0);
    for second in 1000..1030 {
        scene.tick(second);
    }
    scene.status(1, MachineStatus::Online, 1030.0);
    scene.tick(2000);
    let told = scene.story();
    assert_eq!(told, ":off P1000, :off I1030");
}

#[test]
fn a_rule_watches_no_more_series_than_it_may() {
    let mut scene = Scene::new(&[CPU]);
    let many: Vec<String> = (0..150).map(|i| format!("cpu/{i}")).collect();
    let many = layout(&many.iter().map(String::as_str).collect::<Vec<_>>());
    scene.frame(1, &many, 1.0, &[0.9; 150]);
    assert_eq!(scene.engine.active().len(), 100);
    assert_eq!(scene.engine.counters().series_over_limit, 50);
    assert_eq!(scene.engine.count_matches(&rule(CPU), 1000), 150);
}

#[test]
fn a_machine_with_a_wrong_clock_has_data_all_the_same() {
    let text = format!("{CPU}\nno_data = 'alert'\nno_data_after = '30s'");
    let mut scene = Scene::new(&[&text]);
    let cpu = layout(&["cpu"]);
    for second in 4000..4100 {
        let frame =
            Frame { time: at(f64::from(second) - 3600.0), layout: cpu.id(), values: vec![0.1] };
        let received = at(f64::from(second));
        scene.engine.observe(machine(1), &cpu, &frame, false, received, &mut scene.told);
        scene.tick(i64::from(second));
    }
    assert_eq!(scene.story(), "");
    scene.tick(4200);
    assert_eq!(scene.story(), "web:cpu P529, web:cpu F529", "by its own clock");
}

#[test]
fn a_critical_alert_says_so() {
    let mut scene =
        Scene::new(&["name = 'cpu'\nmetric = 'cpu'\nabove = { warning = 0.8, critical = 0.9 }"]);
    let cpu = layout(&["cpu"]);
    scene.frame(1, &cpu, 1.0, &[0.85]);
    scene.frame(1, &cpu, 2.0, &[0.97]);
    scene.frame(1, &cpu, 3.0, &[0.95]);
    let last = scene.told.last().expect("told").clone();
    assert_eq!(
        (last.from, last.to, last.level),
        (Phase::Firing, Phase::Firing, Some(Level::Critical))
    );
    let alert = scene.engine.active().remove(0);
    assert_eq!(alert.peak, 0.97);
    assert_eq!(alert.summary(Level::Critical), "web: cpu is 0.95 (threshold 0.9)");
    assert_eq!(scene.engine.count_matches(&rule(CPU), 10), 1);
}

const ERRORS: &str = "name = 'errors'\nlog = 'level:>=error refused'\nwindow = '10s'\nabove = { warning = 1, critical = 3 }";

#[test]
fn log_events_that_a_query_finds_are_counted_for_each_service_within_the_window() {
    let mut scene = Scene::new(&[ERRORS]);
    scene.logs(2.0, &[("api", 1.0, "refused"), ("db", 1.5, "refused"), ("api", 2.0, "fine")]);
    assert_eq!(scene.story(), "", "one of each is not more than one");
    scene.logs(5.0, &[("api", 4.5, "refused again")]);
    assert_eq!(scene.story(), "web:errors P4.5, web:errors F4.5");
    scene.logs(6.0, &[("api", 6.0, "Refused"), ("api", 5.5, "refused"), ("api", 5.0, "refused")]);
    assert_eq!(scene.story(), "web:errors ^5.5");
    let alert = scene.engine.active().remove(0);
    assert_eq!(alert.value, 5.0);
    assert_eq!(alert.series.as_ref().expect("a series").labels.get("service.name"), "api");
    let said = alert.summary(Level::Critical);
    assert_eq!(said, "web: 5 log events of api match level:>=error refused");
    for second in 7..=30 {
        scene.tick(second);
    }
    assert_eq!(scene.story(), "web:errors R15.5", "when one is left in the window");
}

#[test]
fn log_events_that_come_too_late_raise_nothing_and_are_counted() {
    let mut scene = Scene::new(&[ERRORS]);
    scene.logs(100.0, &[("api", 30.0, "refused"), ("api", 31.0, "refused")]);
    assert_eq!(scene.story(), "");
    assert_eq!(scene.engine.counters().late_logs, 2);
    scene.logs(100.0, &[("api", 99.0, "refused"), ("api", 99.5, "refused")]);
    assert_eq!(scene.story(), "web:errors P99.5, web:errors F99.5");
}

#[test]
fn an_alert_about_logs_goes_on_after_a_restart_until_a_whole_window_was_watched() {
    let mut scene = Scene::new(&[ERRORS]);
    scene.logs(2.0, &[("api", 1.0, "refused"), ("api", 2.0, "refused")]);
    let alert = scene.engine.active().remove(0);
    let kept = Kept {
        rule: alert.rule.id.clone(),
        machine: alert.machine,
        series: alert.series,
        life: alert.life,
        value: alert.value,
        peak: alert.peak,
    };
    let mut again = Scene { engine: Engine::new(100, at(60.0)), told: Vec::new() };
    again.rules(&[ERRORS]);
    again.machine(1, "web");
    assert!(again.engine.restore(kept));
    for second in 60..=80 {
        again.tick(second);
    }
    assert_eq!(again.story(), "web:errors R70");
}

#[test]
fn trouble_in_logs_lasts_while_the_count_does() {
    let text = format!("{ERRORS}\nfor = '5s'");
    let mut scene = Scene::new(&[&text]);
    scene.logs(2.0, &[("api", 1.0, "refused"), ("api", 2.0, "refused")]);
    for second in 3..=30 {
        scene.tick(second);
    }
    assert_eq!(scene.story(), "web:errors P2, web:errors F7, web:errors R11");
}

#[test]
fn what_was_counted_is_kept_through_pauses_for_as_long_as_it_counts() {
    let slow = "name = 'slow'\nlog = 'refused'\nwindow = '24h'\nabove = { warning = 2 }";
    let mut scene = Scene::new(&[slow]);
    let events = [10, 9000, 18_000];
    for second in 0..=20_000 {
        if events.contains(&second) {
            scene.logs(second as f64, &[("api", second as f64, "refused")]);
        }
        scene.tick(second);
    }
    assert_eq!(scene.story(), "web:slow P18000, web:slow F18000");
    for second in (20_000..=200_000).step_by(100) {
        scene.tick(second);
    }
    assert_eq!(scene.story(), "web:slow R86410");
    let mut watched = HashMap::new();
    scene.engine.machines[&machine(1)].count_watched(&mut watched);
    assert!(watched.is_empty(), "forgotten once nothing is counted");
}

#[test]
fn a_rule_about_logs_that_is_edited_is_judged_anew() {
    let waits = format!("{ERRORS}\nfor = '5s'");
    let edited = [
        waits.replace("warning = 1", "warning = 2"),
        waits.replace("level:>=error refused", "level:>=error reset"),
        waits.replace("window = '10s'", "window = '11s'"),
    ];
    for edited in edited {
        let mut scene = Scene::new(&[&waits]);
        scene.logs(2.0, &[("api", 1.0, "refused"), ("api", 2.0, "refused")]);
        assert_eq!(scene.story(), "web:errors P2");
        scene.rules(&[&edited]);
        for second in 3..=40 {
            scene.tick(second);
        }
        let told = scene.story();
        assert!(told.starts_with("web:errors I"), "{edited}: {told}");
        assert!(!told.contains('F'), "{edited}: {told}");
    }
    let mut scene = Scene::new(&[&waits]);
    scene.logs(2.0, &[("api", 2.0, "refused")]);
    scene.rules(&[&waits.replace("warning = 1", "warning = 0")]);
    assert_eq!(scene.story(), "web:errors P2", "nor does it take another event");
}

#[test]
fn log_events_that_their_window_left_behind_raise_nothing_and_are_counted() {
    let mut scene = Scene::new(&[ERRORS]);
    scene.logs(30.0, &[("new", 10.0, "refused"), ("new", 11.0, "refused")]);
    assert_eq!(scene.engine.counters().late_logs, 2, "of a service that is new");
    scene.logs(30.0, &[("api", 30.0, "refused")]);
    scene.logs(31.0, &[("api", 18.0, "refused"), ("api", 18.5, "refused")]);
    assert_eq!(scene.engine.counters().late_logs, 4, "of one that is known");
    assert_eq!(scene.story(), "");
}

#[test]
fn a_machine_that_makes_up_services_leaves_room_for_the_others() {
    let text = "name = 'errors'\nlog = 'refused'\nwindow = '10s'\nabove = { warning = 49 }";
    let mut scene = Scene { engine: Engine::new(150, UnixMillis(0)), told: Vec::new() };
    scene.rules(&[text]);
    scene.machine(1, "web");
    let names: Vec<String> = (0..150).map(|i| format!("s{i:03}")).collect();
    let events: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0, "refused")).collect();
    scene.logs(1.0, &events);
    assert_eq!(scene.story(), "web:errors P1, web:errors F1", "50 are counted together");
    let alert = scene.engine.active().remove(0);
    assert_eq!(alert.series.expect("a series").labels.get("service.name"), "(others)");
    scene.logs(2.0, &[("s007", 2.0, "refused")]);
    assert_eq!(scene.engine.active()[0].value, 50.0, "the first hundred by themselves");
    let mut watched = HashMap::new();
    scene.engine.machines[&machine(1)].count_watched(&mut watched);
    assert_eq!(watched.into_values().sum::<usize>(), 101);
    assert_eq!(scene.engine.counters().series_over_limit, 0);
}
