//! Waits until a connection's first bytes tell which protocol it speaks.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// What an HTTP/2 client sends first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How soon to look again when what came so far is the beginning of the preface.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// True once enough arrived to tell the version, without taking it from the stream; false when the client
/// closed before.
pub(super) async fn arrived(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; HTTP2_PREFACE.len()];
    loop {
        let n = stream.peek(&mut seen).await?;
        if n == 0 {
            return Ok(false);
        }
        if n == HTTP2_PREFACE.len() || !HTTP2_PREFACE.starts_with(&seen[..n]) {
            return Ok(true);
        }
        // A peek returns at once while anything is there, so waiting for more needs a pause.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
