//! Operations at a steady rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::time::interval;

use super::operation::operation;
use super::server::TOKEN;

const CONNECTIONS: usize = 16;

const TICK: Duration = Duration::from_millis(10);

/// What the answers said.
#[derive(Deserialize)]
struct Answer {
    sequence: usize,
}

/// Sends `per_second` operations for so many seconds. Returns for each sequence when its answer came, in microseconds after `began`.
pub(crate) async fn write(
    address: SocketAddr,
    per_second: usize,
    seconds: usize,
    began: Instant,
) -> Vec<u64> {
    let (sender, receiver) = mpsc::channel(per_second);
    let receiver = Arc::new(Mutex::new(receiver));
    let workers: Vec<_> =
        (0..CONNECTIONS).map(|_| tokio::spawn(work(address, Arc::clone(&receiver), began))).collect();
    let total = per_second * seconds;
    let mut ticks = interval(TICK);
    let a_tick = per_second * TICK.as_millis() as usize / 1_000;
    let mut n = 0;
    while n < total {
        ticks.tick().await;
        for _ in 0..a_tick {
            sender.send(n).await.expect("workers run");
            n += 1;
        }
    }
    drop(sender);
    let mut answered = vec![0; total];
    for worker in workers {
        for (sequence, at) in worker.await.expect("no worker panics") {
            answered[sequence] = at;
        }
    }
    answered
}

async fn work(
    address: SocketAddr,
    receiver: Arc<Mutex<mpsc::Receiver<usize>>>,
    began: Instant,
) -> Vec<(usize, u64)> {
    let mut connection = connect(address).await;
    let mut answered = Vec::new();
    loop {
        let next = receiver.lock().await.recv().await;
        let Some(n) = next else { return answered };
        let request = request(address, "POST", "/v1/observer/event", operation(n));
        let response = connection.send_request(request).await.expect("an answer");
        let at = began.elapsed().as_micros() as u64;
        assert_eq!(response.status(), StatusCode::OK);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let answer: Answer = serde_json::from_slice(&body).expect("an answer");
        answered.push((answer.sequence, at));
    }
}

pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("an option of the socket");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    sender
}

pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header(HOST, address.to_string());
    let request =
        request.header(AUTHORIZATION, format!("Bearer {TOKEN}")).header("accept", "text/event-stream");
    request.body(Full::new(body.into())).expect("a request")
}
