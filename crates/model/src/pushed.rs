//! What programs send of themselves: the names it gets, and whose it is.

use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use crate::{Labels, MachineId, SpoolEpoch, limits};

/// How names begin that no program may send: those are what machines measure themselves; headlines and
/// rules go by them.
const OURS: [&str; 4] = ["muster.", "system.", "hw.", "container."];
/// The first half of the id of a machine that is none: "pushedby" in ASCII.
const SOURCES: u64 = u64::from_be_bytes(*b"pushedby");
/// What a metric of several series puts behind its name.
const SUFFIX_BYTES_MAX: usize = ".bucket".len();

/// Why a metric cannot have a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("expected 1 to {max} bytes", max = limits::METRIC_NAME_BYTES_MAX - SUFFIX_BYTES_MAX)]
    Length,
    #[error(
        "names that begin with muster., system., hw. or container. are what machines measure themselves"
    )]
    Ours,
}

/// A metric name that the wire takes: what it does not know becomes an underscore.
pub fn metric_name(text: &str) -> Result<Box<str>, NameError> {
    let known = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    let name: String = text.chars().map(known).collect();
    if !(1..=limits::METRIC_NAME_BYTES_MAX - SUFFIX_BYTES_MAX).contains(&name.len()) {
        return Err(NameError::Length);
    }
    match OURS.iter().any(|prefix| name.starts_with(prefix)) {
        true => Err(NameError::Ours),
        false => Ok(name.into()),
    }
}

/// Labels that the wire takes; `None` when there are too many. Of a name that comes twice the first wins.
pub fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Labels> {
    use limits::{LABEL_NAME_BYTES_MAX, LABEL_VALUE_BYTES_MAX, LABELS_MAX};
    let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '/');
    let mut kept: Vec<(String, &str)> = Vec::new();
    for (name, value) in pairs {
        let known = |c: char| if is_known(c) { c } else { '_' };
        let name: String = name.chars().take(LABEL_NAME_BYTES_MAX).map(known).collect();
        if !name.is_empty() && kept.iter().all(|(other, _)| *other != name) {
            kept.push((name, &value[..value.floor_char_boundary(LABEL_VALUE_BYTES_MAX)]));
            // One is for what a series is split by.
            if kept.len() >= LABELS_MAX {
                return None;
            }
        }
    }
    Labels::new(kept).ok()
}

/// Whether what programs push may be kept under this name. It is shown as the name of a machine.
pub fn is_source_name(name: &str) -> bool {
    (1..=limits::PUSH_SOURCE_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The machine that everything of this source belongs to. No collector can be it, see [`is_source`].
pub fn source_machine(name: &str) -> MachineId {
    let id = u128::from(SOURCES) << 64 | u128::from(half_of_hash(name));
    MachineId::from_u128(id).expect("its first half is not zero")
}

/// Whether the machine is none, but a source of what programs push.
pub fn is_source(machine: MachineId) -> bool {
    source_ids().contains(&machine)
}

/// The ids of all sources.
pub fn source_ids() -> RangeInclusive<MachineId> {
    let id = |low: u64| MachineId::from_u128(u128::from(SOURCES) << 64 | u128::from(low));
    id(0).expect("its first half is not zero")..=id(u64::MAX).expect("nor is this one's")
}

/// What belongs to a request with this key is numbered within this epoch.
pub fn epoch_of_key(key: &str) -> SpoolEpoch {
    SpoolEpoch(half_of_hash(key).max(1))
}

fn half_of_hash(text: &str) -> u64 {
    let mut half = [0; 8];
    half.copy_from_slice(&Sha256::digest(text.as_bytes())[..8]);
    u64::from_be_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_what_the_wire_takes() {
        let name = |text: &str| metric_name(text).map(String::from);
        assert_eq!(name("api.request-time/ü").as_deref(), Ok("api.request_time__"));
        assert_eq!(name(""), Err(NameError::Length));
        for ours in ["muster.log.events", "system.cpu.utilization", "hw.x", "container.cpu.usage"] {
            assert_eq!(name(ours), Err(NameError::Ours), "{ours}");
        }
        assert_eq!(name(&"x".repeat(300)), Err(NameError::Length));
        let labels = labels([("a b", "1"), ("a_b", "2"), ("", "3"), ("k", "")]).expect("few");
        assert_eq!(labels, Labels::of([("a_b", "1")]));
    }

    #[test]
    fn a_source_is_a_machine_that_no_collector_is() {
        let shop = source_machine("shop");
        assert_eq!(shop, source_machine("shop"));
        assert_ne!(shop, source_machine("shop "));
        assert!(is_source(shop));
        let other: MachineId = "3d1219c7c4c5404aaa1f6d2a48adfda4".parse().expect("an id");
        assert!(!is_source(other));
        assert!(shop.to_string().starts_with("7075736865646279"), "{shop}");
        for (name, expected) in
            [("shop", true), ("", false), ("a\nb", false), (&"x".repeat(121), false)]
        {
            assert_eq!(is_source_name(name), expected, "{name:?}");
        }
    }
}
