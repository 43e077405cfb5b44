//! The application of these tests: nodes that count, over HTTP.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use watchkeeper::{DynError, async_trait};
use watchkeeper_deploy::{NodeAccess, NodeAddress};
use watchkeeper_scenario::Application;

/// Nodes that count; a deployment is how many there are.
#[derive(Debug)]
pub(crate) struct Counting;

impl Application for Counting {
    type Deployment = u64;
    type NodeClient = Counter;
}

/// A client of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counter {
    pub(crate) at: NodeAddress,
}

impl Counter {
    /// Its port called `client`.
    pub(crate) fn addr(&self) -> &str {
        self.at.port("client").unwrap_or_default()
    }

    /// Asks `GET /healthz`, `GET /count`, `POST /add`; another node refuses.
    pub(crate) async fn ask(&self, what: &str) -> Result<String, DynError> {
        let mut stream = TcpStream::connect(self.addr()).await?;
        let NodeAddress { cluster, number, .. } = &self.at;
        let request = format!("{what} HTTP/1.1\r\nhost: {number}.{cluster}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("it closed the connection")?;
        if head.contains(" 200 ") { Ok(body.to_owned()) } else { Err(answer.into()) }
    }
}

#[async_trait]
impl NodeAccess<Counting> for Counting {
    fn client(&self, at: &NodeAddress) -> Result<Counter, DynError> {
        assert_ne!(at.cluster, "panics", "no client of this cluster");
        at.port("client").ok_or("it has no port called client")?;
        Ok(Counter { at: at.clone() })
    }

    async fn probe(&self, node: &Counter) -> Result<(), DynError> {
        node.ask("GET /healthz").await.map(drop)
    }
}
