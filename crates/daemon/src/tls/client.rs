//! The side that connects.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::files::{self, LOOK_EVERY, Look};
use super::validity::Validity;
use super::{ClientConfig, VERSIONS, identity, mismatch, provider, roots};

/// What one of several addresses of a name gets to answer.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(2);

/// Connects to `http://` and `https://` addresses. Cheap to clone; clones see the same renewal.
///
/// Its files are looked at when it connects, and by whoever [follows](Self::follow) them. Files that are wrong
/// change nothing: what was read before stays in use, and it is said once.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    section: String,
    config: ClientConfig,
    /// Where authorities come from, for messages.
    trust: String,
    /// Held for a step, and while changed files are read.
    current: Mutex<Current>,
}

struct Current {
    tls: Arc<rustls::ClientConfig>,
    validity: Option<Validity>,
    seen: Look,
    looked: Instant,
}

impl Client {
    /// `section` names the settings in messages: `"collector.tls"`.
    ///
    /// # Errors
    /// When a file is missing or is not what it should be. The message names setting and file.
    pub fn open(section: &str, config: &ClientConfig) -> anyhow::Result<Self> {
        // First, so that what changes meanwhile is seen next time.
        let seen = look(config);
        let (tls, validity) = read(section, config)?;
        let trust = match &config.ca {
            Some(path) => path.display().to_string(),
            None => "this machine's own list".to_owned(),
        };
        let current = Mutex::new(Current { tls, validity, seen, looked: Instant::now() });
        let (section, config) = (section.to_owned(), config.clone());
        Ok(Self(Arc::new(Inner { section, config, trust, current })))
    }

    /// When the certificate that it shows expires; `None` when it shows none.
    pub fn expires(&self) -> Option<SystemTime> {
        self.0.current().validity.as_ref()?.expires()
    }

    /// Looks at the files until `stop`, so that somebody is warned in time however rarely it connects.
    pub async fn follow(self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.next_look()).await.is_some() {}
    }

    /// Waits until it is time to look at the files, and does. Cancel safe.
    pub async fn next_look(&self) {
        tokio::time::sleep(LOOK_EVERY).await;
        self.look_again().await;
    }

    async fn look_again(&self) {
        {
            let mut current = self.0.current();
            if current.looked.elapsed() < LOOK_EVERY {
                return;
            }
            current.looked = Instant::now();
        }
        let inner = Arc::clone(&self.0);
        // It ends by itself; when it cannot be waited for, what was read before stays in use.
        let _ = tokio::task::spawn_blocking(move || inner.renew()).await;
    }

    /// Connects to an address that begins with `https://`, or without TLS to any other, to speak HTTP/1.1 or
    /// HTTP/2 there.
    ///
    /// # Errors
    /// When nobody listens there, or it is not proven who does. The message says what to try.
    pub async fn connect(&self, url: &http::Uri, version: http::Version) -> io::Result<Stream> {
        let tls = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = url.host().unwrap_or_default();
        // An IPv6 address in a URL stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = reach(host, port).await?;
        tcp.set_nodelay(true)?;
        if !tls {
            return Ok(Stream::Plain(tcp));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is not a host name"))
        })?;
        self.look_again().await;
        let mut config = (*self.0.current().tls).clone();
        let protocol: &[u8] = match version {
            http::Version::HTTP_2 => b"h2",
            _ => b"http/1.1",
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        match TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(self.explain(host, port, error)),
        }
    }

    /// In words that say what to do.
    fn explain(&self, host: &str, port: u16, error: io::Error) -> io::Error {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let text = match cause {
            Some(rustls::Error::InvalidCertificate(problem)) => match problem {
                // The latter: of one that has the name of a trusted one, and is another.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                    "the certificate of {host} is not of an authority that is trusted here ({}); \
                     hint: name the file of its authority with --ca",
                    self.0.trust
                ),
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => {
                    format!("the certificate of {host}:{port} is for another name: {problem}")
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    format!("the certificate of {host} has expired: {problem}")
                }
                problem => format!("the certificate of {host} is refused: {problem}"),
            },
            Some(rustls::Error::InvalidMessage(_)) => {
                format!("{host}:{port} does not speak TLS; hint: begin its address with http://")
            }
            Some(rustls::Error::AlertReceived(
                alert @ (AlertDescription::CertificateRequired | AlertDescription::UnknownCA),
            )) => format!("{host}:{port} asks for another certificate of ours: {alert:?}"),
            _ => return error,
        };
        io::Error::new(error.kind(), text)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("trust", &self.0.trust).finish_non_exhaustive()
    }
}

impl Inner {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads files that changed.
    fn renew(&self) {
        let seen = look(&self.config);
        let mut current = self.current();
        if let Some(validity) = &mut current.validity {
            validity.remind();
        }
        if current.seen == seen {
            return;
        }
        current.seen = seen;
        match read(&self.section, &self.config) {
            Ok((tls, validity)) => {
                (current.tls, current.validity) = (tls, validity);
                tracing::info!(
                    section = self.section,
                    "the changed TLS files are in use for new connections"
                );
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "the changed TLS files cannot be used; those before stay in use"
            ),
        }
    }
}

fn look(config: &ClientConfig) -> Look {
    files::look([config.ca.clone(), config.certificate.clone(), config.key.clone()])
}

fn read(
    section: &str,
    config: &ClientConfig,
) -> anyhow::Result<(Arc<rustls::ClientConfig>, Option<Validity>)> {
    let roots = match &config.ca {
        Some(path) => roots(path).with_context(|| format!("{section}.ca: {}", path.display()))?,
        None => system_roots(),
    };
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .context("tls")?
        .with_root_certificates(roots);
    let (certificate, key) = (config.certificate.as_deref(), config.key.as_deref());
    let (tls, validity) = match identity(section, certificate, key)? {
        None => (builder.with_no_client_auth(), None),
        Some((chain, key, validity)) => {
            let made = builder.with_client_auth_cert(chain, key);
            (made.map_err(|e| mismatch(section, e))?, Some(validity))
        }
    };
    Ok((Arc::new(tls), validity))
}

/// Those that the system trusts. What of it cannot be read is left out: it is missed when it is needed.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    roots
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
/// Of several addresses some may lead nowhere: each but the last gets a share of the time.
async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the name leads to no address");
    for (i, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let outcome = match i + 1 < addresses.len() {
            true => {
                timeout(ADDRESS_PATIENCE, connecting).await.unwrap_or_else(|late| Err(late.into()))
            }
            false => connecting.await,
        };
        match outcome {
            Ok(stream) => return Ok(stream),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}
