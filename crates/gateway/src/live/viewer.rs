//! One open page: what it shows, how far it has read, and its socket.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::ws::{CloseFrame, Message as Frame, Utf8Bytes, WebSocket, close_code};
use model::UnixMillis;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::alerts::{Alerts, Read};
use super::feed::Reader;
use super::wire::{self, Message, Show};
use super::{Hub, Link, Picture};

/// Proxies and browsers keep a socket that speaks this often.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Nothing heard for this long, not even a pong: the viewer is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// A socket that takes nothing for this long cannot keep up.
const SEND_PATIENCE: Duration = Duration::from_secs(10);
/// Frames in one message; a long past comes in pieces.
const FRAMES_PER_MESSAGE: usize = 100;
/// A viewer this far behind skips to the newest frame.
const FRAMES_BEHIND_MAX: usize = 6_000;

pub(crate) struct Viewer {
    hub: Arc<Hub>,
    socket: WebSocket,
    picture: watch::Receiver<Arc<Picture>>,
    rows: Option<Rows>,
    alerts: Option<Reading>,
    watching: Option<Watching>,
    /// A machine that could not be shown yet, and the latest value that the viewer has of it.
    wanted: Option<(String, i64)>,
    link_said: Option<bool>,
    heard: Instant,
}

/// The fleet, as far as this viewer has it.
struct Rows {
    visible: HashSet<String>,
    all: bool,
    /// Came into view: sent whole, changed or not.
    fresh: HashSet<String>,
    /// What the viewer has; `None` before the first message, which is never left out.
    revision: Option<u64>,
    membership: u64,
}

/// Alerts, as far as this viewer has them.
struct Reading {
    alerts: watch::Receiver<Arc<Alerts>>,
    read: Read,
}

/// The machine that this viewer watches in full.
struct Watching {
    machine_id: String,
    reader: Reader,
    /// Number of the last frame sent; unknown until the past is in.
    sent: Option<u64>,
    /// Time of the latest value that the viewer had when it came.
    after: Option<i64>,
    layouts_sent: HashSet<u32>,
}

/// Why a viewer ends. The socket is closed already, or is to be closed with this.
enum End {
    Gone,
    Close(u16, &'static str),
}

impl Viewer {
    pub(crate) fn new(hub: Arc<Hub>, socket: WebSocket) -> Self {
        let picture = hub.picture.subscribe();
        Self {
            hub,
            socket,
            picture,
            rows: None,
            alerts: None,
            watching: None,
            wanted: None,
            link_said: None,
            heard: Instant::now(),
        }
    }

    pub(crate) async fn run(mut self, version: &str) {
        self.hub.metrics.viewers.inc();
        let viewers = self.hub.metrics.viewers.clone();
        let end = match self.serve(version).await {
            ControlFlow::Break(end) => end,
            ControlFlow::Continue(()) => End::Gone,
        };
        viewers.dec();
        if let End::Close(code, reason) = end {
            if code == close_code::AGAIN {
                self.hub.metrics.viewers_too_slow.inc();
            }
            let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
            let _ =
                timeout(Duration::from_secs(1), self.socket.send(Frame::Close(Some(frame)))).await;
        }
    }

    async fn serve(&mut self, version: &str) -> ControlFlow<End> {
        let stop = self.hub.stop.clone();
        let mut ping = interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);

        self.say(Message::Hello { version, now: now_ms() }.text()).await?;
        self.say_link().await?;
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    return ControlFlow::Break(End::Close(close_code::AWAY, "the server stops"));
                }
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.hear(message).await?,
                    Some(Err(_)) | None => return ControlFlow::Break(End::Gone),
                },
                changed = self.picture.changed() => {
                    if changed.is_err() {
                        return ControlFlow::Break(End::Gone);
                    }
                    self.say_link().await?;
                    self.say_fleet().await?;
                    self.watch_wanted().await?;
                }
                () = alerts_changed(&mut self.alerts) => self.say_alerts().await?,
                () = changed(&mut self.watching) => self.say_frames().await?,
                _ = ping.tick() => {
                    if self.heard.elapsed() > SILENCE_MAX {
                        return ControlFlow::Break(End::Gone);
                    }
                    // The ping is for proxies and for the pong; scripts see only the tick.
                    self.send(Frame::Ping(Default::default())).await?;
                    self.say(Message::Tick { now: now_ms() }.text()).await?;
                }
            }
        }
    }

    async fn hear(&mut self, message: Frame) -> ControlFlow<End> {
        self.heard = Instant::now();
        match message {
            Frame::Text(text) => match serde_json::from_str::<Show>(&text) {
                Ok(show) => self.show(show).await,
                Err(error) => {
                    let message = format!("not understood: {error}");
                    self.say(Message::Problem { message: &message }.text()).await
                }
            },
            Frame::Close(_) => ControlFlow::Break(End::Gone),
            Frame::Ping(_) | Frame::Pong(_) => ControlFlow::Continue(()),
            Frame::Binary(_) => {
                ControlFlow::Break(End::Close(close_code::UNSUPPORTED, "only text is understood"))
            }
        }
    }

    async fn show(&mut self, show: Show) -> ControlFlow<End> {
        let before = self.rows.take();
        self.rows = show.rows.map(|ids| {
            let visible: HashSet<String> = ids.into_iter().collect();
            match before {
                Some(before) => {
                    let fresh = visible.difference(&before.visible).cloned().collect();
                    Rows { visible, fresh, all: show.all, ..before }
                }
                None => Rows {
                    fresh: visible.clone(),
                    visible,
                    all: show.all,
                    revision: None,
                    membership: self.picture.borrow().membership,
                },
            }
        });
        self.say_fleet().await?;
        self.want_alerts(show.alerts);
        self.say_alerts().await?;

        self.wanted = None;
        match show.machine {
            None => self.watching = None,
            Some(id) if self.watching.as_ref().is_some_and(|w| w.machine_id == id) => {}
            Some(id) => {
                self.watching = None;
                if let Err(message) = self.watch(id.clone(), show.after) {
                    self.wanted = Some((id, show.after));
                    self.say(Message::Problem { message }.text()).await?;
                }
            }
        }
        self.say_frames().await
    }

    /// Why not, where it cannot be shown now.
    fn watch(&mut self, machine_id: String, after: i64) -> Result<(), &'static str> {
        // Only known ids: a feed for every string that a viewer can think of would be no bound.
        // The bound of feeds holds for probes as well, which no list has.
        let is_probe = machine_id.parse().is_ok_and(model::probe::is_probe);
        if !is_probe && !self.picture.borrow().rows.contains_key(&machine_id) {
            return Err("no such machine");
        }
        let Some(reader) = self.hub.feed(&machine_id) else {
            return Err("too many machines are watched at once");
        };
        let after = (after > 0).then_some(after);
        let layouts_sent = HashSet::new();
        self.watching = Some(Watching { machine_id, reader, sent: None, after, layouts_sent });
        Ok(())
    }

    /// What could not be shown may be there by now: a page comes back quicker than a gateway that was started
    /// again knows its machines.
    async fn watch_wanted(&mut self) -> ControlFlow<End> {
        let Some((machine_id, after)) = self.wanted.take() else {
            return ControlFlow::Continue(());
        };
        match self.watch(machine_id.clone(), after) {
            Ok(()) => self.say_frames().await,
            Err(_) => {
                self.wanted = Some((machine_id, after));
                ControlFlow::Continue(())
            }
        }
    }

    async fn say_link(&mut self) -> ControlFlow<End> {
        let picture = Arc::clone(&self.picture.borrow());
        if self.link_said == Some(picture.is_live()) {
            return ControlFlow::Continue(());
        }
        self.link_said = Some(picture.is_live());
        let message = match &picture.link {
            Link::Up { since_ms } => Message::Link { up: true, since: *since_ms, reason: "" },
            Link::Connecting => Message::Link { up: false, since: 0, reason: "connecting" },
            Link::Down { since_ms, reason } => {
                Message::Link { up: false, since: *since_ms, reason }
            }
        };
        self.say(message.text()).await
    }

    async fn say_fleet(&mut self) -> ControlFlow<End> {
        let Some(rows) = &mut self.rows else { return ControlFlow::Continue(()) };
        let picture = Arc::clone(&self.picture.borrow_and_update());
        let known = rows.revision.unwrap_or(0);
        let shown = |id: &String| rows.all || rows.visible.contains(id);
        let changed: Vec<&str> = picture
            .rows
            .iter()
            .filter(|(id, row)| (row.revision > known && shown(id)) || rows.fresh.contains(*id))
            .map(|(_, row)| row.json())
            .collect();
        let came_or_went = rows.membership != picture.membership;
        // The totals move with every picture, so each is worth telling; an equal one is not.
        let news = rows.revision != Some(picture.revision) || !rows.fresh.is_empty();
        let text = wire::fleet(&changed, came_or_went, &picture.totals);
        rows.fresh.clear();
        rows.revision = Some(picture.revision);
        rows.membership = picture.membership;
        if news { self.say(text).await } else { ControlFlow::Continue(()) }
    }

    fn want_alerts(&mut self, wanted: bool) {
        if !wanted {
            self.alerts = None;
        } else if self.alerts.is_none() {
            let alerts = self.hub.alerts.subscribe();
            self.alerts = Some(Reading { alerts, read: Read::default() });
            self.hub.alerts_wanted.notify_one();
        }
    }

    async fn say_alerts(&mut self) -> ControlFlow<End> {
        let Some(Reading { alerts, read }) = &mut self.alerts else {
            return ControlFlow::Continue(());
        };
        let now = Arc::clone(&alerts.borrow_and_update());
        match read.news(&now) {
            Some(text) => self.say(text).await,
            None => ControlFlow::Continue(()),
        }
    }

    async fn say_frames(&mut self) -> ControlFlow<End> {
        let Some(watching) = &mut self.watching else { return ControlFlow::Continue(()) };
        if watching.sent.is_none() && !watching.reader.is_ready() {
            return ControlFlow::Continue(());
        }
        let sent = watching.sent.unwrap_or_else(|| watching.reader.number_at(watching.after));
        watching.sent = Some(sent);
        let frames = watching.reader.since(sent);
        let Some(last) = frames.last() else { return ControlFlow::Continue(()) };
        // Numbers have no holes, so a ring that has moved on shows as a missing beginning.
        let lost = frames.first().map_or(0, |first| first.number - sent - 1);
        let skipped = frames.len().saturating_sub(FRAMES_BEHIND_MAX);
        watching.sent = Some(last.number);

        let id = &watching.machine_id;
        let mut texts = Vec::new();
        let missed = lost + skipped as u64;
        if missed > 0 {
            self.hub.metrics.frames_missed.inc_by(missed);
            texts.push(Message::Missed { frames: missed }.text());
        }
        for frame in &frames[skipped..] {
            if watching.layouts_sent.insert(frame.layout.number) {
                texts.push(wire::layout(id, frame.layout.number, &frame.layout.columns));
            }
        }
        for alike in frames[skipped..].chunk_by(|a, b| a.late == b.late) {
            for some in alike.chunks(FRAMES_PER_MESSAGE) {
                let jsons = some.iter().map(|frame| frame.json.as_str());
                texts.push(wire::frames(id, some[0].late, jsons));
            }
        }
        for text in texts {
            self.say(text).await?;
        }
        ControlFlow::Continue(())
    }

    async fn say(&mut self, text: String) -> ControlFlow<End> {
        self.hub.metrics.messages.inc();
        self.send(Frame::Text(text.into())).await
    }

    async fn send(&mut self, frame: Frame) -> ControlFlow<End> {
        match timeout(SEND_PATIENCE, self.socket.send(frame)).await {
            Ok(Ok(())) => ControlFlow::Continue(()),
            Ok(Err(_)) => ControlFlow::Break(End::Gone),
            Err(_) => ControlFlow::Break(End::Close(close_code::AGAIN, "cannot keep up")),
        }
    }
}

fn now_ms() -> i64 {
    UnixMillis::from(SystemTime::now()).0
}

async fn alerts_changed(reading: &mut Option<Reading>) {
    match reading {
        // The sender lives in the hub that this viewer holds.
        Some(reading) => drop(reading.alerts.changed().await),
        None => std::future::pending().await,
    }
}

async fn changed(watching: &mut Option<Watching>) {
    match watching {
        Some(watching) => watching.reader.changed().await,
        None => std::future::pending().await,
    }
}
