//! Watches what machines send and tells people when something is wrong, once.
//!
//! The deciding is pure: [`rule`] is what people ask for, [`lifecycle`] the life of one alert, [`engine`]
//! all of it together, given frames and the time, and [`desk`] who has to be told what. Around it a thin
//! shell: one task watches the event stream, one keeps what was decided, and one worker for each channel
//! tells it. The order matters: nobody is told of what is not kept. Where several services share a store,
//! another task says that this one is there and learns which machines and channels are its own.
//!
//! Knows nothing of the other services. Start with [`rule::Spec`], then [`engine::Engine`], then
//! [`Alerts`].

pub mod alert;
pub mod desk;
pub mod engine;
pub mod lifecycle;
pub mod notice;
pub mod rule;
pub mod silence;
pub mod template;

mod alerts;
mod api;
mod attendant;
mod backtest;
mod book;
mod config;
mod keeper;
mod letters;
mod metrics;
mod notify;
mod rules_file;
mod watch;

pub use alerts::Alerts;
pub use config::{Config, Notify};
pub use rules_file::{RulesError, read_rules_file};
