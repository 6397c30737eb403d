//! What made-up services log: requests, queries, jobs, stack traces, and what people do in the shop. Pure.

use model::{Labels, LogEvent, Severity, UnixMillis};

use super::chance::Dice;
use super::role::Role;

const INFO: u32 = 9;
const WARN: u32 = 13;
const ERROR: u32 = 17;
/// At a time, whatever the rate is.
const LINES_MAX: u64 = 5_000;
const PATHS: [&str; 5] = ["/", "/products", "/cart", "/checkout", "/api/orders"];
const COUNTRIES: [&str; 4] = ["de", "fr", "us", "in"];
const TRACE: &str = "java.lang.IllegalStateException: no connection to demo-db-1:5432 within 3000 ms\n\
    \tat shop.db.Pool.take(Pool.java:118)\n\
    \tat shop.orders.OrderStore.insert(OrderStore.java:57)\n\
    \tat shop.orders.Checkout.run(Checkout.java:203)\n\
    Caused by: java.net.SocketTimeoutException: connect timed out\n\
    \tat java.base/java.net.Socket.connect(Socket.java:751)\n\t... 12 more";

/// The lines of one machine.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    role: Role,
    per_second: f64,
    owed: f64,
}

/// One line before it has its time.
struct Line {
    severity: u32,
    service: &'static str,
    body: String,
    attributes: Vec<(&'static str, String)>,
}

impl Lines {
    pub(super) fn new(role: Role, per_second: f64) -> Self {
        Self { role, per_second, owed: 0.0 }
    }

    /// What came within the last `dt` seconds. `failing`: share of requests that fail.
    pub(super) fn due(
        &mut self,
        time: UnixMillis,
        dt: f64,
        failing: f64,
        dice: &mut Dice,
    ) -> Vec<LogEvent> {
        self.owed += self.per_second * dt;
        let count = (self.owed as u64).min(LINES_MAX);
        self.owed = self.owed.fract();
        let one = |i| {
            let back = (dt * 1000.0) as i64 * i as i64 / count.max(1) as i64;
            let line = line(self.role, failing, dice);
            event(line, time - back)
        };
        let mut events: Vec<LogEvent> = (0..count).map(one).collect();
        events.reverse();
        events
    }
}

fn event(line: Line, time: UnixMillis) -> LogEvent {
    LogEvent {
        time,
        severity: Severity::new(line.severity).unwrap_or_default(),
        service: line.service.to_owned(),
        body: line.body,
        body_truncated: false,
        attributes: Labels::new(line.attributes.into_iter().map(|(k, v)| (k, v.into_boxed_str())))
            .unwrap_or_default(),
        source: "demo".to_owned(),
    }
}

fn line(role: Role, failing: f64, dice: &mut Dice) -> Line {
    let fails = dice.share() < failing;
    let (order, user, ms) = (dice.below(1 << 32), dice.below(50_000), 5 + dice.below(120));
    let plain = |severity, service, body| Line { severity, service, body, attributes: Vec::new() };
    match role {
        Role::Api if fails => failure(order, dice),
        Role::Api if dice.below(8) == 0 => {
            let cents = 500 + dice.below(20_000);
            let country = dice.one_of(&COUNTRIES);
            Line {
                severity: INFO,
                service: "shop-api",
                body: format!("order {order:08x} was placed by user {user}"),
                attributes: vec![
                    ("event.name", "order.placed".to_owned()),
                    ("order.id", format!("{order:08x}")),
                    ("order.country", country.to_owned()),
                    ("order.cents", cents.to_string()),
                ],
            }
        }
        Role::Api => Line {
            severity: INFO,
            service: "shop-api",
            body: format!("POST /api/orders 200 {ms} ms user={user}"),
            attributes: vec![("trace_id", format!("{order:032x}"))],
        },
        Role::Web => {
            let path = dice.one_of(&PATHS);
            let (severity, status) = if fails { (ERROR, 502) } else { (INFO, 200) };
            plain(severity, "nginx", format!("192.0.2.{} GET {path} {status} {ms} ms", user % 250))
        }
        Role::Database => match dice.below(30) {
            0 => plain(
                WARN,
                "postgres",
                format!(
                    "duration: {} ms  statement: select * from orders where user_id = {user}",
                    800 + 10 * ms
                ),
            ),
            1 => plain(
                INFO,
                "postgres",
                format!("checkpoint complete: wrote {} buffers", 100 + order % 5_000),
            ),
            _ => plain(
                INFO,
                "postgres",
                format!(
                    "connection authorized: user=shop database=shop pid={}",
                    1_000 + user % 9_000
                ),
            ),
        },
        Role::Worker if fails => plain(
            ERROR,
            "shop-worker",
            format!("job invoice:{order:08x} failed after 3 attempts: mail server said 421"),
        ),
        Role::Worker => {
            plain(INFO, "shop-worker", format!("sent the invoice of order {order:08x} in {ms} ms"))
        }
        Role::Cache => plain(
            INFO,
            "redis",
            format!("{} changes in 60 seconds. Saving...", 100 + order % 10_000),
        ),
    }
}

fn failure(order: u64, dice: &mut Dice) -> Line {
    let (severity, body) = match dice.below(4) {
        0 => (ERROR, TRACE.to_owned()),
        1 => (ERROR, format!("POST /api/orders 500 3004 ms: order {order:08x} was not stored")),
        2 => (ERROR, format!("payment of order {order:08x} failed: connection refused")),
        _ => (WARN, format!("order {order:08x}: trying again after 200 ms")),
    };
    Line {
        severity,
        service: "shop-api",
        body,
        attributes: vec![("trace_id", format!("{order:032x}"))],
    }
}

/// An error for whoever wants to see what becomes of errors.
pub(super) fn test_error(number: u64, dice: &mut Dice) -> (u32, String) {
    let order = dice.below(1 << 32);
    match dice.below(3) {
        0 => (ERROR, format!("test error {number}: order {order:08x} failed")),
        1 => (21, format!("test error {number}: out of memory in worker {}", order % 8)),
        _ => (ERROR, format!("test error {number}: {TRACE}")),
    }
}

#[cfg(test)]
mod tests {
    use model::Level;

    use super::*;

    #[test]
    fn the_rate_is_kept_however_small_it_is_and_times_are_in_order() {
        let mut lines = Lines::new(Role::Api, 0.3);
        let mut dice = Dice::new(1);
        let mut all = Vec::new();
        for second in 1..=100 {
            all.extend(lines.due(UnixMillis(second * 1000), 1.0, 0.0, &mut dice));
        }
        assert!((29..=30).contains(&all.len()), "{}", all.len());
        let many = Lines::new(Role::Api, 50.0).due(UnixMillis(9_000), 1.0, 0.0, &mut dice);
        assert!(many.is_sorted_by_key(|event| event.time), "{many:?}");
        assert!(many.iter().all(|event| (8_000..=9_000).contains(&event.time.0)));
    }

    #[test]
    fn a_service_that_fails_says_so() {
        let errors = |failing| {
            let mut lines = Lines::new(Role::Api, 1_000.0);
            let events = lines.due(UnixMillis(9_000), 1.0, failing, &mut Dice::new(1));
            events.iter().filter(|event| Level::of(event.severity).is_error()).count()
        };
        assert_eq!(errors(0.0), 0);
        assert!((200..320).contains(&errors(0.35)), "{}", errors(0.35));
    }
}
