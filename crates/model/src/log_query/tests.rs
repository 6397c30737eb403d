use proptest::prelude::*;

use super::*;
use crate::{Labels, UnixMillis};

fn event() -> LogEvent {
    LogEvent {
        time: UnixMillis(0),
        severity: Severity::new(17).expect("a severity"),
        service: "api".into(),
        body: "GET /v1/users/17 failed: Connection refused by 10.0.0.12:5432 (Größe)".into(),
        body_truncated: false,
        attributes: Labels::of([("http.status", "503"), ("user", "Ann Lee")]),
        source: "file".into(),
    }
}

#[test]
fn a_query_accepts_what_it_says() {
    fn check(query: &str, expected: bool) {
        let query = LogQuery::parse(query).expect("a query");
        assert_eq!(query.accepts_event(&event()), expected, "{query}");
    }
    check("", true);
    check("refused", true);
    check("REFUSED connection", true);
    check("refuse", false);
    check("refuse*", true);
    check("-refuse*", false);
    check("größe", true);
    check("\"connection refused\"", true);
    check("\"refused connection\"", false);
    check("\"connection refu\"*", true);
    check("connection-refused", true);
    check("10.0.0.12", true);
    check("10.0.0.1", false);
    check("0.0.12:5432", true);
    check("/v1/users/17", true);
    check("ann", true);
    check("\"12 5432 größe\"", true);
    check("level:error", true);
    check("level:ERROR", true);
    check("level:fatal", false);
    check("level:>=warn", true);
    check("level>=warn", true);
    check("level:>error", false);
    check("level:<=error", true);
    check("level:<error", false);
    check("level:info,error", true);
    check("-level:error", false);
    check("severity:err", true);
    check("service:api", true);
    check("service:API", true);
    check("service:web,a*", true);
    check("-service:web", true);
    check("http.status:503", true);
    check("http.status:5*", true);
    check("http.status:404", false);
    check("-http.status:404", true);
    check("user:\"ann lee\"", true);
    check("user:ann", false);
    check("nothing:*", false);
    check("-nothing:*", true);
    check("service:api level:error refused -timeout", true);
    check("service:api level:error refused -users", false);
}

#[test]
fn machines_are_named_by_host_or_id() {
    fn check(query: &str, expected: bool) {
        let query = LogQuery::parse(query).expect("a query");
        assert_eq!(query.accepts_machine("Web-1", "00ab12ff"), expected, "{query}");
        assert!(query.accepts_event(&event()), "{query}");
    }
    check("refused", true);
    check("machine:web-1", true);
    check("machine:web-*", true);
    check("host:db-1,web-1", true);
    check("machine:db-*", false);
    check("-machine:web-1", false);
    check("machine:00ab12ff", true);
    check("machine:00ab", true);
    check("machine:00", false);
}

#[test]
fn a_query_that_means_nothing_is_refused_with_place_and_hint() {
    fn check(query: &str, place: usize, expected: &str) {
        let error = LogQuery::parse(query).expect_err(query);
        assert_eq!(error.place, place, "{query}: {error}");
        assert!(error.to_string().contains(expected), "{query}: {error}");
        assert!(!error.hint.is_empty());
    }
    check("a level:eror", 9, "found \"eror\"");
    check("level:", 7, "expected a level");
    check("level:>fatal", 8, "no level above fatal");
    check("level:<unknown", 8, "no level below unknown");
    check("größe \"open", 7, "does not end");
    check("service: api", 1, "service: has no value");
    check("service:api,", 1, "service: has no value");
    check("a - b", 3, "nothing follows");
    check("a OR b", 3, "there is no OR");
    check("a !! b", 3, "no word");
    check("wo\"rd", 3, "middle of a word");
    check(&"a ".repeat(TERMS_MAX + 1), 2 * TERMS_MAX + 1, "at most");
    check(&"a".repeat(QUERY_CHARS_MAX + 1), 1, "at most");
}

#[test]
fn severities_have_levels() {
    for (number, name) in [
        (0, "unknown"),
        (1, "trace"),
        (4, "trace"),
        (5, "debug"),
        (9, "info"),
        (16, "warn"),
        (17, "error"),
        (20, "error"),
        (21, "fatal"),
        (24, "fatal"),
    ] {
        assert_eq!(Level::of(Severity::new(number).expect("a severity")).name(), name);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic_and_what_it_reads_is_written_alike(
        text in "(-?(level:|level>=?|service:|k:|machine:)?(>=?|<=?)?[a-zé0-9\\PC,*\"\\\\:]{0,8} ?){0,6}"
    ) {
        if let Ok(query) = LogQuery::parse(&text) {
            let written = query.to_string();
            prop_assert_eq!(LogQuery::parse(&written), Ok(query), "{}", written);
        }
    }

    #[test]
    fn every_event_is_found_by_its_own_words(body in "\\PC{0,60}", case in any::<bool>()) {
        let event = LogEvent { body: body.clone(), ..event() };
        let words: Vec<&str> = words(&body).collect();
        for run in words.windows(2) {
            let phrase = run.join(" ");
            let phrase = if case { phrase.to_ascii_uppercase() } else { phrase };
            if let Ok(query) = LogQuery::parse(&format!("\"{phrase}\"")) {
                prop_assert!(query.accepts_event(&event), "{}", query);
            }
        }
    }
}
