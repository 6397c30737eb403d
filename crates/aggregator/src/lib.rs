//! Takes frames and logs in, keeps present and past, answers for them.
//!
//! What a collector sends goes two ways. Into the present at once: live state, the event stream, the roll
//! call of machines. Into the past through one writer, which commits what came from all streams together and
//! only then acknowledges it. Questions are answered from both. This crate knows the storage ports and not
//! what is behind them, and nothing of HTTP or of who asks.
//!
//! Start with [`Aggregator`]; then `ingest/session.rs` (one collector's stream), `writer.rs` (the promise
//! behind an acknowledgement), `roll/pulse.rs` (when a machine is what) and `query.rs`.

mod aggregator;
mod clock;
mod config;
mod ingest;
mod maintenance;
mod metrics;
mod pace;
mod query;
mod roll;
mod settings;
mod timing;
mod writer;

pub use aggregator::Aggregator;
pub use config::{Config, LevelMin, LogsConfig, QueryConfig, StatusConfig, WriterConfig};
pub use settings::{LogSource, Settings, SettingsBoard};
