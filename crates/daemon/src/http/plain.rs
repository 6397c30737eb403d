//! What is said to those who do not speak TLS on a port that does.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::preface;

const TEXT: &str = "this port speaks TLS: begin its address with https://";
/// What still comes is read this long, and this much of it: a connection that is closed before takes the
/// answer along.
const DRAIN_TIME: Duration = Duration::from_secs(1);
const DRAIN_BYTES_MAX: u64 = 64 * 1024;

/// Answers in the protocol that the client speaks, and closes.
pub(super) async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let answer = match preface::arrived(&stream).await? {
        preface::Arrived::Nothing => return Ok(()),
        preface::Arrived::Http2 => goaway(),
        preface::Arrived::Other => response(),
    };
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    let (mut rest, mut nowhere) = (stream.take(DRAIN_BYTES_MAX), tokio::io::sink());
    let drained = tokio::io::copy(&mut rest, &mut nowhere);
    let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
    Ok(())
}

fn response() -> Vec<u8> {
    let length = TEXT.len() + 1;
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{TEXT}\n"
    )
    .into_bytes()
}

/// Empty SETTINGS, then GOAWAY for INADEQUATE_SECURITY, whose text clients show (RFC 9113, section 6.8).
fn goaway() -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const INADEQUATE_SECURITY: u32 = 0xc;
    let length = (8 + TEXT.len()) as u32;
    let mut bytes = SETTINGS.to_vec();
    bytes.extend(&length.to_be_bytes()[1..]);
    bytes.extend([7, 0, 0, 0, 0, 0]);
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(INADEQUATE_SECURITY.to_be_bytes());
    bytes.extend(TEXT.as_bytes());
    bytes
}
