//! The wire: generated bindings of `proto/muster/v1`, and the one conversion between them and `model`.
//!
//! Knows nothing of sockets or storage. Start with [`v1`] (its contract stands in the `.proto` files),
//! then [`convert`], where messages become words of the domain and bad ones are refused with the name
//! of the field.

pub mod convert;
mod link;

pub use link::Link;

/// Bindings of `package muster.v1`.
#[allow(missing_debug_implementations, unreachable_pub, clippy::all, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("muster.v1");
}

/// The protocol version that this build speaks, as `Hello` and `Welcome` carry it.
pub const PROTOCOL_VERSION: u32 = 1;

/// Encoded `FileDescriptorSet` of the whole wire, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/muster.bin"));

/// The cookie that a browser carries its session in: the first where the connection is secure, for then no
/// other host can set it.
pub const SESSION_COOKIES: [&str; 2] = ["__Host-muster_session", "muster_session"];
