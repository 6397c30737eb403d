//! The parts of the path from a collector's message to a sealed block, on the standard mix: of ten series
//! four are constant, three count, three are noisy with one decimal.

use std::sync::Arc;

use futures::FutureExt as _;
use model::{Frame, Item, Kind, Labels, Layout, MachineId, Payload, Series, UnixMillis};
use prost::Message as _;
use proto::v1;
use storage::LiveState as _;
use storage::history::block::{self, Block, Packing};
use storage::live::{LiveFrame, MemoryLive};
use storage::rollup::Rollup;

/// Series of the machine.
pub(crate) const WIDTH: usize = 1000;
/// Rows of a block: ten minutes at one frame a second.
pub(crate) const ROWS: usize = 600;

const START: UnixMillis = UnixMillis(1_790_000_000_000);

pub(crate) fn layout() -> Layout {
    let series = (0..WIDTH).map(|i| {
        let labels = Labels::of([("device", format!("d{i}").as_str())]);
        match i % 10 {
            4..7 => Series::counter("bench.counter", "By", labels),
            _ => Series::gauge("bench.gauge", "1", labels),
        }
    });
    Layout::new(series.collect()).expect("valid")
}

/// A number below `bound` that seems to follow no rule.
fn random(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % bound
}

fn value(column: usize, before: f64, state: &mut u64) -> f64 {
    match column % 10 {
        0..4 => (column * 4096) as f64,
        4..7 => before + (random(state, 40) * 50) as f64,
        _ => random(state, 1000) as f64 / 10.0,
    }
}

/// One frame as it comes over the wire.
pub(crate) fn message() -> Vec<u8> {
    let mut state = 1;
    let values = (0..WIDTH).map(|column| value(column, 1e6, &mut state)).collect();
    let frame = Frame { time: START, layout: layout().id(), values };
    proto::convert::item_to_proto(&Item { seq: 1, payload: Payload::Frame(frame) }).encode_to_vec()
}

pub(crate) fn decode(message: &[u8]) -> Frame {
    let message = v1::CollectorMessage::decode(message).expect("a message");
    let item = proto::convert::item_from_proto(message).expect("valid").expect("an item");
    let Payload::Frame(frame) = item.payload else { unreachable!("a frame was encoded") };
    frame
}

/// The present of one machine, and its clock.
pub(crate) struct Present {
    live: MemoryLive,
    machine: MachineId,
    layout: Layout,
    now: UnixMillis,
}

impl Present {
    pub(crate) fn new() -> Self {
        let machine = MachineId::from_u128(1).expect("not zero");
        Self { live: MemoryLive::default(), machine, layout: layout(), now: START }
    }

    /// Decodes the message, as if it had come a second after the one before, and takes it in.
    pub(crate) fn take(&mut self, message: &[u8]) {
        let mut frame = decode(message);
        self.now = self.now + 1000;
        frame.time = self.now;
        let live = LiveFrame { layout: self.layout.clone(), frame: Arc::new(frame) };
        let taken = self.live.put_frame(self.machine, live).now_or_never();
        taken.expect("memory does not wait").expect("memory takes it");
    }
}

pub(crate) fn times() -> Vec<UnixMillis> {
    (0..ROWS as i64).map(|row| START + row * 1000).collect()
}

/// The columns of one block.
pub(crate) fn columns() -> Vec<Vec<f64>> {
    let mut state = 2;
    let column = |column: usize, state: &mut u64| {
        let mut last = 1e6;
        (0..ROWS)
            .map(|_| {
                last = value(column, last, state);
                last
            })
            .collect()
    };
    (0..block::COLUMNS_MAX).map(|i| column(i, &mut state)).collect()
}

pub(crate) fn seal(times: &[UnixMillis], columns: &[Vec<f64>]) -> Vec<u8> {
    block::encode(times, columns, Packing::Tight)
}

/// One series out of a block.
pub(crate) fn read(block: &[u8], column: usize) -> (Vec<UnixMillis>, Vec<f64>) {
    let block = Block::open(block).expect("own bytes");
    (block.times().expect("own times"), block.column(column).expect("own column"))
}

/// A column by the minute.
pub(crate) fn roll_up(times: &[UnixMillis], column: &[f64]) -> Vec<Rollup> {
    Rollup::of(Kind::Counter, 60_000, times.iter().copied().zip(column.iter().copied()))
}
