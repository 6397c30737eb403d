//! The present, kept in Redis: shared by several aggregators, and readable by a person.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use fred::interfaces::{HashesInterface as _, KeysInterface as _, SortedSetsInterface as _};
use fred::types::sorted_sets::Ordering;
use fred::types::{Expiration, SetOptions};
use model::{Frame, LayoutId, MachineId, ProcessReport, UnixMillis, limits};

use super::{Lease, LiveFrame, LiveState, Presence};
use crate::StorageError;
use crate::history::{cursor::Cursor, report, values};
use crate::redis::keys::{FRAMES_TTL_S, LAYOUT_TTL_S, MACHINE_TTL_S, MINUTE_MS};
use crate::redis::{Redis, corrupt};

mod presence;

/// The server adapter of [`LiveState`].
///
/// A frame is a field of its minute's hash, and a sorted set says which frame is the latest of each
/// layout. `ZADD GT` keeps the greatest time whatever the order of arrival, so no call needs to read
/// before it writes. "The last five minutes" end at the machine's own newest frame.
#[derive(Debug)]
pub struct RedisLive {
    redis: Arc<Redis>,
}

impl RedisLive {
    pub fn new(redis: Arc<Redis>) -> Self {
        Self { redis }
    }

    /// Layouts in use with the time of their latest frame, by time; nothing for an unknown machine.
    async fn in_use(
        &self,
        machine: MachineId,
    ) -> Result<Vec<(LayoutId, UnixMillis)>, StorageError> {
        let client = self.redis.of(machine);
        let key = self.redis.keys.latest(machine);
        let scored: Vec<(String, f64)> =
            self.redis.call(client.zrange(&key, 0, -1, None, false, None, true)).await?;
        let mut layouts = Vec::with_capacity(scored.len());
        for (id, time) in scored {
            layouts.push((layout_id(&id).map_err(|e| corrupt(&key, &e))?, UnixMillis(time as i64)));
        }
        if let Some(oldest) = oldest(&layouts) {
            layouts.retain(|(_, time)| *time >= oldest);
        }
        Ok(layouts)
    }

    /// Frames with the layouts that explain them; without those whose layout is gone, which the next
    /// frame brings back.
    async fn explained(&self, frames: Vec<Frame>) -> Result<Vec<LiveFrame>, StorageError> {
        let ids: HashSet<LayoutId> = frames.iter().map(|f| f.layout).collect();
        let layouts = self.redis.layouts(&ids).await?;
        Ok(frames
            .into_iter()
            .filter_map(|frame| {
                let layout = layouts.get(&frame.layout)?.clone();
                let whole = layout.len() == frame.values.len();
                whole.then(|| LiveFrame { layout, frame: Arc::new(frame) })
            })
            .collect())
    }
}

/// Where the last five minutes begin.
fn oldest(layouts: &[(LayoutId, UnixMillis)]) -> Option<UnixMillis> {
    let newest = layouts.iter().map(|(_, time)| *time).max()?;
    Some(newest - limits::LIVE_WINDOW_MS)
}

fn layout_id(text: &str) -> Result<LayoutId, String> {
    let id = u128::from_str_radix(text, 16).map_err(|e| format!("layout {text:?}: {e}"))?;
    Ok(LayoutId(id.to_be_bytes()))
}

fn field(layout: LayoutId, time: UnixMillis) -> String {
    format!("{layout}:{time}")
}

fn frame(layout: LayoutId, time: UnixMillis, bytes: &[u8]) -> Result<Frame, StorageError> {
    let mut values = Vec::new();
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_empty() {
        values.push(values::take(&mut cursor).map_err(|e| corrupt("frame", &e))?);
    }
    Ok(Frame { time, layout, values })
}

fn named_frame(name: &str, bytes: &[u8]) -> Result<Frame, StorageError> {
    let parsed = name
        .split_once(':')
        .and_then(|(layout, time)| Some((layout_id(layout).ok()?, UnixMillis(time.parse().ok()?))));
    let (layout, time) =
        parsed.ok_or_else(|| corrupt("frame", &format_args!("field {name:?} names no frame")))?;
    frame(layout, time, bytes)
}

/// What a first lease starts from: should Redis forget the last one, the next is still greater.
fn first_token() -> i64 {
    let now = UnixMillis::from(std::time::SystemTime::now());
    now.0.saturating_mul(1000)
}

#[async_trait]
impl LiveState for RedisLive {
    async fn acquire(&self, machine: MachineId) -> Result<Lease, StorageError> {
        let key = self.redis.keys.lease(machine);
        let take = async {
            let pipeline = self.redis.of(machine).pipeline();
            let ttl = Some(Expiration::EX(MACHINE_TTL_S));
            () = pipeline.set(&key, first_token(), ttl, Some(SetOptions::NX), false).await?;
            () = pipeline.incr(&key).await?;
            () = pipeline.expire(&key, MACHINE_TTL_S, None).await?;
            let (_, token, _): (Option<String>, u64, bool) = pipeline.all().await?;
            Ok(token)
        };
        let token = self.redis.call(take).await?;
        Ok(Lease { machine, token })
    }

    /// A lease that Redis lost, because it was started empty, is put back by whoever asks first.
    async fn is_current(&self, lease: &Lease) -> Result<bool, StorageError> {
        let key = self.redis.keys.lease(lease.machine);
        let look = async {
            let pipeline = self.redis.of(lease.machine).pipeline();
            let ttl = Some(Expiration::EX(MACHINE_TTL_S));
            let token = i64::try_from(lease.token).unwrap_or(i64::MAX);
            () = pipeline.set(&key, token, ttl, Some(SetOptions::NX), true).await?;
            () = pipeline.expire(&key, MACHINE_TTL_S, None).await?;
            let (there, _): (Option<u64>, bool) = pipeline.all().await?;
            Ok(there)
        };
        Ok(self.redis.call(look).await?.is_none_or(|there| there == lease.token))
    }

    async fn put_presence(
        &self,
        machine: MachineId,
        presence: Presence,
    ) -> Result<(), StorageError> {
        let (key, machines) = (self.redis.keys.machine(machine), self.redis.keys.machines());
        let put = async {
            let pipeline = self.redis.of(machine).pipeline();
            () = pipeline.hset(&key, presence::to_fields(&presence)).await?;
            () = pipeline.expire(&key, MACHINE_TTL_S, None).await?;
            let member = (presence.last_seen.0 as f64, machine.to_string());
            () = pipeline.zadd(&machines, None, None, false, false, member).await?;
            () = pipeline.expire(&machines, MACHINE_TTL_S, None).await?;
            pipeline.all().await
        };
        self.redis.call(put).await
    }

    async fn put_frame(
        &self,
        machine: MachineId,
        LiveFrame { layout, frame }: LiveFrame,
    ) -> Result<(), StorageError> {
        if frame.values.len() != layout.len() {
            return Ok(());
        }
        let (keys, id) = (&self.redis.keys, layout.id());
        let (minute, latest) = (keys.frames(machine, frame.time), keys.latest(machine));
        let bytes = bytes::Bytes::from(values::encode(&frame.values));
        let put = async {
            let pipeline = self.redis.of(machine).pipeline();
            () = pipeline.hset(&minute, (field(id, frame.time), bytes)).await?;
            () = pipeline.expire(&minute, FRAMES_TTL_S, None).await?;
            let member = (frame.time.0 as f64, id.to_string());
            let greatest = Some(Ordering::GreaterThan);
            () = pipeline.zadd(&latest, None, greatest, false, false, member).await?;
            let out_of_use = (frame.time - limits::LIVE_WINDOW_MS - 1).0 as f64;
            () = pipeline.zremrangebyscore(&latest, f64::NEG_INFINITY, out_of_use).await?;
            () = pipeline.expire(&latest, FRAMES_TTL_S, None).await?;
            () = pipeline.expire(keys.layout(id), LAYOUT_TTL_S, None).await?;
            pipeline.last().await
        };
        let explained: bool = self.redis.call(put).await?;
        self.redis.layouts.remember(&layout);
        if !explained {
            self.redis.put_layout(&layout).await?;
        }
        Ok(())
    }

    async fn put_processes(
        &self,
        machine: MachineId,
        report: Arc<ProcessReport>,
    ) -> Result<(), StorageError> {
        let key = self.redis.keys.processes(machine);
        let put = async {
            let pipeline = self.redis.of(machine).pipeline();
            let member = (report.time.0 as f64, bytes::Bytes::from(report::encode(&report)));
            () = pipeline.zadd(&key, None, None, false, false, member).await?;
            // All but the one with the greatest time.
            () = pipeline.zremrangebyrank(&key, 0, -2).await?;
            () = pipeline.expire(&key, MACHINE_TTL_S, None).await?;
            pipeline.all().await
        };
        self.redis.call(put).await
    }

    async fn remove(&self, machine: MachineId) -> Result<(), StorageError> {
        let keys = &self.redis.keys;
        let mut gone = vec![keys.machine(machine), keys.latest(machine), keys.processes(machine)];
        if let Some(oldest) = oldest(&self.in_use(machine).await?) {
            gone.extend((0..=6).map(|minute| keys.frames(machine, oldest + minute * MINUTE_MS)));
        }
        let lease = keys.lease(machine);
        let remove = async {
            let pipeline = self.redis.of(machine).pipeline();
            () = pipeline.del(gone).await?;
            () = pipeline.zrem(keys.machines(), machine.to_string()).await?;
            // Nobody's: whoever holds one is no longer current, and the next is greater.
            let ttl = Some(Expiration::EX(MACHINE_TTL_S));
            () = pipeline.set(&lease, first_token(), ttl, Some(SetOptions::NX), false).await?;
            () = pipeline.incr(&lease).await?;
            pipeline.all().await
        };
        let (_, _, _, _): (i64, i64, Option<String>, i64) = self.redis.call(remove).await?;
        Ok(())
    }

    async fn presence(&self, machine: MachineId) -> Result<Option<Presence>, StorageError> {
        let key = self.redis.keys.machine(machine);
        let fields: HashMap<String, String> =
            self.redis.call(self.redis.of(machine).hgetall(&key)).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        presence::from_fields(&fields).map(Some).map_err(|e| corrupt(&key, &e))
    }

    async fn presences(&self) -> Result<Vec<(MachineId, Presence)>, StorageError> {
        let keys = &self.redis.keys;
        let client = self.redis.any();
        let names: Vec<String> = self
            .redis
            .call(client.zrange(keys.machines(), 0, -1, None, false, None, false))
            .await?;
        let mut machines = Vec::with_capacity(names.len());
        for name in names {
            machines.push(name.parse::<MachineId>().map_err(|e| corrupt(&keys.machines(), &e))?);
        }
        if machines.is_empty() {
            return Ok(Vec::new());
        }
        let read = async {
            let pipeline = client.pipeline();
            for &machine in &machines {
                () = pipeline.hgetall(keys.machine(machine)).await?;
            }
            pipeline.all::<Vec<HashMap<String, String>>>().await
        };
        let all = self.redis.call(read).await?;
        let mut presences = Vec::with_capacity(all.len());
        // What has expired is empty.
        for (machine, fields) in machines.into_iter().zip(all).filter(|(_, f)| !f.is_empty()) {
            let presence =
                presence::from_fields(&fields).map_err(|e| corrupt(&keys.machine(machine), &e))?;
            presences.push((machine, presence));
        }
        Ok(presences)
    }

    async fn latest(&self, machine: MachineId) -> Result<Vec<LiveFrame>, StorageError> {
        let layouts = self.in_use(machine).await?;
        if layouts.is_empty() {
            return Ok(Vec::new());
        }
        let read = async {
            let pipeline = self.redis.of(machine).pipeline();
            for &(layout, time) in &layouts {
                let minute = self.redis.keys.frames(machine, time);
                () = pipeline.hget(minute, field(layout, time)).await?;
            }
            pipeline.all::<Vec<Option<bytes::Bytes>>>().await
        };
        let found = self.redis.call(read).await?;
        let mut frames = Vec::with_capacity(found.len());
        for ((layout, time), bytes) in layouts.into_iter().zip(found) {
            if let Some(bytes) = bytes {
                frames.push(frame(layout, time, &bytes)?);
            }
        }
        self.explained(frames).await
    }

    async fn recent(
        &self,
        machine: MachineId,
        since: UnixMillis,
    ) -> Result<Vec<LiveFrame>, StorageError> {
        let layouts = self.in_use(machine).await?;
        let Some(oldest) = oldest(&layouts) else { return Ok(Vec::new()) };
        let since = since.max(oldest);
        let newest = oldest + limits::LIVE_WINDOW_MS;
        let read = async {
            let pipeline = self.redis.of(machine).pipeline();
            let mut minute = since.floor(MINUTE_MS);
            while minute <= newest {
                () = pipeline.hgetall(self.redis.keys.frames(machine, minute)).await?;
                minute = minute + MINUTE_MS;
            }
            match minute == since.floor(MINUTE_MS) {
                true => Ok(Vec::new()),
                false => pipeline.all::<Vec<HashMap<String, bytes::Bytes>>>().await,
            }
        };
        let minutes = self.redis.call(read).await?;
        let mut frames = Vec::new();
        for (name, bytes) in minutes.iter().flatten() {
            let frame = named_frame(name, bytes)?;
            if frame.time >= since {
                frames.push(frame);
            }
        }
        frames.sort_by_key(|f| (f.time, f.layout));
        self.explained(frames).await
    }

    async fn processes(
        &self,
        machine: MachineId,
    ) -> Result<Option<Arc<ProcessReport>>, StorageError> {
        let key = self.redis.keys.processes(machine);
        let newest: Vec<bytes::Bytes> = self
            .redis
            .call(self.redis.of(machine).zrange(&key, -1, -1, None, false, None, false))
            .await?;
        let Some(bytes) = newest.first() else { return Ok(None) };
        let report = report::take(&mut Cursor::new(bytes)).map_err(|e| corrupt(&key, &e))?;
        Ok(Some(Arc::new(report)))
    }
}

#[cfg(test)]
mod tests;
