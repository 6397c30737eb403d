//! Which words a block may have: Bloom filters (Burton H. Bloom, 1970), cut into parts by the words' hashes so
//! that looking for a word reads one part of each block.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use model::log_query::{Level, LogQuery, LogTest};
use model::words::{fold, words};
use model::{LogEvent, MachineId};

/// Parts of a filter.
pub(crate) const PARTS: usize = 16;
/// Bits for each word: 1 in 250 words that are not there seems to be.
const BITS: usize = 12;
const PROBES: u64 = 6;
/// Two neighbours as short as this are remembered together: an address is made of common numbers.
const SHORT_BYTES: usize = 4;

/// What is remembered of an event beside its words.
mod kind {
    pub(super) const PAIR: u8 = 1;
    pub(super) const SERVICE: u8 = 2;
    pub(super) const LEVEL: u8 = 3;
    pub(super) const SERVICE_LEVEL: u8 = 4;
    pub(super) const MACHINE: u8 = 5;
    pub(super) const ATTRIBUTE: u8 = 6;
}

/// FNV-1a with 64 bits, <http://www.isthe.com/chongo/tech/comp/fnv/>: part of the stored form.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    #[inline]
    fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |hash, &byte| hash.byte(byte))
    }

    /// As if the text were folded.
    #[inline]
    fn folded(self, text: &str) -> Self {
        if text.is_ascii() {
            return text.bytes().fold(self, |hash, byte| hash.byte(byte.to_ascii_lowercase()));
        }
        self.bytes(fold(text).as_bytes())
    }

    /// Spreads what differs over all bits: parts and probes take them from both ends.
    fn end(self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }
}

fn word_hash(word: &str) -> u64 {
    Fnv::START.folded(word).end()
}

fn pair_hash(first: &str, second: &str) -> u64 {
    Fnv::START.byte(kind::PAIR).folded(first).byte(0).folded(second).end()
}

fn service_hash(service: &str) -> u64 {
    Fnv::START.byte(kind::SERVICE).folded(service).end()
}

fn level_hash(level: Level) -> u64 {
    Fnv::START.byte(kind::LEVEL).bytes(level.name().as_bytes()).end()
}

fn service_level_hash(service: &str, level: Level) -> u64 {
    let level = level.name().as_bytes();
    Fnv::START.byte(kind::SERVICE_LEVEL).bytes(level).byte(0).folded(service).end()
}

fn machine_hash(machine: MachineId) -> u64 {
    Fnv::START.byte(kind::MACHINE).bytes(&machine.as_u128().to_le_bytes()).end()
}

fn attribute_hash(name: &str, value: &str) -> u64 {
    Fnv::START.byte(kind::ATTRIBUTE).folded(name).byte(0).folded(value).end()
}

/// By their folded lengths, which those who search know.
fn pairs_up(first: &str, second: &str) -> bool {
    let short = |word: &str| match word.is_ascii() {
        true => word.len() <= SHORT_BYTES,
        false => fold(word).len() <= SHORT_BYTES,
    };
    short(first) && short(second)
}

/// Hashes are hashed already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| hash << 8 | u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Gathers what the events of a block have.
#[derive(Default)]
pub(super) struct Gathered(HashSet<u64, BuildHasherDefault<AsItIs>>);

impl Gathered {
    pub(super) fn add(&mut self, machine: MachineId, event: &LogEvent) {
        let level = Level::of(event.severity);
        self.0.insert(machine_hash(machine));
        self.0.insert(level_hash(level));
        self.0.insert(service_hash(&event.service));
        self.0.insert(service_level_hash(&event.service, level));
        self.text(&event.body);
        for (name, value) in event.attributes.iter() {
            self.0.insert(attribute_hash(name, value));
            self.text(value);
        }
    }

    fn text(&mut self, text: &str) {
        let mut before = None;
        for word in words(text) {
            self.0.insert(word_hash(word));
            if let Some(before) = before.replace(word)
                && pairs_up(before, word)
            {
                self.0.insert(pair_hash(before, word));
            }
        }
    }

    /// One array of bits for each part.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        let mut counts = [0usize; PARTS];
        self.0.iter().for_each(|&hash| counts[part(hash)] += 1);
        let mut parts = counts.map(|count| vec![0u8; (count * BITS).div_ceil(8).max(8)]);
        for &hash in &self.0 {
            let bits = &mut parts[part(hash)];
            for bit in probes(hash, bits.len()) {
                bits[bit / 8] |= 1 << (bit % 8);
            }
        }
        parts.into()
    }
}

fn part(hash: u64) -> usize {
    (hash >> 60) as usize
}

fn probes(hash: u64, bytes: usize) -> impl Iterator<Item = usize> {
    let bits = bytes as u64 * 8;
    let step = hash.rotate_left(32) | 1;
    (0..PROBES).map(move |i| (hash.wrapping_add(i.wrapping_mul(step)) % bits) as usize)
}

fn has(bits: &[u8], hash: u64) -> bool {
    !bits.is_empty() && probes(hash, bits.len()).all(|bit| bits[bit / 8] >> (bit % 8) & 1 == 1)
}

/// What a block must have to be worth reading: of each of these at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted(Vec<Vec<u64>>);

/// A choice among more is not looked up.
const CHOICES_MAX: usize = 64;

impl Wanted {
    pub(crate) fn of(query: &LogQuery, machines: Option<&[MachineId]>) -> Self {
        let mut all = Vec::new();
        let (mut services, mut levels): (Option<Vec<&str>>, Option<Vec<Level>>) = (None, None);
        for test in query.terms.iter().filter(|term| !term.negated).map(|term| &term.test) {
            match test {
                LogTest::Words { words, open } => {
                    let whole = words.len() - usize::from(*open).min(words.len());
                    all.extend(words[..whole].iter().map(|word| vec![word_hash(word)]));
                    let pairs = words[..whole].windows(2);
                    all.extend(
                        pairs
                            .filter(|pair| pairs_up(&pair[0], &pair[1]))
                            .map(|pair| vec![pair_hash(&pair[0], &pair[1])]),
                    );
                }
                LogTest::Service(globs) => {
                    let exact: Option<Vec<&str>> = globs.iter().map(|g| exact(g)).collect();
                    services = exact.or(services);
                }
                LogTest::Level(ranges) => {
                    let has = |level| ranges.iter().any(|r| (r.first..=r.last).contains(&level));
                    levels = Some(Level::ALL.into_iter().filter(|&l| has(l)).collect());
                }
                LogTest::Attribute { name, values } => {
                    let values: Option<Vec<&str>> = values.iter().map(|v| exact(v)).collect();
                    let hashes = |values: Vec<&str>| {
                        values.into_iter().map(|value| attribute_hash(name, value)).collect()
                    };
                    all.extend(values.map(hashes));
                }
                LogTest::Machine(_) => {}
            }
        }
        match (services, levels) {
            (Some(services), Some(levels)) => all.push(
                services
                    .iter()
                    .flat_map(|service| levels.iter().map(|&l| service_level_hash(service, l)))
                    .collect(),
            ),
            (Some(services), None) => {
                all.push(services.iter().map(|service| service_hash(service)).collect());
            }
            (None, Some(levels)) => all.push(levels.into_iter().map(level_hash).collect()),
            (None, None) => {}
        }
        all.extend(machines.map(|machines| machines.iter().map(|&m| machine_hash(m)).collect()));
        all.retain(|choice| choice.len() <= CHOICES_MAX);
        Self(all)
    }

    /// The parts of filters that tell.
    pub(crate) fn parts(&self) -> Vec<i64> {
        let parts: std::collections::BTreeSet<i64> =
            self.0.iter().flatten().map(|&hash| part(hash) as i64).collect();
        parts.into_iter().collect()
    }

    /// Whether a block with these parts of its filter may have it all; parts that are not given do not tell.
    pub(crate) fn may_be_in(&self, parts: &[(i64, Vec<u8>)]) -> bool {
        self.0.iter().all(|choice| {
            choice.iter().any(|&hash| {
                let bits = parts.iter().find(|(number, _)| *number == part(hash) as i64);
                bits.is_none_or(|(_, bits)| has(bits, hash))
            })
        })
    }
}

fn exact(glob: &str) -> Option<&str> {
    (!glob.contains(['*', '?'])).then_some(glob)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_what_was_gathered_and_little_else() {
        let gathered =
            Gathered((0..40_000u64).map(|n| Fnv::START.bytes(&n.to_le_bytes()).end()).collect());
        let parts = gathered.parts();
        let found = |n: u64| {
            let hash = Fnv::START.bytes(&n.to_le_bytes()).end();
            has(&parts[part(hash)], hash)
        };
        assert!((0..40_000).all(found));
        let wrong = (40_000..140_000).filter(|&n| found(n)).count();
        assert!(wrong < 1_000, "{wrong} of 100000 seem to be there");
        // No part has much more than its share.
        assert!(parts.iter().all(|part| part.len() < 2 * 40_000 * BITS / 8 / PARTS));
    }
}
