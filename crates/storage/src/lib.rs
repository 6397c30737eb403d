//! Where the present, the events and the past are kept: six small ports, each with adapters.
//!
//! | port | holds |
//! |---|---|
//! | [`LiveState`] | the latest of every machine, the last five minutes, who holds its stream |
//! | [`EventStream`] | what just happened, for whoever watches |
//! | [`History`] | everything that was acknowledged |
//! | [`Registry`] | what is known of machines beside their values |
//! | [`Alerting`] | rules, alerts, incidents, and what has to be told |
//! | [`Credentials`] | tokens, sessions and accounts, by their hashes |
//!
//! This crate alone speaks SQL. It knows nothing of the wire and nothing of who calls it. The contract of
//! each port stands at its trait, and is a test suite in `contract` that every adapter passes.

pub mod alerting;
pub mod config;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
pub mod credentials;
pub mod events;
pub mod history;
pub mod live;
pub mod postgres;
pub mod redis;
pub mod registry;
pub mod rollup;
pub mod secret;
pub mod sqlite;

mod breaker;
mod condition;
mod error;
mod stores;
#[cfg(any(test, feature = "contract"))]
pub mod testing;

pub use alerting::Alerting;
pub use breaker::Breaker;
pub use condition::{Condition, Conditions, Connections};
pub use config::Config;
pub use credentials::Credentials;
pub use error::StorageError;
pub use events::EventStream;
pub use history::History;
pub use live::LiveState;
pub use postgres::Migrated;
pub use registry::Registry;
pub use stores::{Stores, migrate, open, open_credentials};
