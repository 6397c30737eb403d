//! Who can reach us. There is no access control yet, so nobody but this machine may.

use std::net::SocketAddr;

use anyhow::anyhow;
use daemon::hint::WithHint as _;

/// Refuses an address that others can reach, unless that was asked for in so many words.
pub(crate) fn check(listen: SocketAddr, insecure: bool) -> anyhow::Result<()> {
    if listen.ip().to_canonical().is_loopback() {
        return Ok(());
    }
    if insecure {
        tracing::warn!(
            listen = %listen,
            "others can reach this address, and there is no login: whoever does sees everything"
        );
        return Ok(());
    }
    Err(anyhow!("refusing to listen on {listen}: others can reach it, and there is no login yet"))
        .hint(
            "listen on 127.0.0.1 and come through an SSH tunnel or a reverse proxy with a login; \
             --insecure-no-auth listens all the same",
        )
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_loopback_is_served_without_being_told() {
        fn check(listen: &str, insecure: bool, allowed: bool) {
            let listen = listen.parse().expect("an address");
            assert_eq!(super::check(listen, insecure).is_ok(), allowed, "{listen} {insecure}");
        }
        check("127.0.0.1:7070", false, true);
        check("127.8.0.1:7070", false, true);
        check("[::1]:7070", false, true);
        check("[::ffff:127.0.0.1]:7070", false, true);
        check("0.0.0.0:7070", false, false);
        check("[::]:7070", false, false);
        check("192.0.2.1:7070", false, false);
        check("0.0.0.0:7070", true, true);
    }
}
