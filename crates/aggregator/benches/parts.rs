//! How long the hot parts take: `cargo bench -p aggregator --bench parts`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[path = "parts/mod.rs"]
mod parts;

fn hot_parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("parts");
    let message = parts::message();
    group.throughput(Throughput::Elements(parts::WIDTH as u64));
    group.bench_function("decode a frame of 1,000 values", |b| {
        b.iter(|| parts::decode(black_box(&message)));
    });
    let mut present = parts::Present::new();
    group.bench_function("decode it and take it into the present", |b| {
        b.iter(|| present.take(black_box(&message)));
    });

    let (times, columns) = (parts::times(), parts::columns());
    group.throughput(Throughput::Elements((times.len() * columns.len()) as u64));
    group.bench_function("seal ten minutes of 64 series", |b| {
        b.iter(|| parts::seal(black_box(&times), black_box(&columns)));
    });
    let block = parts::seal(&times, &columns);
    group.throughput(Throughput::Elements(times.len() as u64));
    for (column, what) in [(0, "constant"), (5, "counter"), (8, "noisy gauge")] {
        group.bench_function(format!("read a {what} out of that"), |b| {
            b.iter(|| parts::read(black_box(&block), column));
        });
    }
    group.bench_function("roll a counter of ten minutes up", |b| {
        b.iter(|| parts::roll_up(black_box(&times), black_box(&columns[5])));
    });
    group.finish();
}

criterion_group!(benches, hot_parts);
criterion_main!(benches);
