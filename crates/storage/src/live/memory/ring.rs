//! The last minutes of one layout, packed.

use std::collections::VecDeque;
use std::sync::Arc;

use model::{Frame, Layout, UnixMillis};

use super::codec;
use crate::live::LiveFrame;

/// Frames of one layout in the order they came. Old ones go a whole segment at a time.
pub(super) struct Ring {
    layout: Layout,
    latest: Option<Arc<Frame>>,
    closed: VecDeque<Arc<Segment>>,
    open: Segment,
    /// What the next rows are written against, when the open segment has some already.
    before: Option<Arc<Frame>>,
    decimals: Box<[u8]>,
    /// Not packed yet.
    rows: Vec<Arc<Frame>>,
}

/// A run of frames, readable alone.
#[derive(Clone, Default)]
struct Segment {
    times: Vec<UnixMillis>,
    bytes: Vec<u8>,
}

/// A copy of what is needed to unpack frames without the lock.
pub(super) struct Packed {
    layout: Layout,
    segments: Vec<Arc<Segment>>,
    rows: Vec<Arc<Frame>>,
}

/// At 1 Hz five minutes are nine closed segments and an open one. Longer ones would be kept longer than
/// needed; shorter ones would be more often written against nothing.
const FRAMES_PER_SEGMENT: usize = 4 * codec::ROWS;

impl Ring {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            latest: None,
            closed: VecDeque::new(),
            open: Segment::default(),
            before: None,
            decimals: vec![0; layout.len()].into(),
            rows: Vec::with_capacity(codec::ROWS),
            layout,
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(super) fn latest(&self) -> Option<&Arc<Frame>> {
        self.latest.as_ref()
    }

    /// A frame of another length than the layout is ignored: it could not be unpacked.
    pub(super) fn push(&mut self, frame: Arc<Frame>) {
        if frame.values.len() != self.layout.len() {
            return;
        }
        if self.latest.as_ref().is_none_or(|latest| latest.time < frame.time) {
            self.latest = Some(frame.clone());
        }
        self.rows.push(frame);
        if let Ok(rows) = <&[_; codec::ROWS]>::try_from(self.rows.as_slice()) {
            let zeros;
            let before: &[f64] = match &self.before {
                Some(before) => &before.values,
                None => {
                    zeros = vec![0.0; self.layout.len()];
                    &zeros
                }
            };
            let values = rows.each_ref().map(|row| row.values.as_slice());
            codec::write(before, values, &mut self.decimals, &mut self.open.bytes);
            self.open.times.extend(rows.iter().map(|row| row.time));
            self.before = self.rows.pop();
            self.rows.clear();
        }
        if self.open.times.len() >= FRAMES_PER_SEGMENT {
            let mut full = std::mem::take(&mut self.open);
            // The next one will be about as long.
            self.open.bytes.reserve(full.bytes.len());
            full.bytes.shrink_to_fit();
            full.times.shrink_to_fit();
            self.closed.push_back(Arc::new(full));
            self.before = None;
            self.decimals.fill(0);
        }
    }

    /// Drops segments that hold nothing from `oldest` on.
    pub(super) fn forget_before(&mut self, oldest: UnixMillis) {
        while self.closed.front().is_some_and(|segment| !segment.reaches(oldest)) {
            self.closed.pop_front();
        }
    }

    /// What may hold frames from `since` on.
    pub(super) fn since(&self, since: UnixMillis) -> Packed {
        let closed = self.closed.iter().filter(|segment| segment.reaches(since)).cloned();
        let open = self.open.reaches(since).then(|| Arc::new(self.open.clone()));
        let segments = closed.chain(open).collect();
        Packed { layout: self.layout.clone(), segments, rows: self.rows.clone() }
    }

    pub(super) fn bytes(&self) -> usize {
        let segments = self.closed.iter().map(AsRef::as_ref).chain([&self.open]);
        let packed: usize = segments
            .map(|s| {
                s.bytes.capacity()
                    + s.times.capacity() * size_of::<UnixMillis>()
                    + size_of::<Segment>()
            })
            .sum();
        // With the row before and the decimals.
        packed + self.layout.len() * ((self.rows.len() + 1) * size_of::<f64>() + 1)
    }
}

impl Segment {
    fn reaches(&self, since: UnixMillis) -> bool {
        self.times.iter().any(|time| *time >= since)
    }
}

impl Packed {
    /// By time, each time once: of two frames of one time, the one that came later.
    pub(super) fn unpack(&self) -> Vec<LiveFrame> {
        let mut frames: Vec<LiveFrame> = Vec::new();
        for segment in &self.segments {
            let mut before = vec![0.0; self.layout.len()];
            let mut decimals = vec![0; self.layout.len()];
            let mut bytes = segment.bytes.as_slice();
            for times in segment.times.chunks_exact(codec::ROWS) {
                let Some(rows) = codec::read(&before, &mut decimals, &mut bytes) else {
                    debug_assert!(false, "a segment that was packed here cannot be unpacked");
                    break;
                };
                before.clone_from(&rows[codec::ROWS - 1]);
                frames.extend(times.iter().zip(rows).map(|(&time, values)| {
                    let frame = Frame { time, layout: self.layout.id(), values };
                    LiveFrame { layout: self.layout.clone(), frame: Arc::new(frame) }
                }));
            }
        }
        let rows = self.rows.iter();
        frames
            .extend(rows.map(|row| LiveFrame { layout: self.layout.clone(), frame: row.clone() }));
        // Stable, so that of equal times the later arrival is the last.
        frames.sort_by_key(|f| f.frame.time);
        frames.reverse();
        frames.dedup_by_key(|f| f.frame.time);
        frames.reverse();
        frames
    }
}
