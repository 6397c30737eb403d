//! Where the present, the events and the past are kept: four small ports, each with adapters.
//!
//! | port | holds |
//! |---|---|
//! | [`LiveState`] | the latest of every machine, the last five minutes, who holds its stream |
//! | [`EventStream`] | what just happened, for whoever watches |
//! | [`History`] | everything that was acknowledged |
//! | [`Registry`] | what is known of machines beside their values |
//!
//! This crate alone speaks SQL. It knows nothing of the wire and nothing of who calls it. The contract of
//! each port stands at its trait, and is a test suite in [`contract`] that every adapter passes.

pub mod config;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod events;
pub mod history;
pub mod live;
pub mod registry;
pub mod rollup;
pub mod sqlite;

mod error;
mod stores;

pub use config::Config;
pub use error::StorageError;
pub use events::EventStream;
pub use history::History;
pub use live::LiveState;
pub use registry::Registry;
pub use stores::{Stores, open};
