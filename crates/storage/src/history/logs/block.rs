//! Log events of one stretch of time, compressed. What selects stands in front, by column; texts follow in chunks, so
//! that few events are read without unpacking all.
//!
//! ```text
//! version  1 byte
//! checksum 4 bytes, CRC-32C of all that follows, little-endian
//! count    varint, of events
//! head     size, then zstd: machines, services, sources; then by column: times, numbers of arrival,
//!          severities (and whether the body was cut), machines, services, sources
//! chunks   each of CHUNK events: size, length, then zstd: body and attributes of each event
//! ```
//!
//! Events are sorted by position.

use std::collections::HashMap;
use std::hash::Hash;

use model::{Labels, LogEvent, MachineId, Severity, UnixMillis};

use super::{FoundLog, LogPosition};
use crate::history::cursor::{Cursor, Damaged, put_signed, put_text, put_varint};

const VERSION: u8 = 1;
/// Events whose texts are compressed together.
pub(super) const CHUNK: usize = 256;
/// Higher levels cost twice and more for a tenth of the room.
const LEVEL: i32 = 1;
/// What a block may have, and what a part of it may unpack to; larger ones are damaged.
const EVENTS_MAX: usize = 1 << 20;
const BYTES_MAX: usize = 64 << 20;
/// Beside the number of a block, the place of an event in it.
const PLACE_BITS: u32 = 20;

/// In the byte of the severity: the body was cut.
const CUT: u8 = 0x80;

/// Writes a block. `arrivals` is empty for events that arrive with it: they are numbered by their places.
pub(super) fn encode(
    events: &[(MachineId, &LogEvent)],
    arrivals: &[u64],
) -> std::io::Result<Vec<u8>> {
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    let mut body = Vec::new();
    put_varint(&mut body, events.len() as u64);
    let mut head = Vec::new();
    let machines = Dictionary::of(events.iter().map(|(machine, _)| *machine));
    let services = Dictionary::of(events.iter().map(|(_, e)| e.service.as_str()));
    let sources = Dictionary::of(events.iter().map(|(_, e)| e.source.as_str()));
    put_varint(&mut head, machines.entries.len() as u64);
    for machine in &machines.entries {
        head.extend_from_slice(&machine.as_u128().to_le_bytes());
    }
    for texts in [&services, &sources] {
        put_varint(&mut head, texts.entries.len() as u64);
        texts.entries.iter().for_each(|text| put_text(&mut head, text));
    }
    let mut before = 0;
    for (_, event) in events {
        put_signed(&mut head, event.time.0.wrapping_sub(before));
        before = event.time.0;
    }
    head.push(u8::from(!arrivals.is_empty()));
    let mut before = 0;
    for &arrival in arrivals {
        put_signed(&mut head, arrival.wrapping_sub(before) as i64);
        before = arrival;
    }
    for (_, event) in events {
        head.push(event.severity.number() | if event.body_truncated { CUT } else { 0 });
    }
    for column in [&machines.places, &services.places, &sources.places] {
        column.iter().for_each(|&place| put_varint(&mut head, place as u64));
    }
    put_packed(&mut body, &head, &mut packer)?;
    let mut plain = Vec::new();
    for chunk in events.chunks(CHUNK) {
        plain.clear();
        for (_, event) in chunk {
            put_text(&mut plain, &event.body);
            put_varint(&mut plain, event.attributes.len() as u64);
            for (name, value) in event.attributes.iter() {
                put_text(&mut plain, name);
                put_text(&mut plain, value);
            }
        }
        put_packed(&mut body, &plain, &mut packer)?;
    }
    let mut out = Vec::with_capacity(body.len() + 5);
    out.push(VERSION);
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.append(&mut body);
    Ok(out)
}

fn put_packed(
    out: &mut Vec<u8>,
    plain: &[u8],
    packer: &mut zstd::bulk::Compressor<'_>,
) -> std::io::Result<()> {
    let packed = packer.compress(plain)?;
    put_varint(out, plain.len() as u64);
    put_varint(out, packed.len() as u64);
    out.extend_from_slice(&packed);
    Ok(())
}

/// Each different entry once, and where it stands for each event.
struct Dictionary<T> {
    entries: Vec<T>,
    places: Vec<usize>,
}

impl<T: Copy + Eq + Hash> Dictionary<T> {
    fn of(values: impl Iterator<Item = T>) -> Self {
        let (mut entries, mut known) = (Vec::new(), HashMap::new());
        // Neighbours are mostly alike.
        let mut last: Option<(T, usize)> = None;
        let places = values.map(|value| {
            if let Some((before, place)) = last
                && before == value
            {
                return place;
            }
            let place = *known.entry(value).or_insert_with(|| {
                entries.push(value);
                entries.len() - 1
            });
            last = Some((value, place));
            place
        });
        let places = places.collect();
        Self { entries, places }
    }
}

/// A block whose head was read.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    pub(super) machines: Vec<MachineId>,
    pub(super) services: Vec<String>,
    sources: Vec<String>,
    times: Vec<i64>,
    arrivals: Vec<u64>,
    severities: Vec<u8>,
    machine_of: Vec<u32>,
    service_of: Vec<u32>,
    source_of: Vec<u32>,
    /// Unpacked length and packed bytes.
    chunks: Vec<(usize, &'a [u8])>,
}

/// Texts of some neighbouring events, unpacked.
pub(super) struct Chunk {
    plain: Vec<u8>,
    /// Where each event begins.
    starts: Vec<usize>,
}

/// Texts of one event.
#[derive(Default)]
pub(super) struct Texts<'a> {
    pub(super) body: &'a str,
    pub(super) attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Block<'a> {
    /// Reads what selects. `id`: of the block, which numbers its events.
    pub(crate) fn open(id: u64, bytes: &'a [u8]) -> Result<Self, Damaged> {
        let mut cursor = Cursor::new(bytes);
        if cursor.byte()? != VERSION {
            return Err(Damaged("it is of an unknown version"));
        }
        let checksum = u32::from_le_bytes(cursor.array()?);
        if crc32c::crc32c(cursor.rest()) != checksum {
            return Err(Damaged("its checksum does not match"));
        }
        let count = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        if count > EVENTS_MAX {
            return Err(Damaged("it has too many events"));
        }
        let (size, packed) = packed(&mut cursor)?;
        let head = unpack(size, packed)?;
        let mut chunks = Vec::new();
        for _ in 0..count.div_ceil(CHUNK) {
            chunks.push(self::packed(&mut cursor)?);
        }
        if !cursor.is_empty() {
            return Err(Damaged("something follows its end"));
        }
        Self::read_head(id, count, &head, chunks)
    }

    fn read_head(
        id: u64,
        count: usize,
        head: &[u8],
        chunks: Vec<(usize, &'a [u8])>,
    ) -> Result<Self, Damaged> {
        let mut cursor = Cursor::new(head);
        let mut machines = Vec::new();
        for _ in 0..cursor.count()? {
            let machine = MachineId::from_u128(u128::from_le_bytes(cursor.array()?));
            machines.push(machine.ok_or(Damaged("a machine has no id"))?);
        }
        let texts = |cursor: &mut Cursor<'_>| -> Result<Vec<String>, Damaged> {
            (0..cursor.count()?).map(|_| Ok(cursor.text()?.to_owned())).collect()
        };
        let services = texts(&mut cursor)?;
        let sources = texts(&mut cursor)?;
        let mut time = 0i64;
        let times: Result<Vec<i64>, Damaged> = (0..count)
            .map(|_| {
                time = time.wrapping_add(cursor.signed()?);
                Ok(time)
            })
            .collect();
        let arrivals: Result<Vec<u64>, Damaged> = match cursor.byte()? {
            0 => Ok((0..count as u64).map(|place| id << PLACE_BITS | place).collect()),
            _ => {
                let mut arrival = 0u64;
                let next = |_| {
                    arrival = arrival.wrapping_add(cursor.signed()? as u64);
                    Ok(arrival)
                };
                (0..count).map(next).collect()
            }
        };
        let severities = cursor.bytes(count)?.to_vec();
        let mut places = |entries: usize| -> Result<Vec<u32>, Damaged> {
            let place = |_| match cursor.varint()? {
                place if place < entries as u64 => Ok(place as u32),
                _ => Err(Damaged("an entry is not in its dictionary")),
            };
            (0..count).map(place).collect()
        };
        let machine_of = places(machines.len())?;
        let service_of = places(services.len())?;
        let source_of = places(sources.len())?;
        Ok(Self {
            times: times?,
            arrivals: arrivals?,
            machines,
            services,
            sources,
            severities,
            machine_of,
            service_of,
            source_of,
            chunks,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn position(&self, at: usize) -> LogPosition {
        LogPosition { time: UnixMillis(self.times[at]), id: self.arrivals[at] }
    }

    pub(super) fn severity(&self, at: usize) -> Severity {
        Severity::new((self.severities[at] & !CUT).into()).unwrap_or_default()
    }

    /// Place of the event's machine among the block's.
    pub(super) fn machine(&self, at: usize) -> usize {
        self.machine_of[at] as usize
    }

    /// Place of the event's service among the block's.
    pub(super) fn service(&self, at: usize) -> usize {
        self.service_of[at] as usize
    }

    /// Unpacks the texts of the events that stand with this one.
    pub(super) fn chunk_of(&self, at: usize) -> Result<Chunk, Damaged> {
        let number = at / CHUNK;
        let (size, packed) = self.chunks[number];
        let plain = unpack(size, packed)?;
        let count = CHUNK.min(self.len() - number * CHUNK);
        let mut starts = Vec::with_capacity(count);
        let mut cursor = Cursor::new(&plain);
        for _ in 0..count {
            starts.push(plain.len() - cursor.rest().len());
            let len = cursor.count()?;
            cursor.bytes(len)?;
            for _ in 0..2 * cursor.varint()? {
                let len = cursor.count()?;
                cursor.bytes(len)?;
            }
        }
        Ok(Chunk { plain, starts })
    }

    pub(super) fn found(&self, at: usize, texts: &Texts<'_>) -> Result<FoundLog, Damaged> {
        let attributes = Labels::new(texts.attributes.iter().copied())
            .map_err(|_| Damaged("an attribute is not valid"))?;
        Ok(FoundLog {
            position: self.position(at),
            machine: self.machines[self.machine(at)],
            event: LogEvent {
                time: UnixMillis(self.times[at]),
                severity: self.severity(at),
                service: self.services[self.service(at)].clone(),
                body: texts.body.to_owned(),
                body_truncated: self.severities[at] & CUT != 0,
                attributes,
                source: self.sources[self.source_of[at] as usize].clone(),
            },
        })
    }

    /// Everything.
    pub(crate) fn events(&self) -> Result<Vec<FoundLog>, Damaged> {
        let mut events = Vec::with_capacity(self.len());
        for first in (0..self.len()).step_by(CHUNK) {
            let chunk = self.chunk_of(first)?;
            for at in first..(first + CHUNK).min(self.len()) {
                events.push(self.found(at, &chunk.texts(at)?)?);
            }
        }
        Ok(events)
    }
}

impl Chunk {
    pub(super) fn texts(&self, at: usize) -> Result<Texts<'_>, Damaged> {
        let mut cursor = Cursor::new(&self.plain[self.starts[at % CHUNK]..]);
        let body = cursor.text()?;
        let count = cursor.count()?;
        let attributes: Result<Vec<_>, Damaged> =
            (0..count).map(|_| Ok((cursor.text()?, cursor.text()?))).collect();
        Ok(Texts { body, attributes: attributes? })
    }

    /// Of the plain texts, for bounds.
    pub(super) fn bytes(&self) -> usize {
        self.plain.len()
    }
}

fn packed<'a>(cursor: &mut Cursor<'a>) -> Result<(usize, &'a [u8]), Damaged> {
    let size = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
    if size > BYTES_MAX {
        return Err(Damaged("a part is too large"));
    }
    let len = cursor.count()?;
    Ok((size, cursor.bytes(len)?))
}

fn unpack(size: usize, packed: &[u8]) -> Result<Vec<u8>, Damaged> {
    let plain =
        zstd::bulk::decompress(packed, size).map_err(|_| Damaged("a part does not unpack"))?;
    if plain.len() != size {
        return Err(Damaged("a part is not as long as it says"));
    }
    Ok(plain)
}
