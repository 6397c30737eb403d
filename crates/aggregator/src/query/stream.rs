//! The values of one machine as they arrive: `StreamMetrics`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use futures::Stream;
use model::{Frame, LayoutId, MachineId, limits};
use proto::v1::stream_metrics_request::Format;
use proto::{convert, v1};
use storage::live::LiveFrame;
use tokio::sync::broadcast::{self, error::RecvError};
use tonic::Status;

use super::current::sample;
use super::filter::MetricFilter;
use super::hub::News;
use super::{Desk, lookback};
use crate::metrics::Metrics;

pub(super) async fn answers(
    desk: Arc<Desk>,
    request: v1::StreamMetricsRequest,
) -> Result<impl Stream<Item = Result<v1::StreamMetricsResponse, Status>> + Send + 'static, Status>
{
    let format = match Format::try_from(request.format) {
        Ok(Format::Columns) => Format::Columns,
        Ok(Format::Samples | Format::Unspecified) => Format::Samples,
        Err(_) => {
            let found = request.format;
            return Err(Status::invalid_argument(format!("format: unknown format {found}")));
        }
    };
    let filter = MetricFilter::new("metrics", request.metrics)?;
    let lookback_ms =
        request.lookback.map_or(Ok(0), |l| convert::duration_to_ms("lookback", &l))?;
    if !(0..=limits::LIVE_WINDOW_MS).contains(&lookback_ms) {
        return Err(Status::invalid_argument(format!(
            "lookback: expected 0 to 5 minutes, found {lookback_ms} ms"
        )));
    }
    let known = desk.machine("machine", &request.machine).await?;
    let machine = known.record.id;
    // First the subscription, then the past: what falls between is in both, and shown once.
    let news = desk.hub.follow(machine);
    let mut past = VecDeque::new();
    if lookback_ms > 0 {
        past = lookback::frames(&desk, &known, &filter, lookback_ms).await?;
    }
    let shown = Shown { machine, filter, format, layouts: HashMap::new(), numbers: 0 };
    let past = (lookback_ms > 0).then_some(past);
    let reader = Reader { past, news, dropped: 0, shown, metrics: desk.metrics.clone() };
    Ok(futures::stream::unfold(reader, |mut reader| async move {
        reader.next().await.map(|response| (response, reader))
    }))
}

struct Reader {
    /// `None` once all of it was shown, and that was said.
    past: Option<VecDeque<LiveFrame>>,
    news: broadcast::Receiver<News>,
    /// Frames missed since the last message.
    dropped: u64,
    shown: Shown,
    metrics: Metrics,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<v1::StreamMetricsResponse, Status>> {
        while let Some(frame) = self.past.as_mut().and_then(VecDeque::pop_front) {
            if let Some(response) = self.shown.message(frame) {
                return Some(Ok(v1::StreamMetricsResponse { past: true, ..response }));
            }
        }
        if self.past.take().is_some() && self.shown.format == Format::Columns {
            let machine_id = self.shown.machine.to_string();
            let end = v1::StreamMetricsResponse { machine_id, past: true, ..Default::default() };
            return Some(Ok(end));
        }
        loop {
            match self.news.recv().await {
                Ok(News::Frame(frame)) => {
                    if let Some(response) = self.shown.message(frame) {
                        let dropped_frames = std::mem::take(&mut self.dropped);
                        return Some(Ok(v1::StreamMetricsResponse { dropped_frames, ..response }));
                    }
                }
                Ok(News::Missed) => self.missed(1),
                Err(RecvError::Lagged(frames)) => self.missed(frames),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn missed(&mut self, frames: u64) {
        self.dropped += frames;
        self.metrics.reader_frames_dropped.inc_by(frames);
    }
}

/// What one reader was shown, and how it wants it.
struct Shown {
    machine: MachineId,
    filter: MetricFilter,
    format: Format,
    layouts: HashMap<LayoutId, ShownLayout>,
    /// Layouts numbered so far.
    numbers: u32,
}

struct ShownLayout {
    number: u32,
    columns: Vec<usize>,
    /// The latest frame that was shown.
    frame: Option<Arc<Frame>>,
}

/// More layouts than this are forgotten when they are out of use; a layout that comes back is introduced
/// again under a new number.
const LAYOUTS_MAX: usize = 64;

impl Shown {
    /// The message for a frame; `None` when it holds nothing that is wanted, or is not newer than what
    /// was shown: late frames are found in history.
    fn message(&mut self, live: LiveFrame) -> Option<v1::StreamMetricsResponse> {
        let LiveFrame { layout, frame } = live;
        if self.layouts.len() > LAYOUTS_MAX && !self.layouts.contains_key(&layout.id()) {
            let oldest = frame.time - limits::LIVE_WINDOW_MS;
            self.layouts.retain(|_, l| l.frame.as_ref().is_some_and(|f| f.time >= oldest));
        }
        let shown = self.layouts.entry(layout.id()).or_insert_with(|| {
            let columns = self.filter.columns(&layout);
            if !columns.is_empty() {
                self.numbers += 1;
            }
            ShownLayout { number: self.numbers, columns, frame: None }
        });
        if shown.columns.is_empty()
            || shown.frame.as_ref().is_some_and(|before| before.time >= frame.time)
        {
            return None;
        }
        let before = shown.frame.replace(frame.clone());
        let mut response = v1::StreamMetricsResponse {
            machine_id: self.machine.to_string(),
            time: Some(convert::timestamp_to_proto(frame.time)),
            ..Default::default()
        };
        let series = layout.series();
        match self.format {
            Format::Columns => {
                response.layout = shown.number;
                response.values = shown.columns.iter().map(|&i| frame.values[i]).collect();
                if before.is_none() {
                    let columns = shown.columns.iter();
                    response.columns =
                        columns.map(|&i| convert::series_to_proto(&series[i])).collect();
                }
            }
            Format::Samples | Format::Unspecified => {
                let before = before.as_deref();
                let columns = shown.columns.iter();
                response.samples =
                    columns.filter_map(|&i| sample(&series[i], i, &frame, before)).collect();
            }
        }
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use model::{Labels, Layout, Series, UnixMillis};

    use super::*;

    fn layout(names: &[&str]) -> Layout {
        let series = names.iter().map(|name| Series::counter(name, "By", Labels::empty()));
        Layout::new(series.collect()).expect("valid")
    }

    fn frame(layout: &Layout, ms: i64, values: &[f64]) -> LiveFrame {
        let frame = Frame { time: UnixMillis(ms), layout: layout.id(), values: values.to_vec() };
        LiveFrame { layout: layout.clone(), frame: Arc::new(frame) }
    }

    fn shown(format: Format, metrics: &[&str]) -> Shown {
        let metrics = metrics.iter().map(|&m| m.to_owned()).collect();
        Shown {
            machine: MachineId::from_u128(7).expect("not zero"),
            filter: MetricFilter::new("metrics", metrics).expect("valid"),
            format,
            layouts: HashMap::new(),
            numbers: 0,
        }
    }

    #[test]
    fn columns_are_introduced_once_and_only_the_wanted_ones_are_sent() {
        let (a, b) = (layout(&["net.in", "cpu", "net.out"]), layout(&["cpu"]));
        let mut shown = shown(Format::Columns, &["net.*"]);
        let first = shown.message(frame(&a, 1, &[1.0, 2.0, 3.0])).expect("wanted");
        assert_eq!((first.layout, first.values), (1, vec![1.0, 3.0]));
        let names: Vec<_> = first.columns.iter().map(|c| c.metric.as_str()).collect();
        assert_eq!(names, ["net.in", "net.out"]);
        assert!(shown.message(frame(&b, 1, &[2.0])).is_none());
        let second = shown.message(frame(&a, 2, &[5.0, 6.0, f64::NAN])).expect("wanted");
        assert_eq!((second.layout, second.columns.len()), (1, 0));
        assert!(second.values[1].is_nan());
    }

    #[test]
    fn a_frame_that_was_shown_already_is_not_shown_again() {
        let a = layout(&["a"]);
        let mut shown = shown(Format::Samples, &[]);
        assert!(shown.message(frame(&a, 2000, &[1.0])).is_some());
        assert!(shown.message(frame(&a, 2000, &[1.0])).is_none());
        assert!(shown.message(frame(&a, 1000, &[1.0])).is_none());
        let next = shown.message(frame(&a, 4000, &[7.0])).expect("newer");
        assert_eq!(next.samples[0].rate, Some(3.0));
    }

    #[test]
    fn layouts_out_of_use_are_forgotten() {
        let mut shown = shown(Format::Columns, &[]);
        for i in 0..1000i64 {
            let one = layout(&[format!("m{i}").as_str()]);
            assert!(shown.message(frame(&one, i * 10_000, &[1.0])).is_some());
        }
        assert!(shown.layouts.len() <= LAYOUTS_MAX + 1, "{}", shown.layouts.len());
    }
}
