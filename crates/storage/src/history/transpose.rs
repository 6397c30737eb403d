//! From frames, written by time, to blocks, read by series: pure.

use std::collections::BTreeMap;

use model::UnixMillis;

use super::block::{self, Block, Packing};
use super::cursor::{Cursor, Damaged};
use super::{merge, values};

/// A frame as it is stored.
#[derive(Debug)]
pub(crate) struct StoredFrame {
    pub(crate) time: UnixMillis,
    pub(crate) layout: i64,
    pub(crate) data: Vec<u8>,
}

/// A new block and where it belongs.
#[derive(Debug)]
pub(crate) struct NewBlock {
    pub(crate) layout: i64,
    pub(crate) part: i64,
    pub(crate) first: UnixMillis,
    pub(crate) last: UnixMillis,
    pub(crate) data: Vec<u8>,
}

/// Blocks of all frames, and the times of the frames that could not be read. Frames come by time, each
/// time once per layout, and at most [`block::ROWS_MAX`] per layout.
pub(crate) fn transpose(
    frames: &[StoredFrame],
    packing: Packing,
) -> (Vec<NewBlock>, Vec<UnixMillis>) {
    let mut layouts: BTreeMap<i64, Vec<&StoredFrame>> = BTreeMap::new();
    for frame in frames {
        layouts.entry(frame.layout).or_default().push(frame);
    }
    let (mut blocks, mut damaged) = (Vec::new(), Vec::new());
    for (layout, frames) in layouts {
        let mut width = None;
        let sound: Vec<&StoredFrame> = frames
            .into_iter()
            .filter(|frame| {
                let found = values::width(&frame.data).ok();
                let sound = found.is_some() && found == *width.get_or_insert(found);
                if !sound {
                    damaged.push(frame.time);
                }
                sound
            })
            .collect();
        let width = width.flatten().unwrap_or_default();
        if !sound.is_empty() {
            transpose_layout(layout, width, &sound, packing, &mut blocks);
        }
    }
    (blocks, damaged)
}

/// One part after the other, so that only one part's values are unpacked at a time.
fn transpose_layout(
    layout: i64,
    width: usize,
    frames: &[&StoredFrame],
    packing: Packing,
    blocks: &mut Vec<NewBlock>,
) {
    let times: Vec<UnixMillis> = frames.iter().map(|frame| frame.time).collect();
    let mut cursors: Vec<Cursor<'_>> = frames.iter().map(|f| Cursor::new(&f.data)).collect();
    for (part, first) in (0..width).step_by(block::COLUMNS_MAX).enumerate() {
        let columns = (width - first).min(block::COLUMNS_MAX);
        let mut values = vec![Vec::with_capacity(frames.len()); columns];
        for cursor in &mut cursors {
            for column in &mut values {
                // The width was counted on the same bytes, so this cannot fail.
                column.push(values::take(cursor).unwrap_or(f64::NAN));
            }
        }
        blocks.push(new_block(layout, part as i64, &times, &values, packing));
    }
}

fn new_block(
    layout: i64,
    part: i64,
    times: &[UnixMillis],
    columns: &[Vec<f64>],
    packing: Packing,
) -> NewBlock {
    NewBlock {
        layout,
        part,
        first: times.first().copied().unwrap_or_default(),
        last: times.last().copied().unwrap_or_default(),
        data: block::encode(times, columns, packing),
    }
}

/// One tight block out of one or several of one layout and part, given in the order of their coming. More than one only
/// when there are too many rows for one.
///
/// # Errors
/// The index of the first that cannot be read, and why.
pub(crate) fn merge_blocks(
    layout: i64,
    part: i64,
    sources: &[&[u8]],
) -> Result<Vec<NewBlock>, (usize, Damaged)> {
    let at = |index: usize| move |reason: Damaged| (index, reason);
    let mut blocks = Vec::with_capacity(sources.len());
    let mut times = Vec::with_capacity(sources.len());
    for (index, bytes) in sources.iter().enumerate() {
        let block = Block::open(bytes).map_err(at(index))?;
        times.push(block.times().map_err(at(index))?);
        blocks.push(block);
    }
    let slices: Vec<&[UnixMillis]> = times.iter().map(Vec::as_slice).collect();
    let rows = merge::latest(&slices);
    let width = blocks.iter().map(Block::columns).max().unwrap_or_default();
    let mut columns = Vec::with_capacity(width);
    for column in 0..width {
        let mut of_sources = Vec::with_capacity(blocks.len());
        for (index, block) in blocks.iter().enumerate() {
            of_sources.push(block.column(column).map_err(at(index))?);
        }
        let merged: Vec<f64> = rows.iter().map(|&(source, row)| of_sources[source][row]).collect();
        columns.push(merged);
    }
    let times: Vec<UnixMillis> = rows.iter().map(|&(source, row)| times[source][row]).collect();
    if times.len() <= block::ROWS_MAX {
        return Ok(vec![new_block(layout, part, &times, &columns, Packing::Tight)]);
    }
    let starts = (0..times.len()).step_by(block::ROWS_MAX);
    let cut = starts.map(|start| {
        let rows = start..(start + block::ROWS_MAX).min(times.len());
        let columns: Vec<Vec<f64>> = columns.iter().map(|c| c[rows.clone()].to_vec()).collect();
        new_block(layout, part, &times[rows], &columns, Packing::Tight)
    });
    Ok(cut.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(time: i64, layout: i64, values: &[f64]) -> StoredFrame {
        StoredFrame { time: UnixMillis(time), layout, data: values::encode(values) }
    }

    fn rows(block: &NewBlock, column: usize) -> Vec<(i64, f64)> {
        let block = Block::open(&block.data).expect("own bytes");
        let times = block.times().expect("own times");
        times.iter().map(|t| t.0).zip(block.column(column).expect("own column")).collect()
    }

    #[test]
    fn a_wide_layout_becomes_several_parts() {
        let wide: Vec<f64> = (0..block::COLUMNS_MAX + 3).map(|i| i as f64).collect();
        let (blocks, damaged) =
            transpose(&[frame(1, 7, &wide), frame(2, 7, &wide)], Packing::Tight);
        assert!(damaged.is_empty());
        let places: Vec<_> =
            blocks.iter().map(|b| (b.layout, b.part, b.first.0, b.last.0)).collect();
        assert_eq!(places, [(7, 0, 1, 2), (7, 1, 1, 2)]);
        assert_eq!(rows(&blocks[1], 2), [(1, 66.0), (2, 66.0)]);
    }

    #[test]
    fn a_damaged_frame_is_left_out_and_named() {
        let mut broken = frame(2, 1, &[1.0, 2.0]);
        broken.data.pop();
        let frames = [frame(1, 1, &[1.0, 2.0]), broken, frame(3, 1, &[3.0, 4.0])];
        let (blocks, damaged) = transpose(&frames, Packing::Tight);
        assert_eq!(damaged, [UnixMillis(2)]);
        assert_eq!(rows(&blocks[0], 1), [(1, 2.0), (3, 4.0)]);
    }

    #[test]
    fn blocks_merge_by_time_and_the_later_wins() {
        let one = |frames: &[StoredFrame]| transpose(frames, Packing::Loose).0.remove(0).data;
        let early = one(&[frame(1, 1, &[1.0]), frame(3, 1, &[3.0])]);
        let late = one(&[frame(2, 1, &[2.0]), frame(3, 1, &[30.0])]);
        let merged = merge_blocks(1, 0, &[&early, &late]).expect("sound");
        assert_eq!(merged.len(), 1);
        assert_eq!(rows(&merged[0], 0), [(1, 1.0), (2, 2.0), (3, 30.0)]);
        let (index, _) = merge_blocks(1, 0, &[&early, &late[1..]]).expect_err("damaged");
        assert_eq!(index, 1);
    }
}
