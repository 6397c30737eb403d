//! What every process of Muster does the same way: read its configuration, write logs, stop when told,
//! and (feature `http`) serve HTTP and gRPC on one port with health beside it.
//!
//! Knows nothing of machines, frames or any other crate of ours. Start with [`config::load`] and
//! [`shutdown::on_signal`]; then [`http::Server`](http), which all serving roles run.

pub mod config;
pub mod hint;
pub mod logging;
pub mod shutdown;
pub mod systemd;
pub mod tls;

#[cfg(feature = "http")]
pub mod grpc;
#[cfg(feature = "http")]
pub mod health;
#[cfg(feature = "http")]
pub mod http;
