//! Refusals of the framework, which are plain text, as problem documents.

use axum::body::{Body, to_bytes};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use watchkeeper::report::one_line;

use super::problem::Problem;

/// The most bytes of a refusal's text that are kept.
const MAX_TEXT: usize = 4 * 1024;

/// The answer itself, or a problem with the same status and header fields if it is a refusal in plain text or without a body.
pub(crate) async fn as_problem(response: Response) -> Response {
    if !is_plain_refusal(&response) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_TEXT).await.unwrap_or_default();
    let (slug, title) = words(parts.status);
    let detail = String::from_utf8_lossy(&text);
    if parts.status.is_server_error() {
        // What went wrong inside is for the log alone.
        tracing::error!(status = parts.status.as_u16(), error = one_line(&detail, 500), "a request failed");
    }
    let detail = if detail.is_empty() || parts.status.is_server_error() { title } else { detail.as_ref() };
    let mut problem = Problem::new(parts.status, slug, title, detail);
    problem.retry_after = parts.headers.get(header::RETRY_AFTER).and_then(seconds);
    let mut answer = problem.into_response();
    keep(answer.headers_mut(), &parts.headers);
    *answer.extensions_mut() = parts.extensions;
    answer
}

/// An answer without a body and with the header fields of another.
pub(crate) fn emptied(response: &Response, status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    keep(answer.headers_mut(), response.headers());
    answer
}

fn is_plain_refusal(response: &Response) -> bool {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return false;
    }
    response.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

fn keep(headers: &mut HeaderMap, kept: &HeaderMap) {
    let is_of_body = |name: &header::HeaderName| {
        [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name)
    };
    for (name, value) in kept.iter().filter(|(name, _)| !is_of_body(name)) {
        if !headers.contains_key(name) || name == header::SET_COOKIE {
            headers.append(name, value.clone());
        }
    }
}

fn seconds(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::NOT_FOUND => ("not-found", "There is nothing at this address"),
        StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "The method is not allowed here"),
        StatusCode::REQUEST_TIMEOUT => ("slow-body", "The request was too slow"),
        StatusCode::PAYLOAD_TOO_LARGE => ("body-too-large", "The body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("unsupported-media-type", "The body's media type is not supported")
        }
        StatusCode::UNPROCESSABLE_ENTITY => ("invalid-body", "The body has another form"),
        status if status.is_client_error() => ("invalid-request", "The request is not valid"),
        StatusCode::SERVICE_UNAVAILABLE => ("overloaded", "The service has too much to do"),
        _ => ("internal", "The service failed"),
    }
}
