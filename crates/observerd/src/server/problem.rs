//! Problem documents (RFC 9457): the one form of every refusal.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;
use watchkeeper::report::one_line;

/// The media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal, as RFC 9457 says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: a URN such as `urn:observerd:problem:invalid-operation`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for a person.
    pub title: &'static str,
    /// The status code of the answer.
    pub status: u16,
    /// What is wrong here, and how to mend it.
    pub detail: String,
    /// The field that is wrong, as a JSON pointer into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// In how many seconds it makes sense to try again; also in `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem. `slug` is the last part of its type; `detail` is put on one line, and is truncated at 1,000 bytes.
    #[must_use]
    pub fn new(status: StatusCode, slug: &str, title: &'static str, detail: impl AsRef<str>) -> Self {
        Self {
            kind: format!("urn:observerd:problem:{slug}"),
            title,
            status: status.as_u16(),
            detail: one_line(detail.as_ref(), 1_000),
            pointer: None,
            retry_after: None,
        }
    }

    /// The same with the field that is wrong.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// The same with the seconds after which it makes sense to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
