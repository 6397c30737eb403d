//! The line to an aggregator: which one, when to try again, and the messages both ways.
//!
//! Knows nothing of the spool. `delivery.rs` says hello through it and decides what is sent.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use proto::{Link, v1};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::backoff::Backoff;
pub use target::{Target, Token};

mod connect;
mod target;
mod wire;

/// A stream that lasted this long, or on which anything was acknowledged, was healthy.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// A stream whose hello was answered.
pub(crate) struct Connection {
    /// One message at a time, encoded. Holds hardly anything, so that what is decided last is sent
    /// first.
    pub(crate) outgoing: mpsc::Sender<Bytes>,
    pub(crate) welcome: v1::Welcome,
    incoming: tonic::Streaming<v1::AggregatorMessage>,
}

pub(crate) enum Event {
    /// Time to say hello.
    Due,
    Connected(Box<Connection>),
    Message(v1::AggregatorMessage),
    /// The stream, or the attempt to open one, ended.
    Ended(Status),
}

type Connecting = Pin<Box<dyn Future<Output = Result<Connection, Status>> + Send>>;

enum Phase {
    Waiting(Instant),
    Connecting(Connecting),
    Open { incoming: Box<tonic::Streaming<v1::AggregatorMessage>>, since: Instant },
}

pub(crate) struct Uplink {
    target: Target,
    /// Which of the target's addresses is tried (next).
    at: usize,
    phase: Phase,
    backoff: Backoff,
    fenced: Backoff,
    /// Whether the last thing that was logged is that there is no connection.
    told_down: bool,
}

impl Uplink {
    pub(crate) fn new(target: Target, now: Instant) -> Self {
        Self {
            target,
            at: 0,
            phase: Phase::Waiting(now),
            // An aggregator that restarts is away for seconds, and should not be waited for longer.
            backoff: Backoff::in_proportion(Duration::from_millis(500), Duration::from_secs(30)),
            // Two collectors that fence each other in turn must not do so every second.
            fenced: Backoff::doubling(Duration::from_secs(30), Duration::from_secs(300)),
            told_down: false,
        }
    }

    /// The next thing that happens. Cancel safe.
    pub(crate) async fn event(&mut self) -> Event {
        match &mut self.phase {
            Phase::Waiting(until) => {
                tokio::time::sleep_until(*until).await;
                Event::Due
            }
            Phase::Connecting(connecting) => match connecting.await {
                Ok(connection) => Event::Connected(Box::new(connection)),
                Err(status) => Event::Ended(status),
            },
            Phase::Open { incoming, .. } => match incoming.message().await {
                Ok(Some(message)) => Event::Message(message),
                Ok(None) => Event::Ended(Status::unavailable("the aggregator ended the stream")),
                Err(status) => Event::Ended(status),
            },
        }
    }

    /// Opens a stream with this hello.
    pub(crate) fn connect(&mut self, hello: v1::Hello) {
        let message =
            v1::CollectorMessage { seq: 0, kind: Some(v1::collector_message::Kind::Hello(hello)) };
        let hello = Bytes::from(message.encode_to_vec());
        let address = self.target.address(self.at);
        let token = self.target.token();
        self.phase = Phase::Connecting(Box::pin(connect::connect(address, token, hello)));
    }

    /// Goes on with a stream that was opened; returns where to put messages, and the welcome.
    pub(crate) fn opened(
        &mut self,
        connection: Connection,
        now: Instant,
    ) -> (mpsc::Sender<Bytes>, v1::Welcome) {
        let Connection { outgoing, welcome, incoming } = connection;
        self.phase = Phase::Open { incoming: Box::new(incoming), since: now };
        self.told_down = false;
        let aggregator = self.target.address(self.at);
        tracing::info!(%aggregator, aggregator.name = %welcome.aggregator, "connected");
        (outgoing, welcome)
    }

    /// Plans the next attempt after the stream, or the attempt to open one, ended.
    pub(crate) fn ended(&mut self, status: &Status, was_of_use: bool, now: Instant) {
        if let Phase::Open { since, .. } = self.phase
            && (was_of_use || now.saturating_duration_since(since) >= HEALTHY_AFTER)
        {
            self.backoff.reset();
        }
        let wait = match status.code() {
            Code::Aborted => self.fenced.next(),
            _ => self.backoff.next(),
        };
        self.tell(status, wait);
        self.at += 1;
        self.phase = Phase::Waiting(now + wait);
    }

    /// Drops what is open and tries again now: after sleep, the old connection is worth nothing.
    pub(crate) fn reconnect_now(&mut self, now: Instant) {
        self.backoff.reset();
        self.phase = Phase::Waiting(now);
    }

    fn tell(&mut self, status: &Status, wait: Duration) {
        let aggregator = self.target.address(self.at);
        let retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let message = describe(status);
        match status.code() {
            Code::Aborted => tracing::error!(
                %aggregator, retry_in_ms, %message,
                "another collector with the same machine id took over; hint: run one collector per \
                 machine, and remove the file \"machine\" from the state directory of a copied one"
            ),
            Code::Unauthenticated | Code::PermissionDenied if !self.told_down => tracing::error!(
                %aggregator, retry_in_ms, %message,
                "the aggregator refused this collector; hint: check --token-file"
            ),
            Code::InvalidArgument | Code::FailedPrecondition | Code::Unimplemented
                if !self.told_down =>
            {
                tracing::error!(%aggregator, retry_in_ms, %message, "the aggregator refused this collector");
            }
            _ if !self.told_down => {
                tracing::warn!(%aggregator, retry_in_ms, %message, "not connected; items are kept meanwhile");
            }
            // Told already: states are not worth a line a second.
            _ => tracing::debug!(%aggregator, retry_in_ms, %message, "still not connected"),
        }
        self.told_down = true;
    }
}

/// The message of a status with its causes, which tonic's own text leaves out.
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        cause = error.source();
    }
    match text.is_empty() {
        true => status.code().description().to_owned(),
        false => text,
    }
}

impl fmt::Debug for Uplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uplink").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Where one attempt goes.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// With what an address at `https://` is known by.
    Url(tonic::transport::Uri, Option<daemon::tls::Client>),
    Link(Link),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url, _) => url.fmt(f),
            Self::Link(_) => f.write_str("in this process"),
        }
    }
}
