//! One entry of the stream: readable where a person looks first, bytes for the rest.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use model::MachineId;

use super::codec;
use crate::events::dead::{self, Entry};
use crate::events::{DeadLetter, Event};

/// Who published an entry: one life of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin(u64);

impl Origin {
    pub(super) fn random() -> Self {
        Self(dead::random())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

pub(super) type Fields = HashMap<String, Bytes>;

const MACHINE: &str = "machine";
const KIND: &str = "kind";
const FROM: &str = "from";
const NUMBER: &str = "number";
const DATA: &str = "data";
const AGAIN: &str = "again";

pub(super) fn to_fields(origin: Origin, number: u64, event: &Event) -> Vec<(&'static str, Bytes)> {
    let (kind, data) = codec::encode(&event.kind);
    vec![
        (MACHINE, event.machine.to_string().into()),
        (KIND, kind.into()),
        (FROM, origin.to_string().into()),
        (NUMBER, number.to_string().into()),
        (DATA, data.into()),
    ]
}

/// A dead letter that is tried again. It is nobody's next event, and known by its id.
pub(super) fn again(letter: &DeadLetter, data: Bytes) -> Vec<(&'static str, Bytes)> {
    vec![
        (MACHINE, letter.machine.clone().into()),
        (KIND, letter.kind.clone().into()),
        (AGAIN, letter.id.clone().into()),
        (DATA, data),
    ]
}

/// The dead letter that an entry was.
pub(super) fn dead_letter(fields: &Fields) -> Option<&str> {
    text(fields, AGAIN).ok()
}

/// Whatever is there.
pub(super) fn raw(fields: &Fields) -> Entry {
    let text = |name| fields.get(name).map(|b| String::from_utf8_lossy(b).into_owned());
    Entry {
        machine: text(MACHINE).unwrap_or_default(),
        kind: text(KIND).unwrap_or_default(),
        data: fields.get(DATA).cloned().unwrap_or_default(),
    }
}

/// Which of its publisher's events an entry is.
pub(super) fn source(fields: &Fields) -> Result<(Origin, u64), String> {
    let origin = u64::from_str_radix(text(fields, FROM)?, 16);
    let number = text(fields, NUMBER)?.parse();
    match (origin, number) {
        (Ok(origin), Ok(number)) => Ok((Origin(origin), number)),
        _ => Err(format!("{FROM} and {NUMBER}: expected numbers")),
    }
}

pub(super) fn kind(fields: &Fields) -> &str {
    text(fields, KIND).unwrap_or_default()
}

pub(super) fn machine(fields: &Fields) -> Result<MachineId, String> {
    text(fields, MACHINE)?.parse().map_err(|e| format!("{MACHINE}: {e}"))
}

/// What happened, as far as the entry alone says: the layout of a frame is looked up by the caller.
pub(super) fn content(fields: &Fields) -> Result<codec::Content, String> {
    let data = fields.get(DATA).ok_or_else(|| format!("{DATA}: it is missing"))?;
    codec::decode(kind(fields), data).map_err(|e| format!("{DATA}: {e}"))
}

fn text<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, String> {
    let bytes = fields.get(name).ok_or_else(|| format!("{name}: it is missing"))?;
    std::str::from_utf8(bytes).map_err(|_| format!("{name}: it is not UTF-8"))
}
