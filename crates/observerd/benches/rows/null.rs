//! A handler that reads the body and stores nothing, inside the same shell.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use http::header::CONTENT_TYPE;
use observerd::config::ObserverdConfig;
use observerd::service::Service;
use observerd::store::{Store, StoreConfig};
use watchkeeper_journal::JournalConfig;

use super::server::{REQUESTS_PER_SECOND, Server};

/// Where it is.
pub(crate) const PATH: &str = "/v1/observer/null";

const CHILD: &str = "OBSERVERD_FIGURES_NULL";

/// An answer of the length of those that it is compared with.
const ANSWER: &str = r#"{"sequence":1234567,"count":1,"cursor":"0123456789abcdef0123456789abcdef.0.1234568","durability":"group","repeated":false}"#;

const JSON: [(http::HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

pub(crate) async fn start() -> Server {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env(CHILD, "1");
    Server::of(command).await
}

/// Serves until it is killed.
pub(crate) async fn child() {
    let mut config =
        ObserverdConfig { bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..ObserverdConfig::default() };
    config.limits.requests_per_second = REQUESTS_PER_SECOND;
    config.limits.burst = REQUESTS_PER_SECOND;
    let journal = JournalConfig::default();
    let store = Store::open(StoreConfig { directory: None, journal, idempotency_window: 20_000 });
    let null = get(|| async { (JSON, ANSWER) }).post(|body: Bytes| async move {
        drop(body);
        (JSON, ANSWER)
    });
    let routes = Router::new().route(PATH, null);
    let service =
        Service::with_routes(config, store.await.expect("a store"), routes).await.expect("it starts");
    println!("listening on http://{}", service.address());
    std::future::pending::<()>().await;
}
