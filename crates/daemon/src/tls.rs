//! TLS: what a listener proves itself with, and how those who connect know whom they reached.
//!
//! Start with [`Listener`] and [`Client`]; both are made from a section of the settings, and say which file is
//! wrong and why before anything is served.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, SupportedProtocolVersion};
use serde::Deserialize;

use crate::hint::WithHint as _;

mod client;
#[cfg(feature = "http")]
mod expiry;
mod files;
mod listener;
mod validity;

pub use client::{Client, Stream};
#[cfg(feature = "http")]
pub use expiry::show_expiry;
pub use listener::Listener;
use validity::Validity;

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The section `[tls]`: what a listener proves itself with. Without it, nothing is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerConfig {
    /// Certificate chain (PEM), its own first.
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM).
    pub key: Option<PathBuf>,
    /// Authorities (PEM) of which whoever connects must have a certificate. Absent: none is asked for.
    pub client_ca: Option<PathBuf>,
}

/// How to know whom one reached at `https://`, and what to prove oneself with there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// Authorities (PEM) that are trusted, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Certificate chain (PEM) for servers that ask for one, and its key.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, Validity);

/// A certificate chain with its key and its time, from one of two settings or both. `None` when neither is set.
fn identity(
    section: &str,
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> anyhow::Result<Option<Identity>> {
    let (certificate, key) =
        match (certificate, key) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => {
                return Err(anyhow!("{section}.key: is missing beside {section}.certificate"))
                .hint("both are needed: the certificate, and the private key that it was made for");
            }
            (None, Some(_)) => {
                return Err(anyhow!("{section}.certificate: is missing beside {section}.key"))
                .hint("both are needed: the certificate, and the private key that it was made for");
            }
        };
    let place = format!("{section}.certificate: {}", certificate.display());
    let chain = certificates(certificate).with_context(|| place.clone())?;
    let mut validity = Validity::of(&place, &chain[0]);
    validity.remind();
    let place = || format!("{section}.key: {}", key.display());
    let pem = read(key).with_context(place)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| anyhow!("holds no private key in PEM that can be read without a password"))
        .with_context(place)?;
    Ok(Some((chain, key, validity)))
}

/// All certificates of a file; at least one.
fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let pem = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| anyhow!("is not PEM: {error}"))?;
    if all.is_empty() {
        return Err(anyhow!("holds no certificate in PEM"))
            .hint("it has lines with BEGIN CERTIFICATE and END CERTIFICATE");
    }
    Ok(all)
}

/// Authorities of a file.
fn roots(path: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| anyhow!("holds no usable authority: {error}"))?;
    }
    Ok(roots)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => anyhow!("there is no such file"),
        std::io::ErrorKind::PermissionDenied => anyhow!("this user may not read it"),
        _ => anyhow!(error),
    })
}

/// rustls says a mismatch in its own words.
fn mismatch(section: &str, error: rustls::Error) -> anyhow::Error {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            anyhow!("{section}.key: is not the key that {section}.certificate was made for")
        }
        error => anyhow!("{section}.certificate: {error}"),
    }
}

#[cfg(test)]
mod tests;
