//! How access is configured.

use anyhow::bail;
use daemon::config::Span;
use serde::Deserialize;
use storage::secret::Secret;

/// Whether callers must prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Where others than this machine can come.
    #[default]
    Auto,
    Required,
    Off,
}

/// The section `[access]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub auth: Auth,
    /// Names beside this machine's own under which a server on 127.0.0.1 that asks nobody answers, without
    /// port: `dash.example.org`. Needed only behind a proxy that passes the `Host` header on.
    pub allowed_hosts: Vec<String>,
    /// How long a browser stays logged in.
    pub session: Span,
    /// Of the account "admin". Absent: it is made up at the first start and printed once.
    pub admin_password: Option<Secret>,
    /// A token with which any machine may report, beside those that are made later.
    pub collector_token: Option<Secret>,
    /// A token with which everything may be read and changed, beside those that are made later. What a
    /// gateway of its own proves itself with.
    pub admin_token: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            auth: Auth::Auto,
            allowed_hosts: Vec::new(),
            session: Span::from_secs(30 * 24 * 3600),
            admin_password: None,
            collector_token: None,
            admin_token: None,
        }
    }
}

/// Shorter ones can be guessed by asking often.
const TOKEN_CHARS_MIN: usize = 24;
pub(crate) const PASSWORD_CHARS_MIN: usize = 10;

impl Config {
    /// # Errors
    /// When a value is out of bounds. The message names its key and never its value.
    pub fn check(&self) -> anyhow::Result<()> {
        let tokens =
            [("collector_token", &self.collector_token), ("admin_token", &self.admin_token)];
        for (key, token) in tokens {
            let Some(token) = token else { continue };
            let token = token.expose();
            let count = token.chars().count();
            if count < TOKEN_CHARS_MIN {
                bail!(
                    "access.{key}: expected at least {TOKEN_CHARS_MIN} characters, found {count}"
                );
            }
            if !token.bytes().all(|c| c.is_ascii_graphic()) {
                bail!("access.{key}: expected visible ASCII without blanks");
            }
        }
        if self.admin_token.is_some() && self.admin_token == self.collector_token {
            bail!("access.admin_token: expected another than access.collector_token");
        }
        if let Some(password) = &self.admin_password {
            let count = password.expose().chars().count();
            if count < PASSWORD_CHARS_MIN {
                bail!(
                    "access.admin_password: expected at least {PASSWORD_CHARS_MIN} characters, found {count}"
                );
            }
        }
        for (i, host) in self.allowed_hosts.iter().enumerate() {
            if !is_host_name(host) {
                bail!(
                    "access.allowed_hosts[{i}]: expected a host name without scheme and port such as \
                     \"dash.example.org\", found {host:?}"
                );
            }
        }
        if self.session.get().as_secs() < 60 {
            bail!("access.session: expected at least \"1m\", found \"{}\"", self.session);
        }
        Ok(())
    }
}

fn is_host_name(text: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    !text.is_empty() && text.bytes().all(fits) && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_guessed_is_refused_without_being_shown() {
        fn check(config: Config, expected: &str) {
            let error = config.check().expect_err("is refused").to_string();
            assert!(error.starts_with(expected) && !error.contains("guess"), "{error}");
        }
        let some = |text: &str| Some(Secret::new(text));
        let long = "guess-0123456789-0123456789";
        let base = Config::default;
        base().check().expect("the defaults are fine");
        check(Config { collector_token: some("guess"), ..base() }, "access.collector_token:");
        check(Config { admin_token: some(&format!("{long} x")), ..base() }, "access.admin_token:");
        check(
            Config { admin_token: some(long), collector_token: some(long), ..base() },
            "access.admin_token: expected another",
        );
        check(Config { admin_password: some("guess"), ..base() }, "access.admin_password:");
        for host in ["", "http://guess", "guess:7070", "*.guess", "guess."] {
            let hosts = vec!["dash.example".to_owned(), host.to_owned()];
            let error = Config { allowed_hosts: hosts, ..base() }.check().expect_err("is refused");
            assert!(error.to_string().starts_with("access.allowed_hosts[1]:"), "{error}");
        }
        check(Config { session: Span::from_secs(5), ..base() }, "access.session:");
    }
}
