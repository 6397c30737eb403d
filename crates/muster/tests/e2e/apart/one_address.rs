//! What a load balancer does: one address, behind it whoever is there.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

#[derive(Debug)]
pub(super) struct OneAddress {
    address: SocketAddr,
    server: AbortHandle,
}

impl OneAddress {
    /// Each connection goes to the first that takes it.
    pub(super) async fn of<const N: usize>(behind: [SocketAddr; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let serving = async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                tokio::spawn(async move {
                    for address in behind {
                        if let Ok(mut server) = TcpStream::connect(address).await {
                            let _ = tokio::io::copy_bidirectional(&mut caller, &mut server).await;
                            return;
                        }
                    }
                });
            }
        };
        Self { address, server: tokio::spawn(serving).abort_handle() }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for OneAddress {
    fn drop(&mut self) {
        self.server.abort();
    }
}
