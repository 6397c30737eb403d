//! What becomes of a line.

use proptest::prelude::*;

use super::*;

/// 2026-11-20 21:00:00 UTC.
const NOW: UnixMillis = UnixMillis(1_795_208_400_000);

fn parse(text: &str) -> LogEvent {
    let known = Known { service_otherwise: "file".to_owned(), source: "file", ..Known::default() };
    Parser::new(TimeZone::UTC).event(text, false, &known, NOW)
}

/// `severity service | body | attributes`, seconds before now in front when it is not now.
fn shown(event: &LogEvent) -> String {
    let attributes: Vec<_> = event.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let age = match (NOW.0 - event.time.0) / 1000 {
        0 => String::new(),
        seconds => format!("{seconds} "),
    };
    let (severity, service) = (event.severity.number(), &event.service);
    format!("{age}{severity} {service} | {} | {}", event.body, attributes.join(" "))
}

#[test]
fn lines_of_many_programs_are_understood() {
    fn check(line: &str, expected: &str) {
        assert_eq!(shown(&parse(line)), expected, "{line}");
    }
    check("hello", "0 file | hello | ");
    check(
        r#"{"time":"2026-11-20T20:59:50Z","level":"error","msg":"no","service":"api","user":{"id":7}}"#,
        "10 17 api | no | user.id=7",
    );
    check(r#"{"level":30,"time":1795208399000,"msg":"pino","pid":9}"#, "1 9 file | pino | pid=9");
    check(r#"{"level":"odd","msg":"x"}"#, "0 file | x | level=odd");
    check(
        "time=2026-11-20T20:59:50Z level=warn msg=\"slow query\" ms=17",
        "10 13 file | slow query | ms=17",
    );
    check(
        "Nov 20 20:59:50 web-1 sshd[812]: error: no route",
        "10 17 sshd | Nov 20 20:59:50 web-1 sshd[812]: error: no route | ",
    );
    check(
        "2026-11-20T20:59:50.1+00:00 web-1 CRON[9]: (root) CMD (x)",
        "9 0 CRON | 2026-11-20T20:59:50.1+00:00 web-1 CRON[9]: (root) CMD (x) | ",
    );
    check(
        "2026-11-20T20:59:50Z  INFO api: ready",
        "10 9 file | 2026-11-20T20:59:50Z  INFO api: ready | ",
    );
    check(
        "E1120 20:59:50.000000 7 a.go:1] no",
        "10 17 file | E1120 20:59:50.000000 7 a.go:1] no | ",
    );
    check("\u{1b}[31mERROR\u{1b}[0m red", "17 file | ERROR red | ");
    check("bell\u{7} nul\0 \u{1b}]0;title\u{7}", "0 file | bell␇ nul␀ ␛]0;title␇ | ");
    check("login password=hunter2", "0 file | login password=*** | ");
    check(r#"{"msg":"x","password":"hunter2"}"#, "0 file | x | password=***");
    check("<script>alert(1)</script>", "0 file | <script>alert(1)</script> | ");
}

#[test]
fn the_configured_service_wins_and_the_line_knows_more_than_the_journal() {
    let known = Known {
        service: Some("mine".to_owned()),
        severity: Severity::new(9).expect("valid"),
        ..Known::default()
    };
    let parser = Parser::new(TimeZone::UTC);
    let event = parser.event(r#"{"service":"api","level":"error","msg":"x"}"#, false, &known, NOW);
    assert_eq!((event.service.as_str(), event.severity.number()), ("mine", 17));
    assert_eq!(parser.event("plain", false, &known, NOW).severity.number(), 9);
}

#[test]
fn a_time_that_nobody_can_believe_is_kept_beside_when_it_was_read() {
    let event = parse("2016-11-20T21:00:00Z ERROR old");
    assert_eq!(event.time, NOW);
    assert!(event.attributes.get("log.time").starts_with("2016-11-20T21:00:00Z"));
    let event = parse(r#"{"ts":"2036-01-01T00:00:00Z","msg":"x"}"#);
    assert_eq!((event.time, event.attributes.get("log.time")), (NOW, "2036-01-01T00:00:00Z"));
}

#[test]
fn what_does_not_fit_into_attributes_stays_in_the_body() {
    fn check(line: &str) {
        assert_eq!(parse(line).body, line);
    }
    check(r#"{"msg":"x","a b":1}"#);
    check(&format!(r#"{{"msg":"x","long":"{}"}}"#, "y".repeat(2000)));
    let many: Vec<_> = (0..100).map(|i| format!("k{i}=1")).collect();
    check(&many.join(" "));
    check(r#"{"a":1,"b":2}"#);
}

#[test]
fn a_long_body_is_cut_between_characters_and_marked() {
    let event = parse(&"é".repeat(40_000));
    assert!(event.body_truncated && event.body.len() == limits::LOG_BODY_BYTES_MAX);
    assert!(!parse("short").body_truncated);
}

proptest! {
    #[test]
    fn any_text_becomes_an_event_that_the_wire_takes(text in r#"(\{|\}|"|=|:|,|level|msg|time|2026-11-20T21:00:00|[a-z]| |\\|\PC|[\x00-\x1f]){0,60}"#) {
        let event = parse(&text);
        prop_assert!(event.attributes.len() <= limits::LABELS_MAX);
        let sent = proto::convert::logs_to_proto(std::slice::from_ref(&event));
        prop_assert_eq!(proto::convert::logs_from_proto(sent).expect("taken"), vec![event.clone()]);
        prop_assert!(!event.body.contains('\0'));
    }
}
