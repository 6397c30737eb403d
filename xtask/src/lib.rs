//! What developer commands and end-to-end tests share: real servers that are started and stopped at will.

pub mod services;
pub mod shell;
