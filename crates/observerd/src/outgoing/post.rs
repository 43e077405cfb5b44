//! A POST of JSON, and what is answered.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use watchkeeper::report::{error_chain, one_line};

use super::connector::Connector;
use super::error::{OutgoingError, Step};
use super::url::{Origin, OutgoingUrl};

/// The most bytes that are read of an answer's body.
const MOST_BODY: usize = 64 * 1024;

/// The most bytes of an answer's head.
const MOST_HEAD: usize = 64 * 1024;

/// How long an answer's body is read: what counts is the status.
const BODY_WITHIN: Duration = Duration::from_secs(2);

/// The longest time for a request.
const LONGEST: Duration = Duration::from_hours(24);

const USER_AGENT: &str = concat!("observerd/", env!("CARGO_PKG_VERSION"));

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code; not one of a redirect.
    pub status: u16,
    /// The header `Retry-After`: seconds, or the time until a date.
    pub retry_after: Option<Duration>,
}

impl Connector {
    /// Posts a JSON document by HTTP/1.1 over a connection of its own, and returns what is answered, within `within` in all.
    ///
    /// `headers` are sent beside `Host`, `Content-Type` and `User-Agent`, which cannot be set. Of the answer's body at most 64 KiB
    /// are read, and dropped.
    ///
    /// # Errors
    ///
    /// [`OutgoingError`]; also if the answer is a redirect. Any other status is an answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it closes the connection; the peer may have received the document.
    pub async fn post_json(
        &self,
        url: &OutgoingUrl,
        body: Bytes,
        headers: HeaderMap,
        within: Duration,
    ) -> Result<Answer, OutgoingError> {
        let origin = url.origin();
        let within = within.min(LONGEST);
        let deadline = Instant::now() + within;
        let request = request(url, body, headers)?;
        let connection = self.connect(url, within).await?;
        let exchange = async {
            let (mut sender, driver) = http1::Builder::new()
                .max_buf_size(MOST_HEAD)
                .handshake(TokioIo::new(connection))
                .await
                .map_err(|error| http_error(origin, &error))?;
            // Dropped with this future: nothing outlives it.
            let mut driving = JoinSet::new();
            driving.spawn(async move {
                let _ = driver.await;
            });
            let answer = sender.send_request(request).await.map_err(|error| http_error(origin, &error))?;
            let head = (answer.status().as_u16(), retry_after(answer.headers()));
            let body_deadline = deadline.min(Instant::now() + BODY_WITHIN);
            let _ = timeout_at(body_deadline, discard(answer.into_body())).await;
            Ok(head)
        };
        let (status, retry_after) = timeout_at(deadline, exchange)
            .await
            .unwrap_or_else(|_| Err(OutgoingError::Timeout { origin: origin.clone(), step: Step::Answer }))?;
        if (300..400).contains(&status) {
            return Err(OutgoingError::Redirect { origin: origin.clone(), status });
        }
        Ok(Answer { status, retry_after })
    }
}

fn request(
    url: &OutgoingUrl,
    body: Bytes,
    mut headers: HeaderMap,
) -> Result<Request<Full<Bytes>>, OutgoingError> {
    let origin = url.origin();
    let invalid = |message: String| OutgoingError::Http { origin: origin.clone(), message };
    let host = HeaderValue::from_str(&origin.host_header())
        .map_err(|_| invalid("the host does not fit in a header".to_owned()))?;
    headers.insert(header::HOST, host);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    for managed in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT, header::UPGRADE] {
        headers.remove(managed);
    }
    let mut request = Request::post(url.target())
        .body(Full::new(body))
        // Its text would have the path.
        .map_err(|_| invalid("the path does not fit in a request".to_owned()))?;
    *request.headers_mut() = headers;
    Ok(request)
}

async fn discard(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= MOST_BODY {
            return;
        }
    }
}

fn http_error(origin: &Origin, error: &hyper::Error) -> OutgoingError {
    OutgoingError::Http { origin: origin.clone(), message: one_line(&error_chain(error), 200) }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let left = date.duration_since(Timestamp::now());
    Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
}
