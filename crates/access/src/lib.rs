//! Tokens, logins and sessions: says who somebody is and what they may do.
//!
//! Answers `AccessService`, and that is all: whether a call needs a caller is decided by who serves it. Knows
//! the port [`Credentials`](storage::Credentials) and not what is behind it, and nothing of HTTP, cookies or
//! pages.
//!
//! Start with [`Access`]; then `keyring.rs`, which every request passes, and `login.rs`, which nobody may
//! hurry.

mod access;
mod config;
mod keyring;
mod limiter;
mod login;
mod secret;
mod service;

pub use access::{Access, FirstStart, create_token, reset_account};
pub use config::{Auth, Config};
