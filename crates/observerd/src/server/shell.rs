//! What is around each route: names, quotas, problems for each refusal.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tower_http::catch_panic::CatchPanicLayer;
use watchkeeper::report::one_line;

use super::hosts::{Hosts, HostsError};
use super::plain::{as_problem, emptied};
use super::problem::Problem;
use super::rate::RateLimit;
use crate::config::ObserverdConfig;

/// Which pages may embed an answer.
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What a request must pass before its route.
#[derive(Debug)]
pub struct Gate {
    /// The names of the service.
    pub hosts: Hosts,
    /// The quotas of addresses.
    pub rate: RateLimit,
}

impl Gate {
    /// The gate of a service that listens on `bound`.
    ///
    /// # Errors
    ///
    /// [`HostsError`] for a configured name that is not valid.
    pub fn new(bound: SocketAddr, config: &ObserverdConfig) -> Result<Self, HostsError> {
        Ok(Self { hosts: Hosts::new(bound, &config.hosts)?, rate: RateLimit::new(&config.limits) })
    }
}

/// Puts the shell around routes, which may have their own layers such as `require_token`. A request passes [`Gate::hosts`], then
/// [`Gate::rate`], then reaches its route.
///
/// - What is not found or not allowed (with `Allow`), each refusal in plain text and each panic is answered by a problem document.
/// - `OPTIONS` is answered with 204 and `Allow`.
/// - A body in another transfer coding than `chunked` is refused with 501.
/// - Each answer has `X-Content-Type-Options: nosniff` and `Cross-Origin-Resource-Policy: same-origin`, and `Cache-Control: no-store` if it has no other.
pub fn shell(routes: Router, gate: Arc<Gate>) -> Router {
    routes
        .method_not_allowed_fallback(not_allowed)
        .fallback(not_found)
        .layer(from_fn_with_state(gate, pass))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(finish))
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    let checked = framing(&request).and_then(|()| gate.hosts.check(&request));
    if let Err(problem) = checked.and_then(|()| gate.rate.check(peer)) {
        tracing::debug!(status = problem.status, kind = problem.kind, "a request was refused");
        return problem.into_response();
    }
    if request.method() == Method::OPTIONS && request.uri().path() == "*" {
        return StatusCode::NO_CONTENT.into_response();
    }
    next.run(request).await
}

/// A body in another transfer coding than `chunked` would be read as it is.
fn framing(request: &Request) -> Result<(), Problem> {
    let mut codings = request.headers().get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_none_or(is_chunked) && codings.next().is_none() {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::NOT_IMPLEMENTED,
        "unsupported-transfer-encoding",
        "The transfer coding is not supported",
        "send the body with Content-Length, or with Transfer-Encoding: chunked alone",
    ))
}

async fn finish(mut request: Request, next: Next) -> Response {
    if let header::Entry::Occupied(mut values) = request.headers_mut().entry(header::AUTHORIZATION) {
        // It is not printed with the other header fields.
        values.iter_mut().for_each(|value| value.set_sensitive(true));
    }
    let is_options = request.method() == Method::OPTIONS;
    let mut response = next.run(request).await;
    response = match response.status() {
        StatusCode::METHOD_NOT_ALLOWED if is_options => emptied(&response, StatusCode::NO_CONTENT),
        _ => as_problem(response).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "not-found",
        "There is nothing at this address",
        "check the path: /observer/openapi.json lists what there is",
    )
}

async fn not_allowed() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "The method is not allowed here",
        "use one of the methods in Allow",
    )
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer calls")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("it has no message");
    tracing::error!(panic = one_line(message, 500), "a request panicked");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "The service failed",
        "the request may have been recorded: send it again with its idempotency key; the log says what went wrong",
    )
    .into_response()
}

#[cfg(test)]
mod tests;
