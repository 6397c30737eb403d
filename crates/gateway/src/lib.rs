//! The dashboard: pages, REST and one WebSocket for what people look at.
//!
//! Knows one thing outside itself: a [`proto::Link`] to the aggregator's services. It holds no store,
//! no credentials and no state that matters after a restart.
//!
//! Start with [`Gateway`] and its one table of routes. Then `live`, where one upstream stream is shared
//! by all viewers, and `pages`, where a view model meets its template. Names, labels and command lines
//! come from machines and are hostile text: templates escape them, scripts only ever set `textContent`.

mod api;
mod assets;
mod caller;
mod config;
pub mod format;
mod gateway;
mod live;
mod pages;
mod push;
mod security;
mod upstream;
mod view;

pub use config::Config;
pub use gateway::Gateway;
