//! The memory of answers: a client that reads slowly holds what it has not read.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::app::App;
use super::problem::Problem;

/// The text of an answer, with its memory.
struct HeldText {
    text: Box<str>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for HeldText {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// An answer in JSON, for which there is memory.
///
/// # Errors
///
/// 503 if there is none now.
pub(crate) fn of(app: &App, value: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_string(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        let detail = "the answer cannot be written: see the service's log";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service failed", detail)
    })?;
    let permit = app.answers.reserve(text.len())?;
    Ok(json(text, permit))
}

/// The same of a text. The permit, of at least as many bytes, is returned with the last piece that anybody holds.
pub(crate) fn json(text: String, mut permit: OwnedSemaphorePermit) -> Response {
    // What was only for the making is free now.
    drop(permit.split(permit.num_permits().saturating_sub(text.len())));
    let text = HeldText { text: text.into_boxed_str(), _permit: permit };
    let mut response = Response::new(Body::from(Bytes::from_owner(text)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
