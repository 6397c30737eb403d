//! Texts that must not be seen: addresses with a password in them.

use std::fmt;

use serde::Deserialize;

/// A text from the configuration that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// For the one who needs it: not for logs, errors or pages.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("redis://:hunter2@host");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), "redis://:hunter2@host");
    }
}
