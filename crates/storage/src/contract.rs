//! What every adapter must do, as tests: one function for each sentence of a port's contract.
//!
//! An adapter runs a suite by its macro, with a closure that opens an empty store:
//!
//! ```ignore
//! mod contract {
//!     storage::history_contract!(async |retention| my_adapter(retention).await);
//! }
//! ```
//!
//! The functions panic where the contract is broken.

pub mod alerting;
pub mod credentials;
pub mod events;
pub mod history;
pub mod live;
pub mod registry;

#[cfg(test)]
mod adapters;
#[cfg(test)]
mod server_adapters;

/// One test per name, in the module `$suite`, on a store that `$open` opens.
#[macro_export]
macro_rules! contract_tests {
    // Only where the variable names a server.
    ($suite:ident, { needs $variable:literal, $open:expr }, $($name:ident)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                if $crate::testing::server($variable).is_some() {
                    $crate::contract::$suite::$name($open).await;
                }
            }
        )+
    };
    ($suite:ident, { $open:expr }, $($name:ident)+) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::contract::$suite::$name($open).await;
            }
        )+
    };
}

/// Numbers that look random and are the same in every run.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64, public domain, Sebastiano Vigna.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `end`, not included.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}
