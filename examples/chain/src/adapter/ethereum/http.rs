//! JSON-RPC over HTTP.

use std::error::Error;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket, ResponsePayload, RpcError};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::Service;

use super::{Endpoint, EndpointError, tls};

use watchkeeper::report::{causes, debug_as_text};

/// The largest answer that is read. A full block with its receipts has some megabytes.
const LARGEST_ANSWER: usize = 64 << 20;

/// Asks one node, over connections that are reused.
#[derive(Clone, Debug)]
pub(super) struct HttpTransport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Arc<Endpoint>,
}

/// Why there is no JSON-RPC answer. The texts may contain secrets of the address.
#[derive(thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Unreachable(String),
    #[error("the rate of requests is limited")]
    RateLimited(Option<Duration>),
    #[error("HTTP status {0}")]
    Status(StatusCode),
    /// The node or a gateway gave up on the question.
    #[error("HTTP status {0}")]
    TookTooLong(StatusCode),
    #[error("it is longer than {LARGEST_ANSWER} bytes")]
    TooLong,
    #[error("{0}")]
    Malformed(String),
}

debug_as_text!(HttpError);

impl HttpTransport {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Result<Self, EndpointError> {
        endpoint.require(["http", "https"], "http or https")?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // By default it refuses https, which the outer connector needs.
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls::config()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), endpoint })
    }

    async fn ask(&self, packet: &RequestPacket) -> Result<ResponsePacket, HttpError> {
        let body = serde_json::to_vec(packet).map_err(|error| HttpError::Malformed(error.to_string()))?;
        let mut request = Request::post(self.endpoint.secret_url()).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = self.endpoint.secret_authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(body)).map_err(unreachable)?;
        let (head, body) = self.client.request(request).await.map_err(unreachable)?.into_parts();
        if head.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(HttpError::RateLimited(retry_after(&head.headers)));
        }
        if matches!(head.status, StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT) {
            return Err(HttpError::TookTooLong(head.status));
        }
        if is_passing(head.status) {
            return Err(HttpError::Unreachable(format!("HTTP status {}", head.status)));
        }
        let body = Limited::new(body, LARGEST_ANSWER).collect().await.map_err(|error| broken_off(&*error))?;
        // Nodes answer some questions with an error of JSON-RPC and one of HTTP: the first has more details.
        serde_json::from_slice(&body.to_bytes()).map_err(|error| {
            if head.status.is_success() {
                HttpError::Malformed(error.to_string())
            } else {
                HttpError::Status(head.status)
            }
        })
    }
}

impl Service<RequestPacket> for HttpTransport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move {
            match transport.ask(&packet).await.map_err(TransportErrorKind::custom)? {
                // The whole batch was refused: alloy would only report missing answers.
                ResponsePacket::Single(answer) if matches!(packet, RequestPacket::Batch(_)) => {
                    match answer.payload {
                        ResponsePayload::Failure(error) => Err(RpcError::ErrorResp(error)),
                        ResponsePayload::Success(_) => Err(TransportErrorKind::custom(HttpError::Malformed(
                            "one answer to several questions".to_owned(),
                        ))),
                    }
                }
                answer => Ok(answer),
            }
        })
    }
}

/// Whether a status means that there is no node to answer right now.
fn is_passing(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_EARLY | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE)
}

/// Only seconds are understood: a date is not worth a parser.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn unreachable(error: impl Error) -> HttpError {
    HttpError::Unreachable(chain(&error))
}

fn broken_off(error: &(dyn Error + Send + Sync + 'static)) -> HttpError {
    if error.is::<LengthLimitError>() { HttpError::TooLong } else { HttpError::Unreachable(chain(error)) }
}

/// An error with its causes, which hyper's text leaves out. Not truncated: secrets are removed from it first.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for error in causes(error) {
        text = format!("{text}: {error}");
    }
    text
}
