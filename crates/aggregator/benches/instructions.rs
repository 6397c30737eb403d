//! Instructions of the two hottest parts, counted by callgrind: the same on a busy machine as on a quiet one.
//!
//! `cargo xtask instructions` gets what it needs and runs it.

#![allow(missing_docs, reason = "the macros of gungraun make public items")]

use std::hint::black_box;

use gungraun::{library_benchmark, library_benchmark_group, main};
use model::UnixMillis;

#[path = "parts/mod.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod parts;

/// A present that is five minutes old, so that nothing of it is new.
fn present() -> (parts::Present, Vec<u8>) {
    let (mut present, message) = (parts::Present::new(), parts::message());
    (0..310).for_each(|_| present.take(&message));
    (present, message)
}

fn stretch() -> (Vec<UnixMillis>, Vec<Vec<f64>>) {
    (parts::times(), parts::columns())
}

#[library_benchmark]
#[bench::of_1000_values(setup = present)]
fn take_a_frame((mut present, message): (parts::Present, Vec<u8>)) -> parts::Present {
    present.take(black_box(&message));
    present
}

#[library_benchmark]
#[bench::of_64_series(setup = stretch)]
fn seal_ten_minutes((times, columns): (Vec<UnixMillis>, Vec<Vec<f64>>)) -> Vec<u8> {
    parts::seal(black_box(&times), black_box(&columns))
}

library_benchmark_group!(
    name = hottest;
    benchmarks = take_a_frame, seal_ten_minutes
);
main!(library_benchmark_groups = hottest);
