//! Telling people.
//!
//! What has to be told waits in the store. For each channel one worker takes it from there, groups it into
//! messages, sends them, and only then forgets it. A channel's own file says nothing but what to send; this
//! module's does the retrying. So a channel that hangs or fails delays no other.
//!
//! The promise: every notice is told at least once, in order for each alert. It is told twice only when the
//! process dies between the receiver's answer and the commit that forgets the notice, or when that answer is
//! lost; then once more.

mod breaker;
mod channel;
mod directory;
mod message;
mod plan;
mod send;
mod worker;

mod alertmanager;
mod discord;
mod email;
mod ntfy;
mod pagerduty;
mod slack;
mod teams;
mod telegram;
mod webhook;

pub(crate) use channel::{Address, Channel, Mail, Secret, Tls};
pub(crate) use directory::{Directory, Health};
pub(crate) use message::Message;
pub(crate) use send::{Answer, Sender};
pub(crate) use worker::{Pacing, Workers};

#[cfg(test)]
mod tests;
