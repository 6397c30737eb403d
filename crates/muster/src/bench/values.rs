//! The values of a made-up machine: the standard mix of 40 % constants, 30 % counters and 30 % noisy
//! gauges with one decimal, under a small head of real metrics so that the dashboard has something to show.

use model::{Labels, Layout, Series, metric};

/// Counts the frames of a machine; lets history be compared with what was sent.
pub(super) const MARKER: &str = "muster.bench.frames";

/// Series that every machine has, before the mix fills up to the number asked for.
const HEAD: usize = 13;

/// With each generation another tenth of the mix is replaced by series that were never there.
pub(super) fn layout(series: usize, generation: u32) -> Layout {
    let net = |direction| {
        metric::NETWORK_IO.with(Labels::of([
            ("network.interface.name", "eth0"),
            ("network.io.direction", direction),
        ]))
    };
    let disk = |direction| {
        metric::DISK_IO
            .with(Labels::of([("system.device", "sda"), ("disk.io.direction", direction)]))
    };
    let mut list = vec![
        Series::counter(MARKER, "{frame}", Labels::empty()),
        metric::CPU_UTILIZATION.alone(),
        metric::MEMORY_UTILIZATION.alone(),
        metric::FILESYSTEM_UTILIZATION.with(Labels::of([("system.filesystem.mountpoint", "/")])),
        net("receive"),
        net("transmit"),
        disk("read"),
        disk("write"),
        metric::LOAD_1M.alone(),
        metric::UPTIME.alone(),
        metric::MEMORY_LIMIT.alone(),
        metric::PAGING_UTILIZATION.alone(),
        metric::TEMPERATURE.with(Labels::of([("hw.id", "cpu"), ("hw.name", "Package")])),
    ];
    debug_assert_eq!(list.len(), HEAD);
    for i in HEAD..series.max(HEAD) {
        // How often this one was replaced: in generation 1 those that end in 1, and so on.
        let replaced = (generation + 10 - i as u32 % 10) / 10;
        let name = match replaced {
            0 => i.to_string(),
            n => format!("{i}-{n}"),
        };
        let labels = Labels::of([("i", name.as_str())]);
        list.push(match kind(i) {
            Mix::Constant => Series::gauge("muster.bench.constant", "By", labels),
            Mix::Counter => Series::counter("muster.bench.counter", "By", labels),
            Mix::Noisy => Series::gauge("muster.bench.noisy", "1", labels),
        });
    }
    Layout::new(list).expect("distinct series with valid names")
}

enum Mix {
    Constant,
    Counter,
    Noisy,
}

fn kind(i: usize) -> Mix {
    match i % 10 {
        0..4 => Mix::Constant,
        4..7 => Mix::Counter,
        _ => Mix::Noisy,
    }
}

/// One machine's values, moved on frame by frame. The same seed gives the same values.
#[derive(Debug)]
pub(super) struct Values {
    random: Random,
    values: Vec<f64>,
}

impl Values {
    pub(super) fn new(seed: u64, series: usize) -> Self {
        let mut random = Random::new(seed);
        let mut values: Vec<f64> = (0..series.max(HEAD))
            .map(|i| match kind(i) {
                Mix::Constant => random.below(1 << 40) as f64,
                Mix::Counter => random.below(1 << 30) as f64,
                Mix::Noisy => random.below(1000) as f64 / 10.0,
            })
            .collect();
        values[..HEAD].copy_from_slice(&[
            0.0,
            0.2,
            0.2 + random.below(5000) as f64 / 10_000.0,
            0.1 + random.below(8000) as f64 / 10_000.0,
            1e9,
            1e9,
            1e9,
            1e9,
            0.5,
            86_400.0,
            16e9,
            0.0,
            45.0,
        ]);
        Self { random, values }
    }

    /// The next frame.
    pub(super) fn advance(&mut self) -> &[f64] {
        let random = &mut self.random;
        for i in HEAD..self.values.len() {
            match kind(i) {
                Mix::Constant => {}
                Mix::Counter => self.values[i] += random.below(2000) as f64,
                Mix::Noisy => {
                    let next = self.values[i] * 10.0 + random.below(21) as f64 - 10.0;
                    self.values[i] = next.round().clamp(0.0, 1000.0) / 10.0;
                }
            }
        }
        let mut wander = |value: f64, by: f64| {
            let next = value + (random.below(2001) as f64 / 1000.0 - 1.0) * by;
            (next.clamp(0.01, 0.99) * 10_000.0).round() / 10_000.0
        };
        let [_, cpu, memory, ..] = self.values[..] else { return &self.values };
        self.values[1] = wander(cpu, 0.05);
        self.values[2] = wander(memory, 0.002);
        let load = self.values[1] * 4.0;
        self.values[0] += 1.0;
        for i in 4..8 {
            self.values[i] += random.below(200_000) as f64;
        }
        self.values[8] = (load * 100.0).round() / 100.0;
        self.values[9] += 1.0;
        self.values[12] = 45.0 + random.below(30) as f64 / 10.0;
        &self.values
    }
}

/// A xorshift generator: the bench needs speed and repeatability, not quality.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_their_layout_and_repeat_with_their_seed() {
        let (mut a, mut b) = (Values::new(7, 100), Values::new(7, 100));
        assert_eq!(layout(100, 0).len(), 100);
        for n in 1..=50 {
            let frame = a.advance().to_vec();
            assert_eq!(frame.len(), 100);
            assert_eq!(frame[0], f64::from(n));
            assert_eq!(frame, b.advance());
        }
    }

    #[test]
    fn each_generation_replaces_a_tenth_of_the_mix() {
        let names = |generation| {
            let layout = layout(1013, generation);
            layout.series().iter().map(|s| s.labels.get("i").to_owned()).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..12).map(names).collect();
        for pair in all.windows(2) {
            let differing = pair[0].iter().zip(&pair[1]).filter(|(a, b)| a != b).count();
            assert_eq!(differing, 100);
        }
    }
}
