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
    /// What the next frame is written against: usually the same as `latest`.
    before: Option<Arc<Frame>>,
    decimals: Box<[u8]>,
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
}

/// At 1 Hz five minutes are nine closed segments and an open one. Longer ones would be kept longer than
/// needed; shorter ones would be more often written against nothing.
const FRAMES_PER_SEGMENT: usize = 32;

impl Ring {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            latest: None,
            closed: VecDeque::new(),
            open: Segment::default(),
            before: None,
            decimals: vec![0; layout.len()].into(),
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
        if self.open.times.len() == FRAMES_PER_SEGMENT {
            let mut full = std::mem::take(&mut self.open);
            // The next one will be about as long.
            self.open.bytes.reserve(full.bytes.len());
            full.bytes.shrink_to_fit();
            full.times.shrink_to_fit();
            self.closed.push_back(Arc::new(full));
            self.before = None;
            self.decimals.fill(0);
        }
        let zeros;
        let before: &[f64] = match &self.before {
            Some(before) => &before.values,
            None => {
                zeros = vec![0.0; self.layout.len()];
                &zeros
            }
        };
        codec::write(before, &frame.values, &mut self.decimals, &mut self.open.bytes);
        self.open.times.push(frame.time);
        if self.latest.as_ref().is_none_or(|latest| latest.time < frame.time) {
            self.latest = Some(frame.clone());
        }
        self.before = Some(frame);
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
        Packed { layout: self.layout.clone(), segments: closed.chain(open).collect() }
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
        // The latest frame and the decimals.
        packed + self.layout.len() * (size_of::<f64>() + 1)
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
            let mut values = vec![0.0; self.layout.len()];
            let mut bytes = segment.bytes.as_slice();
            for &time in &segment.times {
                if codec::read(&mut values, &mut bytes).is_none() {
                    debug_assert!(false, "a segment that was packed here cannot be unpacked");
                    break;
                }
                let frame = Frame { time, layout: self.layout.id(), values: values.clone() };
                frames.push(LiveFrame { layout: self.layout.clone(), frame: Arc::new(frame) });
            }
        }
        // Stable, so that of equal times the later arrival is the last.
        frames.sort_by_key(|f| f.frame.time);
        frames.reverse();
        frames.dedup_by_key(|f| f.frame.time);
        frames.reverse();
        frames
    }
}
