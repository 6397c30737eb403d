//! Making blocks of events: of those that arrive together, and of small blocks that are joined.

use model::{LogEvent, MachineId, UnixMillis};

use super::filter::Gathered;
use super::{FoundLog, block};

/// A block has at most this many events…
const EVENTS_MAX: usize = 8192;
/// …and ends when its texts have this many bytes. One event more is at most 130 KiB.
const BYTES_MAX: usize = 4 << 20;
/// A block of half that size is full: it is not joined with others any more.
const EVENTS_FULL: usize = EVENTS_MAX / 2;
const BYTES_FULL: usize = BYTES_MAX / 2;

/// An event that arrives.
pub(crate) type FreshLog = (MachineId, LogEvent);

/// A block to be stored.
#[derive(Debug)]
pub(crate) struct NewBlock {
    pub(crate) first: UnixMillis,
    pub(crate) last: UnixMillis,
    pub(crate) events: usize,
    pub(crate) data: Vec<u8>,
    /// Parts of its filter, by number; none when the block is to be joined with others.
    pub(crate) filter: Vec<Vec<u8>>,
}

impl NewBlock {
    pub(crate) fn is_full(&self) -> bool {
        !self.filter.is_empty()
    }
}

/// Blocks of events that arrive together.
pub(crate) fn build(mut events: Vec<FreshLog>) -> std::io::Result<Vec<NewBlock>> {
    // The sort is stable: what a machine logs within one millisecond stays in order.
    events.sort_by_key(|(_, event)| event.time);
    let events: Vec<(MachineId, &LogEvent)> = events.iter().map(|(m, e)| (*m, e)).collect();
    pieces(&events).map(|piece| encoded(piece, &[], false)).collect()
}

/// Blocks of events that are stored already and come from small blocks. `last`: these are all that will ever come of
/// their time, so that what is left over makes a block that is full as it is.
pub(crate) fn join(mut events: Vec<FoundLog>, last: bool) -> std::io::Result<Vec<NewBlock>> {
    events.sort_by_key(|found| found.position);
    let arrivals: Vec<u64> = events.iter().map(|found| found.position.id).collect();
    let events: Vec<(MachineId, &LogEvent)> =
        events.iter().map(|found| (found.machine, &found.event)).collect();
    let mut start = 0;
    let mut blocks = Vec::new();
    for piece in pieces(&events) {
        let end = start + piece.len();
        blocks.push(encoded(piece, &arrivals[start..end], last)?);
        start = end;
    }
    Ok(blocks)
}

fn encoded(
    events: &[(MachineId, &LogEvent)],
    arrivals: &[u64],
    last: bool,
) -> std::io::Result<NewBlock> {
    let bytes: usize = events.iter().map(|(_, event)| size(event)).sum();
    let mut filter = Vec::new();
    if last || events.len() >= EVENTS_FULL || bytes >= BYTES_FULL {
        let mut gathered = Gathered::default();
        events.iter().for_each(|(machine, event)| gathered.add(*machine, event));
        filter = gathered.parts();
    }
    let time = |at: Option<&(MachineId, &LogEvent)>| at.map_or(UnixMillis(0), |(_, e)| e.time);
    Ok(NewBlock {
        first: time(events.first()),
        last: time(events.last()),
        events: events.len(),
        data: block::encode(events, arrivals)?,
        filter,
    })
}

/// As even as can be, so that little is left over for a small one.
fn pieces<'a, 'e>(
    events: &'a [(MachineId, &'e LogEvent)],
) -> impl Iterator<Item = &'a [(MachineId, &'e LogEvent)]> {
    let count_max = events.len().div_ceil(events.len().div_ceil(EVENTS_MAX).max(1)).max(1);
    let mut rest = events;
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, 0);
        while count < rest.len().min(count_max) && bytes < BYTES_MAX {
            bytes += size(rest[count].1);
            count += 1;
        }
        let (piece, after) = rest.split_at(count);
        rest = after;
        (count > 0).then_some(piece)
    })
}

/// Bytes of its texts.
fn size(event: &LogEvent) -> usize {
    let attributes = event.attributes.iter().map(|(name, value)| name.len() + value.len());
    event.body.len() + attributes.sum::<usize>()
}

/// Leaves out what is of removed machines; see [`super::Hunt::new`].
pub(crate) fn without(events: &mut Vec<FoundLog>, removed: &[(MachineId, u64)]) {
    events.retain(|found| {
        !removed.iter().any(|(m, before)| *m == found.machine && found.position.id < *before)
    });
}

/// A small block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loose {
    pub(crate) id: i64,
    pub(crate) last: UnixMillis,
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// What of a day comes later than this joins in small blocks.
const CLOSED_AFTER_MS: i64 = 10 * 60 * 1000;
/// So many small blocks cost a search as much as a large one.
const LOOSE_MAX: usize = 64;
/// What is unpacked to be joined at a time.
const JOIN_EVENTS_MAX: usize = 4 * EVENTS_MAX;
const JOIN_BYTES_MAX: usize = 16 << 20;

/// Which of the small blocks, given by their last events, to join now, and whether nothing more will come of their day.
/// Days are not joined with one another, so that what is too old can go.
pub(crate) fn to_join(
    loose: Vec<Loose>,
    now: UnixMillis,
    closed: bool,
) -> Option<(Vec<i64>, bool)> {
    for day in loose.chunk_by(|a, b| a.last.floor(DAY_MS) == b.last.floor(DAY_MS)) {
        let (mut taken, mut events, mut bytes) = (Vec::new(), 0, 0);
        for block in day {
            if events >= JOIN_EVENTS_MAX || bytes >= JOIN_BYTES_MAX {
                break;
            }
            taken.push(block.id);
            events += block.events;
            bytes += block.bytes;
        }
        let over = day[0].last.floor(DAY_MS) + DAY_MS + CLOSED_AFTER_MS <= now;
        let last = closed && over;
        if last || events >= EVENTS_FULL || taken.len() >= LOOSE_MAX {
            return Some((taken, last));
        }
    }
    None
}
