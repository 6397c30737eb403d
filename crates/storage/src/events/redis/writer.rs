//! Writes what was published here, in order, many entries at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fred::interfaces::{KeysInterface as _, StreamsInterface as _};
use fred::types::Expiration;
use model::LayoutId;
use tokio::sync::mpsc;

use super::entry::{self, Origin};
use crate::events::{Event, EventKind};
use crate::redis::Redis;
use crate::redis::keys::{EVENTS_TTL_S, LAYOUT_TTL_S};
use crate::redis::layouts;

pub(super) struct Writer {
    redis: Arc<Redis>,
    origin: Origin,
    queue: mpsc::Receiver<(u64, Arc<Event>)>,
    dropped: Arc<AtomicU64>,
    /// Layouts that Redis was told, and when.
    told: HashMap<LayoutId, Instant>,
}

const BATCH_MAX: usize = 256;
/// Entries that the stream keeps, about: some seconds of a large fleet, hours of a small one.
pub(super) const LENGTH_MAX: i64 = 50_000;
/// Well within the time that a layout lives.
const TELL_AGAIN: Duration = Duration::from_secs(LAYOUT_TTL_S as u64 / 4);
const TOLD_MAX: usize = 20_000;

impl Writer {
    pub(super) fn new(
        redis: Arc<Redis>,
        origin: Origin,
        queue: mpsc::Receiver<(u64, Arc<Event>)>,
        dropped: Arc<AtomicU64>,
    ) -> Self {
        Self { redis, origin, queue, dropped, told: HashMap::new() }
    }

    /// Until nobody publishes any more.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while self.queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            let count = batch.len() as u64;
            if self.write(&batch).await.is_err() {
                // Redis may come back empty; the breaker says once that it is down.
                self.told.clear();
                self.dropped.fetch_add(count, Ordering::Relaxed);
            }
            batch.clear();
        }
    }

    async fn write(&mut self, batch: &[(u64, Arc<Event>)]) -> Result<(), crate::StorageError> {
        let key = self.redis.keys.events();
        let (redis, told, origin) = (&self.redis, &mut self.told, self.origin);
        let write = async {
            // Always the same connection: entries keep their order.
            let pipeline = redis.first().pipeline();
            for (number, event) in batch {
                if let EventKind::Frame { frame, .. } = &event.kind
                    && tell(told, frame.layout.id())
                {
                    let name = redis.keys.layout(frame.layout.id());
                    let text = layouts::to_json(&frame.layout);
                    let ttl = Some(Expiration::EX(LAYOUT_TTL_S));
                    () = pipeline.set(name, text, ttl, None, false).await?;
                }
                let fields = entry::to_fields(origin, *number, event);
                let bound = ("MAXLEN", "~", LENGTH_MAX);
                () = pipeline.xadd(&key, false, bound, "*", fields).await?;
            }
            () = pipeline.expire(&key, EVENTS_TTL_S, None).await?;
            pipeline.all::<fred::types::Value>().await
        };
        redis.call(write).await.map(|_| ())
    }
}

/// Whether it is time to write this layout down.
fn tell(told: &mut HashMap<LayoutId, Instant>, layout: LayoutId) -> bool {
    if told.get(&layout).is_some_and(|at| at.elapsed() < TELL_AGAIN) {
        return false;
    }
    if told.len() >= TOLD_MAX {
        told.clear();
    }
    told.insert(layout, Instant::now());
    true
}
