//! Bodies of requests.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use crate::api::ErrorCode;

/// A JSON body. Anything else is refused with the position of the error.
///
/// The content type is ignored, so that `curl -d` works.
pub(super) struct Body<T>(pub(super) T);

impl<T, S> FromRequest<S> for Body<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state).await.map_err(|error| {
            if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let message = "the body is too large: keep a write under 1 MiB";
                Refusal::new(ErrorCode::TooLarge, message)
            } else {
                Refusal::bad_request(error.body_text())
            }
        })?;
        // Without this, serde would take an array for a struct.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(Refusal::bad_request("the body is not a JSON object"));
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) => {
                Err(Refusal::bad_request(format!("the body is not what this route takes: {error}")))
            }
        }
    }
}
