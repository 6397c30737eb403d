//! The log events of a made-up machine: a few templates of a web service, mostly calm, with numbers that
//! differ.

use model::UnixMillis;
use proto::v1;

use super::fleet::Plan;
use super::values::Random;

#[derive(Debug)]
pub(super) struct Source {
    random: Random,
    per_frame: f64,
    owed: f64,
}

impl Source {
    pub(super) fn new(plan: &Plan, index: usize) -> Self {
        let per_second = plan.logs_per_second as f64 / plan.machines.max(1) as f64;
        Self {
            random: Random::new(plan.seed ^ 0x106 ^ (index as u64) << 20),
            per_frame: per_second * plan.interval.as_secs_f64(),
            owed: 0.0,
        }
    }

    /// What came since the frame before the one of this time.
    pub(super) fn due(&mut self, time: UnixMillis) -> Vec<v1::LogEvent> {
        self.owed += self.per_frame;
        let count = self.owed as u64;
        self.owed -= count as f64;
        (0..count).map(|_| self.event(time)).collect()
    }

    fn event(&mut self, time: UnixMillis) -> v1::LogEvent {
        let random = &mut self.random;
        let (ms, user, order) = (random.below(400), random.below(50_000), random.below(1 << 40));
        let (severity_number, service, body) = match random.below(100) {
            0 => (
                17,
                "payments",
                format!("card of user {user} declined: order {order:x} is kept for 15 min"),
            ),
            1..4 => (13, "api", format!("slow answer: GET /orders/{order:x} took {} ms", 400 + ms)),
            4..20 => (9, "worker", format!("sent the invoice of order {order:x} to user {user}")),
            _ => (9, "api", format!("GET /orders/{order:x} 200 {ms} ms user={user}")),
        };
        v1::LogEvent {
            time_unix_ms: time.0,
            severity_number,
            service: service.into(),
            body,
            attributes: [("trace_id".to_owned(), format!("{order:016x}"))].into(),
            source: "file".into(),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_time_however_small_it_is_for_one_machine() {
        let plan = Plan {
            machines: 4,
            logs_per_second: 10,
            interval: std::time::Duration::from_secs(1),
            ..Plan::default()
        };
        let mut source = Source::new(&plan, 0);
        let events: usize = (0..100).map(|t| source.due(UnixMillis(t)).len()).sum();
        assert_eq!(events, 250);
    }
}
