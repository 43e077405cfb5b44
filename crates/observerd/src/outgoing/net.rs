//! The network below the connector.

use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::net::TcpStream;

/// Resolves names and opens connections. The connector decides what is opened.
#[async_trait]
pub(crate) trait Net: Send + Sync + 'static {
    /// The addresses of a name.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// A connection to an address.
    async fn open(&self, address: SocketAddr) -> io::Result<TcpStream>;
}

/// The system's resolver and sockets.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemNet;

#[async_trait]
impl Net for SystemNet {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}
