//! How several services share the work: each shard of the machines is watched by one of them, and each
//! channel is served by one.

use std::collections::BTreeMap;
use std::time::Duration;

use model::MachineId;

use super::AlertChanges;

/// A part of the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

impl Shard {
    /// The one that a machine belongs to, of so many.
    pub fn of(machine: MachineId, shards: u16) -> Self {
        Self((machine.as_u128() % u128::from(shards.max(1))) as u16)
    }
}

/// The right to watch a shard, until somebody else has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Claim {
    pub shard: Shard,
    /// Grows whenever the shard changes hands. What comes under an earlier one is refused.
    pub fence: i64,
}

/// What a service learns when it says that it is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attendance {
    /// What it watches, by shard.
    pub claims: Vec<Claim>,
    /// It holds this many more than its part: others wait for them.
    pub surplus: usize,
    /// The channels it named, each with whether it serves it and what was last noted of it.
    pub channels: BTreeMap<String, Serving>,
    /// Grows with every change of a setting.
    pub edition: i64,
    /// What others ask of whoever watches its shards, oldest first.
    pub errands: Vec<Errand>,
    /// What it holds may go to others when it is not heard of for this long; never when absent.
    pub lease: Option<Duration>,
}

/// A channel, as the services share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    pub mine: bool,
    /// How it is doing, by whoever serves it.
    pub note: String,
}

/// Something that another service asks for. To be done again when in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    pub id: i64,
    pub shard: Shard,
    /// JSON.
    pub document: String,
}

/// Changes that were decided under a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub claim: Claim,
    /// 1 for the first under this claim; each one later adds one. It takes effect once, however often it comes.
    pub number: i64,
    pub changes: AlertChanges,
}
