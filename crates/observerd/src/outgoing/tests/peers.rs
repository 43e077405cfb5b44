//! Peers for the tests: servers on loopback, and a network that leads to them.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::outgoing::net::Net;
use crate::outgoing::{OutgoingFilter, OutgoingUrl};

pub(super) fn allow(entries: &[&str]) -> OutgoingFilter {
    OutgoingFilter::new(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).unwrap()
}

pub(super) fn url(text: impl AsRef<str>) -> OutgoingUrl {
    OutgoingUrl::parse(text.as_ref()).unwrap()
}

/// A server that answers each request with the same bytes, and closes.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) requests: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    pub(super) async fn answering(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (received, answer) = (Arc::clone(&requests), answer.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                received.lock().unwrap().push(request);
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, requests, _task: AbortOnDropHandle::new(task) }
    }

    pub(super) fn url(&self, path: &str) -> OutgoingUrl {
        url(format!("http://{}{path}", self.address))
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// A request with its body, or what came of it.
pub(super) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase().lines().find_map(|line| {
                line.strip_prefix("content-length: ").and_then(|length| length.parse::<usize>().ok())
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        let mut buffer = [0; 4_096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return text,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
        }
    }
}

/// A resolver with an answer for each call, the last one for all further calls; and sockets that lead elsewhere.
#[derive(Clone, Default)]
pub(super) struct FakeNet {
    pub(super) answers: Arc<Mutex<VecDeque<Vec<IpAddr>>>>,
    pub(super) resolved: Arc<Mutex<Vec<String>>>,
    pub(super) opened: Arc<Mutex<Vec<SocketAddr>>>,
    pub(super) leads: Leads,
}

#[derive(Clone, Copy, Default)]
pub(super) enum Leads {
    #[default]
    There,
    To(SocketAddr),
    Nowhere,
    /// The resolver does not answer either.
    Silent,
}

impl FakeNet {
    pub(super) fn answering(answers: &[&[&str]], leads: Leads) -> Self {
        let answers = answers.iter().map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect());
        Self { answers: Arc::new(Mutex::new(answers.collect())), leads, ..Self::default() }
    }

    pub(super) fn opened(&self) -> Vec<String> {
        self.opened.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

#[async_trait]
impl Net for FakeNet {
    async fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        if let Leads::Silent = self.leads {
            std::future::pending::<()>().await;
        }
        self.resolved.lock().unwrap().push(host.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        // The port is another one: it must not count.
        answer
            .map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, 1)).collect())
            .ok_or_else(|| io::Error::other("no such name"))
    }

    async fn open(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.opened.lock().unwrap().push(address);
        match self.leads {
            Leads::There => TcpStream::connect(address).await,
            Leads::To(other) => TcpStream::connect(other).await,
            Leads::Nowhere | Leads::Silent => std::future::pending().await,
        }
    }
}
