//! What came of a run, for people and for programs.

use serde::Serialize;

/// Latencies are in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machines: usize,
    pub(super) series: usize,
    pub(super) seconds: f64,
    pub(super) sent_samples: u64,
    pub(super) acknowledged_samples: u64,
    /// For good.
    pub(super) rejected_samples: u64,
    /// What the server could not take when it came, and got again later.
    pub(super) put_off_samples: u64,
    /// Sent and not found in history afterwards.
    pub(super) lost_samples: u64,
    pub(super) acknowledged_samples_per_second: f64,
    pub(super) sent_log_events: u64,
    pub(super) acknowledged_log_events: u64,
    pub(super) failed_machines: usize,
    pub(super) ack_latency_p50_ms: Option<f64>,
    pub(super) ack_latency_p99_ms: Option<f64>,
    /// From the reading on the machine to a `StreamMetrics` reader.
    pub(super) live_latency_p50_ms: Option<f64>,
    pub(super) live_latency_p99_ms: Option<f64>,
    /// From the reading on the machine to a WebSocket message at an open page.
    pub(super) page_latency_p50_ms: Option<f64>,
    pub(super) page_latency_p99_ms: Option<f64>,
    /// Until it was quiet again: what it puts off counts too.
    pub(super) server_cpu_seconds: Option<f64>,
    pub(super) samples_per_server_cpu_second: Option<f64>,
    /// While it was loaded.
    pub(super) server_resident_bytes: Option<u64>,
    /// By how much the data directory grew, and that for each sample.
    pub(super) disk_bytes: Option<u64>,
    pub(super) disk_bytes_per_sample: Option<f64>,
}

impl Report {
    pub(super) fn print(&self) {
        let both = |p50: Option<f64>, p99: Option<f64>| {
            let ms = |p: Option<f64>| p.map_or("-".into(), |ms| format!("{ms:.1} ms"));
            format!("p50 {}, p99 {}", ms(p50), ms(p99))
        };
        println!("{} machines × {} series for {:.1} s", self.machines, self.series, self.seconds);
        println!("  sent          {} samples", short(self.sent_samples as f64));
        println!(
            "  acknowledged  {} samples, {} a second",
            short(self.acknowledged_samples as f64),
            short(self.acknowledged_samples_per_second)
        );
        println!("  lost          {} samples", self.lost_samples);
        if self.put_off_samples > 0 {
            println!(
                "  put off       {} samples, which were sent again",
                short(self.put_off_samples as f64)
            );
        }
        if self.rejected_samples > 0 || self.failed_machines > 0 {
            println!(
                "  refused       {} samples, {} machines failed",
                self.rejected_samples, self.failed_machines
            );
        }
        if self.sent_log_events > 0 {
            println!(
                "  logs          {} events sent, {} acknowledged",
                self.sent_log_events, self.acknowledged_log_events
            );
        }
        println!("  ack latency   {}", both(self.ack_latency_p50_ms, self.ack_latency_p99_ms));
        println!("  live latency  {}", both(self.live_latency_p50_ms, self.live_latency_p99_ms));
        println!("  page latency  {}", both(self.page_latency_p50_ms, self.page_latency_p99_ms));
        if let (Some(cpu), Some(resident)) = (self.server_cpu_seconds, self.server_resident_bytes) {
            println!(
                "  server        {cpu:.1} CPU-s ({:.0} % of one core), {} samples per CPU-second, {} MB resident",
                cpu / self.seconds * 100.0,
                self.samples_per_server_cpu_second.map_or("-".into(), short),
                resident / 1_000_000
            );
        }
        if let (Some(bytes), Some(each)) = (self.disk_bytes, self.disk_bytes_per_sample) {
            println!("  disk          {} bytes, {each:.2} a sample", short(bytes as f64));
        }
    }
}

/// `3`, `41.50 k`, `1.20 M`: three digits or more say something at every size.
pub(super) fn short(n: f64) -> String {
    for (size, unit) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        // What would be rounded up to the next unit is shown in it.
        if n >= size * 0.999_995 {
            return format!("{:.2} {unit}", n / size);
        }
    }
    format!("{n:.0}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_count_is_shown_in_a_unit_of_its_size() {
        fn check(n: f64, expected: &str) {
            assert_eq!(super::short(n), expected);
        }
        check(0.0, "0");
        check(412.4, "412");
        check(999.999, "1.00 k");
        check(41_500.0, "41.50 k");
        check(999_999.0, "1.00 M");
        check(7_812_000.0, "7.81 M");
        check(2.5e9, "2.50 G");
    }
}
