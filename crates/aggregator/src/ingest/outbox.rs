//! What is on its way back to one collector.
//!
//! The session, the writer and the settings put in; the response stream takes out at the collector's pace.
//! Nobody who puts in waits for a collector that does not read, except its own session.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use model::SeqRanges;
use proto::v1::aggregator_message::Kind;
use proto::{convert, v1};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;

#[derive(Debug)]
pub(crate) struct Outbox {
    /// Protects the letters; held to put in or take out one.
    letters: Mutex<Letters>,
    news: Notify,
    /// A reject was taken out.
    space: Notify,
    /// The collector went away: nobody takes anything out any more.
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Letters {
    welcome: Option<v1::Welcome>,
    settings: Option<v1::Settings>,
    rejects: VecDeque<v1::Reject>,
    durable: SeqRanges,
    not_now: SeqRanges,
    /// Items handed to the writer that it is not done with.
    in_flight: usize,
    end: Option<End>,
}

/// How the stream ends.
#[derive(Debug)]
pub(crate) enum End {
    /// When everything in flight is acknowledged; with this status, or well.
    Drained(Option<Status>),
    /// At once.
    Now(Status),
}

/// Refusals that wait for a collector that does not read them.
const REJECTS_MAX: usize = 64;

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            letters: Mutex::default(),
            news: Notify::new(),
            space: Notify::new(),
            gone: CancellationToken::new(),
        }
    }

    pub(super) fn welcome(&self, welcome: v1::Welcome) {
        self.put(|letters| letters.welcome = Some(welcome));
    }

    /// Only the latest settings are of interest.
    pub(super) fn settings(&self, settings: v1::Settings) {
        self.put(|letters| letters.settings = Some(settings));
    }

    pub(super) fn submitted(&self) {
        self.lock().in_flight += 1;
    }

    /// The writer is done with this many items, of which these are durable.
    pub(crate) fn durable(&self, seqs: &SeqRanges, items: usize) {
        self.put(|letters| {
            letters.durable.extend(seqs.iter());
            letters.in_flight = letters.in_flight.saturating_sub(items);
        });
    }

    /// Waits while there is no room for it. Safe to cancel: then it was not put in.
    pub(super) async fn reject(&self, reject: v1::Reject) {
        loop {
            let space = self.space.notified();
            {
                let mut letters = self.lock();
                if letters.joins_last(&reject) {
                    break;
                }
                if letters.rejects.len() < REJECTS_MAX {
                    letters.rejects.push_back(reject);
                    break;
                }
            }
            space.await;
        }
        self.news.notify_one();
    }

    /// These are not kept now and may be sent again later; so many of them were handed to the writer.
    pub(crate) fn not_now(&self, seqs: &SeqRanges, items: usize) {
        self.put(|letters| {
            letters.not_now.extend(seqs.iter());
            letters.in_flight = letters.in_flight.saturating_sub(items);
        });
    }

    pub(super) fn end(&self, end: End) {
        self.put(|letters| letters.end = Some(end));
    }

    /// Completes when the collector is gone.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// The next message; `None` at the end.
    async fn next(&self) -> Option<Result<v1::AggregatorMessage, Status>> {
        loop {
            match self.lock().take() {
                Taken::Message(kind) => {
                    self.space.notify_one();
                    return Some(Ok(v1::AggregatorMessage { kind: Some(kind) }));
                }
                Taken::End(status) => return status.map(Err),
                Taken::Nothing => {}
            }
            self.news.notified().await;
        }
    }

    fn put(&self, put: impl FnOnce(&mut Letters)) {
        put(&mut self.lock());
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Taken {
    Message(Kind),
    End(Option<Status>),
    Nothing,
}

impl Letters {
    fn take(&mut self) -> Taken {
        if let Some(End::Now(status)) = &mut self.end {
            return Taken::End(Some(std::mem::replace(status, Status::ok(""))));
        }
        if let Some(welcome) = self.welcome.take() {
            return Taken::Message(Kind::Welcome(welcome));
        }
        if let Some(settings) = self.settings.take() {
            return Taken::Message(Kind::Settings(settings));
        }
        if let Some(reject) = self.rejects.pop_front() {
            return Taken::Message(Kind::Reject(reject));
        }
        if !self.durable.is_empty() {
            let ranges = convert::ranges_to_proto(&std::mem::take(&mut self.durable));
            return Taken::Message(Kind::Ack(v1::Ack { ranges }));
        }
        if !self.not_now.is_empty() {
            let ranges = convert::ranges_to_proto(&std::mem::take(&mut self.not_now));
            return Taken::Message(Kind::Reject(v1::Reject {
                ranges,
                reason: v1::reject::Reason::Unavailable.into(),
                message: "history cannot take these now".to_owned(),
                retry: true,
            }));
        }
        match &mut self.end {
            Some(End::Drained(status)) if self.in_flight == 0 => Taken::End(status.take()),
            _ => Taken::Nothing,
        }
    }

    /// Whether the same was said just before, so that it only needs more numbers.
    fn joins_last(&mut self, reject: &v1::Reject) -> bool {
        let Some(last) = self.rejects.back_mut() else { return false };
        let same = last.reason == reject.reason
            && last.retry == reject.retry
            && last.message == reject.message;
        if !same || last.ranges.is_empty() || reject.ranges.is_empty() {
            return false;
        }
        let joined = last.ranges.iter().chain(&reject.ranges).copied().collect::<Vec<_>>();
        // They come from numbers that were checked when they were made.
        let Ok(joined) = convert::ranges_from_proto("ranges", &joined) else { return false };
        last.ranges = convert::ranges_to_proto(&joined);
        true
    }
}

/// The response stream. Dropping it tells the session that the collector is gone.
pub(super) fn messages(
    outbox: Arc<Outbox>,
) -> impl Stream<Item = Result<v1::AggregatorMessage, Status>> + Send + 'static {
    struct Reader(Arc<Outbox>);
    impl Drop for Reader {
        fn drop(&mut self) {
            self.0.gone.cancel();
            self.0.space.notify_one();
        }
    }
    futures::stream::unfold((Reader(outbox), false), |(reader, ended)| async move {
        if ended {
            return None;
        }
        let message = reader.0.next().await?;
        let ended = message.is_err();
        Some((message, (reader, ended)))
    })
}
