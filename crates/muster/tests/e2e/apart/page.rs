//! An open page of one machine, and when something new came to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::task::AbortHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::eventually::eventually;

/// Closed when dropped.
#[derive(Debug)]
pub(super) struct Page {
    machine: String,
    /// When values came that were newer than all before.
    news: Arc<Mutex<Vec<Instant>>>,
    reader: AbortHandle,
}

#[derive(Deserialize)]
struct Frames {
    /// Time, layout, values.
    frames: Vec<(i64, u32, Vec<Option<f64>>)>,
}

impl Page {
    pub(super) async fn open(gateway: SocketAddr, machine: &str) -> Self {
        let mut request = format!("ws://{gateway}/ws").into_client_request().expect("a url");
        let origin = format!("http://{gateway}").parse().expect("a header value");
        request.headers_mut().insert("origin", origin);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("upgrades");
        let show = serde_json::json!({ "machine": machine, "after": 0 });
        socket.send(Message::text(show.to_string())).await.expect("sent");
        let news: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let heard = Arc::clone(&news);
        let reading = async move {
            let mut latest = 0;
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else { continue };
                let Ok(Frames { frames }) = serde_json::from_str(&text) else { continue };
                let newest = frames.iter().map(|(time, ..)| *time).max().unwrap_or(0);
                if newest > latest {
                    latest = newest;
                    heard.lock().expect("no panic").push(Instant::now());
                }
            }
        };
        let reader = tokio::spawn(reading).abort_handle();
        Self { machine: machine.to_owned(), news, reader }
    }

    fn latest(&self) -> Option<Instant> {
        self.news.lock().expect("no panic").last().copied()
    }

    /// Waits until it is live; returns how long that took after `since`.
    pub(super) async fn is_live_after(&self, since: Instant, within: Duration) -> Duration {
        eventually(within, || async {
            let news = self.news.lock().expect("no panic");
            let first = news.iter().find(|at| **at > since).copied();
            first.map(|at| at - since).ok_or_else(|| format!("{} is not live", self.machine))
        })
        .await
    }

    /// The longest time without anything new, from what came last before `since` until now.
    pub(super) fn longest_silence(&self, since: Instant) -> Duration {
        assert!(self.latest().is_some_and(|at| at > since), "{} is not live", self.machine);
        let news = self.news.lock().expect("no panic");
        let before = news.iter().rposition(|at| *at <= since).expect("it was live before");
        let gaps = news[before..].windows(2).map(|two| two[1] - two[0]);
        gaps.chain(news.last().map(Instant::elapsed)).max().unwrap_or_default()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
