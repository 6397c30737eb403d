//! The side that listens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context as _, anyhow};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::files::{self, LOOK_EVERY, Look};
use super::validity::Validity;
use super::{ListenerConfig, VERSIONS, identity, mismatch, provider, roots};
use crate::hint::WithHint as _;

/// What one port proves itself with. Cheap to clone; clones see the same renewal.
#[derive(Clone, Debug)]
pub struct Listener(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: ListenerConfig,
    /// Held for a look or a step.
    current: Mutex<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    tls: Arc<ServerConfig>,
    validity: Validity,
}

impl Listener {
    /// `None` when no certificate is configured.
    ///
    /// # Errors
    /// When a file is missing or is not what it should be. The message names setting and file.
    pub fn open(config: &ListenerConfig) -> anyhow::Result<Option<Self>> {
        let Some(first) = read(config)? else { return Ok(None) };
        let current = Mutex::new(first);
        Ok(Some(Self(Arc::new(Inner { config: config.clone(), current }))))
    }

    /// # Errors
    /// When the other side does not speak TLS, or does not prove itself as it is asked to.
    pub async fn accept<S>(&self, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.current().tls).accept(stream).await
    }

    /// When its certificate expires, where that can be read from it.
    pub fn expires(&self) -> Option<SystemTime> {
        self.current().validity.expires()
    }

    fn current(&self) -> Current {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over files that changed, for new connections, until `stop`. Files that are wrong change nothing:
    /// what was read before stays in use, and it is said once.
    pub async fn follow(self, stop: CancellationToken) {
        let mut before = self.look().await;
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            self.0.current.lock().unwrap_or_else(PoisonError::into_inner).validity.remind();
            let now = self.look().await;
            if now == before {
                continue;
            }
            before = now;
            let config = self.0.config.clone();
            let read = tokio::task::spawn_blocking(move || read(&config)).await;
            match read.map_err(anyhow::Error::from).and_then(std::convert::identity) {
                Ok(Some(renewed)) => {
                    *self.0.current.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
                    tracing::info!("the certificate was read again");
                }
                Ok(None) => {}
                Err(error) => tracing::error!(
                    error = format!("{error:#}"),
                    "the changed certificate cannot be used; the one before stays in use"
                ),
            }
        }
    }

    async fn look(&self) -> Look {
        let config = self.0.config.clone();
        let look = move || files::look([config.certificate, config.key, config.client_ca]);
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

fn read(config: &ListenerConfig) -> anyhow::Result<Option<Current>> {
    let found = identity("tls", config.certificate.as_deref(), config.key.as_deref())?;
    let Some((chain, key, validity)) = found else {
        if config.client_ca.is_some() {
            return Err(anyhow!("tls.client_ca: needs tls.certificate and tls.key beside it"))
                .hint("without a certificate of its own a server speaks no TLS");
        }
        return Ok(None);
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .context("tls")?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let place = || format!("tls.client_ca: {}", path.display());
            let roots = Arc::new(roots(path).with_context(place)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder.with_client_cert_verifier(verifier.build().with_context(place)?)
        }
    };
    let mut made = builder.with_single_cert(chain, key).map_err(|e| mismatch("tls", e))?;
    made.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Current { tls: Arc::new(made), validity }))
}
