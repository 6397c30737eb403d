//! Waits until a connection's first bytes tell which protocol it speaks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// What an HTTP/2 client sends first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How soon to look again when what came so far is the beginning of the preface.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The first byte of TLS: a record of the kind handshake.
const HANDSHAKE: u8 = 0x16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// The client closed before.
    Nothing,
    Http2,
    Other,
}

/// What came first, without taking it from the stream.
pub(super) async fn arrived(stream: &TcpStream) -> io::Result<Arrived> {
    let mut seen = [0; HTTP2_PREFACE.len()];
    loop {
        let n = stream.peek(&mut seen).await?;
        match &seen[..n] {
            [] => return Ok(Arrived::Nothing),
            HTTP2_PREFACE => return Ok(Arrived::Http2),
            beginning if !HTTP2_PREFACE.starts_with(beginning) => return Ok(Arrived::Other),
            // A peek returns at once while anything is there, so waiting for more needs a pause.
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Whether a client begins to speak TLS.
pub(super) async fn is_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
}

/// As [`arrived`], for a stream that cannot be peeked into: what was read is read again. `None` when the client
/// closed before.
pub(super) async fn read<S>(mut stream: S) -> io::Result<Option<Rewound<S>>>
where
    S: AsyncRead + Unpin,
{
    let mut head = Vec::with_capacity(HTTP2_PREFACE.len());
    loop {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
        if head.len() >= HTTP2_PREFACE.len() || !HTTP2_PREFACE.starts_with(&head) {
            return Ok(Some(Rewound { head: io::Cursor::new(head), stream }));
        }
    }
}

/// A stream whose first bytes were read, and are read again.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    head: io::Cursor<Vec<u8>>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.head.position() < this.head.get_ref().len() as u64 {
            return Pin::new(&mut this.head).poll_read(context, buffer);
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
