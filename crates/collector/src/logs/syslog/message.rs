//! What a syslog message says: RFC 5424, and whatever RFC 3164 found in the wild.

use model::{Severity, UnixMillis, limits};

use super::super::parse::{self, Known, Parser, severity};

const SOURCE: &str = "syslog";
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// What is known of the message, and its text. Takes any text that is safe to show.
pub(super) fn read<'a>(message: &'a str, parser: &Parser, now: UnixMillis) -> (Known, &'a str) {
    let message = message.trim_end_matches(['\n', '\r', '\0']);
    let mut known =
        Known { service_otherwise: SOURCE.to_owned(), source: SOURCE, ..Known::default() };
    let Some((priority, rest)) = priority(message) else { return (known, message) };
    known.severity = severity::from_syslog(priority & 7).unwrap_or(Severity::UNKNOWN);
    add(&mut known, "syslog.facility", FACILITIES[usize::from(priority >> 3)]);
    match rest.strip_prefix("1 ").and_then(|rest| modern(rest, &mut known, parser)) {
        Some(text) => (known, text),
        None => {
            let text = classic(rest, &mut known, parser, now);
            (known, text)
        }
    }
}

/// `<13>`: facility times eight and severity.
fn priority(message: &str) -> Option<(u8, &str)> {
    let (digits, rest) = message.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    let priority = digits.parse().ok().filter(|priority| is_number && *priority <= 191)?;
    Some((priority, rest))
}

/// RFC 5424 after the version: time, host, program, process, kind, structured data, text.
fn modern<'a>(rest: &'a str, known: &mut Known, parser: &Parser) -> Option<&'a str> {
    let mut fields = rest.splitn(6, ' ');
    let mut field = || fields.next().map(|field| if field == "-" { "" } else { field });
    let (time, host, program) = (field()?, field()?, field()?);
    let (process, kind) = (field()?, field()?);
    let rest = fields.next()?;
    let (pairs, text) = structured(rest)?;
    if !time.is_empty() {
        known.time = Some(parser.instant(time)?);
    }
    name(known, host, program, process);
    add(known, "syslog.msgid", kind);
    for (name, value) in pairs {
        add(known, &name, &value);
    }
    Some(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// `[id key="value"]…` or `-`; then the text.
fn structured(rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    if let Some(text) = rest.strip_prefix('-') {
        return Some((Vec::new(), text.strip_prefix(' ').unwrap_or(text)));
    }
    let mut pairs = Vec::new();
    let mut rest = rest;
    while let Some(element) = rest.strip_prefix('[') {
        let end = element.find([' ', ']'])?;
        // Without the number of the enterprise that made it up.
        let id = element[..end].split('@').next().unwrap_or_default();
        let mut params = &element[end..];
        while let Some(param) = params.strip_prefix(' ') {
            let (key, value) = param.split_once("=\"")?;
            let (value, after) = unescaped(value)?;
            pairs.push((format!("{id}.{key}"), value));
            params = after;
        }
        rest = params.strip_prefix(']')?;
    }
    let text = rest.strip_prefix(' ').or(rest.is_empty().then_some(""))?;
    (!pairs.is_empty() || text.len() < rest.len()).then_some((pairs, text))
}

/// A value up to its closing quote, and what comes after.
fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                c @ ('"' | '\\' | ']') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

/// RFC 3164: time, host, `program[pid]:`, text. Each may be missing.
fn classic<'a>(rest: &'a str, known: &mut Known, parser: &Parser, now: UnixMillis) -> &'a str {
    let Some((time, after)) = parser.syslog_time(rest, now) else { return tagged(rest, known) };
    known.time = Some(time);
    let after = after.trim_start();
    match after.split_once(' ') {
        // Programs that speak to their own machine leave the host out.
        Some((host, text)) if !host.ends_with(':') && !host.contains('[') => {
            name(known, host, "", "");
            tagged(text, known)
        }
        _ => tagged(after, known),
    }
}

/// `program[pid]: text`.
fn tagged<'a>(text: &'a str, known: &mut Known) -> &'a str {
    let Some((tag, after)) = text.split_once(':') else { return text };
    let (program, process) = match tag.split_once('[') {
        Some((program, process)) => (program, process.strip_suffix(']').unwrap_or("")),
        None => (tag, ""),
    };
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"._-/()@".contains(&b);
    if program.is_empty() || program.len() > 64 || !program.bytes().all(is_part) {
        return text;
    }
    // `ERROR: …` is no program.
    if severity::from_word(program).is_some() {
        return text;
    }
    name(known, "", program, process);
    after.strip_prefix(' ').unwrap_or(after)
}

fn name(known: &mut Known, host: &str, program: &str, process: &str) {
    if !program.is_empty() {
        known.service_otherwise = program.to_owned();
        add(known, "syslog.identifier", program);
    }
    add(known, "host.name", host);
    add(known, "process.pid", process);
}

/// What cannot be an attribute is left out here: structured data is for programs that know its form.
fn add(known: &mut Known, name: &str, value: &str) {
    let fits = parse::is_label_name(name)
        && (1..=limits::LABEL_VALUE_BYTES_MAX).contains(&value.len())
        && known.attributes.len() < parse::ATTRIBUTES_MAX / 2
        && known.attributes.iter().all(|(known, _)| known != name);
    if fits {
        known.attributes.push((name.to_owned(), value.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-20T21:00:00Z.
    const NOW: UnixMillis = UnixMillis(1_795_208_400_000);

    fn shown(message: &str) -> String {
        let parser = Parser::new(TimeZone::UTC);
        let (known, text) = read(message, &parser, NOW);
        let age = known.time.map_or("-".to_owned(), |time| (NOW.0 - time.0).to_string());
        let (severity, service) = (known.severity.number(), known.service_otherwise);
        let attributes: Vec<String> =
            known.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!("{severity} {age} {service} [{}] {text}", attributes.join(" "))
    }

    fn check(message: &str, expected: &str) {
        assert_eq!(shown(message), expected, "{message}");
    }

    #[test]
    fn both_standards_are_understood() {
        check(
            r#"<165>1 2026-11-20T20:59:59.003Z web-1 shop 812 ORDER [exampleSDID@32473 iut="3" eventID="10\"11"][b@1 c="\]"] paid"#,
            r#"10 997 shop [syslog.facility=local4 syslog.identifier=shop host.name=web-1 process.pid=812 syslog.msgid=ORDER exampleSDID.iut=3 exampleSDID.eventID=10"11 b.c=]] paid"#,
        );
        check(
            "<34>1 2026-11-20T21:59:00+01:00 - su - ID47 - \u{feff}'su root' failed",
            "18 60000 su [syslog.facility=auth syslog.identifier=su syslog.msgid=ID47] 'su root' failed",
        );
        check("<14>1 - - - - - - nothing known", "9 - syslog [syslog.facility=user] nothing known");
        check(
            "<14>1 2026-11-20T21:00:00Z h p - - -",
            "9 0 p [syslog.facility=user syslog.identifier=p host.name=h] ",
        );
        check(
            "<34>Nov 20 20:59:59 web-1 sshd[99]: no key",
            "18 1000 sshd [syslog.facility=auth host.name=web-1 syslog.identifier=sshd process.pid=99] no key",
        );
        check(
            "<13>Nov 20 20:59:59 backup: done\n",
            "10 1000 backup [syslog.facility=user syslog.identifier=backup] done",
        );
        check(
            "<30>2026-11-20T20:59:59Z db postgres[7]: checkpoint",
            "9 1000 postgres [syslog.facility=daemon host.name=db syslog.identifier=postgres process.pid=7] checkpoint",
        );
    }

    #[test]
    fn what_follows_no_standard_is_kept_as_it_is() {
        check("<13>just: words", "10 - just [syslog.facility=user syslog.identifier=just] words");
        check("<13>ERROR: no", "10 - syslog [syslog.facility=user] ERROR: no");
        check("no priority", "0 - syslog [] no priority");
        check("<999>x", "0 - syslog [] <999>x");
        check("<1", "0 - syslog [] <1");
        check(
            "<14>1 when host p - - - x",
            "9 - syslog [syslog.facility=user] 1 when host p - - - x",
        );
        check("", "0 - syslog [] ");
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic_and_the_wire_takes_it(
            message in r#"(<|[0-9]{1,3}|>|1 |-| |\[|\]|a|="|\\|"|Nov 20 20:59:59|:|é|\x00){0,30}"#,
        ) {
            let parser = Parser::new(TimeZone::UTC);
            let (known, text) = read(&message, &parser, NOW);
            let attributes = known.attributes.len();
            let event = parser.event(text, false, &known, NOW);
            prop_assert!(event.attributes.len() >= attributes.min(1));
        }
    }
}
