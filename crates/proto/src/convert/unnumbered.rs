//! Items in the form in which they are kept and sent, before they have their number.
//!
//! Log events are the bulk of what a collector delivers, so they are written down as they are, without the
//! messages that stand for them elsewhere: those would copy each text, and have a map for each event.

use bytes::Bytes;
use model::{Item, Labels, LogEvent, Payload, Seq};
use prost::Message as _;

use super::item_to_proto;
use crate::v1;

/// Room for what stands before the events: the number, and the head of the batch.
const HEAD_BYTES_MAX: usize = 2 * (1 + VARINT_BYTES_MAX);
const VARINT_BYTES_MAX: usize = 10;

/// An item without its number.
#[derive(Debug)]
pub struct Unnumbered(Form);

#[derive(Debug)]
enum Form {
    Message(Box<v1::CollectorMessage>),
    /// The events of a batch, after room for its head.
    Logs(Vec<u8>),
}

impl Unnumbered {
    pub fn new(payload: Payload) -> Self {
        match payload {
            Payload::Logs(events) => Self(Form::Logs(encode_events(&events))),
            other => {
                let message = item_to_proto(&Item { seq: 0, payload: other });
                Self(Form::Message(Box::new(message)))
            }
        }
    }

    /// How long it is at most with its number.
    pub fn bytes_max(&self) -> usize {
        match &self.0 {
            Form::Message(message) => message.encoded_len() + 1 + VARINT_BYTES_MAX,
            Form::Logs(bytes) => bytes.len(),
        }
    }

    /// The whole message.
    pub fn numbered(self, seq: Seq) -> Bytes {
        match self.0 {
            Form::Message(mut message) => {
                message.seq = seq;
                message.encode_to_vec().into()
            }
            Form::Logs(mut bytes) => {
                let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
                put_number(1, seq, &mut head);
                put_key(5, Wire::Bytes, &mut head);
                put_varint((bytes.len() - HEAD_BYTES_MAX) as u64, &mut head);
                let start = HEAD_BYTES_MAX - head.len();
                bytes[start..HEAD_BYTES_MAX].copy_from_slice(&head);
                Bytes::from(bytes).slice(start..)
            }
        }
    }
}

/// How what follows a key is to be read.
#[derive(Clone, Copy, Debug)]
enum Wire {
    Varint = 0,
    Bytes = 2,
}

fn encode_events(events: &[LogEvent]) -> Vec<u8> {
    let texts: usize = events.iter().map(|event| event.body.len() + 128).sum();
    let mut out = Vec::with_capacity(HEAD_BYTES_MAX + texts);
    out.resize(HEAD_BYTES_MAX, 0);
    for event in events {
        put_key(1, Wire::Bytes, &mut out);
        put_varint(event_bytes(event) as u64, &mut out);
        put_event(event, &mut out);
    }
    out
}

/// What [`put_event`] writes: its length stands before an event.
fn event_bytes(event: &LogEvent) -> usize {
    let attributes = event.attributes.iter().map(|(name, value)| {
        let entry = text_bytes(name) + text_bytes(value);
        1 + varint_bytes(entry as u64) + entry
    });
    number_bytes(event.time.0 as u64)
        + number_bytes(event.severity.number().into())
        + text_bytes(&event.service)
        + text_bytes(&event.body)
        + number_bytes(event.body_truncated.into())
        + attributes.sum::<usize>()
        + text_bytes(&event.source)
}

/// The fields of `muster.v1.LogEvent`. As everywhere in proto3, what is zero or empty is left out.
fn put_event(event: &LogEvent, out: &mut Vec<u8>) {
    put_number(1, event.time.0 as u64, out);
    put_number(2, event.severity.number().into(), out);
    put_text(3, &event.service, out);
    put_text(4, &event.body, out);
    put_number(5, event.body_truncated.into(), out);
    put_attributes(6, &event.attributes, out);
    put_text(7, &event.source, out);
}

fn put_attributes(field: u8, attributes: &Labels, out: &mut Vec<u8>) {
    for (name, value) in attributes.iter() {
        put_key(field, Wire::Bytes, out);
        put_varint((text_bytes(name) + text_bytes(value)) as u64, out);
        put_text(1, name, out);
        put_text(2, value, out);
    }
}

/// What [`put_text`] writes.
fn text_bytes(text: &str) -> usize {
    match text.len() {
        0 => 0,
        length => 1 + varint_bytes(length as u64) + length,
    }
}

/// What [`put_number`] writes.
fn number_bytes(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + varint_bytes(number) }
}

fn varint_bytes(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_text(field: u8, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_key(field, Wire::Bytes, out);
        put_varint(text.len() as u64, out);
        out.extend_from_slice(text.as_bytes());
    }
}

fn put_number(field: u8, number: u64, out: &mut Vec<u8>) {
    if number != 0 {
        put_key(field, Wire::Varint, out);
        put_varint(number, out);
    }
}

/// Of fields up to 15, whose keys are one byte.
fn put_key(field: u8, wire: Wire, out: &mut Vec<u8>) {
    out.push(field << 3 | wire as u8);
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use model::{Frame, LayoutId, Severity, UnixMillis};

    use super::*;
    use crate::convert::item_from_proto;

    #[track_caller]
    fn check(payload: Payload) {
        for seq in [1, 127, 128, u64::MAX] {
            let item = Item { seq, payload: payload.clone() };
            let unnumbered = Unnumbered::new(payload.clone());
            let bytes_max = unnumbered.bytes_max();
            let encoded = unnumbered.numbered(seq);
            assert!(encoded.len() <= bytes_max, "{} > {bytes_max}", encoded.len());
            let message = v1::CollectorMessage::decode(encoded.clone()).expect("a message");
            assert_eq!(encoded.len(), message.encoded_len(), "not as prost writes it");
            assert_eq!(item_from_proto(message).expect("valid"), Some(item));
        }
    }

    #[test]
    fn log_events_read_as_the_messages_that_stand_for_them() {
        let attributes =
            |pairs: &[(&str, &str)]| Labels::new(pairs.iter().copied()).expect("valid");
        let event = |body: &str, severity: u32, time: i64, pairs: &[(&str, &str)]| LogEvent {
            time: UnixMillis(time),
            severity: Severity::new(severity).expect("valid"),
            service: "api".to_owned(),
            body: body.to_owned(),
            body_truncated: severity == 17,
            attributes: attributes(pairs),
            source: "file".to_owned(),
        };
        let long = "é".repeat(30_000);
        check(Payload::Logs(vec![
            event("it works", 9, 1_795_208_400_000, &[("log.file.path", "/var/log/x"), ("b", "2")]),
            event("", 0, 0, &[]),
            event(&long, 17, -5, &[("a", &"v".repeat(127)), ("b", &"w".repeat(1_000))]),
            LogEvent { service: String::new(), source: String::new(), ..event("x", 24, 1, &[]) },
        ]));
    }

    #[test]
    fn other_items_stay_the_messages_that_they_are() {
        let layout = LayoutId([7; 16]);
        check(Payload::Frame(Frame { time: UnixMillis(5), layout, values: vec![1.0, 0.5] }));
    }
}
