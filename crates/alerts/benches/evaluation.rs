//! What watching costs: one second of a fleet of 1,000 machines under 50 rules.
//!
//! Beside Criterion's times: the share of one core at 1 Hz, by the CPU time of the thread, and how long a
//! decision takes when the whole fleet sends in the same instant, so that the last machine waits for all.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alerts::alert::Identity;
use alerts::engine::Engine;
use alerts::rule::{Document, Rule, RuleId};
use criterion::{Criterion, criterion_group, criterion_main};
use model::{Frame, Labels, Layout, MachineId, MachineStatus, Series, UnixMillis};

#[path = "parts/spread.rs"]
mod spread;

use spread::Spread;

const MACHINES: u128 = 1000;
const RULES: usize = 50;
const SERIES: usize = 1000;

struct Fleet {
    engine: Engine,
    layout: Layout,
    second: i64,
    /// From the moment when all frames were there until each was decided.
    decisions: Spread,
}

impl Fleet {
    /// `window`: what each rule says beside its threshold.
    fn new(window: &str) -> Self {
        let mut engine = Engine::new(100_000, UnixMillis(0));
        let rules: Vec<_> = (0..RULES).map(|i| rule(i, window)).collect();
        engine.set_rules(&rules, UnixMillis(0), &mut Vec::new());
        for n in 1..=MACHINES {
            let id = MachineId::from_u128(n).expect("not zero");
            let identity =
                Identity { host_name: format!("web-{n}"), labels: Labels::of([("env", "dev")]) };
            engine.set_machine(id, identity, UnixMillis(0), &mut Vec::new());
            engine.set_status(id, MachineStatus::Online, UnixMillis(0), &mut Vec::new());
        }
        let series =
            (0..SERIES).map(|i| Series::gauge(&format!("metric.{i}"), "1", Labels::empty()));
        let layout = Layout::new(series.collect()).expect("valid");
        let decisions = Spread::default();
        let mut fleet = Self { engine, layout, second: 1000, decisions };
        for _ in 0..70 {
            fleet.second();
        }
        fleet.decisions = Spread::default();
        fleet
    }

    fn second(&mut self) {
        let mut out = Vec::new();
        let now = UnixMillis(self.second * 1000);
        // A calm fleet with one value in a hundred thousand over its threshold.
        let value = |n: u128| if n as i64 == self.second % 2000 { 0.95 } else { 0.5 };
        let begin = Instant::now();
        for n in 1..=MACHINES {
            let id = MachineId::from_u128(n).expect("not zero");
            let values = vec![value(n); SERIES];
            let frame = Frame { time: now, layout: self.layout.id(), values };
            self.engine.observe(id, &self.layout, &frame, false, now, &mut out);
            self.decisions.note(begin.elapsed());
        }
        self.engine.tick(now, &mut out);
        black_box(out);
        self.second += 1;
    }
}

fn rule(i: usize, window: &str) -> Arc<Rule> {
    let text = format!(
        "name = 'rule {i}'\nmetric = 'metric.{i}'\nmachines = ['host.name=~web-*', 'env=dev']\n\
         above = {{ warning = 0.8, critical = 0.9, recover = 0.7 }}\nfor = '1m'\n{window}"
    );
    let document: Document = toml::from_str(&text).expect("TOML");
    let spec = document.to_spec().expect("valid");
    Arc::new(Rule { id: RuleId::from_name(&spec.name), revision: 1, spec })
}

/// CPU time of this thread.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux with procfs");
    let nanos = text.split(' ').next().and_then(|n| n.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

fn evaluation(c: &mut Criterion) {
    let mut group = c.benchmark_group("one second of 1000 machines x 50 rules");
    group.sample_size(20);
    for (name, window) in [
        ("latest value", ""),
        ("mean over 1 min, sliding", "window = '1m'\naggregate = 'mean'"),
        ("p95 over 1 min, tumbling", "window = '1m'\naggregate = 'p95'\ntumbling = true"),
    ] {
        let mut fleet = Fleet::new(window);
        let (first, before) = (fleet.second, on_cpu());
        group.bench_function(name, |b| b.iter(|| fleet.second()));
        let seconds = (fleet.second - first) as f64;
        let share = (on_cpu() - before).as_secs_f64() / seconds;
        println!("{name}: {:.2} % of one core at 1 Hz", share * 100.0);
        fleet.decisions.print(&format!("{name}: until a decision"));
    }
    group.finish();
}

criterion_group!(benches, evaluation);
criterion_main!(benches);
