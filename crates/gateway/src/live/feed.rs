//! Every value of one machine: one `StreamMetrics` for everybody, kept as a ring of five minutes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use model::limits;
use proto::v1;
use tokio::sync::watch;

use super::{Metrics, wire};
use crate::pages::charts;
use crate::upstream::Upstream;

/// A feed outlives its last reader by this, for the page that is reloaded.
const LINGER: Duration = Duration::from_secs(30);
/// A stream that is quiet for this long has sent all of its past, even when it does not say so.
const PAST_IS_OVER: Duration = Duration::from_secs(1);
/// How often the past is read again while it has a hole: what fills it may be on its way.
const REFILL_INTERVAL: Duration = Duration::from_secs(5);
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Who begins to read gets this much of what was, so that nothing falls between a window and it.
const A_MOMENT_MS: i64 = 3_000;
/// Bound of the ring besides its five minutes: layouts times a fast interval.
const FRAMES_MAX: usize = 60_000;

/// What is known of one machine's last five minutes.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Locked to add a frame, or to take references to some.
    ring: Mutex<Ring>,
    /// Tells readers that the ring has changed; counts them too.
    changed: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// Number of the newest frame.
    pub(crate) newest: u64,
    /// The past is in; until then the ring is being filled.
    pub(crate) ready: bool,
}

#[derive(Debug, Default)]
struct Ring {
    /// As they came, which for late ones is not the order of their times.
    frames: VecDeque<Arc<Frame>>,
    newest: u64,
    layouts: Vec<Arc<Layout>>,
    /// Times by layout: what comes again after a reconnect is left out, and a hole shows.
    times: HashMap<u32, BTreeSet<i64>>,
    latest_ms: i64,
}

/// One instant's values for one layout.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) time_ms: i64,
    /// A newer one of its layout was here before it.
    pub(crate) late: bool,
    pub(crate) layout: Arc<Layout>,
    pub(crate) values: Vec<f64>,
    /// As viewers get it, written once for all of them.
    pub(crate) json: String,
}

/// The columns of some frames. The number is the gateway's own: it survives upstream reconnects.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) number: u32,
    pub(crate) columns: Vec<v1::SeriesDescriptor>,
}

/// The five minutes at one moment.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) frames: Vec<Arc<Frame>>,
}

/// Reads a feed, and keeps it alive while it does.
#[derive(Debug)]
pub(crate) struct Reader {
    feed: Arc<Feed>,
    state: watch::Receiver<State>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { ring: Mutex::default(), changed: watch::Sender::new(State::default()) }
    }
}

impl Feed {
    pub(crate) fn reader(self: &Arc<Self>) -> Reader {
        Reader { feed: Arc::clone(self), state: self.changed.subscribe() }
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_ready(&self) {
        self.changed.send_if_modified(|state| !std::mem::replace(&mut state.ready, true));
    }
}

impl Reader {
    /// Resolves when there is something newer. Cancel safe.
    pub(crate) async fn changed(&mut self) {
        // The sender lives in the feed that this reader holds.
        let _ = self.state.changed().await;
    }

    /// The last five minutes; waits a moment for them when the feed is new.
    pub(crate) async fn window(&mut self, patience: Duration) -> Window {
        let _ = tokio::time::timeout(patience, self.state.wait_for(|state| state.ready)).await;
        let ring = self.feed.ring();
        let oldest = ring.latest_ms - limits::LIVE_WINDOW_MS;
        let mut frames: Vec<_> =
            ring.frames.iter().filter(|frame| frame.time_ms >= oldest).cloned().collect();
        frames.sort_by_key(|frame| frame.time_ms);
        Window { frames }
    }

    /// Whether the past is in. Until then numbers say nothing about what is new.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.borrow().ready
    }

    /// Frames after this number, oldest first.
    pub(crate) fn since(&self, number: u64) -> Vec<Arc<Frame>> {
        let ring = self.feed.ring();
        let new = ring.frames.iter().rev().take_while(|frame| frame.number > number);
        let mut frames: Vec<_> = new.cloned().collect();
        frames.reverse();
        frames
    }

    /// Number before the first frame that is later than this; `None` stands for a moment ago.
    pub(crate) fn number_at(&self, time_ms: Option<i64>) -> u64 {
        let ring = self.feed.ring();
        let time_ms = time_ms.unwrap_or(ring.latest_ms - A_MOMENT_MS);
        let after = ring.frames.iter().find(|frame| frame.time_ms > time_ms);
        after.map_or(ring.newest, |frame| frame.number - 1)
    }
}

impl Ring {
    /// Own layout for these columns: the same columns have the same number.
    fn layout(&mut self, columns: Vec<v1::SeriesDescriptor>) -> Arc<Layout> {
        if let Some(layout) = self.layouts.iter().find(|layout| layout.columns == columns) {
            return Arc::clone(layout);
        }
        let number = self.layouts.last().map_or(1, |layout| layout.number + 1);
        let layout = Arc::new(Layout { number, columns });
        self.layouts.push(Arc::clone(&layout));
        layout
    }

    fn add(&mut self, time_ms: i64, layout: Arc<Layout>, values: Vec<f64>) {
        let times = self.times.entry(layout.number).or_default();
        let late = times.last().is_some_and(|&latest| time_ms < latest);
        let too_old = time_ms < self.latest_ms - limits::LIVE_WINDOW_MS;
        if too_old || !times.insert(time_ms) {
            return;
        }
        self.latest_ms = self.latest_ms.max(time_ms);
        self.newest += 1;
        let json = wire::frame(time_ms, layout.number, &values);
        let frame = Frame { number: self.newest, time_ms, late, layout, values, json };
        self.frames.push_back(Arc::new(frame));
        let oldest = self.latest_ms - limits::LIVE_WINDOW_MS;
        while let Some(first) = self.frames.front()
            && (first.time_ms < oldest || self.frames.len() > FRAMES_MAX)
        {
            if let Some(times) = self.times.get_mut(&first.layout.number) {
                times.remove(&first.time_ms);
            }
            self.frames.pop_front();
        }
        // Containers come and go: layouts that no frame uses any more are forgotten with them.
        if self.layouts.len() > 64 {
            let frames = &self.frames;
            self.layouts.retain(|l| frames.iter().any(|f| f.layout.number == l.number));
            let layouts = &self.layouts;
            self.times.retain(|number, _| layouts.iter().any(|l| l.number == *number));
        }
    }

    /// Whether a layout was silent for longer than it usually is, and then spoke again.
    fn has_hole(&self) -> bool {
        self.times.values().any(|times| {
            let mut steps: Vec<i64> =
                times.iter().zip(times.iter().skip(1)).map(|(a, b)| b - a).collect();
            steps.sort_unstable();
            let usual = steps.get(steps.len() / 2);
            usual.zip(steps.last()).is_some_and(|(usual, longest)| *longest > usual * 5 / 2)
        })
    }
}

/// Fills a feed for as long as somebody reads it.
pub(crate) struct Follower {
    pub(crate) machine_id: String,
    pub(crate) upstream: Upstream,
    pub(crate) feed: Arc<Feed>,
    pub(crate) feeds: Arc<Mutex<HashMap<String, Arc<Feed>>>>,
    pub(crate) metrics: Metrics,
}

impl Follower {
    pub(crate) async fn run(self) {
        loop {
            tokio::select! {
                () = self.follow() => {}
                () = self.refill() => {}
                () = self.unread() => {}
            }
            let mut feeds = self.feeds.lock().unwrap_or_else(PoisonError::into_inner);
            if self.feed.changed.receiver_count() == 0 {
                feeds.remove(&self.machine_id);
                return;
            }
        }
    }

    /// Resolves when nobody has read for a while.
    async fn unread(&self) {
        loop {
            self.feed.changed.closed().await;
            tokio::time::sleep(LINGER).await;
            if self.feed.changed.receiver_count() == 0 {
                return;
            }
        }
    }

    async fn follow(&self) {
        let mut pause = RETRY_MIN;
        loop {
            if self.one_stream().await {
                pause = RETRY_MIN;
                self.metrics.upstream_losses.inc();
            }
            // Who waits for the past should not wait for an aggregator that is away.
            self.feed.say_ready();
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// What a collector delivers after an outage goes to the past without passing the live stream. So while
    /// there is a hole, the past is read again.
    async fn refill(&self) {
        loop {
            tokio::time::sleep(REFILL_INTERVAL).await;
            let wanted = self.feed.changed.borrow().ready && self.feed.ring().has_hole();
            if !wanted || self.feed.changed.receiver_count() == 0 {
                continue;
            }
            if let Ok(mut stream) = self.upstream.stream_metrics(self.request()).await {
                let mut layouts = HashMap::new();
                while let Ok(Some(Ok(message))) =
                    tokio::time::timeout(PAST_IS_OVER, stream.next()).await
                    && message.past
                    && message.time.is_some()
                {
                    self.take(message, &mut layouts);
                }
                self.tell();
            }
        }
    }

    fn request(&self) -> v1::StreamMetricsRequest {
        let mut metrics = charts::metrics();
        metrics.push(model::metric::PROBE_SAMPLES.name.to_owned());
        v1::StreamMetricsRequest {
            machine: self.machine_id.clone(),
            metrics,
            // Always all of it: the ring leaves out what it has, so a reconnect fills the hole.
            lookback: Some(proto::convert::duration_from_ms(limits::LIVE_WINDOW_MS)),
            format: v1::stream_metrics_request::Format::Columns.into(),
        }
    }

    /// Whether anything was heard before it ended.
    async fn one_stream(&self) -> bool {
        let mut stream = match self.upstream.stream_metrics(self.request()).await {
            Ok(stream) => stream,
            Err(status) => {
                tracing::debug!(machine.id = %self.machine_id, reason = status.message(),
                    "no live values");
                return false;
            }
        };
        let mut heard = false;
        let mut layouts: HashMap<u32, Arc<Layout>> = HashMap::new();
        loop {
            let message = match tokio::time::timeout(PAST_IS_OVER, stream.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(_)) | None) => return heard,
                Err(_quiet) => {
                    self.feed.say_ready();
                    match stream.next().await {
                        Some(Ok(message)) => message,
                        Some(Err(_)) | None => return heard,
                    }
                }
            };
            heard = true;
            self.take(message, &mut layouts);
        }
    }

    fn take(&self, message: v1::StreamMetricsResponse, layouts: &mut HashMap<u32, Arc<Layout>>) {
        self.metrics.frames_missed.inc_by(message.dropped_frames);
        let Some(time) = message.time else {
            self.tell();
            self.feed.say_ready();
            return;
        };
        let time_ms = time.seconds * 1000 + i64::from(time.nanos) / 1_000_000;
        let past = message.past;
        {
            let mut ring = self.feed.ring();
            if !message.columns.is_empty() {
                let layout = ring.layout(message.columns);
                layouts.insert(message.layout, layout);
            }
            let Some(layout) = layouts.get(&message.layout) else { return };
            if layout.columns.len() != message.values.len() {
                return;
            }
            ring.add(time_ms, Arc::clone(layout), message.values);
        }
        // While the past comes in, nobody is woken for each of its frames.
        if !past {
            self.tell();
            self.feed.say_ready();
        }
    }

    /// Wakes the readers for what is new in the ring.
    fn tell(&self) {
        let newest = self.feed.ring().newest;
        self.feed.changed.send_if_modified(|state| {
            std::mem::replace(&mut state.newest, newest) != newest && state.ready
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(metric: &str) -> v1::SeriesDescriptor {
        v1::SeriesDescriptor { metric: metric.to_owned(), ..Default::default() }
    }

    #[test]
    fn what_comes_again_after_a_reconnect_is_left_out() {
        let mut ring = Ring::default();
        let layout = ring.layout(vec![column("a")]);
        ring.add(1_000, Arc::clone(&layout), vec![1.0]);
        ring.add(2_000, layout, vec![2.0]);
        let same = ring.layout(vec![column("a")]);
        ring.add(1_000, Arc::clone(&same), vec![1.0]);
        ring.add(3_000, same, vec![3.0]);
        let values: Vec<_> = ring.frames.iter().map(|f| f.values[0]).collect();
        assert_eq!(values, [1.0, 2.0, 3.0]);
        assert_eq!(ring.layouts.len(), 1);
    }

    #[tokio::test]
    async fn what_comes_late_is_marked_and_finds_its_place_in_the_window() {
        let feed = Arc::new(Feed::default());
        {
            let mut ring = feed.ring();
            let layout = ring.layout(vec![column("a")]);
            for second in [1, 2, 3, 8, 9] {
                ring.add(second * 1_000, Arc::clone(&layout), vec![0.0]);
            }
            assert!(ring.has_hole());
            for second in 4..8 {
                ring.add(second * 1_000, Arc::clone(&layout), vec![0.0]);
            }
            assert!(!ring.has_hole());
        }
        feed.say_ready();
        let mut reader = feed.reader();
        let late: Vec<_> = reader.since(5).iter().map(|f| (f.time_ms, f.late)).collect();
        assert_eq!(late, [(4_000, true), (5_000, true), (6_000, true), (7_000, true)]);
        // Who had all but the hole is told what filled it; who had less, also what was newer.
        assert_eq!(reader.number_at(Some(3_000)), 3);
        let window = reader.window(Duration::ZERO).await;
        let times: Vec<_> = window.frames.iter().map(|f| f.time_ms).collect();
        assert_eq!(times, (1..=9).map(|s| s * 1_000).collect::<Vec<_>>());
    }

    #[test]
    fn the_ring_holds_five_minutes() {
        let mut ring = Ring::default();
        let layout = ring.layout(vec![column("a")]);
        for second in 0..1_000 {
            ring.add(second * 1_000, Arc::clone(&layout), vec![0.0]);
        }
        assert_eq!(ring.frames.len(), 301);
    }

    #[test]
    fn a_reader_continues_where_it_was() {
        let feed = Arc::new(Feed::default());
        {
            let mut ring = feed.ring();
            let layout = ring.layout(vec![column("a")]);
            for second in 1..=10 {
                ring.add(second * 1_000, Arc::clone(&layout), vec![0.0]);
            }
        }
        let reader = feed.reader();
        let times = |number| reader.since(number).iter().map(|f| f.time_ms).collect::<Vec<_>>();
        assert_eq!(times(reader.number_at(Some(8_500))), [9_000, 10_000]);
        assert_eq!(times(reader.number_at(Some(0))).len(), 10);
        assert_eq!(times(reader.number_at(None)), [8_000, 9_000, 10_000]);
        assert!(!reader.is_ready());
    }
}
