//! Chance that is the same for the same seed: noise over time, and dice.

/// A xorshift generator. The same seed rolls the same.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed) | 1)
    }

    /// From 0 to `bound`, not included.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    /// From 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        self.below(1 << 20) as f64 / (1 << 20) as f64
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// SplitMix64's finish (public domain, Sebastiano Vigna): near inputs give far outputs.
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// From -1 to 1, without jumps: what it is now leads to what it is `period_s` later. Without a memory, so that the
/// past can be made up as well as the present.
pub(super) fn noise(seed: u64, seconds: f64, period_s: f64) -> f64 {
    let at = seconds / period_s;
    let (before, part) = (at.floor(), at - at.floor());
    let value = |step: f64| {
        let random = mix(seed ^ (step as i64 as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
        (random >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    let smooth = part * part * (3.0 - 2.0 * part);
    value(before) * (1.0 - smooth) + value(before + 1.0) * smooth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_bounded_without_jumps_and_the_same_for_the_same_seed() {
        let mut before = noise(7, 0.0, 30.0);
        for tenth in 1..100_000 {
            let seconds = f64::from(tenth) / 10.0;
            let now = noise(7, seconds, 30.0);
            assert!((-1.0..=1.0).contains(&now), "{now} at {seconds}");
            assert!((now - before).abs() < 0.02, "from {before} to {now} at {seconds}");
            assert_eq!(now, noise(7, seconds, 30.0));
            before = now;
        }
        assert_ne!(noise(7, 100.0, 30.0), noise(8, 100.0, 30.0));
    }
}
