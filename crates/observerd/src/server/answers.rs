//! The memory of answers: a client that reads slowly holds what it has not read.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use tokio::sync::OwnedSemaphorePermit;

/// The size of a piece.
const PIECE: usize = 64 * 1024;

/// An answer in JSON. Its permit, of at least as many bytes, is returned when the client has read it, or is gone.
pub(crate) fn json(text: String, mut permit: OwnedSemaphorePermit) -> Response {
    // What was only for the making is free now.
    drop(permit.split(permit.num_permits().saturating_sub(text.len())));
    let length = text.len();
    let pieces = stream::unfold((Bytes::from(text), permit), |(mut rest, permit)| async move {
        if rest.is_empty() {
            return None;
        }
        let piece = rest.split_to(rest.len().min(PIECE));
        Some((Ok::<_, Infallible>(piece), (rest, permit)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}
