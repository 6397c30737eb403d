//! `muster check-config`: says what is wrong with a settings file before a service is restarted with it.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::config::{self, Config};

/// Check a settings file, together with the environment, without starting anything
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  muster check-config /etc/muster/muster.toml")]
pub(crate) struct Args {
    /// Settings file (TOML)
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let config = config::read(Some(&args.file))?;
    check(&config).with_context(|| args.file.display().to_string())?;
    println!("{}: ok", args.file.display());
    Ok(())
}

/// What each role looks at when it starts. Nothing is opened but files that are named to be read.
fn check(config: &Config) -> anyhow::Result<()> {
    daemon::logging::check(&config.log.filter).context("log.filter")?;
    config.access.check()?;
    daemon::tls::Listener::open(&config.tls)?;
    daemon::tls::Client::open("gateway.tls", &config.gateway.tls)?;
    daemon::tls::Client::open("collector.tls", &config.collector.tls)?;
    config.check_stores()?;
    config.aggregator.check()?;
    config.alerts.check()?;
    if let Some(path) = &config.alerts.rules_file {
        ::alerts::read_rules_file(path).context("alerts.rules_file")?;
    }
    config.gateway.check()?;
    config.collector.check()?;
    // `muster up` delivers to itself, so none is fine here.
    if !config.collector.aggregators.is_empty() {
        config.collector.target()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_would_refuse_is_refused_with_field_and_value() {
        fn refused(text: &str, expected: &str) {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            std::fs::write(file.path(), text).expect("written");
            let said = match run(&Args { file: file.path().to_owned() }) {
                Ok(()) => panic!("accepted: {text}"),
                Err(error) => daemon::hint::report(&error),
            };
            let place = file.path().display().to_string();
            assert!(said.contains(&format!("{place}: {expected}")), "{said}");
        }
        refused(
            "[collector]\ninterval = '10ms'",
            "collector.interval: expected \"100ms\" to \"1h\", found \"10ms\"",
        );
        refused("[log]\nfilter = 'info,a=b=c'", "log.filter: log filter \"info,a=b=c\"");
        refused(
            "[alerts]\nrules_file = '/nonexistent/rules.toml'",
            "alerts.rules_file: /nonexistent/rules.toml: cannot be read",
        );
        refused(
            "[collector.probes]\ndisabled = ['containrs']",
            "collector.probes.disabled: there is no probe \"containrs\"",
        );
        refused(
            "[collector]\naggregators = ['foo']",
            "aggregator: expected an address such as \"http://host:7071\", found \"foo\"",
        );
        refused("[tls]\ncertificate = '/c.pem'", "tls.key: is missing beside tls.certificate");
        refused(
            "[tls]\ncertificate = '/nonexistent/c.pem'\nkey = '/k.pem'",
            "tls.certificate: /nonexistent/c.pem: there is no such file",
        );
        refused(
            "[collector.tls]\nca = '/nonexistent/ca.pem'",
            "collector.tls.ca: /nonexistent/ca.pem: there is no such file",
        );
        refused(
            "[storage.history.retention]\nraw = '60d'",
            "storage.history.retention.raw: expected at most storage.history.retention.minute, \
             which is \"30d\", found \"60d\"",
        );
        refused("[aggregator.query]\ntimeout = '0s'", "aggregator.query.timeout: expected more");
        refused("[alerts.notify]\nqueue_max = 0", "alerts.notify.queue_max: expected at least 1");
        refused(
            "[gateway]\nallowed_origins = ['dash']",
            "gateway.allowed_origins[0]: expected an origin",
        );
        refused(
            "[access]\nallowed_hosts = ['https://dash.example']",
            "access.allowed_hosts[0]: expected a host name",
        );
    }
}
