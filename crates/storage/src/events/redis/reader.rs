//! Follows what other processes publish and hands it to the subscribers of this one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::StreamsInterface as _;
use fred::types::Value;
use fred::types::streams::XReadResponse;

use super::Fan;
use super::codec::Content;
use super::entry::{self, Fields, Origin};
use crate::StorageError;
use crate::events::{DEAD_MAX, Event, EventKind, Received, Unreadable};
use crate::live::LiveFrame;
use crate::redis::{Redis, failed};

pub(super) struct Reader {
    redis: Arc<Redis>,
    client: Client,
    own: Origin,
    fan: Fan,
    /// Id of the last entry read.
    position: String,
    /// The number of the last entry of each other publisher.
    numbers: HashMap<Origin, u64>,
    /// Dead letters that came again, the latest last. Whoever retried one may have been killed before it forgot it,
    /// and two people may retry one at once.
    again: VecDeque<String>,
}

const BATCH_MAX: u64 = 512;
const BLOCK: Duration = Duration::from_secs(2);
/// Publishers come and go with their processes.
const PUBLISHERS_MAX: usize = 256;
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// As many as can be dead at a time.
const AGAIN_MAX: usize = DEAD_MAX;

impl Reader {
    /// Stands behind the last entry that is there.
    pub(super) async fn open(
        redis: Arc<Redis>,
        own: Origin,
        fan: Fan,
    ) -> Result<Self, StorageError> {
        let client = redis.dedicated(BLOCK).await?;
        let key = redis.keys.events();
        let last: Vec<(String, Fields)> =
            client.xrevrange_values(&key, "+", "-", Some(1)).await.map_err(failed)?;
        let position = last.into_iter().next().map_or_else(|| "0-0".to_owned(), |(id, _)| id);
        Ok(Self {
            redis,
            client,
            own,
            fan,
            position,
            numbers: HashMap::new(),
            again: VecDeque::new(),
        })
    }

    pub(super) async fn run(mut self) {
        let mut failing = false;
        loop {
            match self.read().await {
                Ok(entries) => {
                    failing = false;
                    self.hand_out(entries).await;
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "failed to follow the events of other processes; trying again");
                    }
                    failing = true;
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<(String, Fields)>, StorageError> {
        let key = self.redis.keys.events();
        let block = Some(BLOCK.as_millis() as u64);
        let read: Value = self
            .client
            .xread(Some(BATCH_MAX), block, &key, self.position.as_str())
            .await
            .map_err(failed)?;
        if read.is_null() {
            return Ok(Vec::new());
        }
        let read: XReadResponse<String, String, String, bytes::Bytes> =
            read.into_xread_response().map_err(failed)?;
        let entries = read.into_values().next().unwrap_or_default();
        if let Some((id, _)) = entries.last() {
            self.position.clone_from(id);
        }
        Ok(entries)
    }

    async fn hand_out(&mut self, entries: Vec<(String, Fields)>) {
        let mut news = Vec::with_capacity(entries.len());
        for (id, fields) in entries {
            let missed = match entry::source(&fields) {
                Ok((origin, _)) if origin == self.own => continue,
                Ok((origin, number)) => self.missed(origin, number),
                Err(_) => 0,
            };
            if entry::dead_letter(&fields).is_some_and(|letter| !self.is_new(letter)) {
                continue;
            }
            let content =
                entry::machine(&fields).and_then(|machine| Ok((machine, entry::content(&fields)?)));
            news.push((id, fields, missed, content));
        }
        let layouts = news.iter().filter_map(|(.., content)| match content {
            Ok((_, Content::Frame { frame, .. })) => Some(frame.layout),
            _ => None,
        });
        let layouts = layouts.collect::<HashSet<_>>();
        // Nothing where Redis does not say: then its frames are missed, not unreadable.
        let layouts = self.redis.layouts(&layouts).await.ok();
        for (id, fields, missed, content) in news {
            let event = content.and_then(|(machine, content)| {
                let kind = match content {
                    Content::Whole(kind) => kind,
                    Content::Frame { frame, late } => {
                        let Some(layouts) = &layouts else { return Ok(None) };
                        let layout = layouts.get(&frame.layout);
                        let layout = layout.filter(|layout| layout.len() == frame.values.len());
                        let layout = layout.cloned().ok_or("its layout is gone")?;
                        EventKind::Frame {
                            frame: LiveFrame { layout, frame: Arc::new(frame) },
                            late,
                        }
                    }
                };
                Ok(Some(Arc::new(Event { machine, kind })))
            });
            let missed = missed + u64::from(matches!(event, Ok(None)));
            if missed > 0 {
                let _ = self.fan.send(Received::Missed(missed));
            }
            let again = entry::dead_letter(&fields).is_some();
            let received = match event {
                Ok(None) => continue,
                Ok(Some(event)) if again => Received::Again(event),
                Ok(Some(event)) => Received::Event(event),
                Err(reason) => {
                    let entry = entry::raw(&fields);
                    Received::Unreadable(Arc::new(Unreadable { reason, id, entry }))
                }
            };
            let _ = self.fan.send(received);
        }
    }

    /// Whether a dead letter has not come again before.
    fn is_new(&mut self, letter: &str) -> bool {
        if self.again.iter().any(|known| known == letter) {
            return false;
        }
        if self.again.len() >= AGAIN_MAX {
            self.again.pop_front();
        }
        self.again.push_back(letter.to_owned());
        true
    }

    /// How many of a publisher's events never came. Of one that is new here, none.
    fn missed(&mut self, origin: Origin, number: u64) -> u64 {
        if self.numbers.len() >= PUBLISHERS_MAX && !self.numbers.contains_key(&origin) {
            self.numbers.clear();
        }
        let before = self.numbers.insert(origin, number);
        before.map_or(0, |before| number.saturating_sub(before + 1))
    }
}
