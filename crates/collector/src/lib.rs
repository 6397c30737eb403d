//! Reads one machine and delivers what it read.
//!
//! Four parts that meet in [`Collector`]. The *probes* read the machine, once per interval. The *logs*
//! read what it and its services write, the *push* takes in what they measure, both where they are asked
//! to. The *delivery* numbers what they read, keeps it in the spool until an aggregator acknowledged it, and
//! sends it: fresh items first, the backlog beside.
//!
//! This crate listens on nothing unless the machine's owner opens a receiver on loopback, never runs a command that it was sent, and knows no database.
//! Start with `collector.rs` (who runs when), then `spool.rs` (what is kept and when it is forgotten),
//! then `session.rs` (what is sent next).

pub mod cli;
pub mod facts;
pub mod identity;
pub mod probe;

mod backoff;
mod collector;
mod config;
mod delivery;
mod logs;
mod power;
mod push;
mod redact;
mod session;
mod settings;
mod spool;
mod state_dir;
mod stats;
mod ticker;
mod uplink;

pub use collector::Collector;
pub use config::{Config, FilterConfig, ProbesConfig, Secret, SpoolConfig};
pub use logs::{
    AllowConfig, ContainersConfig, FilesConfig, JournaldConfig, LogsConfig, Start, StdinConfig,
    SyslogConfig,
};
pub use push::{OtlpConfig, PushConfig, StatsdConfig};
pub use stats::CollectorStats;
pub use uplink::{Target, Token};
