//! As much of D-Bus as it takes to listen to one service: connect, call, wait for signals.
//!
//! By hand, because every library for it is larger than the whole collector. Blocking: it runs on a
//! thread of its own. The format is that of the D-Bus specification, "Message Protocol".

use std::collections::VecDeque;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Nothing that is asked here has a longer answer.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Signals that come while an answer is waited for.
const SIGNALS_WAITING_MAX: usize = 64;

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// A connection to a message bus.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    read: Vec<u8>,
    descriptors: Vec<OwnedFd>,
    waiting: VecDeque<Message>,
}

/// What is asked of whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) to: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message {
    kind: u8,
    serial: u32,
    answers: u32,
    pub(super) interface: String,
    pub(super) member: String,
    /// The unique name of the connection that it came from. The bus writes it, so it can be believed.
    pub(super) sender: String,
    pub(super) body: Vec<u8>,
}

impl Bus {
    /// Connects as the user that this process runs as.
    pub(super) fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        let mut bus = Self {
            stream,
            serial: 0,
            read: Vec::new(),
            descriptors: Vec::new(),
            waiting: VecDeque::new(),
        };
        bus.stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let user = rustix::process::geteuid().as_raw().to_string();
        let user: String = user.bytes().map(|digit| format!("{digit:02x}")).collect();
        bus.say(&format!("\0AUTH EXTERNAL {user}\r\n"), "OK")?;
        bus.say("NEGOTIATE_UNIX_FD\r\n", "AGREE_UNIX_FD")?;
        bus.stream.write_all(b"BEGIN\r\n")?;
        let hello =
            Call { to: DBUS, path: "/org/freedesktop/DBus", interface: DBUS, member: "Hello" };
        bus.call(hello, &[])?;
        Ok(bus)
    }

    /// The same connection, to be shut down by somebody else.
    pub(super) fn stream(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Asks for signals; `rule` is a match rule of the bus.
    pub(super) fn listen(&mut self, rule: &str) -> io::Result<()> {
        let call =
            Call { to: DBUS, path: "/org/freedesktop/DBus", interface: DBUS, member: "AddMatch" };
        self.call(call, &[rule]).map(drop)
    }

    /// Calls with texts as arguments and waits for the answer. An answer that is an error comes as
    /// [`io::Error`].
    pub(super) fn call(&mut self, call: Call<'_>, arguments: &[&str]) -> io::Result<Message> {
        self.serial += 1;
        let asked = self.serial;
        self.stream.write_all(&encode(asked, call, arguments))?;
        self.stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        loop {
            let message = self.receive()?;
            match message.kind {
                ANSWER if message.answers == asked => return Ok(message),
                ERROR if message.answers == asked => {
                    let problem = message.first_text().unwrap_or("no reason given").to_owned();
                    return Err(io::Error::other(format!("{}: {problem}", call.member)));
                }
                SIGNAL if self.waiting.len() < SIGNALS_WAITING_MAX => {
                    self.waiting.push_back(message)
                }
                _ => {}
            }
        }
    }

    /// The next signal, whenever it comes.
    pub(super) fn signal(&mut self) -> io::Result<Message> {
        if let Some(message) = self.waiting.pop_front() {
            return Ok(message);
        }
        self.stream.set_read_timeout(None)?;
        loop {
            let message = self.receive()?;
            if message.kind == SIGNAL {
                return Ok(message);
            }
        }
    }

    /// The descriptor that came with the latest answer, if one did.
    pub(super) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        let latest = self.descriptors.pop();
        self.descriptors.clear();
        latest
    }

    /// A line of the conversation before the first message.
    fn say(&mut self, line: &str, expected: &str) -> io::Result<()> {
        self.stream.write_all(line.as_bytes())?;
        loop {
            if let Some(end) = self.read.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                return match line.starts_with(expected.as_bytes()) {
                    true => Ok(()),
                    false => Err(io::Error::other("the message bus refuses to talk")),
                };
            }
            self.read_more()?;
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(length) = message_length(&self.read)?
                && self.read.len() >= length
            {
                let bytes: Vec<u8> = self.read.drain(..length).collect();
                return decode(&bytes).ok_or_else(|| io::Error::other("not a D-Bus message"));
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut chunk = [0; 4096];
        let received =
            recvmsg(&self.stream, &mut [IoSliceMut::new(&mut chunk)], &mut ancillary, RECEIVE)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read.extend_from_slice(&chunk[..received.bytes]);
        Ok(())
    }
}

/// What is received is not for child processes.
#[cfg(target_os = "linux")]
const RECEIVE: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(target_os = "linux"))]
const RECEIVE: RecvFlags = RecvFlags::empty();

const DBUS: &str = "org.freedesktop.DBus";

impl Message {
    /// The first argument, when it is a text.
    fn first_text(&self) -> Option<&str> {
        Reader { bytes: &self.body, at: 0 }.text()
    }

    /// The first argument, when it is a boolean.
    pub(super) fn first_bool(&self) -> Option<bool> {
        match (Reader { bytes: &self.body, at: 0 }).u32()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A text in the table that follows a boolean: the arguments `ba{sv}`.
    pub(super) fn text_in_table(&self, wanted: &str) -> Option<&str> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        reader.u32()?;
        let length = reader.u32()? as usize;
        reader.align(8);
        let end = reader.at.checked_add(length)?;
        while reader.at < end {
            reader.align(8);
            let key = reader.text()?;
            // Values of other types cannot be stepped over without knowing them all.
            if reader.signature()? != "s" {
                return None;
            }
            let value = reader.text()?;
            if key == wanted {
                return Some(value);
            }
        }
        None
    }
}

fn encode(serial: u32, call: Call<'_>, arguments: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|text| put_text(&mut body, text));
    let mut out = vec![b'l', CALL, 0, 1];
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&serial.to_le_bytes());
    let mut fields = Vec::new();
    // Aligned as if they began the message: where they do begin is a multiple of 8.
    for (code, kind, text) in [
        (1, b'o', call.path),
        (2, b's', call.interface),
        (3, b's', call.member),
        (6, b's', call.to),
    ] {
        align(&mut fields, 8);
        fields.extend_from_slice(&[code, 1, kind, 0]);
        put_text(&mut fields, text);
    }
    if !arguments.is_empty() {
        align(&mut fields, 8);
        fields.extend_from_slice(&[8, 1, b'g', 0, arguments.len() as u8]);
        fields.extend(std::iter::repeat_n(b's', arguments.len()));
        fields.push(0);
    }
    out.extend_from_slice(&(fields.len() as u32).to_le_bytes());
    out.extend_from_slice(&fields);
    align(&mut out, 8);
    out.extend_from_slice(&body);
    out
}

fn align(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    align(out, 4);
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

/// How long the message is that these bytes begin with; `None` when too few are there to tell.
fn message_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(head) = bytes.first_chunk::<16>() else { return Ok(None) };
    if head[0] != b'l' {
        return Err(io::Error::other("the message bus is of another byte order"));
    }
    let number = |at: usize| Reader { bytes: head, at }.u32().unwrap_or(0) as usize;
    let length = (16 + number(12).min(MESSAGE_BYTES_MAX)).next_multiple_of(8)
        + number(4).min(MESSAGE_BYTES_MAX);
    match length <= MESSAGE_BYTES_MAX {
        true => Ok(Some(length)),
        false => Err(io::Error::other("a message is longer than any that was asked for")),
    }
}

fn decode(bytes: &[u8]) -> Option<Message> {
    let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
    let mut reader = Reader { bytes, at: 8 };
    message.serial = reader.u32()?;
    let fields_end = 16 + reader.u32()? as usize;
    while reader.at < fields_end {
        reader.align(8);
        let code = reader.byte()?;
        match reader.signature()? {
            "s" | "o" => {
                let text = reader.text()?.to_owned();
                match code {
                    2 => message.interface = text,
                    3 => message.member = text,
                    7 => message.sender = text,
                    _ => {}
                }
            }
            "g" => drop(reader.signature()?),
            "u" => {
                let number = reader.u32()?;
                if code == 5 {
                    message.answers = number;
                }
            }
            _ => return None,
        }
    }
    message.body = bytes.get(fields_end.next_multiple_of(8)..)?.to_vec();
    Some(message)
}

/// Reads values one after the other; `None` when the bytes end, or are no such value.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.bytes.get(self.at..)?.first_chunk::<4>()?;
        self.at += 4;
        Some(u32::from_le_bytes(*bytes))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let length = self.byte()?.into();
        self.take(length)
    }

    /// A text and the zero after it.
    fn take(&mut self, length: usize) -> Option<&'a str> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?;
        self.at = end + 1;
        Some(text)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message as a bus sends it, with a body that is already encoded.
    pub(in crate::power) fn from_bus(
        kind: u8,
        answers: u32,
        sender: &str,
        member: &str,
        body: &[u8],
    ) -> Vec<u8> {
        let mut fields = Vec::new();
        for (code, text) in [(2, "org.freedesktop.login1.Manager"), (3, member), (7, sender)] {
            align(&mut fields, 8);
            fields.extend_from_slice(&[code, 1, b's', 0]);
            put_text(&mut fields, text);
        }
        align(&mut fields, 8);
        fields.extend_from_slice(&[5, 1, b'u', 0]);
        fields.extend_from_slice(&answers.to_le_bytes());
        let mut out = vec![b'l', kind, 0, 1];
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&7u32.to_le_bytes());
        out.extend_from_slice(&(fields.len() as u32).to_le_bytes());
        out.extend_from_slice(&fields);
        align(&mut out, 8);
        out.extend_from_slice(body);
        out
    }

    /// The arguments `ba{sv}` of a signal about the end of a machine.
    pub(in crate::power) fn table(begins: bool, key: &str, value: &str) -> Vec<u8> {
        let mut entry = Vec::new();
        put_text(&mut entry, key);
        entry.extend_from_slice(&[1, b's', 0]);
        put_text(&mut entry, value);
        let mut out = u32::from(begins).to_le_bytes().to_vec();
        out.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        out.extend_from_slice(&entry);
        out
    }

    #[test]
    fn a_call_reads_back_as_it_was_written() {
        let call = Call { to: "a.b", path: "/a/b", interface: "a.b.C", member: "Do" };
        let bytes = encode(9, call, &["one", "twelve"]);
        assert_eq!(message_length(&bytes).expect("sound"), Some(bytes.len()));
        let read = decode(&bytes).expect("sound");
        assert_eq!((read.kind, read.serial), (CALL, 9));
        assert_eq!((read.interface.as_str(), read.member.as_str()), ("a.b.C", "Do"));
        let mut body = Reader { bytes: &read.body, at: 0 };
        assert_eq!((body.text(), body.text()), (Some("one"), Some("twelve")));
    }

    #[test]
    fn a_signal_tells_its_sender_and_its_arguments() {
        let bytes = from_bus(SIGNAL, 0, ":1.4", "PrepareForSleep", &1u32.to_le_bytes());
        let read = decode(&bytes).expect("sound");
        assert_eq!((read.sender.as_str(), read.member.as_str()), (":1.4", "PrepareForSleep"));
        assert_eq!(read.first_bool(), Some(true));
        let read = Message { body: table(true, "type", "reboot"), ..Message::default() };
        assert_eq!(read.text_in_table("type"), Some("reboot"));
        assert_eq!(read.text_in_table("colour"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = message_length(&bytes);
            if let Some(message) = decode(&bytes) {
                let _ = (message.first_text(), message.first_bool(), message.text_in_table("type"));
            }
        }
    }
}
