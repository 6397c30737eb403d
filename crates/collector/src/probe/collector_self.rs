//! What the collector itself costs and how its delivery fares.

use std::sync::Arc;
use std::time::SystemTime;

use model::metric::{
    ACK_LATENCY, CERTIFICATE_REMAINING, COLLECTOR_CPU_TIME, COLLECTOR_MEMORY_USAGE,
    COLLECTOR_TICK_DURATION, COLLECTOR_TICKS_MISSED, ITEMS_REJECTED, LOG_EVENTS_DROPPED,
    LOG_EVENTS_READ, LOG_FILES, LOG_SOURCES_REFUSED, PROBE_FAILING, PUSH_REFUSED, PUSH_SERIES,
    SPOOL_DROPPED, SPOOL_ITEMS, SPOOL_USAGE,
};

use super::quantise::{seconds, short_seconds};
use super::vitals::Vitals;
use super::{At, Probe, Setup, Sheet};
use crate::CollectorStats;

struct CollectorSelf {
    stats: Arc<CollectorStats>,
    vitals: Arc<Vitals>,
    usage: own::Usage,
}

pub(super) fn open(setup: &Setup) -> Box<dyn Probe> {
    Box::new(CollectorSelf {
        stats: Arc::clone(&setup.stats),
        vitals: Arc::clone(&setup.vitals),
        usage: own::Usage::default(),
    })
}

impl Probe for CollectorSelf {
    /// CPU and memory are those of the whole process: with all roles in one, of all roles.
    fn read(&mut self, _: At, sheet: &mut Sheet) -> anyhow::Result<()> {
        let stats = &self.stats;
        sheet.put(&COLLECTOR_CPU_TIME, [], seconds(self.usage.cpu_seconds()?));
        sheet.put(&COLLECTOR_MEMORY_USAGE, [], self.usage.resident_bytes()?);
        let tick = self.vitals.tick_duration().as_secs_f64();
        sheet.put(&COLLECTOR_TICK_DURATION, [], short_seconds(tick));
        sheet.put(&COLLECTOR_TICKS_MISSED, [], stats.ticks_missed() as f64);
        sheet.put(&SPOOL_USAGE, [], stats.spool_bytes() as f64);
        sheet.put(&SPOOL_ITEMS, [], stats.spool_items() as f64);
        sheet.put(&SPOOL_DROPPED, [], stats.spool_dropped() as f64);
        sheet.put(&ITEMS_REJECTED, [], stats.items_rejected() as f64);
        let latency = stats.ack_latency().map_or(f64::NAN, |l| short_seconds(l.as_secs_f64()));
        sheet.put(&ACK_LATENCY, [], latency);
        sheet.put(&LOG_EVENTS_READ, [], stats.log_events() as f64);
        sheet.put(&LOG_EVENTS_DROPPED, [], stats.log_dropped() as f64);
        sheet.put(&LOG_FILES, [], stats.log_files() as f64);
        sheet.put(&LOG_SOURCES_REFUSED, [], stats.log_sources_refused() as f64);
        sheet.put(&PUSH_SERIES, [], stats.push_series() as f64);
        sheet.put(&PUSH_REFUSED, [], stats.push_refused() as f64);
        if let Some(expires) = stats.certificate_expires() {
            sheet.put(&CERTIFICATE_REMAINING, [], whole_hours(expires, SystemTime::now()));
        }
        for (probe, failing) in self.vitals.failing() {
            sheet.put(&PROBE_FAILING, [("muster.probe", probe)], f64::from(u8::from(failing)));
        }
        Ok(())
    }
}

/// It is written down again once an hour, not once a second. Negative when it is over.
fn whole_hours(expires: SystemTime, now: SystemTime) -> f64 {
    const HOUR_S: f64 = 3600.0;
    let left = match expires.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(over) => -over.duration().as_secs_f64(),
    };
    (left / HOUR_S).floor() * HOUR_S
}

#[cfg(target_os = "linux")]
use linux as own;
#[cfg(not(target_os = "linux"))]
use portable as own;

#[cfg(target_os = "linux")]
mod linux {
    use anyhow::Context;
    use rustix::time::{ClockId, clock_gettime};

    use crate::probe::linux::source::Source;

    pub(super) struct Usage {
        /// Always the real procfs, wherever the probes read: this process is there.
        statm: Source,
    }

    impl Default for Usage {
        fn default() -> Self {
            Self { statm: Source::new("/proc/self/statm") }
        }
    }

    impl Usage {
        pub(super) fn cpu_seconds(&mut self) -> anyhow::Result<f64> {
            let time = clock_gettime(ClockId::ProcessCPUTime);
            Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
        }

        pub(super) fn resident_bytes(&mut self) -> anyhow::Result<f64> {
            let text = self.statm.text()?;
            let pages: u64 = text
                .split_ascii_whitespace()
                .nth(1)
                .and_then(|field| field.parse().ok())
                .with_context(|| {
                    format!("/proc/self/statm: expected a second number in {text:?}")
                })?;
            Ok((pages * rustix::param::page_size() as u64) as f64)
        }
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod portable {
    use anyhow::Context;
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

    #[derive(Default)]
    pub(super) struct Usage {
        system: Option<System>,
    }

    impl Usage {
        fn own(&mut self) -> anyhow::Result<&sysinfo::Process> {
            let failed = |error| anyhow::anyhow!("{error:?}");
            let pid = sysinfo::get_current_pid().map_err(failed)?;
            if self.system.is_none() {
                self.system = Some(System::new().map_err(failed)?);
            }
            let system = self.system.as_mut().context("no system")?;
            let what = ProcessRefreshKind::nothing().with_cpu().with_memory();
            system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
            system.process(pid).context("own process is not listed")
        }

        pub(super) fn cpu_seconds(&mut self) -> anyhow::Result<f64> {
            Ok(self.own()?.accumulated_cpu_time() as f64 / 1000.0)
        }

        pub(super) fn resident_bytes(&mut self) -> anyhow::Result<f64> {
            Ok(self.own()?.memory() as f64)
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_certificate_has_left_changes_once_an_hour() {
        use std::time::{Duration, UNIX_EPOCH};
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(whole_hours(at(7_300), at(0)), 7_200.0);
        assert_eq!(whole_hours(at(7_300), at(99)), 7_200.0);
        assert_eq!(whole_hours(at(10), at(20)), -3_600.0);
    }

    #[test]
    fn both_ways_to_ask_agree_on_this_process() {
        let (mut one, mut other) = (linux::Usage::default(), portable::Usage::default());
        let (a, b) = (one.resident_bytes().expect("known"), other.resident_bytes().expect("known"));
        assert!(a > 0.0 && (a / b - 1.0).abs() < 0.5, "{a} and {b}");
        let (a, b) = (one.cpu_seconds().expect("known"), other.cpu_seconds().expect("known"));
        assert!((a - b).abs() < 1.0, "{a} and {b}");
    }
}
