//! A client that writes and reads bytes.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far longer than anything takes here, also on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("it takes too long")
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

/// An answer: its status, its head in lower case, its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: soon(TcpStream::connect(address)).await.unwrap() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        self.answer().await
    }

    /// The next answer, which has a length.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.stream.read_u8()).await.expect("an answer"));
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        soon(self.stream.read_exact(&mut body)).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// What comes until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = soon(self.stream.read_to_end(&mut rest)).await;
        String::from_utf8(rest).unwrap()
    }
}

impl Answer {
    /// The type of the problem, without the part that each has.
    pub(crate) fn problem(&self) -> String {
        assert!(self.head.contains("content-type: application/problem+json\r\n"), "{self:?}");
        assert!(self.head.contains("x-content-type-options: nosniff\r\n"), "{self:?}");
        assert!(self.head.contains("cross-origin-resource-policy: same-origin\r\n"), "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        problem["type"].as_str().unwrap().strip_prefix("urn:observerd:problem:").unwrap().to_owned()
    }

    pub(crate) fn closes(&self) -> bool {
        self.head.contains("connection: close\r\n")
    }
}
