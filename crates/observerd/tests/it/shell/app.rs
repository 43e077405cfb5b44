//! A small service in the shell.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use observerd::config::LimitsConfig;
use observerd::server::accept::{AcceptConfig, ConnectionCounts, Drained, serve};
use observerd::server::bodies::{Bodies, content_length};
use observerd::server::hosts::Hosts;
use observerd::server::rate::RateLimit;
use observerd::server::shell::{Gate, shell};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The most bytes of a body.
pub(crate) const MOST: usize = 1_000_000;

/// Deadlines that a test does not wait for.
pub(crate) fn patient() -> LimitsConfig {
    let hour = Duration::from_hours(1);
    LimitsConfig { head: hour, body: hour, write: hour, drain: hour, ..LimitsConfig::default() }
}

pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) counts: Arc<ConnectionCounts>,
    pub(crate) bodies: Bodies,
    /// `GET /held` waits for a permit.
    pub(crate) held: Arc<Semaphore>,
    /// A message when a request of `/held` or a stream begins, and `None` of `ends` when each has ended.
    pub(crate) begun: mpsc::UnboundedReceiver<()>,
    pub(crate) ended: mpsc::UnboundedReceiver<()>,
    pub(crate) serving: JoinHandle<Drained>,
}

#[derive(Clone)]
struct Routes {
    bodies: Bodies,
    held: Arc<Semaphore>,
    begun: mpsc::UnboundedSender<()>,
    ended: mpsc::UnboundedSender<()>,
}

struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Routes {
    fn begin(&self) -> Ended {
        let _ = self.begun.send(());
        Ended(self.ended.clone())
    }
}

impl App {
    pub(crate) async fn start(limits: &LimitsConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begins, begun) = mpsc::unbounded_channel();
        let (ends, ended) = mpsc::unbounded_channel();
        let held = Arc::new(Semaphore::new(0));
        let bodies = Bodies::new(limits);
        let routes = Routes { bodies: bodies.clone(), held: Arc::clone(&held), begun: begins, ended: ends };
        let gate = Gate { hosts: Hosts::new(address, &[]).unwrap(), rate: RateLimit::new(limits) };
        let config = AcceptConfig::from(limits);
        let counts = Arc::clone(&config.counts);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router(routes, gate), config, stop.clone()));
        Self { address, stop, counts, bodies, held, begun, ended, serving }
    }

    /// Stops a service whose connections end.
    pub(crate) async fn stop(self) -> Drained {
        self.stop.cancel();
        super::client::soon(self.serving).await.unwrap()
    }
}

fn router(routes: Routes, gate: Gate) -> Router {
    let app = Router::new()
        .route("/", get(|| async { "here" }))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/body", post(body))
        .route("/ignore", post(|| async { "ignored" }))
        .route("/held", get(hold))
        .route("/endless", get(endless))
        .route("/silent", get(silent))
        .route("/broken", get(broken))
        .with_state(routes);
    shell(app, Arc::new(gate))
}

async fn body(State(routes): State<Routes>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match routes.bodies.read(body, content_length(&parts.headers), MOST).await {
        Ok((bytes, _permit)) => bytes.len().to_string().into_response(),
        Err(problem) => problem.into_response(),
    }
}

async fn hold(State(routes): State<Routes>) -> &'static str {
    let _ended = routes.begin();
    routes.held.acquire().await.unwrap().forget();
    "held"
}

/// A body without an end.
async fn endless(State(routes): State<Routes>) -> Body {
    let part = Bytes::from(vec![b'x'; 64 * 1024]);
    Body::from_stream(stream::unfold(routes.begin(), move |ended| {
        let part = part.clone();
        async move { Some((Ok::<_, Infallible>(part), ended)) }
    }))
}

/// A body that has one part and then nothing, as a stream of events without events.
async fn silent(State(routes): State<Routes>) -> Body {
    Body::from_stream(stream::unfold((routes.begin(), true), |(ended, is_first)| async move {
        if !is_first {
            std::future::pending::<()>().await;
        }
        Some((Ok::<_, Infallible>("first"), (ended, false)))
    }))
}

/// A body that panics.
async fn broken() -> Body {
    Body::from_stream(stream::poll_fn(|_| -> std::task::Poll<Option<Result<Bytes, Infallible>>> {
        panic!("a body panics on purpose")
    }))
}
