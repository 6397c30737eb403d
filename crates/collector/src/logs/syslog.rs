//! What programs send as syslog, over UDP and TCP on this machine.
//!
//! One task owns everything; connections hand it what they received. While the spool is half full,
//! connections wait, and so do their senders. UDP cannot wait: what there is no room for is dropped,
//! counted and told, as is what comes faster than it may.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use daemon::hint::WithHint as _;
use model::{LogEvent, UnixMillis};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Room;
use super::limit::{Limits, Teller, notice};
use super::outbox::{Closed, Outbox};
use super::parse::{Known, Parser, safe};
use frames::Frames;

mod frames;
mod message;

const SOURCE: &str = "syslog";
/// How requests of web browsers begin.
const HTTP_METHODS: [&str; 6] = ["POST ", "GET ", "PUT ", "OPTIONS ", "HEAD ", "PRI * "];
const CONNECTIONS_MAX: usize = 64;
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
const CHUNK_BYTES: usize = 16 * 1024;
/// Pieces of connections that wait for the task.
const PIECES_MAX: usize = 64;
/// A batch is closed after this long.
const SETTLE_AFTER: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Syslog {
    udp: UdpSocket,
    tcp: TcpListener,
    entry: Entry,
    room: Room,
}

/// From messages to events.
#[derive(Debug)]
struct Entry {
    parser: Parser,
    limits: Limits,
    /// Since when the limits' clock runs: how fast messages come is no matter of their own times.
    began: Instant,
    /// Of datagrams for which there was no room.
    dropped: u64,
    teller: Teller,
}

/// Messages of one connection, and whether each was cut.
type Piece = Vec<(Vec<u8>, bool)>;

impl Syslog {
    /// Binds both. Port 0 takes free ones. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the address is in use or not allowed.
    pub(super) fn bind(
        address: SocketAddr,
        parser: Parser,
        limits: Limits,
        room: Room,
    ) -> anyhow::Result<Self> {
        let key = || format!("collector.logs.syslog.listen: failed to listen on {address}");
        let hint = "another syslog daemon may listen there: choose another port, and forward to it";
        let tcp = listener(address).with_context(key).hint(hint)?;
        // With port 0 both have the same.
        let address = tcp.local_addr()?;
        let udp = std::net::UdpSocket::bind(address).with_context(key).hint(hint)?;
        udp.set_nonblocking(true)?;
        let entry =
            Entry { parser, limits, began: Instant::now(), dropped: 0, teller: Teller::default() };
        Ok(Self { udp: UdpSocket::from_std(udp)?, tcp, entry, room })
    }

    #[cfg(test)]
    fn local_addr(&self) -> SocketAddr {
        self.tcp.local_addr().expect("bound")
    }

    /// Takes messages in until `stop` is cancelled or the delivery is gone.
    pub(super) async fn run(self, mut outbox: Outbox, stop: CancellationToken) {
        let Self { udp, tcp, mut entry, room } = self;
        let (sender, mut pieces) = mpsc::channel::<Piece>(PIECES_MAX);
        let mut connections = JoinSet::new();
        let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
        let mut settle = tokio::time::interval(SETTLE_AFTER);
        settle.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Of the connection whose turn it is.
        let mut piece = Piece::new().into_iter();
        loop {
            while !outbox.is_full()
                && let Some((message, cut)) = piece.next()
            {
                if entry.take_in(&message, cut, &mut outbox).is_err() {
                    return;
                }
            }
            let may_take = room.is_there() && !outbox.is_full();
            let outcome = tokio::select! {
                () = stop.cancelled() => break,
                received = udp.recv_from(&mut datagram) => match received {
                    Ok((length, _)) if may_take => entry.take_in(&datagram[..length], false, &mut outbox),
                    Ok(_) => {
                        entry.dropped += 1;
                        Ok(())
                    }
                    // Of an answer that could not be delivered; there are none.
                    Err(_) => Ok(()),
                },
                Some(next) = pieces.recv(), if may_take && piece.len() == 0 => {
                    piece = next.into_iter();
                    Ok(())
                }
                // As soon as there is a place, not at the next beat.
                sent = outbox.send(), if outbox.is_full() => sent,
                accepted = tcp.accept(), if connections.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, _)) => drop(connections.spawn(read(stream, sender.clone()))),
                        // Out of descriptors: it would fail again at once.
                        Err(_) => tokio::time::sleep(SETTLE_AFTER).await,
                    }
                    Ok(())
                }
                Some(_) = connections.join_next() => Ok(()),
                _ = settle.tick() => entry.settle(&mut outbox),
            };
            if outcome.is_err() {
                return;
            }
        }
        // What was received is not received again.
        connections.shutdown().await;
        drop(sender);
        let mut next = Some(piece);
        while let Some(piece) = next {
            for (message, cut) in piece {
                if entry.take_in(&message, cut, &mut outbox).is_err() {
                    return;
                }
                if outbox.is_full() && outbox.send().await.is_err() {
                    return;
                }
            }
            next = pieces.recv().await.map(Piece::into_iter);
        }
        entry.teller = Teller::default();
        let _ = entry.settle(&mut outbox);
        let now = UnixMillis::from(SystemTime::now());
        outbox.add(&mut entry.limits.last_notices(SOURCE, now, &outbox));
        let _ = outbox.send().await;
    }
}

impl Entry {
    fn take_in(&mut self, message: &[u8], cut: bool, outbox: &mut Outbox) -> Result<(), Closed> {
        let now = UnixMillis::from(SystemTime::now());
        let text = String::from_utf8_lossy(message);
        let text = safe(text.trim_end_matches(['\n', '\r', '\0']));
        let (known, text) = message::read(&text, &self.parser, now);
        if text.trim().is_empty() {
            return Ok(());
        }
        let event = self.parser.event(text, cut, &known, now);
        let clock = UnixMillis(self.began.elapsed().as_millis() as i64);
        if !self.limits.admits(&event.service, clock) {
            return Ok(());
        }
        if outbox.add(&mut vec![event]) { outbox.try_send() } else { Ok(()) }
    }

    /// Sends what there is, and what is to be told.
    fn settle(&mut self, outbox: &mut Outbox) -> Result<(), Closed> {
        let now = (Instant::now(), UnixMillis::from(SystemTime::now()));
        let mut notices: Vec<LogEvent> = self.limits.notices(SOURCE, now, outbox);
        if self.dropped > 0 && self.teller.is_due(now.0) {
            let dropped = std::mem::take(&mut self.dropped);
            outbox.add_dropped(dropped);
            let known =
                Known { service_otherwise: SOURCE.to_owned(), source: SOURCE, ..Known::default() };
            let why = "there was no room for more, because the aggregator does not take them";
            notices.push(notice(&known, dropped, why, now.1));
        }
        outbox.add(&mut notices);
        outbox.try_send()
    }
}

/// Reads one connection until its sender or the task is gone.
async fn read(mut stream: TcpStream, pieces: mpsc::Sender<Piece>) {
    let mut frames = Frames::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut is_first = true;
    loop {
        // Room first: what was received and not handed on would be lost when it ends.
        let Ok(permit) = pieces.reserve().await else { return };
        let length = stream.read(&mut chunk).await.unwrap_or(0);
        // A page in a browser can make one of these to any port, and write what it likes below.
        let is_request = |method: &&str| chunk[..length].starts_with(method.as_bytes());
        if std::mem::take(&mut is_first) && HTTP_METHODS.iter().any(is_request) {
            return;
        }
        let mut piece = Piece::new();
        let mut each = |message: &[u8], cut: bool| piece.push((message.to_vec(), cut));
        match length {
            0 => frames.finish(&mut each),
            _ => frames.feed(&chunk[..length], &mut each),
        }
        if !piece.is_empty() {
            permit.send(piece);
        }
        if length == 0 {
            return;
        }
    }
}

fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

#[cfg(test)]
mod tests;
