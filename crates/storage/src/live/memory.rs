//! The present, kept in this process.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use model::{LayoutId, MachineId, ProcessReport, UnixMillis, limits};

use self::ring::Ring;
use super::{Lease, LiveFrame, LiveState, Presence};
use crate::StorageError;

mod codec;
mod ring;

/// The embedded adapter of [`LiveState`]. Empty at every start.
///
/// Five minutes of frames are the bulk of what a server holds in memory, so they are packed as they come
/// (see [`codec`]) and unpacked for whoever asks. "The last five minutes" end at the machine's own newest
/// frame: this adapter reads no clock.
#[derive(Default)]
pub struct MemoryLive {
    /// Protects the map alone and is held for a lookup. Each machine has its own lock, held for one call.
    machines: Mutex<HashMap<MachineId, Arc<Mutex<Machine>>>>,
    leases: AtomicU64,
}

/// What is kept of one machine.
#[derive(Default)]
struct Machine {
    lease: Option<u64>,
    presence: Option<Presence>,
    processes: Option<Arc<ProcessReport>>,
    layouts: HashMap<LayoutId, Ring>,
    /// Time of its newest frame.
    newest: Option<UnixMillis>,
    swept: Option<UnixMillis>,
}

/// How far the newest frame moves on before layouts out of use are looked for again.
const SWEEP_EVERY_MS: i64 = 10_000;

impl MemoryLive {
    pub fn new() -> Self {
        Self::default()
    }

    fn find(&self, machine: MachineId) -> Option<Arc<Mutex<Machine>>> {
        lock(&self.machines).get(&machine).cloned()
    }

    fn entry(&self, machine: MachineId) -> Arc<Mutex<Machine>> {
        lock(&self.machines).entry(machine).or_default().clone()
    }

    /// Bytes that hold the last five minutes of all machines.
    pub fn frame_bytes(&self) -> usize {
        let machines: Vec<_> = lock(&self.machines).values().cloned().collect();
        machines.iter().map(|m| lock(m).layouts.values().map(Ring::bytes).sum::<usize>()).sum()
    }
}

/// A panic while the lock was held cannot leave these maps half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    fn put_frame(&mut self, LiveFrame { layout, frame }: LiveFrame) {
        let newest = self.newest.map_or(frame.time, |newest| newest.max(frame.time));
        let oldest = newest - limits::LIVE_WINDOW_MS;
        if frame.time < oldest {
            return;
        }
        self.newest = Some(newest);
        let ring = self.layouts.entry(layout.id()).or_insert_with(|| Ring::new(layout));
        ring.push(frame);
        ring.forget_before(oldest);
        if self.swept.is_none_or(|swept| newest.since(swept) >= SWEEP_EVERY_MS) {
            self.swept = Some(newest);
            self.layouts.retain(|_, ring| {
                ring.forget_before(oldest);
                ring.latest().is_some_and(|frame| frame.time >= oldest)
            });
        }
    }

    fn oldest(&self) -> UnixMillis {
        self.newest.map_or(UnixMillis::MIN, |newest| newest - limits::LIVE_WINDOW_MS)
    }

    fn latest(&self) -> Vec<LiveFrame> {
        let oldest = self.oldest();
        let mut latest: Vec<LiveFrame> = self
            .layouts
            .values()
            .filter_map(|ring| {
                let frame = ring.latest().filter(|frame| frame.time >= oldest)?.clone();
                Some(LiveFrame { layout: ring.layout().clone(), frame })
            })
            .collect();
        latest.sort_by_key(|f| (f.frame.time, f.layout.id()));
        latest
    }
}

#[async_trait]
impl LiveState for MemoryLive {
    async fn acquire(&self, machine: MachineId) -> Result<Lease, StorageError> {
        let entry = self.entry(machine);
        let mut held = lock(&entry);
        // One counter for all machines: it grows for each of them, also across `remove`.
        let token = self.leases.fetch_add(1, Ordering::Relaxed) + 1;
        held.lease = Some(token);
        Ok(Lease { machine, token })
    }

    async fn is_current(&self, lease: &Lease) -> Result<bool, StorageError> {
        Ok(self.find(lease.machine).is_some_and(|m| lock(&m).lease == Some(lease.token)))
    }

    async fn put_presence(
        &self,
        machine: MachineId,
        presence: Presence,
    ) -> Result<(), StorageError> {
        lock(&self.entry(machine)).presence = Some(presence);
        Ok(())
    }

    async fn put_frame(&self, machine: MachineId, frame: LiveFrame) -> Result<(), StorageError> {
        lock(&self.entry(machine)).put_frame(frame);
        Ok(())
    }

    async fn put_processes(
        &self,
        machine: MachineId,
        report: Arc<ProcessReport>,
    ) -> Result<(), StorageError> {
        let entry = self.entry(machine);
        let mut held = lock(&entry);
        if held.processes.as_ref().is_none_or(|there| there.time <= report.time) {
            held.processes = Some(report);
        }
        Ok(())
    }

    async fn remove(&self, machine: MachineId) -> Result<(), StorageError> {
        lock(&self.machines).remove(&machine);
        Ok(())
    }

    async fn presence(&self, machine: MachineId) -> Result<Option<Presence>, StorageError> {
        Ok(self.find(machine).and_then(|m| lock(&m).presence.clone()))
    }

    async fn presences(&self) -> Result<Vec<(MachineId, Presence)>, StorageError> {
        let machines: Vec<_> =
            lock(&self.machines).iter().map(|(id, m)| (*id, m.clone())).collect();
        Ok(machines
            .into_iter()
            .filter_map(|(id, m)| Some((id, lock(&m).presence.clone()?)))
            .collect())
    }

    async fn latest(&self, machine: MachineId) -> Result<Vec<LiveFrame>, StorageError> {
        Ok(self.find(machine).map(|m| lock(&m).latest()).unwrap_or_default())
    }

    async fn recent(
        &self,
        machine: MachineId,
        since: UnixMillis,
    ) -> Result<Vec<LiveFrame>, StorageError> {
        let Some(entry) = self.find(machine) else { return Ok(Vec::new()) };
        // Only the packed bytes are taken under the lock; unpacking is the longer part.
        let (since, packed) = {
            let held = lock(&entry);
            let since = since.max(held.oldest());
            (since, held.layouts.values().map(|ring| ring.since(since)).collect::<Vec<_>>())
        };
        let mut frames: Vec<LiveFrame> = packed
            .iter()
            .flat_map(ring::Packed::unpack)
            .filter(|f| f.frame.time >= since)
            .collect();
        frames.sort_by_key(|f| (f.frame.time, f.layout.id()));
        Ok(frames)
    }

    async fn processes(
        &self,
        machine: MachineId,
    ) -> Result<Option<Arc<ProcessReport>>, StorageError> {
        Ok(self.find(machine).and_then(|m| lock(&m).processes.clone()))
    }
}

impl fmt::Debug for MemoryLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLive").field("machines", &lock(&self.machines).len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use model::{Frame, Labels, Layout, Series};

    use super::*;

    fn machine() -> MachineId {
        MachineId::from_u128(7).expect("not zero")
    }

    fn layout(names: &[&str]) -> Layout {
        let series = names.iter().map(|name| Series::gauge(name, "1", Labels::empty()));
        Layout::new(series.collect()).expect("valid")
    }

    fn frame(layout: &Layout, ms: i64, values: &[f64]) -> LiveFrame {
        let frame = Frame { time: UnixMillis(ms), layout: layout.id(), values: values.to_vec() };
        LiveFrame { layout: layout.clone(), frame: Arc::new(frame) }
    }

    async fn recent(live: &MemoryLive, since: i64) -> Vec<(i64, Vec<f64>)> {
        let frames = live.recent(machine(), UnixMillis(since)).await.expect("memory answers");
        frames.iter().map(|f| (f.frame.time.0, f.frame.values.clone())).collect()
    }

    #[tokio::test]
    async fn five_minutes_stay_and_what_is_older_goes() {
        let (live, a) = (MemoryLive::new(), layout(&["a"]));
        for second in 0..400 {
            let f = frame(&a, second * 1000, &[second as f64]);
            live.put_frame(machine(), f).await.expect("memory takes it");
        }
        let all = recent(&live, i64::MIN).await;
        assert_eq!(all.first(), Some(&(99_000, vec![99.0])));
        assert_eq!(all.last(), Some(&(399_000, vec![399.0])));
        assert_eq!(all.len(), 301);
        assert_eq!(recent(&live, 398_000).await.len(), 2);
    }

    #[tokio::test]
    async fn a_late_frame_joins_the_past_and_is_not_the_latest() {
        let (live, a) = (MemoryLive::new(), layout(&["a"]));
        for (ms, value) in [(1000, 1.0), (3000, 3.0), (2000, 2.0), (3000, 3.0)] {
            live.put_frame(machine(), frame(&a, ms, &[value])).await.expect("memory takes it");
        }
        let latest = live.latest(machine()).await.expect("memory answers");
        assert_eq!(latest[0].frame.values, [3.0]);
        let expected = [(1000, vec![1.0]), (2000, vec![2.0]), (3000, vec![3.0])];
        assert_eq!(recent(&live, 0).await, expected);
    }

    #[tokio::test]
    async fn a_layout_without_frames_for_five_minutes_is_out_of_use() {
        let (live, a, b) = (MemoryLive::new(), layout(&["a"]), layout(&["b"]));
        live.put_frame(machine(), frame(&a, 0, &[1.0])).await.expect("memory takes it");
        live.put_frame(machine(), frame(&b, 300_000, &[2.0])).await.expect("memory takes it");
        assert_eq!(live.latest(machine()).await.expect("memory answers").len(), 2);
        live.put_frame(machine(), frame(&b, 300_001, &[2.0])).await.expect("memory takes it");
        let latest = live.latest(machine()).await.expect("memory answers");
        assert_eq!(latest.iter().map(|f| f.layout.id()).collect::<Vec<_>>(), [b.id()]);
    }

    #[tokio::test]
    async fn a_newer_lease_ends_an_older_one() {
        let live = MemoryLive::new();
        let first = live.acquire(machine()).await.expect("memory answers");
        let second = live.acquire(machine()).await.expect("memory answers");
        assert!(second.token > first.token);
        assert!(!live.is_current(&first).await.expect("memory answers"));
        assert!(live.is_current(&second).await.expect("memory answers"));
        live.remove(machine()).await.expect("memory answers");
        assert!(!live.is_current(&second).await.expect("memory answers"));
        assert!(live.acquire(machine()).await.expect("memory answers").token > second.token);
    }

    /// The reference data: 40 % constant, 30 % counters, 30 % noisy gauges with one decimal.
    #[tokio::test]
    async fn five_minutes_of_a_series_take_less_than_550_bytes() {
        const SERIES: usize = 1000;
        let live = MemoryLive::new();
        let names: Vec<String> = (0..SERIES).map(|i| format!("s{i}")).collect();
        let a = layout(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut random = 1u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let mut values = vec![0.0; SERIES];
        for second in 0..400i64 {
            for (i, value) in values.iter_mut().enumerate() {
                match i % 10 {
                    0..4 => *value = i as f64 * 3.5,
                    4..7 => *value += next(5000) as f64,
                    _ => *value = next(1000) as f64 / 10.0,
                }
            }
            let f = frame(&a, second * 1000, &values);
            live.put_frame(machine(), f).await.expect("memory takes it");
        }
        let each = live.frame_bytes() / SERIES;
        assert!(each < 550, "{each} bytes");
        assert_eq!(recent(&live, 399_000).await[0].1, values);
    }
}
