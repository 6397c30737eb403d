//! The command line of a collector that runs alone: `muster collector` and `muster-collector`.

use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use daemon::config::Span;
use daemon::logging::Format;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::collector::Collector;
use crate::config::{Config, Secret};
use crate::logs::{FilesConfig, LogsConfig};

/// As `muster collector`; the small executable says them with its own name.
pub const EXAMPLES: &str = "\
Examples:
  muster collector --aggregator http://hub.example:7070
  some-program | muster collector --aggregator http://hub.example:7070 --stdin shop
  muster collector --aggregator http://a:7070,http://b:7070 --label env=prod --label role=web
  muster collector --aggregator http://hub.example:7070 --logs '/var/log/*.log'

Everything can also be set in the section [collector] of a file (--config), or by the environment: \
MUSTER_COLLECTOR__SPOOL__SIZE_MAX=1GiB. Flags win over the environment, the environment over the file.";

/// Read this machine and report it to an aggregator.
///
/// What the aggregator has not stored yet is kept on disk: it may be away for hours, or this machine
/// restarted, without a gap. The collector listens on nothing, unless this machine's settings open a
/// receiver for its own programs, and runs no command that it is sent.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Where to report: address of an aggregator, or several of which one is used at a time
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "MUSTER_AGGREGATOR")]
    aggregator: Vec<String>,
    /// Where the machine's id and what is not delivered yet are kept
    ///
    /// Default: /var/lib/muster-collector for root, else ~/.local/state/muster-collector.
    #[arg(long, value_name = "DIR", env = "MUSTER_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// A label of this machine, such as env=prod; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label, env = "MUSTER_LABELS")]
    labels: Vec<(String, String)>,
    /// File that holds the token which the aggregator asks collectors for
    #[arg(long, value_name = "FILE", env = "MUSTER_TOKEN_FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The token itself; others can see it in the process list, so prefer a file or the environment
    #[arg(long, value_name = "TOKEN", env = "MUSTER_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Send what is piped in as log events of this service, and end with it
    #[arg(long, value_name = "SERVICE", num_args = 0..=1, default_missing_value = "stdin", env = "MUSTER_STDIN")]
    stdin: Option<String>,
    #[command(flatten)]
    log_files: LogFiles,
    /// File of the authority (PEM) that an aggregator at https:// is known by, instead of the system's
    #[arg(long, value_name = "FILE", env = "MUSTER_CA")]
    ca: Option<PathBuf>,
    /// Time between readings, unless the aggregator asks for another: 250ms, 1s, 1m [default: 1s]
    #[arg(long, value_name = "TIME", env = "MUSTER_INTERVAL")]
    interval: Option<Span>,
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE", env = "MUSTER_CONFIG")]
    config: Option<PathBuf>,
    /// How logs are written [default: human]
    #[arg(long, value_name = "FORMAT", env = "MUSTER_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: "warn", "info", "info,collector=debug" [default: info]
    #[arg(long, value_name = "FILTER", env = "MUSTER_LOG")]
    log: Option<String>,
}

/// Log files that are named on the command line, where the shell may have named them.
#[derive(Debug, Default, clap::Args)]
pub struct LogFiles {
    /// Log files to send, or globs over them: what is written from now on. More can be said in the file
    #[arg(long = "logs", value_name = "FILE", num_args = 1.., value_delimiter = ',', env = "MUSTER_LOGS")]
    globs: Vec<String>,
}

impl LogFiles {
    /// Reads these too. Paths that are not absolute are of the current directory.
    ///
    /// # Errors
    ///
    /// When there is such a path and the current directory is not known.
    pub fn add_to(self, logs: &mut LogsConfig) -> anyhow::Result<()> {
        if self.globs.is_empty() {
            return Ok(());
        }
        let here = match self.globs.iter().all(|glob| Path::new(glob).is_absolute()) {
            true => PathBuf::new(),
            false => std::env::current_dir()
                .context("failed to find the current directory, which log files were named in")?,
        };
        let include = self.globs.iter().map(|glob| plain(&here.join(glob)).display().to_string());
        logs.files.push(FilesConfig { include: include.collect(), ..FilesConfig::default() });
        Ok(())
    }
}

/// Without `.`, `..` and doubled slashes: what lies beside a file is compared with its glob as text.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = plain.pop(),
            part => plain.push(part),
        }
    }
    plain
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// For people
    Human,
    /// One JSON object a line
    Json,
}

/// The settings file, as far as a collector reads it. The sections of other roles may stand beside.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    collector: Config,
    log: Log,
    #[serde(rename = "tls")]
    _tls: Option<IgnoredAny>,
    #[serde(rename = "access")]
    _access: Option<IgnoredAny>,
    #[serde(rename = "storage")]
    _storage: Option<IgnoredAny>,
    #[serde(rename = "aggregator")]
    _aggregator: Option<IgnoredAny>,
    #[serde(rename = "gateway")]
    _gateway: Option<IgnoredAny>,
    #[serde(rename = "alerts")]
    _alerts: Option<IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Log {
    format: Format,
    filter: Option<String>,
}

impl Args {
    /// Lays the flags over file and environment.
    fn read(self) -> anyhow::Result<(Config, Log)> {
        let File { collector: mut config, mut log, .. } =
            daemon::config::load(self.config.as_deref())?;
        if !self.aggregator.is_empty() {
            config.aggregators = self.aggregator;
        }
        config.state_dir = self.state_dir.or(config.state_dir);
        config.labels.extend(self.labels);
        if self.token.is_some() || self.token_file.is_some() {
            config.token = self.token.map(Secret::new);
            config.token_file = self.token_file;
        }
        if let Some(service) = self.stdin {
            config.logs.stdin.enabled = true;
            config.logs.stdin.service = service;
        }
        self.log_files.add_to(&mut config.logs)?;
        config.tls.ca = self.ca.or(config.tls.ca);
        config.interval = self.interval.unwrap_or(config.interval);
        log.format = match self.log_format {
            Some(LogFormat::Human) => Format::Human,
            Some(LogFormat::Json) => Format::Json,
            None => log.format,
        };
        log.filter = self.log.or(log.filter);
        Ok((config, log))
    }
}

/// Runs a collector as the whole process, until a signal ends it.
///
/// # Errors
/// When it cannot start; see `daemon::hint::report` for how to show it.
pub fn run(args: Args) -> anyhow::Result<()> {
    let (config, log) = args.read()?;
    daemon::logging::init(log.format, log.filter.as_deref().unwrap_or("info"))?;
    let target = config.target()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The main thread reads the machine, this one delivers.
        .worker_threads(1)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(async {
        let shutdown = daemon::shutdown::on_signal();
        let collector = Collector::open(config, target)?;
        daemon::systemd::ready();
        // Beside the delivery, on the one worker: what stops the one stops the other.
        tokio::spawn(daemon::systemd::attend(shutdown.clone()));
        collector.run(shutdown).await
    });
    // A probe that hangs on a dead mount must not keep the process from ending.
    runtime.shutdown_background();
    outcome
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as env=prod".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn read(line: &str) -> anyhow::Result<Config> {
        let cli = Cli::try_parse_from(["collector"].into_iter().chain(line.split_whitespace()))?;
        Ok(cli.args.read()?.0)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn log_files_are_named_as_globs_or_as_the_shell_names_them() {
        let config = read("--logs /var//x/../log/*.log ./app.log --aggregator http://a:7071")
            .expect("reads");
        let here = std::env::current_dir().expect("a directory").join("app.log");
        let expected = ["/var/log/*.log".to_owned(), here.display().to_string()];
        assert_eq!(config.logs.files.len(), 1);
        assert_eq!(config.logs.files[0].include, expected);
        assert_eq!(config.aggregators, ["http://a:7071"]);
        assert!(read("").expect("reads").logs.files.is_empty());
    }

    #[test]
    fn flags_win_over_the_file() {
        use std::io::Write as _;
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let text = "[storage]\nlive = \"memory\"\n[collector]\ninterval = \"5s\"\naggregators = [\"http://old:1\"]\nlabels = { env = \"dev\", team = \"a\" }\n";
        file.write_all(text.as_bytes()).expect("written");
        let line = format!(
            "--config {} --aggregator http://a:7071,http://b:7071 --label env=prod --label role=web",
            file.path().display()
        );
        let config = read(&line).expect("accepted");
        assert_eq!(config.aggregators, ["http://a:7071", "http://b:7071"]);
        assert_eq!(config.interval, Span::from_secs(5));
        let labels: Vec<_> = config.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["env=prod", "role=web", "team=a"]);
    }

    #[test]
    fn a_bad_flag_says_what_was_expected() {
        fn check(line: &str, expected: &str) {
            let error = format!("{:#}", read(line).expect_err("accepted"));
            assert!(error.contains(expected), "{error}");
        }
        check("--label env", "KEY=VALUE");
        check("--interval five", "a duration such as");
        check("--config /nonexistent.toml", "no such file");
    }
}
