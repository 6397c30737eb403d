//! Standard input: what a program writes into a pipe, `some-program | muster-collector --stdin`.
//!
//! While the spool is half full nothing is read, so the program waits. What was read and not kept when
//! the collector is killed is lost with the pipe.

use std::io::Read;
use std::time::{Duration, Instant, SystemTime};

use model::{LogEvent, UnixMillis};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Room;
use super::limit::{Limit, Teller};
use super::lines::Mark;
use super::outbox::{Closed, Outbox};
use super::parse::{Known, Parser};
use super::reader::Reader;

const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks that were read and wait.
const CHUNKS_MAX: usize = 4;
/// Lines that may still get a continuation wait this long for it.
const SETTLE_AFTER: Duration = Duration::from_millis(500);

/// How long the end of the input waits for its delivery, and how often it looks.
const DELIVERY_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Stdin {
    pub(super) service: String,
    pub(super) events_per_second_max: u32,
    pub(super) room: Room,
    pub(super) parser: Parser,
}

/// Reads on a thread of its own: nothing else can wait for a pipe of any kind.
///
/// # Errors
/// When no thread can be started.
pub(super) fn chunks(mut input: Box<dyn Read + Send>) -> std::io::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let reading = move || {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match input.read(&mut chunk) {
                Ok(0) => return,
                Ok(length) => {
                    if sender.blocking_send(chunk[..length].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "failed to read standard input");
                    return;
                }
            }
        }
    };
    std::thread::Builder::new().name("log-stdin".to_owned()).spawn(reading)?;
    Ok(receiver)
}

impl Stdin {
    /// Reads until the input ends, and then cancels `stop`; or until `stop` is cancelled.
    pub(super) async fn run(
        self,
        mut chunks: mpsc::Receiver<Vec<u8>>,
        mut outbox: Outbox,
        stop: CancellationToken,
    ) {
        let known =
            Known { service_otherwise: self.service.clone(), source: "stdin", ..Known::default() };
        let limit = Limit::new(self.events_per_second_max);
        let mut reader = Reader::new(Mark::default(), true, false, known).limited(limit, 0);
        let ended = tokio::select! {
            () = stop.cancelled() => false,
            ended = self.read(&mut chunks, &mut reader, &mut outbox) => ended.is_ok(),
        };
        let now = UnixMillis::from(SystemTime::now());
        let mut events = Vec::new();
        // What was taken out of the pipe cannot be read again.
        while let Ok(chunk) = chunks.try_recv() {
            reader.feed(&chunk, &self.parser, now, &mut events);
        }
        reader.finish(&self.parser, now, &mut events);
        events.extend(told(&mut reader, &outbox, now));
        outbox.add(&mut events);
        let _ = outbox.send().await;
        if ended {
            tracing::info!("standard input ended");
            self.wait_for_delivery(&stop).await;
            stop.cancel();
        }
    }

    /// A pipe may be done before the collector is connected at all. What is not delivered then stays in
    /// the spool.
    async fn wait_for_delivery(&self, stop: &CancellationToken) {
        let stats = &self.room.stats;
        let delivered = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if stats.connects() > 0 && stats.spool_items() == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            _ = tokio::time::timeout(DELIVERY_MAX, delivered) => {}
        }
    }

    async fn read(
        &self,
        chunks: &mut mpsc::Receiver<Vec<u8>>,
        reader: &mut Reader,
        outbox: &mut Outbox,
    ) -> Result<(), Closed> {
        let mut teller = Teller::default();
        let mut read_at = Instant::now();
        let mut events = Vec::new();
        loop {
            let has_waited = !self.room.is_there();
            self.room.wait().await;
            let next = tokio::time::timeout(SETTLE_AFTER, chunks.recv()).await;
            let now = UnixMillis::from(SystemTime::now());
            reader.refill(read_at.elapsed(), !has_waited);
            read_at = Instant::now();
            match next {
                Ok(Some(chunk)) => reader.feed(&chunk, &self.parser, now, &mut events),
                Ok(None) => return Ok(()),
                // Quiet: what there is goes.
                Err(_) => reader.settle(&self.parser, now, &mut events),
            }
            if reader.limit().is_exceeded() && teller.is_due(read_at) {
                events.extend(told(reader, outbox, now));
            }
            if outbox.add(&mut events) || chunks.is_empty() {
                outbox.send().await?;
            }
        }
    }
}

fn told(reader: &mut Reader, outbox: &Outbox, now: UnixMillis) -> Option<LogEvent> {
    let (dropped, notice) = reader.dropped(now)?;
    outbox.add_dropped(dropped);
    Some(notice)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::CollectorStats;

    #[tokio::test]
    async fn everything_up_to_a_last_line_without_end_is_read_and_then_it_is_over() {
        let input = "one\nERROR two\n\tat a.B(C.java:1)\n".repeat(2_000) + "last";
        let stats = Arc::new(CollectorStats::default());
        stats.add_connect();
        let room = Room { spool_bytes_max: u64::MAX, stats: Arc::clone(&stats) };
        let parser = Parser::new(TimeZone::UTC);
        let stdin = Stdin { service: "job".to_owned(), events_per_second_max: 0, room, parser };
        let (sender, mut batches) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let chunks = chunks(Box::new(Cursor::new(input.into_bytes()))).expect("a thread");
        let running = tokio::spawn(stdin.run(chunks, Outbox::new(sender, stats), stop.clone()));
        let mut events = Vec::new();
        while let Some(batch) = batches.recv().await {
            events.extend(batch.events);
        }
        running.await.expect("it ends");
        assert!(stop.is_cancelled());
        assert_eq!(events.len(), 4_001);
        assert_eq!((&*events[0].body, &*events[4_000].body), ("one", "last"));
        assert_eq!(events[1].body, "ERROR two\n\tat a.B(C.java:1)");
        assert!(events.iter().all(|event| event.service == "job" && event.source == "stdin"));
    }
}
