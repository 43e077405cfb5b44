//! A client of the service: one connection for each request.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::TOKEN;

/// Longer than anything in a test takes.
pub(crate) const LONG: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The last part of the problem's type, with the status. It is a problem document.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        let kind = problem["type"].as_str().unwrap().strip_prefix("urn:observerd:problem:").unwrap();
        (self.status.as_u16(), kind.to_owned())
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, headers: vec![(AUTHORIZATION.to_string(), format!("Bearer {TOKEN}"))] }
    }

    /// The same without the token.
    pub(crate) fn without_token(&self) -> Self {
        Self { address: self.address, headers: Vec::new() }
    }

    /// The same with another header.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.call(Method::POST, path, body.into()).await
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Bytes) -> Answer {
        let call = async {
            let response = self.send(method, path, body).await;
            let (parts, body) = response.into_parts();
            let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
            Answer { status: parts.status, headers: parts.headers, text }
        };
        timeout(LONG, call).await.expect("an answer")
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> http::Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/v1/observer/{path}") };
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        sender.send_request(request.body(Full::new(body)).unwrap()).await.unwrap()
    }

    /// A stream of events.
    pub(crate) async fn stream(&self, path: &str) -> Events {
        let response = self.with("accept", "text/event-stream").send(Method::GET, path, Bytes::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
        Events { body: response.into_body(), text: String::new(), id: String::new() }
    }
}

/// A stream that is read as browsers read it.
pub(crate) struct Events {
    body: Incoming,
    text: String,
    /// The id of the last event.
    pub(crate) id: String,
}

impl Events {
    /// The next event with data: its name and its data. `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        timeout(LONG, self.read()).await.expect("an event")
    }

    async fn read(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                let (mut name, mut data) = (String::new(), None);
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => id.clone_into(&mut self.id),
                        Some(("event", event)) => event.clone_into(&mut name),
                        Some(("data", json)) => data = Some(serde_json::from_str(json).unwrap()),
                        _ => {}
                    }
                }
                if let Some(data) = data {
                    return Some((name, data));
                }
            }
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    }

    /// The sequences of the next operations.
    pub(crate) async fn sequences(&mut self, count: usize) -> Vec<u64> {
        let mut sequences = Vec::new();
        while sequences.len() < count {
            let (name, data) = self.next().await.expect("the stream goes on");
            assert_eq!(name, "operation", "{data}");
            sequences.push(data["sequence"].as_u64().unwrap());
        }
        sequences
    }
}
