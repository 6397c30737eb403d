//! The numbers that people look at first, out of the frames that hold them.

use model::{Frame, Headline, Kind, Layout, Series, metric};
use storage::rollup::Rollup;

/// Which columns of a layout matter to the headline. Computed once per layout; applying it to a frame
/// looks at those columns alone.
#[derive(Debug)]
pub(crate) struct Projection {
    gauges: Vec<(usize, Gauge)>,
    /// Columns of filesystems, by mount point.
    filesystems: Vec<(usize, String)>,
    temperatures: Vec<usize>,
    received: Vec<usize>,
    transmitted: Vec<usize>,
    disk_read: Vec<usize>,
    disk_written: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Gauge {
    Cpu,
    Memory,
    Swap,
    Load,
    Uptime,
}

impl Projection {
    pub(crate) fn of(layout: &Layout) -> Self {
        let series = layout.series();
        let columns = |wanted: &dyn Fn(&Series) -> bool| -> Vec<usize> {
            series.iter().enumerate().filter(|(_, s)| wanted(s)).map(|(i, _)| i).collect()
        };
        let alone = |m: metric::Metric, s: &Series| *s.metric == *m.name && s.labels.is_empty();
        let disks = WholeDisks::of(series);
        let flow = |m: metric::Metric, key: &'static str, direction: &'static str| {
            move |s: &Series| {
                s.kind == Kind::Counter && *s.metric == *m.name && s.labels.get(key) == direction
            }
        };
        let network = |direction| {
            let moves = flow(metric::NETWORK_IO, "network.io.direction", direction);
            columns(&|s| moves(s) && s.labels.get("network.interface.name") != "lo")
        };
        let disk = |direction| {
            let moves = flow(metric::DISK_IO, "disk.io.direction", direction);
            columns(&|s| moves(s) && disks.contain(s.labels.get("system.device")))
        };
        let gauge = |s: &Series| {
            let table = [
                (metric::CPU_UTILIZATION, Gauge::Cpu),
                (metric::MEMORY_UTILIZATION, Gauge::Memory),
                (metric::PAGING_UTILIZATION, Gauge::Swap),
                (metric::LOAD_1M, Gauge::Load),
                (metric::UPTIME, Gauge::Uptime),
            ];
            table.into_iter().find(|(m, _)| alone(*m, s)).map(|(_, gauge)| gauge)
        };
        Self {
            gauges: series.iter().enumerate().filter_map(|(i, s)| Some((i, gauge(s)?))).collect(),
            filesystems: columns(&|s| *s.metric == *metric::FILESYSTEM_UTILIZATION.name)
                .into_iter()
                .map(|i| (i, series[i].labels.get("system.filesystem.mountpoint").to_owned()))
                .collect(),
            temperatures: columns(&|s| *s.metric == *metric::TEMPERATURE.name),
            received: network("receive"),
            transmitted: network("transmit"),
            disk_read: disk("read"),
            disk_written: disk("write"),
        }
    }

    /// Takes over what this frame says. `before` is the frame of the same layout before it. False when
    /// the layout has nothing for the headline.
    pub(crate) fn apply(
        &self,
        frame: &Frame,
        before: Option<&Frame>,
        headline: &mut Headline,
    ) -> bool {
        let value = |i: usize| Some(frame.values[i]).filter(|v| !v.is_nan());
        let mut touched = false;
        for &(column, gauge) in &self.gauges {
            let place = match gauge {
                Gauge::Cpu => &mut headline.cpu_utilization,
                Gauge::Memory => &mut headline.memory_utilization,
                Gauge::Swap => &mut headline.swap_utilization,
                Gauge::Load => &mut headline.load_1m,
                Gauge::Uptime => &mut headline.uptime,
            };
            *place = value(column);
            touched = true;
        }
        if !self.filesystems.is_empty() {
            let known = self.filesystems.iter().filter_map(|(i, mount)| Some((value(*i)?, mount)));
            let fullest = known.max_by(|a, b| a.0.total_cmp(&b.0));
            headline.filesystem_utilization = fullest.map(|(v, _)| v);
            let mount = fullest.map_or("", |(_, mount)| mount.as_str());
            if headline.filesystem_mountpoint != mount {
                mount.clone_into(&mut headline.filesystem_mountpoint);
            }
            touched = true;
        }
        if !self.temperatures.is_empty() {
            headline.temperature =
                self.temperatures.iter().filter_map(|&i| value(i)).max_by(f64::total_cmp);
            touched = true;
        }
        let rates = [
            (&self.received, &mut headline.network_receive_rate),
            (&self.transmitted, &mut headline.network_transmit_rate),
            (&self.disk_read, &mut headline.disk_read_rate),
            (&self.disk_written, &mut headline.disk_write_rate),
        ];
        for (columns, place) in rates {
            // Without a frame before there is no rate yet; the one of the former layout stands for now.
            if let Some(before) = before.filter(|_| !columns.is_empty()) {
                *place = rate(columns, before, frame);
                touched = true;
            }
        }
        if touched {
            headline.time = headline.time.max(frame.time);
        }
        touched
    }
}

/// Increase per second of the sum of these counters; `None` when no counter has both values.
fn rate(columns: &[usize], before: &Frame, frame: &Frame) -> Option<f64> {
    let seconds = frame.time.since(before.time) as f64 / 1000.0;
    let steps = columns.iter().filter_map(|&i| {
        let step = Rollup::step(before.values[i], frame.values[i]);
        (!step.is_nan() && !before.values[i].is_nan()).then_some(step)
    });
    let increase = steps.reduce(|sum, step| sum + step)?;
    (seconds > 0.0).then(|| increase / seconds)
}

/// Tells disks from their partitions and from what is made of disks, so that no byte counts twice.
struct WholeDisks<'a> {
    names: Vec<&'a str>,
    /// Nothing looks like a plain disk: then take what there is.
    take_all: bool,
}

impl<'a> WholeDisks<'a> {
    fn of(series: &'a [Series]) -> Self {
        let mut names: Vec<&str> = series
            .iter()
            .filter(|s| *s.metric == *metric::DISK_IO.name)
            .map(|s| s.labels.get("system.device"))
            .collect();
        names.sort_unstable();
        names.dedup();
        let take_all = !names.iter().any(|name| is_whole(name, &names));
        Self { names, take_all }
    }

    fn contain(&self, name: &str) -> bool {
        self.take_all || is_whole(name, &self.names)
    }
}

fn is_whole(name: &str, all: &[&str]) -> bool {
    const MADE_OF_OTHERS: [&str; 6] = ["dm-", "md", "loop", "ram", "zram", "bcache"];
    let made = MADE_OF_OTHERS.iter().any(|prefix| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    // sda1 beside sda, nvme0n1p2 beside nvme0n1.
    let part = all.iter().any(|disk| {
        let rest = name.strip_prefix(disk).unwrap_or_default();
        let number = rest.strip_prefix('p').unwrap_or(rest);
        !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit())
    });
    !made && !part
}

#[cfg(test)]
mod tests {
    use model::{Labels, UnixMillis};

    use super::*;

    fn layout(series: Vec<Series>) -> Layout {
        Layout::new(series).expect("valid")
    }

    fn frame(layout: &Layout, ms: i64, values: &[f64]) -> Frame {
        Frame { time: UnixMillis(ms), layout: layout.id(), values: values.to_vec() }
    }

    fn network(interface: &str, direction: &str) -> Series {
        let labels = [("network.interface.name", interface), ("network.io.direction", direction)];
        metric::NETWORK_IO.with(Labels::of(labels))
    }

    fn disk(device: &str) -> Series {
        let labels = [("system.device", device), ("disk.io.direction", "read")];
        metric::DISK_IO.with(Labels::of(labels))
    }

    #[test]
    fn the_headline_takes_totals_and_leaves_parts_alone() {
        let core = metric::CPU_UTILIZATION.with(Labels::of([("cpu.logical_number", "0")]));
        let layout = layout(vec![
            core,
            metric::CPU_UTILIZATION.alone(),
            metric::MEMORY_UTILIZATION.alone(),
            metric::FILESYSTEM_UTILIZATION
                .with(Labels::of([("system.filesystem.mountpoint", "/")])),
            metric::FILESYSTEM_UTILIZATION
                .with(Labels::of([("system.filesystem.mountpoint", "/data")])),
            metric::TEMPERATURE.with(Labels::of([("hw.id", "a")])),
            metric::TEMPERATURE.with(Labels::of([("hw.id", "b")])),
        ]);
        let mut headline = Headline::default();
        let values = [0.9, 0.5, f64::NAN, 0.2, 0.7, 40.0, 55.0];
        assert!(Projection::of(&layout).apply(&frame(&layout, 1000, &values), None, &mut headline));
        assert_eq!(headline.time, UnixMillis(1000));
        assert_eq!(headline.cpu_utilization, Some(0.5));
        assert_eq!(headline.memory_utilization, None);
        assert_eq!(headline.filesystem_utilization, Some(0.7));
        assert_eq!(headline.filesystem_mountpoint, "/data");
        assert_eq!(headline.temperature, Some(55.0));
    }

    #[test]
    fn rates_leave_out_loopback_and_survive_a_reset() {
        let layout = layout(vec![
            network("lo", "receive"),
            network("eth0", "receive"),
            network("eth1", "receive"),
            network("eth0", "transmit"),
        ]);
        let projection = Projection::of(&layout);
        let mut headline = Headline::default();
        let first = frame(&layout, 0, &[0.0, 1000.0, 5000.0, 10.0]);
        assert!(!projection.apply(&first, None, &mut headline));
        assert_eq!(headline.network_receive_rate, None);
        // eth1 started again and has counted 300 since.
        let second = frame(&layout, 2000, &[9e9, 1700.0, 300.0, f64::NAN]);
        assert!(projection.apply(&second, Some(&first), &mut headline));
        assert_eq!(headline.network_receive_rate, Some((700.0 + 300.0) / 2.0));
        assert_eq!(headline.network_transmit_rate, None);
    }

    #[test]
    fn no_byte_of_a_disk_counts_twice() {
        fn check(devices: &[&str], counted: &[&str]) {
            let layout = layout(devices.iter().map(|d| disk(d)).collect());
            let columns = Projection::of(&layout).disk_read;
            let names: Vec<_> = columns.iter().map(|&i| devices[i]).collect();
            assert_eq!(names, counted);
        }
        check(&["sda", "sda1", "sda2", "sdaa"], &["sda", "sdaa"]);
        check(&["nvme0n1", "nvme0n1p1", "nvme1n1"], &["nvme0n1", "nvme1n1"]);
        check(&["sda", "dm-0", "md127", "loop3", "zram0"], &["sda"]);
        check(&["vda1"], &["vda1"]);
        check(&["dm-0", "dm-1"], &["dm-0", "dm-1"]);
    }
}
