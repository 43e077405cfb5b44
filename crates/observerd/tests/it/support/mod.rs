//! A client, and the service it calls.

mod client;
#[path = "../../../../journal/tests/journal/faulty.rs"]
#[allow(dead_code, reason = "the journal's tests need more of it")]
pub(crate) mod faulty;
mod program;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use observerd::config::ObserverdConfig;
use observerd::server::token::Token;
use observerd::service::Service;

pub(crate) use client::{Client, LONG};
pub(crate) use program::{Program, command};

/// The token of the tests.
pub(crate) const TOKEN: &str = "token-of-the-tests-0123456789";

/// The defaults, on a port that the system picks, with a token.
pub(crate) fn config(directory: Option<&Path>) -> ObserverdConfig {
    ObserverdConfig {
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        persist_path: directory.map(Path::to_path_buf).unwrap_or_default(),
        ..ObserverdConfig::default()
    }
}

pub(crate) fn token() -> Token {
    Token::new(TOKEN).unwrap()
}

/// A service in memory, and a client of it.
pub(crate) async fn in_memory() -> (Service, Client) {
    start(config(None)).await
}

pub(crate) async fn start(config: ObserverdConfig) -> (Service, Client) {
    let service = Service::start(config, Some(token())).await.unwrap();
    let client = Client::new(service.address());
    (service, client)
}
