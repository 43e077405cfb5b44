//! JSON over HTTP/1.1 with one pooled client, for clients and between nodes.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderName, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{ErrorBody, NodeId};

/// Names the cluster that a request is meant for.
pub(crate) const CLUSTER_HEADER: HeaderName = HeaderName::from_static("openraft-kv-cluster");
/// Names the node that a request is meant for.
pub(crate) const NODE_HEADER: HeaderName = HeaderName::from_static("openraft-kv-node");

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDLE_CONNECTION: Duration = Duration::from_secs(10);
const LARGEST_ANSWER: usize = 64 << 20;

/// The target of a request: an address, and the node expected there.
///
/// Ports are reused: the address of a dead node may be that of a node of another cluster by now. A node
/// that is not the expected one refuses the request.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) addr: Arc<str>,
    pub(crate) identity: Option<(Arc<str>, NodeId)>,
}

/// Why there is no usable answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nothing accepted the connection.
    Unreachable(Box<dyn Error + Send + Sync>),
    /// No answer within the limit. A paused process accepts connections and never answers.
    TimedOut(Duration),
    /// The connection broke: the request may have been executed.
    Broken(Box<dyn Error + Send + Sync>),
    /// An answer that is not a success, with its reason.
    Refused(StatusCode, ErrorBody),
    /// An answer that the route does not give.
    BadAnswer(String),
}

/// The client: cheap to clone, clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .build(connector);
        Self { client }
    }

    pub(crate) async fn get<T>(&self, target: &Target, path: &str, limit: Duration) -> Result<T, CallError>
    where
        T: DeserializeOwned,
    {
        let request = request(Method::GET, target, path, Vec::new())?;
        self.within(limit, request).await
    }

    pub(crate) async fn post<B, T>(
        &self,
        target: &Target,
        path: &str,
        body: &B,
        limit: Duration,
    ) -> Result<T, CallError>
    where
        B: Serialize,
        T: DeserializeOwned,
    {
        let body = serde_json::to_vec(body).map_err(|e| CallError::Broken(e.into()))?;
        let request = request(Method::POST, target, path, body)?;
        self.within(limit, request).await
    }

    async fn within<T: DeserializeOwned>(
        &self,
        limit: Duration,
        request: Request<Full<Bytes>>,
    ) -> Result<T, CallError> {
        let (status, body) = tokio::time::timeout(limit, self.exchange(request))
            .await
            .map_err(|_| CallError::TimedOut(limit))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| CallError::BadAnswer(e.to_string()));
        }
        match serde_json::from_slice(&body) {
            Ok(reason) => Err(CallError::Refused(status, reason)),
            Err(_) => Err(CallError::BadAnswer(format!("status {status} without a JSON error body"))),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), CallError> {
        let answer = self.client.request(request).await.map_err(|e| {
            if e.is_connect() { CallError::Unreachable(e.into()) } else { CallError::Broken(e.into()) }
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await.map_err(|e| {
            match e.downcast::<LengthLimitError>() {
                Ok(_) => CallError::BadAnswer(format!("more than {LARGEST_ANSWER} bytes")),
                Err(e) => CallError::Broken(e),
            }
        })?;
        Ok((status, body.to_bytes()))
    }
}

fn request(
    method: Method,
    target: &Target,
    path: &str,
    body: Vec<u8>,
) -> Result<Request<Full<Bytes>>, CallError> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://{}{path}", target.addr))
        .header(header::CONTENT_TYPE, "application/json");
    if let Some((cluster, node)) = &target.identity {
        request = request.header(CLUSTER_HEADER, &**cluster).header(NODE_HEADER, *node);
    }
    request.body(Full::from(body)).map_err(|e| CallError::Unreachable(e.into()))
}
