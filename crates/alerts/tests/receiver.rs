//! A receiver of messages: a small HTTP server that remembers what it got and answers as it is told.
//! Shared by tests and benchmarks, which use different parts of it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test includes this file as a module of its own"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub head: String,
    pub body: String,
}

impl Got {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| {
            let (key, _) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(())
        };
        let line = self.head.lines().find(|line| of(line).is_some())?;
        line.split_once(':').map(|(_, value)| value.trim())
    }
}

/// How to answer the next requests.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    Status(u16),
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and closes.
    Close,
}

#[derive(Debug)]
struct State {
    got: Vec<Got>,
    manner: Manner,
}

#[derive(Clone, Debug)]
pub struct Receiver {
    state: Arc<Mutex<State>>,
    pub url: String,
}

impl Receiver {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(Mutex::new(State { got: Vec::new(), manner }));
        let receiver = Self { state, url };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        receiver
    }

    pub fn behave(&self, manner: Manner) {
        self.state.lock().expect("not poisoned").manner = manner;
    }

    pub fn got(&self) -> Vec<Got> {
        self.state.lock().expect("not poisoned").got.clone()
    }

    /// Waits until so many came, and a moment for any that should not.
    pub async fn wait_for(&self, count: usize) -> Vec<Got> {
        for _ in 0..1500 {
            if self.got().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let got = self.got();
        assert_eq!(got.len(), count, "{:?}", got.iter().map(|g| &g.body).collect::<Vec<_>>());
        got
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
                continue;
            };
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or("").to_owned();
            let mut got = Got { path, head, body: String::new() };
            let length: usize =
                got.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
            while bytes.len() < end + 4 + length {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let body: Vec<u8> = bytes.drain(..end + 4 + length).skip(end + 4).collect();
            got.body = String::from_utf8(body).expect("UTF-8");
            let manner = {
                let mut state = self.state.lock().expect("not poisoned");
                state.got.push(got);
                state.manner
            };
            match manner {
                Manner::Status(status) => {
                    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\nok");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Manner::Hang => tokio::time::sleep(Duration::from_secs(600)).await,
                Manner::Close => return,
            }
        }
    }
}
