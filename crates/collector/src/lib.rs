//! Reads one machine and delivers what it read.
//!
//! Two halves that meet in [`Collector`]. The *probes* read the machine, once per interval. The
//! *delivery* numbers what they read, keeps it in the spool until an aggregator acknowledged it, and
//! sends it: fresh items first, the backlog beside.
//!
//! This crate never listens on anything, never runs a command that it was sent, and knows no database.
//! Start with `collector.rs` (who runs when), then `spool.rs` (what is kept and when it is forgotten),
//! then `session.rs` (what is sent next).

mod backoff;
mod spool;
mod stats;

pub use stats::CollectorStats;
