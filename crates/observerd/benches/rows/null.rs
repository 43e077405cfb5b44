//! A handler that reads the body and stores nothing, inside the same shell.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use observerd::config::LimitsConfig;
use observerd::server::accept::{AcceptConfig, serve};
use observerd::server::auth::{Access, require_token};
use observerd::server::bodies::{Bodies, content_length};
use observerd::server::hosts::Hosts;
use observerd::server::problem::Problem;
use observerd::server::rate::RateLimit;
use observerd::server::shell::{Gate, shell};
use observerd::server::token::Token;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::server::{REQUESTS_PER_SECOND, Server, TOKEN};

/// Where it is.
pub(crate) const PATH: &str = "/v1/observer/null";

const CHILD: &str = "OBSERVERD_FIGURES_NULL";

const MOST: usize = 4 * 1024 * 1024;

/// An answer of the length of those that it is compared with.
const ANSWER: &str = r#"{"sequence":1234567,"count":1,"cursor":"0123456789abcdef0123456789abcdef.1.1234568","durability":"group","repeated":false}"#;

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
    let limits = LimitsConfig {
        requests_per_second: REQUESTS_PER_SECOND,
        burst: REQUESTS_PER_SECOND,
        ..LimitsConfig::default()
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let hosts = Hosts::new(address, &[]).expect("names");
    let gate = Arc::new(Gate { hosts, rate: RateLimit::new(&limits) });
    let access = Arc::new(Access::token(Token::new(TOKEN).expect("a token")));
    let routes = Router::new()
        .route(PATH, get(|| async { (JSON, ANSWER) }).post(read))
        .with_state(Bodies::new(&limits))
        .route_layer(from_fn_with_state(access, require_token));
    println!("listening on http://{address}");
    serve(listener, shell(routes, gate), AcceptConfig::from(&limits), CancellationToken::new()).await;
}

async fn read(
    State(bodies): State<Bodies>,
    headers: HeaderMap,
    body: Body,
) -> Result<([(http::HeaderName, &'static str); 1], &'static str), Problem> {
    let (bytes, permit) = bodies.read(body, content_length(&headers), MOST).await?;
    drop((bytes, permit));
    Ok((JSON, ANSWER))
}
