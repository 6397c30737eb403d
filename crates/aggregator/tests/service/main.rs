//! An aggregator over a real port and real embedded stores, spoken to as collectors and readers do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod cluster;
mod collector;
mod gate;

mod durability;
mod fencing;
mod logs;
mod neighbours;
mod push;
mod questions;
mod refusals;
mod removal;
mod server_status;
mod settings;
mod shutdown;
mod status;
mod streams;
