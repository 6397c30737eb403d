//! A server that runs, as the tools that a person types ask it.

use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Request, Response, Uri, Version};
use daemon::hint::WithHint as _;
use daemon::tls::{Client, ClientConfig, Stream};
use hyper_util::rt::TokioIo;
use proto::Link;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Which server, and what to prove oneself with.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Where the server is
    #[arg(long, global = true, env = "MUSTER_URL", default_value = "http://127.0.0.1:7070")]
    url: String,
    /// File with a token, for a server that asks for one
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The token itself; others can see it in the process list, so prefer a file or the environment
    #[arg(
        long,
        global = true,
        value_name = "TOKEN",
        env = "MUSTER_TOKEN",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    token: Option<String>,
    #[command(flatten)]
    tls: TlsFlags,
}

/// What a server at `https://` is known by, and what is shown to one that asks.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TlsFlags {
    /// File of the authority (PEM) that a server at https:// is known by, instead of the system's
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_CA")]
    ca: Option<PathBuf>,
    /// File of the certificate chain (PEM) to show to a server that asks for one (`tls.client_ca`)
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_CERTIFICATE", requires = "key")]
    certificate: Option<PathBuf>,
    /// File of the private key (PEM) that the certificate was made for
    #[arg(long, global = true, value_name = "FILE", env = "MUSTER_KEY", requires = "certificate")]
    key: Option<PathBuf>,
}

impl TlsFlags {
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let Self { ca, certificate, key } = self.clone();
        Client::open("tls", &ClientConfig { ca, certificate, key })
    }
}

impl Flags {
    pub(crate) async fn connect(&self) -> anyhow::Result<Link> {
        let url = &self.url;
        let endpoint = Endpoint::from_shared(url.clone()).with_context(|| {
            format!("--url: expected a URL such as http://127.0.0.1:7070, found {url:?}")
        })?;
        let token = match (&self.token_file, &self.token) {
            (Some(file), _) => Some(read_token(file)?),
            (None, Some(token)) => Some(bearer(token.trim()).context("--token")?),
            (None, None) => None,
        };
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE)
            .connect_with_connector(over(self.tls.client()?))
            .await
            .with_context(|| format!("failed to reach {url}"))
            .hint("is it running? `muster up` starts it; --url says where it serves")?;
        Ok(link(channel, token))
    }
}

/// What connects, over TLS where an address asks for it.
pub(crate) fn over(
    tls: Client,
) -> impl Service<Uri, Response = TokioIo<Stream>, Error = std::io::Error, Future: Send> + Send {
    tower::service_fn(move |url: Uri| {
        let tls = tls.clone();
        async move { tls.connect(&url, Version::HTTP_2).await.map(TokioIo::new) }
    })
}

/// A server's refusal as a person should read it: the advice in it on a line of its own.
pub(crate) fn refused(status: &Status) -> anyhow::Error {
    // The server's own advice is for programs that make calls.
    if status.code() == Code::Unauthenticated {
        let what = status.message().split("; hint: ").next().unwrap_or_default();
        let hinted: anyhow::Result<()> = Err(anyhow::anyhow!("the server asks who you are: {what}"))
            .hint("give a token with --token-file FILE, or MUSTER_TOKEN; `muster token create NAME --grant read` makes one");
        return hinted.err().unwrap_or_else(|| anyhow::anyhow!("{what}"));
    }
    match status.message().split_once("; hint: ") {
        Some((what, hint)) => {
            let hinted: anyhow::Result<()> = Err(anyhow::anyhow!("{what}")).hint(hint);
            hinted.err().unwrap_or_else(|| anyhow::anyhow!("{what}"))
        }
        None => anyhow::anyhow!("{}", status.message()),
    }
}

pub(crate) fn read_token(file: &Path) -> anyhow::Result<HeaderValue> {
    let text = std::fs::read_to_string(file);
    let text = text.with_context(|| format!("--token-file: {}", file.display()))?;
    bearer(text.trim()).context("--token-file")
}

/// A token as calls carry it.
pub(crate) fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    let problem = "the token is empty, or holds characters that are not visible ASCII";
    let visible = token.bytes().all(|c| c.is_ascii_graphic());
    anyhow::ensure!(visible && !token.is_empty(), problem);
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).context(problem)?;
    header.set_sensitive(true);
    Ok(header)
}

/// A channel whose every call carries the token, when there is one.
pub(crate) fn link(channel: Channel, token: Option<HeaderValue>) -> Link {
    match token {
        Some(token) => Link::new(Bearing { channel, token }),
        None => Link::new(channel),
    }
}

#[derive(Clone)]
struct Bearing {
    channel: Channel,
    token: HeaderValue,
}

impl Service<Request<Body>> for Bearing {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(AUTHORIZATION, self.token.clone());
        Service::call(&mut self.channel, request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_in_a_refusal_stands_on_its_own_line() {
        fn check(message: &str, expected: &str) {
            let error = refused(&Status::unavailable(message));
            assert_eq!(daemon::hint::report(&error), expected);
        }
        check("it is closed", "error: it is closed");
        check("it is closed; hint: open it", "error: it is closed\nhint: open it");
    }

    #[test]
    fn a_token_is_something_that_can_be_sent() {
        for wrong in ["", "a\nb", "é"] {
            assert!(bearer(wrong).is_err(), "{wrong:?}");
        }
        let token = bearer("mst_abc").expect("a token");
        assert_eq!(token, "Bearer mst_abc");
        assert!(!format!("{token:?}").contains("mst_"), "it is not shown");
    }
}
