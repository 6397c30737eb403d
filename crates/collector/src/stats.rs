//! What the collector counts about itself. The self probe turns these into series.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Counters and gauges that any part of the collector may set and read, without a lock. Each stands
/// alone: no two of them are consistent with each other.
#[derive(Debug, Default)]
pub struct CollectorStats {
    spool_bytes: AtomicU64,
    spool_items: AtomicU64,
    spool_dropped: AtomicU64,
    spool_damaged: AtomicU64,
    spool_write_errors: AtomicU64,
    items_rejected: AtomicU64,
    ticks_missed: AtomicU64,
    /// Microseconds plus one; zero while there was none.
    ack_latency: AtomicU64,
    connects: AtomicU64,
    log_events: AtomicU64,
    log_dropped: AtomicU64,
    log_files: AtomicU64,
    log_sources_refused: AtomicU64,
    push_series: AtomicU64,
    push_refused: AtomicU64,
    /// Seconds since 1970; zero while there is none.
    certificate_expires: AtomicU64,
}

impl CollectorStats {
    /// When the certificate that is shown to aggregators expires.
    pub fn certificate_expires(&self) -> Option<SystemTime> {
        let seconds = self.certificate_expires.load(Relaxed);
        (seconds > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    pub fn set_certificate_expires(&self, expires: Option<SystemTime>) {
        let since = expires.and_then(|expires| expires.duration_since(UNIX_EPOCH).ok());
        self.certificate_expires.store(since.map_or(0, |since| since.as_secs()), Relaxed);
    }

    /// Bytes that the spool occupies, acknowledged segments not counted.
    pub fn spool_bytes(&self) -> u64 {
        self.spool_bytes.load(Relaxed)
    }

    pub fn set_spool_bytes(&self, bytes: u64) {
        self.spool_bytes.store(bytes, Relaxed);
    }

    /// Items in the spool that are not acknowledged.
    pub fn spool_items(&self) -> u64 {
        self.spool_items.load(Relaxed)
    }

    pub fn set_spool_items(&self, items: u64) {
        self.spool_items.store(items, Relaxed);
    }

    /// Items that a bound pushed out: of the spool, or of the queue before it.
    pub fn spool_dropped(&self) -> u64 {
        self.spool_dropped.load(Relaxed)
    }

    pub fn add_spool_dropped(&self, items: u64) {
        self.spool_dropped.fetch_add(items, Relaxed);
    }

    /// Places where the spool could not be read back.
    pub fn spool_damaged(&self) -> u64 {
        self.spool_damaged.load(Relaxed)
    }

    pub fn add_spool_damaged(&self, places: u64) {
        self.spool_damaged.fetch_add(places, Relaxed);
    }

    /// Writes and syncs of the spool that failed.
    pub fn spool_write_errors(&self) -> u64 {
        self.spool_write_errors.load(Relaxed)
    }

    pub fn add_spool_write_error(&self) {
        self.spool_write_errors.fetch_add(1, Relaxed);
    }

    /// Items that the aggregator refused for good.
    pub fn items_rejected(&self) -> u64 {
        self.items_rejected.load(Relaxed)
    }

    pub fn add_items_rejected(&self, items: u64) {
        self.items_rejected.fetch_add(items, Relaxed);
    }

    /// Ticks that were left out because the one before was not done.
    pub fn ticks_missed(&self) -> u64 {
        self.ticks_missed.load(Relaxed)
    }

    pub fn add_ticks_missed(&self, ticks: u64) {
        self.ticks_missed.fetch_add(ticks, Relaxed);
    }

    /// Time from sending a fresh item to its acknowledgement, latest; `None` while there was none.
    pub fn ack_latency(&self) -> Option<Duration> {
        let stored = self.ack_latency.load(Relaxed);
        (stored > 0).then(|| Duration::from_micros(stored - 1))
    }

    pub fn set_ack_latency(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX - 1);
        self.ack_latency.store(us.saturating_add(1), Relaxed);
    }

    /// Log events that were read.
    pub fn log_events(&self) -> u64 {
        self.log_events.load(Relaxed)
    }

    pub fn add_log_events(&self, events: u64) {
        self.log_events.fetch_add(events, Relaxed);
    }

    /// Log events that came faster than they may.
    pub fn log_dropped(&self) -> u64 {
        self.log_dropped.load(Relaxed)
    }

    pub fn add_log_dropped(&self, events: u64) {
        self.log_dropped.fetch_add(events, Relaxed);
    }

    /// Log files that are followed.
    pub fn log_files(&self) -> u64 {
        self.log_files.load(Relaxed)
    }

    pub fn set_log_files(&self, files: u64) {
        self.log_files.store(files, Relaxed);
    }

    /// Log sources that are asked for and not allowed.
    pub fn log_sources_refused(&self) -> u64 {
        self.log_sources_refused.load(Relaxed)
    }

    pub fn set_log_sources_refused(&self, sources: u64) {
        self.log_sources_refused.store(sources, Relaxed);
    }

    /// Series that programs send.
    pub fn push_series(&self) -> u64 {
        self.push_series.load(Relaxed)
    }

    pub fn set_push_series(&self, series: u64) {
        self.push_series.store(series, Relaxed);
    }

    /// Values of programs that were not understood, or were of more series than there may be.
    pub fn push_refused(&self) -> u64 {
        self.push_refused.load(Relaxed)
    }

    pub fn add_push_refused(&self, values: u64) {
        self.push_refused.fetch_add(values, Relaxed);
    }

    /// Streams that an aggregator welcomed.
    pub fn connects(&self) -> u64 {
        self.connects.load(Relaxed)
    }

    pub fn add_connect(&self) {
        self.connects.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_absent_until_it_was_measured() {
        let stats = CollectorStats::default();
        assert_eq!(stats.ack_latency(), None);
        stats.set_ack_latency(Duration::ZERO);
        assert_eq!(stats.ack_latency(), Some(Duration::ZERO));
        stats.set_ack_latency(Duration::from_millis(3));
        assert_eq!(stats.ack_latency(), Some(Duration::from_millis(3)));
    }
}
