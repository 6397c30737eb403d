use std::sync::Arc;

use jiff::tz::TimeZone;
use model::{Frame, Labels, Layout, MachineId, Matcher, Series};

use super::*;
use crate::alert::Identity;
use crate::engine::Engine;
use crate::rule::{Document as RuleDocument, Rule, RuleId};
use crate::silence::{Every, Recurrence};

/// An engine and a desk together; what is told reads `hook firing@1`.
struct Scene {
    engine: Engine,
    desk: Desk,
    layout: Layout,
    out: AlertChanges,
}

const CPU: &str = "name = 'cpu'\nmetric = 'cpu'\nabove = { warning = 0.8, critical = 0.9 }";
const PACE: Pace = Pace { group_wait_ms: 10_000, repeat_ms: 3_600_000 };

fn at(second: i64) -> UnixMillis {
    UnixMillis(second * 1000)
}

fn machine() -> MachineId {
    MachineId::from_u128(1).expect("not zero")
}

fn route(name: &str) -> Route {
    Route { id: name.into(), name: name.into(), repeat_ms: None }
}

fn rule(text: &str) -> Arc<Rule> {
    let document: RuleDocument = toml::from_str(text).expect("TOML");
    let spec = document.to_spec().expect("valid");
    Arc::new(Rule { id: RuleId::from_name(&spec.name), revision: 1, spec })
}

impl Scene {
    fn new(text: &str) -> Self {
        let mut engine = Engine::new(100, at(0));
        engine.set_rules(&[rule(text)], at(0), &mut Vec::new());
        let identity = Identity { host_name: "web".into(), labels: Labels::empty() };
        engine.set_machine(machine(), identity, at(0), &mut Vec::new());
        let mut desk = Desk::new(PACE);
        desk.set_routes(vec![route("hook")]);
        let series = vec![Series::gauge("cpu", "1", Labels::of([("cpu", "0")]))];
        let layout = Layout::new(series).expect("valid");
        Self { engine, desk, layout, out: AlertChanges::default() }
    }

    fn value(&mut self, second: i64, value: f64) {
        let mut changes = Vec::new();
        let frame = Frame { time: at(second), layout: self.layout.id(), values: vec![value] };
        self.engine.observe(machine(), &self.layout, &frame, false, at(second), &mut changes);
        for change in changes {
            self.desk.step(&change, at(second), &mut self.out);
        }
    }

    fn tick(&mut self, second: i64) {
        let engine = &self.engine;
        self.desk.tick(at(second), |id| engine.alert(id), &mut self.out);
    }

    fn acknowledge(&mut self, second: i64) -> bool {
        let alert = self.desk.open_alerts().next().map(|open| open.alert.id);
        let acknowledgement =
            Acknowledgement { time: at(second), author: "ann".into(), comment: "on it".into() };
        alert.is_some_and(|id| self.desk.acknowledge(id, acknowledgement, &mut self.out))
    }

    fn told(&mut self) -> String {
        let notices = std::mem::take(&mut self.out).notices;
        let tell = |n: StoredNotice| format!("{} {}@{}", n.channel, n.kind, n.created.0 / 1000);
        notices.into_iter().map(tell).collect::<Vec<_>>().join(", ")
    }
}

fn silence(start: i64, end: i64, matchers: Vec<Matcher>) -> Silence {
    Silence {
        id: "s".into(),
        matchers,
        start: at(start),
        end: at(end),
        author: "ann".into(),
        comment: String::new(),
        recurrence: None,
    }
}

#[test]
fn an_alert_is_told_once_repeated_in_time_and_told_to_be_over() {
    let mut scene = Scene::new(CPU);
    for second in 1..7300 {
        scene.value(second, 0.85);
        scene.tick(second);
    }
    scene.value(7300, 0.1);
    let told = scene.told();
    assert_eq!(told, "hook firing@1, hook repeated@3601, hook repeated@7201, hook resolved@7300");
}

#[test]
fn a_rise_to_critical_is_told() {
    let mut scene = Scene::new(CPU);
    scene.value(1, 0.85);
    scene.value(2, 0.95);
    scene.value(3, 0.85);
    scene.value(4, 0.95);
    assert_eq!(scene.told(), "hook firing@1, hook escalated@2");
}

#[test]
fn an_acknowledged_alert_is_not_repeated_but_told_to_be_over() {
    let mut scene = Scene::new(CPU);
    assert!(!scene.acknowledge(0), "nothing fires");
    scene.value(1, 0.85);
    assert!(scene.acknowledge(2));
    let incident = scene.out.incidents.last().expect("kept").clone();
    assert_eq!((incident.acknowledged_by.as_str(), incident.comment.as_str()), ("ann", "on it"));
    scene.tick(9000);
    scene.value(9001, 0.1);
    assert_eq!(scene.told(), "hook firing@1, hook resolved@9001");
}

#[test]
fn what_a_silence_kept_quiet_is_told_when_it_ends_or_never() {
    let mut scene = Scene::new(CPU);
    scene.desk.set_silences(vec![silence(0, 100, vec![Matcher::equal("host.name", "web")])]);
    scene.value(1, 0.85);
    scene.value(2, 0.1);
    assert_eq!(scene.told(), "", "began and ended in the silence");
    scene.value(3, 0.85);
    scene.tick(50);
    scene.tick(100);
    scene.value(101, 0.1);
    assert_eq!(scene.told(), "hook firing@100, hook resolved@101");
}

#[test]
fn a_silence_that_comes_again_keeps_quiet_again() {
    const DAY: i64 = 24 * 60 * 60;
    let mut scene = Scene::new(CPU);
    let recurrence = Recurrence { every: Every::Day, zone: TimeZone::UTC, until: None };
    let daily = Silence {
        recurrence: Some(recurrence),
        ..silence(0, 100, vec![Matcher::equal("host.name", "web")])
    };
    assert_eq!(Silence::from_json("s", &daily.to_json()), Some(daily.clone()));
    scene.desk.set_silences(vec![daily]);
    for day in [0, 1, 7] {
        scene.value(day * DAY + 1, 0.85);
        scene.value(day * DAY + 99, 0.1);
        assert_eq!(scene.told(), "", "day {day}");
    }
    scene.value(8 * DAY - 1, 0.85);
    assert_eq!(scene.told(), format!("hook firing@{}", 8 * DAY - 1));
}

#[test]
fn a_silence_covers_only_what_its_matchers_accept() {
    let check = |matcher: Matcher, quiet: bool| {
        let mut scene = Scene::new(CPU);
        scene.desk.set_silences(vec![silence(0, 100, vec![matcher.clone()])]);
        scene.value(1, 0.85);
        assert_eq!(scene.told().is_empty(), quiet, "{matcher:?}");
    };
    check(Matcher::equal("rule", "cpu"), true);
    check(Matcher::equal("rule", "disk"), false);
    check(Matcher::equal("level", "warning"), true);
    check(Matcher::equal("level", "critical"), false);
    check(Matcher::equal("cpu", "0"), true);
    check(Matcher::equal("machine.id", &machine().to_string()), true);
}

#[test]
fn only_channels_that_the_rule_names_are_told_and_only_those_learn_that_it_is_over() {
    let mut scene = Scene::new(&format!("{CPU}\nchannels = ['mail']"));
    scene.desk.set_routes(vec![route("hook"), route("mail")]);
    scene.value(1, 0.85);
    assert_eq!(scene.told(), "mail firing@1");
    scene.desk.set_routes(vec![route("hook")]);
    scene.value(2, 0.1);
    assert_eq!(scene.told(), "", "mail was switched off, hook never knew");
}

#[test]
fn without_a_channel_nothing_is_told_until_there_is_one() {
    let mut scene = Scene::new(CPU);
    scene.desk.set_routes(vec![]);
    scene.value(1, 0.85);
    scene.tick(2);
    assert_eq!(scene.told(), "");
    scene.desk.set_routes(vec![route("hook")]);
    scene.tick(3);
    assert_eq!(scene.told(), "hook firing@3");
}

#[test]
fn a_message_waits_for_others_only_as_long_as_its_rule_can() {
    let check = |for_: &str, due: i64| {
        let mut scene = Scene::new(&format!("{CPU}\nfor = '{for_}'"));
        for second in 0..=300 {
            scene.value(second, 0.85);
        }
        let notice = scene.out.notices.remove(0);
        assert_eq!(notice.due.since(notice.created), due, "for {for_}");
    };
    check("0s", 0);
    check("8s", 2000);
    check("5m", 10_000);
}

#[test]
fn what_is_kept_is_enough_to_go_on() {
    let mut scene = Scene::new(CPU);
    scene.value(1, 0.85);
    scene.acknowledge(2);
    let state = scene.out.states.last().expect("kept").clone();
    let (kept, remembered) = read(&state.document).expect("readable");
    let open = scene.desk.open_alerts().next().expect("open").clone();
    assert_eq!(kept.life, open.alert.life);
    assert_eq!(kept.series, open.alert.series);
    assert_eq!(remembered.expect("an incident").open(open.alert.clone()), open);

    let mut again = Scene::new(CPU);
    assert!(again.engine.restore(kept));
    again.desk.restore(open.alert.id, open);
    again.value(60, 0.85);
    again.tick(60);
    assert_eq!(again.told(), "", "it was told before");
    again.value(61, 0.1);
    assert_eq!(again.told(), "hook resolved@61");
    assert_eq!(read("{}"), None);
}
