//! `muster logs`: what machines and services logged, in the terminal.

use std::io::{IsTerminal as _, Write};
use std::time::SystemTime;

use anyhow::{Result, bail};
use daemon::config::Span;
use model::{LogQuery, UnixMillis};
use proto::v1::log_service_client::LogServiceClient;
use proto::{Link, convert, v1};
use tonic::{Code, Status};

use crate::remote;

/// Show what machines and services logged: newest last, as a query selects
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster logs                                        the latest lines of everything
  muster logs 'level:error service:api' --follow     and what arrives from now on
  muster logs '\"connection refused\" level:>=warn' --since 1h
  muster logs 'machine:web-* level:>=warn' --json

Words are found whole and in any case, \"words in quotes\" one after the other, begin* by its beginning. \
Fields: level (also level:>=warn), service, machine, and the names of attributes; values may have * and ?, \
service:api,web is a choice, -term leaves out. All terms must hold. A query that begins with - stands \
behind --.")]
pub(crate) struct Args {
    /// What to look for; everything when absent
    #[arg(value_name = "QUERY")]
    query: Vec<String>,
    /// Go on with what arrives
    #[arg(short, long)]
    follow: bool,
    /// How far to look back
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    since: Span,
    /// Lines to look back for
    #[arg(short = 'n', long, value_name = "LINES", default_value_t = 100)]
    lines: u32,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: remote::Flags,
}

/// Lines of one request.
const PAGE_MAX: u32 = 1000;
/// A thousand lines of 64 KiB.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

pub(crate) async fn run(args: Args) -> Result<()> {
    let query = args.query.join(" ");
    // Here it can be said at once, whatever the server is.
    LogQuery::parse(&query).map_err(|error| anyhow::anyhow!("{error}"))?;
    let client = LogServiceClient::new(args.server.connect().await?)
        .max_decoding_message_size(ANSWER_BYTES_MAX);
    let style = Style { json: args.json, colours: std::io::stdout().is_terminal() };
    let shown = match args.follow {
        true => follow(client, query, args.lines.min(PAGE_MAX), style).await,
        false => search(client, query, &args, style).await,
    };
    match shown {
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        shown => shown,
    }
}

async fn search(
    mut client: LogServiceClient<Link>,
    query: String,
    args: &Args,
    style: Style,
) -> Result<()> {
    let since = i64::try_from(args.since.0.as_millis()).unwrap_or(i64::MAX);
    let start = UnixMillis::from(SystemTime::now()) - since;
    let mut request = v1::SearchRequest {
        query,
        start: Some(convert::timestamp_to_proto(start)),
        ..Default::default()
    };
    let mut entries = Vec::new();
    loop {
        let missing = args.lines.saturating_sub(entries.len() as u32);
        if missing == 0 {
            break;
        }
        request.page_size = missing.min(PAGE_MAX);
        let page = client.search(request.clone()).await.map_err(explain)?.into_inner();
        entries.extend(page.entries);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if entries.is_empty() {
        eprintln!("nothing found in the last {}", args.since);
    }
    show(entries.iter().rev(), style)
}

async fn follow(
    mut client: LogServiceClient<Link>,
    query: String,
    lookback: u32,
    style: Style,
) -> Result<()> {
    let request = v1::TailRequest { query, lookback };
    let mut tail = client.tail(request).await.map_err(explain)?.into_inner();
    while let Some(message) = tail.message().await.map_err(explain)? {
        if message.dropped_events > 0 {
            eprintln!("… {} events were not looked at: they came too fast", message.dropped_events);
        }
        show(message.entries.iter(), style)?;
    }
    bail!("the server ended the stream")
}

fn explain(status: Status) -> anyhow::Error {
    match status.code() {
        Code::Unimplemented => {
            anyhow::anyhow!("the server has no log service; hint: it may be an older version")
        }
        _ => remote::refused(&status),
    }
}

#[derive(Clone, Copy)]
struct Style {
    json: bool,
    colours: bool,
}

fn show<'a>(entries: impl Iterator<Item = &'a v1::LogEntry>, style: Style) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for entry in entries {
        if style.json {
            writeln!(out, "{}", json(entry))?;
        } else {
            writeln!(out, "{}", line(entry, style.colours))?;
        }
    }
    out.flush()?;
    Ok(())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn time(entry: &v1::LogEntry) -> String {
    entry.time.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// `2026-01-31T12:00:00.000Z ERROR web-1 api: connection refused`.
fn line(entry: &v1::LogEntry, colours: bool) -> String {
    let level = format!("{:<5}", if entry.level == "unknown" { "-" } else { &entry.level });
    let level = level.to_uppercase();
    let level = match (colours, entry.level.as_str()) {
        (true, "error" | "fatal") => format!("\u{1b}[31m{level}\u{1b}[0m"),
        (true, "warn") => format!("\u{1b}[33m{level}\u{1b}[0m"),
        (true, "debug" | "trace") => format!("\u{1b}[2m{level}\u{1b}[0m"),
        _ => level,
    };
    let cut = if entry.body_truncated { " …(cut)" } else { "" };
    let (host, service) = (harmless(&entry.host_name), harmless(&entry.service));
    format!("{} {level} {host} {service}: {}{cut}", time(entry), harmless(&entry.body))
}

/// Without what a terminal would obey: control characters as `\u{1b}`, further lines indented.
fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end_matches('\n').chars() {
        match c {
            '\n' => out.push_str("\n    "),
            '\t' => out.push('\t'),
            // Also those that turn the direction of writing.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

fn json(entry: &v1::LogEntry) -> serde_json::Value {
    serde_json::json!({
        "time": time(entry),
        "level": entry.level,
        "machine": entry.machine_id,
        "host_name": entry.host_name,
        "service": entry.service,
        "body": entry.body,
        "truncated": entry.body_truncated,
        "attributes": entry.attributes,
        "source": entry.source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(level: &str, body: &str) -> v1::LogEntry {
        v1::LogEntry {
            time: Some(convert::timestamp_to_proto(UnixMillis(0))),
            level: level.into(),
            host_name: "web-1".into(),
            service: "api".into(),
            body: body.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_line_never_commands_the_terminal() {
        fn check(body: &str, expected: &str) {
            let line = line(&entry("error", body), false);
            let expected = format!("1970-01-01T00:00:00Z ERROR web-1 api: {expected}");
            assert_eq!(line, expected);
        }
        check("refused", "refused");
        check("one\ntwo\n", "one\n    two");
        check("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}");
        check("\u{202e}gnp", "\\u{202e}gnp");
        check("\r\u{9b}2J", "\\u{d}\\u{9b}2J");
    }

    #[test]
    fn levels_are_words_and_colours_only_for_people() {
        assert!(line(&entry("warn", "x"), false).contains(" WARN  web-1 "));
        assert!(line(&entry("unknown", "x"), false).contains(" -     web-1 "));
        assert!(line(&entry("fatal", "x"), true).contains("\u{1b}[31mFATAL\u{1b}[0m"));
    }
}
