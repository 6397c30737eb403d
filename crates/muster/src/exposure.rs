//! Who can reach us, and whether they must say who they are.

use std::net::SocketAddr;

use access::Auth;

/// Whether callers must prove who they are.
pub(crate) fn is_guarded(listen: SocketAddr, auth: Auth, insecure: bool) -> bool {
    let only_us = listen.ip().to_canonical().is_loopback();
    let guarded = match auth {
        Auth::Off => false,
        Auth::Required => true,
        Auth::Auto => !only_us && !insecure,
    };
    if !guarded && !only_us {
        tracing::warn!(
            listen = %listen,
            "others can reach this address, and access control is off: whoever does sees and changes everything"
        );
    }
    guarded
}

/// Says once that others can read along, and how to change that.
pub(crate) fn warn_in_clear(listen: SocketAddr, tls: bool) {
    if !tls && !listen.ip().to_canonical().is_loopback() {
        tracing::info!(
            listen = %listen,
            "what goes over the network is not encrypted; hint: set tls.certificate and tls.key, or let a proxy do it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_can_be_reached_by_others_is_guarded() {
        fn check(listen: &str, auth: Auth, insecure: bool, guarded: bool) {
            let listen = listen.parse().expect("an address");
            assert_eq!(is_guarded(listen, auth, insecure), guarded, "{listen} {auth:?} {insecure}");
        }
        for ours in ["127.0.0.1:7070", "127.8.0.1:7070", "[::1]:7070", "[::ffff:127.0.0.1]:7070"] {
            check(ours, Auth::Auto, false, false);
            check(ours, Auth::Required, false, true);
        }
        for others in ["0.0.0.0:7070", "[::]:7070", "192.0.2.1:7070"] {
            check(others, Auth::Auto, false, true);
            check(others, Auth::Auto, true, false);
            check(others, Auth::Required, true, true);
            check(others, Auth::Off, false, false);
        }
    }
}
