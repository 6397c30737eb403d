//! Consumers that share the work: each event is processed by one of a group, again by another when that
//! one dies, and set aside with the reason when it keeps failing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::StreamsInterface as _;
use fred::types::Value;
use fred::types::streams::XReadResponse;

use super::RedisEvents;
use super::codec::Content;
use super::entry::{self, Fields};
use crate::StorageError;
use crate::events::{Event, EventKind};
use crate::live::LiveFrame;
use crate::redis::keys::DEAD_TTL_S;
use crate::redis::{corrupt, failed};

/// An event that this consumer has to acknowledge, or to give up.
#[derive(Clone, Debug)]
pub struct GroupEvent {
    /// Its id in the stream.
    pub id: String,
    pub event: Event,
    /// How often it was handed out, this time included.
    pub attempts: u64,
}

/// An event that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its id among the dead.
    pub id: String,
    pub group: String,
    pub machine: String,
    pub kind: String,
    pub reason: String,
}

/// One member of a group. Members need different names; one that comes back by its name goes on with
/// what it had not acknowledged once that counts as abandoned.
#[derive(Debug)]
pub struct Consumer<'a> {
    events: &'a RedisEvents,
    client: Client,
    group: String,
    name: String,
    abandoned_after: Duration,
    looked: Option<Instant>,
    ready: VecDeque<(String, Fields, u64)>,
}

const BATCH_MAX: u64 = 64;
const BLOCK: Duration = Duration::from_secs(1);
/// An event that was handed out this often without an acknowledgement is set aside.
pub(super) const ATTEMPTS_MAX: u64 = 5;
/// Events set aside that are kept, about.
const DEAD_MAX: i64 = 10_000;
const GROUP: &str = "group";
const REASON: &str = "reason";

impl RedisEvents {
    /// Joins a group, which begins with the events published after its first member joined. An event that is not
    /// acknowledged within `abandoned_after` goes to another member.
    pub async fn consumer(
        &self,
        group: &str,
        name: &str,
        abandoned_after: Duration,
    ) -> Result<Consumer<'_>, StorageError> {
        let client = self.redis.dedicated(BLOCK).await?;
        let consumer = Consumer {
            events: self,
            client,
            group: group.to_owned(),
            name: name.to_owned(),
            abandoned_after,
            looked: None,
            ready: VecDeque::new(),
        };
        consumer.create_group("$").await?;
        Ok(consumer)
    }

    /// Events set aside, oldest first.
    pub async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StorageError> {
        let key = self.redis.keys.dead();
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let range = self.redis.any().xrange_values(&key, "-", "+", Some(limit));
        let entries: Vec<(String, Fields)> = self.redis.call(range).await?;
        let text = |fields: &Fields, name: &str| {
            fields.get(name).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
        };
        Ok(entries
            .into_iter()
            .map(|(id, fields)| DeadLetter {
                id,
                group: text(&fields, GROUP),
                machine: text(&fields, "machine"),
                kind: text(&fields, "kind"),
                reason: text(&fields, REASON),
            })
            .collect())
    }

    /// Publishes an event that was set aside again, to everybody. False when it is not there.
    pub async fn retry_dead(&self, id: &str) -> Result<bool, StorageError> {
        let key = self.redis.keys.dead();
        let range = self.redis.any().xrange_values(&key, id, id, Some(1));
        let found: Vec<(String, Fields)> = self.redis.call(range).await?;
        let Some((_, mut fields)) = found.into_iter().next() else { return Ok(false) };
        fields.remove(GROUP);
        fields.remove(REASON);
        // Its publisher's count has long gone on.
        fields.remove("from");
        let fields: Vec<(String, bytes::Bytes)> = fields.into_iter().collect();
        let events = self.redis.keys.events();
        let bound = ("MAXLEN", "~", super::writer::LENGTH_MAX);
        let again = self.redis.any().xadd(&events, false, bound, "*", fields);
        let _: String = self.redis.call(again).await?;
        self.discard_dead(id).await
    }

    /// Forgets an event that was set aside. False when it is not there.
    pub async fn discard_dead(&self, id: &str) -> Result<bool, StorageError> {
        let key = self.redis.keys.dead();
        let deleted: u64 = self.redis.call(self.redis.any().xdel(&key, id)).await?;
        Ok(deleted > 0)
    }
}

impl Consumer<'_> {
    /// The next event for this member. Safe to cancel: what was handed out and not returned is handed out
    /// again once it counts as abandoned.
    pub async fn next(&mut self) -> Result<GroupEvent, StorageError> {
        loop {
            while let Some((id, fields, attempts)) = self.ready.pop_front() {
                match self.event(&fields).await {
                    Ok(_) if attempts > ATTEMPTS_MAX => {
                        let reason = format!("not acknowledged after {ATTEMPTS_MAX} attempts");
                        self.set_aside(&id, fields, &reason).await?;
                    }
                    Ok(event) => return Ok(GroupEvent { id, event, attempts }),
                    Err(error) if error.is_transient() => return Err(error),
                    Err(error) => self.set_aside(&id, fields, &error.to_string()).await?,
                }
            }
            if self.looked.is_none_or(|at| at.elapsed() >= self.abandoned_after / 2) {
                self.looked = Some(Instant::now());
                self.claim_abandoned().await?;
            }
            if self.ready.is_empty() {
                self.read().await?;
            }
        }
    }

    /// It was processed.
    pub async fn acknowledge(&self, id: &str) -> Result<(), StorageError> {
        let key = self.events.redis.keys.events();
        let _: u64 = self.client.xack(&key, self.group.as_str(), id).await.map_err(failed)?;
        Ok(())
    }

    /// It cannot be processed, and nobody should try again.
    pub async fn give_up(&self, event: &GroupEvent, reason: &str) -> Result<(), StorageError> {
        let key = self.events.redis.keys.events();
        let found: Vec<(String, Fields)> = self
            .client
            .xrange_values(&key, event.id.as_str(), event.id.as_str(), Some(1))
            .await
            .map_err(failed)?;
        match found.into_iter().next() {
            Some((id, fields)) => self.set_aside(&id, fields, reason).await,
            None => self.acknowledge(&event.id).await,
        }
    }

    async fn read(&mut self) -> Result<(), StorageError> {
        let key = self.events.redis.keys.events();
        let block = Some(BLOCK.as_millis() as u64);
        let (group, name) = (self.group.as_str(), self.name.as_str());
        let read: Result<Value, _> =
            self.client.xreadgroup(group, name, Some(BATCH_MAX), block, false, &key, ">").await;
        match read {
            Ok(nothing) if nothing.is_null() => Ok(()),
            Ok(read) => {
                let read: XReadResponse<String, String, String, bytes::Bytes> =
                    read.into_xread_response().map_err(failed)?;
                let entries = read.into_values().flatten();
                self.ready.extend(entries.map(|(id, fields)| (id, fields, 1)));
                Ok(())
            }
            // Redis was started empty: everything there is new.
            Err(error) if error.details().starts_with("NOGROUP") => self.create_group("0").await,
            Err(error) => Err(failed(error)),
        }
    }

    async fn claim_abandoned(&mut self) -> Result<(), StorageError> {
        let key = self.events.redis.keys.events();
        let (group, name) = (self.group.as_str(), self.name.as_str());
        let idle = self.abandoned_after.as_millis() as u64;
        let claimed = self
            .client
            .xautoclaim_values(&key, group, name, idle, "0-0", Some(BATCH_MAX), false)
            .await;
        let claimed: Vec<(String, Fields)> = match claimed {
            Ok((_, claimed)) => claimed,
            Err(error) if error.details().starts_with("NOGROUP") => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for (id, fields) in claimed {
            let range = (id.as_str(), id.as_str(), 1u64);
            let pending: Vec<(String, String, u64, u64)> =
                self.client.xpending(&key, group, range).await.map_err(failed)?;
            let attempts = pending.first().map_or(1, |(_, _, _, attempts)| *attempts);
            self.ready.push_back((id, fields, attempts));
        }
        Ok(())
    }

    async fn create_group(&self, start: &str) -> Result<(), StorageError> {
        let key = self.events.redis.keys.events();
        let created: Result<(), _> =
            self.client.xgroup_create(&key, self.group.as_str(), start, true).await;
        match created {
            Err(error) if !error.details().starts_with("BUSYGROUP") => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Among the dead first, then acknowledged: killed in between, it stands there twice rather than not
    /// at all.
    async fn set_aside(&self, id: &str, fields: Fields, reason: &str) -> Result<(), StorageError> {
        tracing::warn!(entry.id = id, group = self.group, reason, "set an event aside");
        let key = self.events.redis.keys.dead();
        let mut fields: Vec<(String, bytes::Bytes)> = fields.into_iter().collect();
        fields.push((GROUP.to_owned(), self.group.clone().into()));
        fields.push((REASON.to_owned(), reason.to_owned().into()));
        let pipeline = self.client.pipeline();
        let write = async {
            use fred::interfaces::KeysInterface as _;
            () = pipeline.xadd(&key, false, ("MAXLEN", "~", DEAD_MAX), "*", fields).await?;
            () = pipeline.expire(&key, DEAD_TTL_S, None).await?;
            let events = self.events.redis.keys.events();
            () = pipeline.xack(&events, self.group.as_str(), id).await?;
            pipeline.all::<Value>().await
        };
        write.await.map(|_| ()).map_err(failed)
    }

    async fn event(&self, fields: &Fields) -> Result<Event, StorageError> {
        let unreadable = |reason: String| corrupt("event", &reason);
        let machine = entry::machine(fields).map_err(unreadable)?;
        let kind = match entry::content(fields).map_err(unreadable)? {
            Content::Whole(kind) => kind,
            Content::Frame { frame, late } => {
                let wanted = HashSet::from([frame.layout]);
                let known: HashMap<_, _> = self.events.redis.layouts(&wanted).await?;
                let layout = known.get(&frame.layout).cloned();
                let layout = layout.filter(|layout| layout.len() == frame.values.len());
                let layout = layout.ok_or_else(|| unreadable("its layout is gone".to_owned()))?;
                EventKind::Frame { frame: LiveFrame { layout, frame: frame.into() }, late }
            }
        };
        Ok(Event { machine, kind })
    }
}
