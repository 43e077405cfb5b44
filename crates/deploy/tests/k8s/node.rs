//! A node of the tests' application: it counts, and keeps the count on its volume.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// A node that runs. Dropping it is a kill.
pub(crate) struct Node {
    pub(crate) port: u16,
    stop: CancellationToken,
    serving: AbortOnDropHandle<()>,
}

struct Counted {
    /// `NUMBER.CLUSTER`: another name in a request is refused.
    called: String,
    volume: PathBuf,
    counting: Mutex<()>,
}

impl Node {
    /// Starts it with the arguments of its container; its log and its count are in `volume`.
    pub(crate) async fn start(args: &[String], volume: PathBuf) -> Self {
        let value = |flag: &str| args.iter().find_map(|arg| arg.strip_prefix(flag)).unwrap().to_owned();
        let (_, ordinal) = args[0].rsplit_once('-').unwrap();
        let number = ordinal.parse::<u64>().unwrap() + 1;
        let called = format!("{number}.{}", value("--cluster="));
        let mut log = File::options().create(true).append(true).open(volume.join("log")).unwrap();
        let counted = Arc::new(Counted { called, volume, counting: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/count", get(count))
            .route("/add", post(add))
            .layer(middleware::from_fn_with_state(Arc::clone(&counted), only_mine))
            .with_state(counted);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let serving = async move {
            writeln!(log, "serving").unwrap();
            axum::serve(listener, router).with_graceful_shutdown(stopped).await.unwrap();
            writeln!(log, "stopped").unwrap();
        };
        Self { port, stop, serving: AbortOnDropHandle::new(tokio::spawn(serving)) }
    }

    /// As on SIGTERM: it ends when its requests are answered.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }

    /// As on SIGKILL; returns when its port is closed.
    pub(crate) async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
    }
}

async fn only_mine(State(counted): State<Arc<Counted>>, request: Request, next: Next) -> Response {
    match request.headers().get(header::HOST) {
        Some(host) if host.as_bytes() == counted.called.as_bytes() => next.run(request).await,
        _ => (StatusCode::MISDIRECTED_REQUEST, format!("this is {}", counted.called)).into_response(),
    }
}

async fn count(State(counted): State<Arc<Counted>>) -> String {
    counted.count().to_string()
}

async fn add(State(counted): State<Arc<Counted>>) -> String {
    let _one = counted.counting.lock().unwrap();
    let count = counted.count() + 1;
    fs::write(counted.volume.join("count"), count.to_string()).unwrap();
    count.to_string()
}

impl Counted {
    fn count(&self) -> u64 {
        fs::read_to_string(self.volume.join("count")).map_or(0, |text| text.parse().unwrap())
    }
}
