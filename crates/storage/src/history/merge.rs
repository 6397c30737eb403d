//! Making one sequence by time out of pieces that may overlap: pure.

use model::UnixMillis;

use super::Samples;

/// Values of one column from one source. Times ascend strictly; NaN is absent.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Of which layout the column is.
    pub(crate) layout: i64,
    /// Among pieces of one layout the one that came later has the greater rank.
    pub(crate) rank: i64,
    pub(crate) times: std::sync::Arc<[UnixMillis]>,
    pub(crate) values: Vec<f64>,
}

/// For every instant which source to take it from: the one that came last. Sources are given as their
/// times, in order of their coming. Returns (source, row) by time.
pub(crate) fn latest(sources: &[&[UnixMillis]]) -> Vec<(usize, usize)> {
    let in_turn = |pair: &[&[UnixMillis]]| pair[0].last() < pair[1].first() || pair[0].is_empty();
    if sources.windows(2).all(in_turn) {
        let rows = |(source, times): (usize, &&[UnixMillis])| {
            (0..times.len()).map(move |row| (source, row))
        };
        return sources.iter().enumerate().flat_map(rows).collect();
    }
    let mut rows: Vec<(UnixMillis, usize, usize)> = Vec::new();
    for (source, times) in sources.iter().enumerate() {
        rows.extend(times.iter().enumerate().map(|(row, &time)| (time, source, row)));
    }
    // Mostly sorted already: stretches follow each other.
    rows.sort();
    let mut kept: Vec<(usize, usize)> = Vec::with_capacity(rows.len());
    for (index, &(time, source, row)) in rows.iter().enumerate() {
        if rows.get(index + 1).is_none_or(|&(next, _, _)| next != time) {
            kept.push((source, row));
        }
    }
    kept
}

/// The values of one series out of all its pieces. Within a layout a frame replaces an earlier one of the same
/// time as a whole, absences too; between layouts a value wins over an absence, and the newer layout over
/// the older.
pub(crate) fn series(mut pieces: Vec<Piece>) -> Samples {
    pieces.sort_by_key(|piece| (piece.layout, piece.rank));
    let mut merged: Option<Samples> = None;
    for of_layout in pieces.chunk_by(|a, b| a.layout == b.layout) {
        let samples = of_one_layout(of_layout);
        merged = Some(match merged {
            None => samples,
            Some(older) => overlay(&older, &samples),
        });
    }
    merged.unwrap_or_default()
}

fn of_one_layout(pieces: &[Piece]) -> Samples {
    if let [piece] = pieces {
        let rows = piece.times.iter().zip(&piece.values).filter(|(_, value)| !value.is_nan());
        let (times, values) = rows.map(|(&time, &value)| (time, value)).unzip();
        return Samples { times, values };
    }
    let sources: Vec<&[UnixMillis]> = pieces.iter().map(|p| &*p.times).collect();
    let mut samples = Samples::default();
    for (source, row) in latest(&sources) {
        let value = pieces[source].values[row];
        if !value.is_nan() {
            samples.times.push(pieces[source].times[row]);
            samples.values.push(value);
        }
    }
    samples
}

fn overlay(older: &Samples, newer: &Samples) -> Samples {
    let both = [older, newer];
    let mut samples = Samples::default();
    for (source, row) in latest(&[&older.times, &newer.times]) {
        samples.times.push(both[source].times[row]);
        samples.values.push(both[source].values[row]);
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(layout: i64, rank: i64, rows: &[(i64, f64)]) -> Piece {
        Piece {
            layout,
            rank,
            times: rows.iter().map(|r| UnixMillis(r.0)).collect(),
            values: rows.iter().map(|r| r.1).collect(),
        }
    }

    fn check(pieces: Vec<Piece>, expected: &[(i64, f64)]) {
        let samples = series(pieces);
        let found: Vec<(i64, f64)> =
            samples.times.iter().map(|t| t.0).zip(samples.values).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_came_later_replaces_what_was_there() {
        let nan = f64::NAN;
        check(vec![], &[]);
        check(vec![piece(1, 1, &[(1, 1.0), (2, nan), (3, 3.0)])], &[(1, 1.0), (3, 3.0)]);
        check(
            vec![piece(1, 2, &[(2, 20.0)]), piece(1, 1, &[(1, 1.0), (2, 2.0), (3, 3.0)])],
            &[(1, 1.0), (2, 20.0), (3, 3.0)],
        );
        check(vec![piece(1, 1, &[(1, 1.0)]), piece(1, 2, &[(1, nan)])], &[]);
    }

    #[test]
    fn between_layouts_an_absence_replaces_nothing() {
        check(vec![piece(2, 1, &[(1, f64::NAN)]), piece(1, 9, &[(1, 1.0)])], &[(1, 1.0)]);
        check(vec![piece(2, 1, &[(1, 2.0)]), piece(1, 9, &[(1, 1.0)])], &[(1, 2.0)]);
    }
}
