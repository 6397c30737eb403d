//! Configuration: a TOML file, overlaid by the environment, read into whatever type the caller has.
//!
//! A variable `MUSTER_STORAGE__HISTORY__URL` sets `storage.history.url`; only names with a double
//! underscore are configuration, so flags' own variables (`MUSTER_LISTEN`) never collide. A value is
//! read as TOML where the target accepts that, else as plain text. `…_FILE` reads the value from a file,
//! for secrets. Flags come last and are the caller's.

use std::path::Path;

use serde::de::DeserializeOwned;

mod environment;
mod error;
mod quantity;

pub use error::ConfigError;
pub use quantity::{Bytes, QuantityError, Span};

/// Reads configuration: defaults < `file` < environment.
///
/// Use `#[serde(default, deny_unknown_fields)]` on `T`: an unknown key is then refused with its place
/// and, where one is near, the key that was probably meant.
///
/// # Errors
/// A named file that is missing or unreadable, and any key or value that is not accepted. The message
/// names place and key: `muster.toml:12: collector.interval: expected a duration …, found "five"`.
pub fn load<T: DeserializeOwned + Default>(file: Option<&Path>) -> Result<T, ConfigError> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    load_with(file, variables)
}

/// As [`load`], with the environment passed in.
pub fn load_with<T: DeserializeOwned + Default>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let variables = environment::settings(variables);
    let Some(path) = file else {
        if variables.is_empty() {
            return Ok(T::default());
        }
        return environment::overlay(toml::Table::new(), &variables);
    };
    let text =
        std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
    let whole: Result<T, _> = toml::from_str(&text);
    if variables.is_empty() {
        return whole.map_err(|error| ConfigError::in_file(path, &text, &error));
    }
    // What the file lacks the environment may add, so the file alone decides only on its syntax.
    let table: toml::Table =
        toml::from_str(&text).map_err(|error| ConfigError::in_file(path, &text, &error))?;
    environment::overlay(table, &variables).map_err(|blamed| match whole {
        Err(error) => ConfigError::in_file(path, &text, &error),
        Ok(_) => blamed,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        collector: Collector,
        storage: Storage,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Collector {
        interval: Span,
        spool_size_max: Bytes,
        label: String,
        roots: Vec<String>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Storage {
        url: String,
        connections: usize,
        live: Live,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Live {
        #[default]
        Memory,
        Redis(Redis),
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Redis {
        url: String,
    }

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut file =
            tempfile::Builder::new().suffix(".toml").tempfile().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("written");
        let variables = variables.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        load_with(Some(file.path()), variables)
    }

    fn refused(text: &str, variables: &[(&str, &str)], expected: &str, hint: Option<&str>) {
        let error = read(text, variables).expect_err("is refused");
        let message = error.to_string();
        // The directory of the temporary file differs from run to run.
        let shown = message.rsplit_once('/').map_or(message.as_str(), |(_, rest)| rest);
        let shown = shown.split_once(".toml").map_or(shown, |(_, rest)| rest);
        assert_eq!(shown, expected);
        assert_eq!(error.hint(), hint);
    }

    #[test]
    fn nothing_at_all_is_a_configuration() {
        assert_eq!(load_with::<Config>(None, []).expect("works"), Config::default());
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let config = read(
            "[collector]\ninterval = \"2s\"\nlabel = \"a\"\n",
            &[
                ("MUSTER_COLLECTOR__INTERVAL", "250ms"),
                ("MUSTER_COLLECTOR__SPOOL_SIZE_MAX", "64MiB"),
                ("MUSTER_COLLECTOR__ROOTS", "[\"/a\", \"/b\"]"),
                ("MUSTER_LISTEN", "127.0.0.1:1"),
                ("PATH__X", "/bin"),
            ],
        )
        .expect("is accepted");
        assert_eq!(config.collector.interval, Span::from_millis(250));
        assert_eq!(config.collector.spool_size_max, Bytes(64 << 20));
        assert_eq!(config.collector.label, "a");
        assert_eq!(config.collector.roots, ["/a", "/b"]);
    }

    #[test]
    fn a_value_that_looks_like_a_number_is_text_where_text_is_wanted() {
        let config = read("", &[("MUSTER_COLLECTOR__LABEL", "42")]).expect("is accepted");
        assert_eq!(config.collector.label, "42");
    }

    #[test]
    fn a_secret_may_come_from_a_file_and_is_never_shown() {
        let mut secret = tempfile::NamedTempFile::new().expect("a temporary file");
        writeln!(secret, "s3cret").expect("written");
        let path = secret.path().to_str().expect("utf-8");
        let config = read("", &[("MUSTER_STORAGE__URL_FILE", path)]).expect("is accepted");
        assert_eq!(config.storage.url, "s3cret");
        let error = read("", &[("MUSTER_STORAGE__URI_FILE", path)]).expect_err("no such key");
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }

    #[test]
    fn refusals_name_the_place_the_key_and_what_was_found() {
        refused(
            "[collector]\n\ninterval = \"five\"\n",
            &[],
            ":3: collector.interval: expected a duration such as \"15s\", found \"five\"",
            None,
        );
        refused(
            "[collector]\ninterval = 5\n",
            &[],
            ":2: collector.interval: expected a duration such as \"15s\", found integer `5`",
            None,
        );
        refused(
            "[collector]\nroots = [\"/a\", 7]\n",
            &[],
            ":2: collector.roots[1]: expected a string, found integer `7`",
            None,
        );
        refused(
            "[collector]\nintervall = \"5s\"\n",
            &[],
            ":2: collector.intervall: unknown key",
            Some("did you mean `interval`?"),
        );
        refused(
            "colector = 1\n",
            &[],
            ":1: colector: unknown key",
            Some("did you mean `collector`?"),
        );
        refused(
            "[storage]\nxyz = 1\n",
            &[],
            ":2: storage.xyz: unknown key",
            Some("known keys here: url, connections, live"),
        );
        refused(
            "[storage]\nconnections = -1\n",
            &[],
            ":2: storage.connections: expected a whole number, 0 or more, found integer `-1`",
            Some("write it plainly, such as 100"),
        );
        refused(
            "[storage]\nlive = \"redis\"\n",
            &[],
            ":2: storage.live: expected a table with the settings of this choice, found its name alone",
            Some("write it as a section of its own: [storage.live.NAME]"),
        );
        refused(
            "",
            &[("MUSTER_COLLECTOR__INTERVAL", "five")],
            "MUSTER_COLLECTOR__INTERVAL: collector.interval: expected a duration such as \"15s\", found \"five\"",
            None,
        );
        refused(
            "",
            &[("MUSTER_COLLECTOR__INTERVALL", "5s")],
            "MUSTER_COLLECTOR__INTERVALL: collector.intervall: unknown key",
            Some("did you mean `interval`?"),
        );
    }

    #[test]
    fn broken_toml_is_refused_with_its_line() {
        let error = read("[collector]\nlabel = \"a\n", &[]).expect_err("is refused").to_string();
        assert!(error.contains(".toml:2: "), "{error}");
    }

    #[test]
    fn a_named_file_must_exist() {
        let error = load_with::<Config>(Some(Path::new("/nonexistent/muster.toml")), [])
            .expect_err("is refused");
        assert_eq!(error.to_string(), "/nonexistent/muster.toml: no such file");
        assert!(error.hint().is_some());
    }
}
