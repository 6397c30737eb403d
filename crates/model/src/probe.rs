//! The probe: a sample that goes the way of all samples, to measure how long the way takes.

use sha2::{Digest, Sha256};

use crate::{MachineId, metric};

/// The first half of the id of a machine that is none: "theprobe" in ASCII.
const PROBES: u64 = u64::from_be_bytes(*b"theprobe");
/// Says which stage of the way a latency is of.
pub const STAGE: &str = "muster.probe.stage";

/// How far a sample came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the collector's stream into history, and its acknowledgement back.
    Stored,
    /// Through the event stream to who follows it by gRPC.
    Streamed,
    /// Through the event stream to the alert service, after all that came before it was evaluated.
    Watched,
    /// Through the gateway to an open page, over its WebSocket.
    Shown,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Stored, Self::Streamed, Self::Watched, Self::Shown];

    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Streamed => "streamed",
            Self::Watched => "watched",
            Self::Shown => "shown",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
}

/// What a probe of this name sends under. It is in no list of machines.
pub fn machine(name: &str) -> MachineId {
    let mut half = [0; 8];
    half.copy_from_slice(&Sha256::digest(name.as_bytes())[..8]);
    let id = u128::from(PROBES) << 64 | u128::from(u64::from_be_bytes(half));
    MachineId::from_u128(id).expect("its first half is not zero")
}

pub fn is_probe(machine: MachineId) -> bool {
    (machine.as_u128() >> 64) as u64 == PROBES
}

/// The number of the sample, and how long each stage took with the one before.
pub fn series() -> Vec<crate::Series> {
    let latency =
        |stage: Stage| metric::PROBE_LATENCY.with(crate::Labels::of([(STAGE, stage.name())]));
    std::iter::once(metric::PROBE_SAMPLES.alone()).chain(Stage::ALL.map(latency)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_no_machine_and_no_source() {
        let probe = machine("here");
        assert!(is_probe(probe) && !crate::pushed::is_source(probe));
        assert!(!is_probe(crate::pushed::source_machine("here")));
        assert_eq!(Stage::ALL.map(|stage| Stage::from_name(stage.name())), Stage::ALL.map(Some));
        crate::Layout::new(series()).expect("a layout");
    }
}
