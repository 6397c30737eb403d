//! What a person can choose about the gateway.

use anyhow::Context as _;
use serde::Deserialize;

use crate::security;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Open pages that are served live at the same time. Further ones are told to come back later.
    pub viewers_max: usize,
    /// Origins besides the server's own that may open the WebSocket: `https://dash.example.org`.
    /// Needed only behind a proxy that rewrites the `Host` header.
    pub allowed_origins: Vec<String>,
    /// How to know an aggregator at `https://`; used by a gateway of its own.
    pub tls: daemon::tls::ClientConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            viewers_max: 1024,
            allowed_origins: Vec::new(),
            tls: daemon::tls::ClientConfig::default(),
        }
    }
}

impl Config {
    /// # Errors
    /// When an origin is none.
    pub fn check(&self) -> anyhow::Result<()> {
        for (i, origin) in self.allowed_origins.iter().enumerate() {
            security::authority_of(origin).with_context(|| {
                format!(
                    "gateway.allowed_origins[{i}]: expected an origin such as \
                     \"https://dash.example.org\", found {origin:?}"
                )
            })?;
        }
        Ok(())
    }
}
