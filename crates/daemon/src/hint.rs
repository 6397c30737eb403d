//! Failures that a person can do something about say what, in one line after the failure.

use std::error::Error;
use std::fmt;

use crate::config::ConfigError;

/// An error with advice. Displays as the error alone; [`of`] finds the advice.
#[derive(Debug)]
struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Hinted {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Adds advice to whatever failed.
pub trait WithHint<T> {
    fn hint(self, hint: impl fmt::Display) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl fmt::Display) -> anyhow::Result<T> {
        self.map_err(|error| {
            anyhow::Error::new(Hinted { error: error.into(), hint: hint.to_string() })
        })
    }
}

/// The first advice in the chain of an error.
pub fn of(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| match cause.downcast_ref::<Hinted>() {
        Some(hinted) => Some(hinted.hint.as_str()),
        None => cause.downcast_ref::<ConfigError>().and_then(ConfigError::hint),
    })
}

/// How a process says why it ends: the whole chain on one line, and the advice on the next.
pub fn report(error: &anyhow::Error) -> String {
    // A cause whose text its parent already contains would only be said twice.
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    match of(error) {
        Some(hint) => format!("error: {line}\nhint: {hint}"),
        None => format!("error: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn a_report_is_one_line_and_its_hint() {
        let refused =
            std::io::Error::new(std::io::ErrorKind::PermissionDenied, "permission denied");
        let failed: anyhow::Result<()> = Err(refused)
            .context("failed to open /x")
            .hint("choose a directory that you own")
            .context("failed to open the store");
        assert_eq!(
            report(&failed.expect_err("was made to fail")),
            "error: failed to open the store: failed to open /x: permission denied\n\
             hint: choose a directory that you own"
        );
        assert_eq!(report(&anyhow!("no more")), "error: no more");
    }
}
