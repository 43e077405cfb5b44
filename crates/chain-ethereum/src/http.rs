//! Requests over HTTP.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderName, RETRY_AFTER,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::classify::{Class, LONGEST_WAIT};
use super::failure::Fault;
use super::message::{NodeError, Packet, Reply};
use super::{Endpoint, EndpointError, tls};

use watchkeeper::report::causes;

/// The largest answer that is read. A full block with its receipts has some megabytes.
const LARGEST_ANSWER: usize = 64 << 20;

/// Asks one node, over connections that are reused.
#[derive(Clone, Debug)]
pub(super) struct HttpTransport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Arc<Endpoint>,
}

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

    /// Sends a message of JSON-RPC, and reads the answer.
    pub(super) async fn ask(&self, message: Vec<u8>) -> Result<Packet, Fault> {
        let mut request = Request::post(self.endpoint.secret_url())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = self.endpoint.secret_authorization() {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Full::from(message)).map_err(unreachable)?;
        let (head, body) = self.client.request(request).await.map_err(unreachable)?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        let body = match body {
            Ok(body) => body.to_bytes(),
            Err(error) if head.status.is_success() => return Err(broken_off(&*error)),
            // The status says enough.
            Err(_) => Bytes::new(),
        };
        let packet = Packet::read(&body);
        if head.status.is_success() {
            return packet.map_err(|error| self.unreadable(&head.headers, &body, &error));
        }
        let error = match packet {
            // Nodes answer some questions with an error of JSON-RPC and one of HTTP: the first has more details.
            Ok(Packet::One(answer)) => answer.outcome.and_then(Result::err),
            Ok(Packet::Many(answers)) if is_answered(head.status, &answers) => {
                return Ok(Packet::Many(answers));
            }
            _ => None,
        };
        Err(self.failed(head.status, &head.headers, &body, error))
    }
}

/// Whether a batch that came with a status other than success is its answer.
fn is_answered(status: StatusCode, answers: &[Reply]) -> bool {
    let has_result = || answers.iter().any(|answer| matches!(answer.outcome, Some(Ok(_))));
    !is_passing(status) && (status != StatusCode::TOO_MANY_REQUESTS || has_result())
}

impl HttpTransport {
    /// What a status other than success means.
    fn failed(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        error: Option<NodeError>,
    ) -> Fault {
        let class = error.as_ref().map(NodeError::class);
        let wait = retry_after(headers);
        match (class, error) {
            (Some(Class::RangeTooLarge | Class::NoBatch), Some(error)) => Fault::Node(error),
            (Some(Class::RateLimited(given)), _) => Fault::RateLimited(wait.or(given)),
            _ if status == StatusCode::TOO_MANY_REQUESTS => Fault::RateLimited(wait),
            _ if wait.is_none()
                && matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT) =>
            {
                Fault::TookTooLong(status)
            }
            _ if is_passing(status) => Fault::Unreachable { reason: format!("HTTP status {status}"), wait },
            (_, Some(error)) => Fault::Node(error),
            _ => {
                let kind = self.kind(headers, body).map_or_else(String::new, |kind| format!(" ({kind})"));
                let says = if kind.is_empty() { beginning(body) } else { String::new() };
                Fault::Status { status, shown: format!("HTTP status {status}{kind}"), says, wait }
            }
        }
    }

    fn unreadable(&self, headers: &HeaderMap, body: &[u8], error: &serde_json::Error) -> Fault {
        Fault::Malformed(match self.kind(headers, body) {
            Some(kind) => format!("it is {kind}"),
            None if body.iter().all(u8::is_ascii_whitespace) => "it is empty".to_owned(),
            None => error.to_string(),
        })
    }

    /// What a body is that is no JSON.
    fn kind(&self, headers: &HeaderMap, body: &[u8]) -> Option<String> {
        let value = |name: HeaderName| {
            let value = String::from_utf8_lossy(headers.get(name)?.as_bytes());
            // Truncated only after the secrets are removed, which are recognised as a whole.
            Some(self.endpoint.clear(&value).chars().take(60).collect::<String>())
        };
        let encoding = value(CONTENT_ENCODING).filter(|encoding| !encoding.eq_ignore_ascii_case("identity"));
        if let Some(encoding) = encoding {
            return Some(format!("compressed, which was not asked for, content-encoding: {encoding}"));
        }
        if body.starts_with(&[0x1f, 0x8b]) {
            return Some("compressed, as content-encoding: gzip".to_owned());
        }
        let content_type = value(CONTENT_TYPE);
        let is_page = |content_type: &String| content_type.to_lowercase().contains("html");
        if content_type.as_ref().is_some_and(is_page) || beginning(body).starts_with('<') {
            let content_type = content_type.unwrap_or_else(|| "none".to_owned());
            return Some(format!("a web page, content-type: {content_type}"));
        }
        None
    }
}

/// Whether a status means that there is no node to answer right now. Those from 520 on are Cloudflare's.
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    ) || matches!(status.as_u16(), 520..=524 | 527 | 529 | 530)
}

/// When to ask again, as seconds or as a date. A date is compared with that of the answer, since clocks differ.
///
/// A longer wait than a day is not believed.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let date = |name: &HeaderName| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok();
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds).min(LONGEST_WAIT));
    }
    let now = date(&DATE).unwrap_or_else(SystemTime::now);
    let wait = date(&RETRY_AFTER)?.duration_since(now).ok()?;
    Some(wait.min(LONGEST_WAIT))
}

/// The beginning of a text.
fn beginning(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(1_000)]);
    text.trim_start().chars().take(200).collect()
}

fn unreachable(error: impl Error) -> Fault {
    Fault::Unreachable { reason: chain(&error), wait: None }
}

fn broken_off(error: &(dyn Error + Send + Sync + 'static)) -> Fault {
    if error.is::<LengthLimitError>() {
        Fault::TooLong(LARGEST_ANSWER)
    } else {
        Fault::Unreachable { reason: chain(error), wait: None }
    }
}

/// An error with its causes, which hyper's text leaves out. Not truncated: secrets are removed from it first.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for error in causes(error) {
        text = format!("{text}: {error}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_ask_again_is_seconds_or_a_date() {
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        for (after, now, seconds) in [
            ("7", None, Some(7)),
            (" 120 ", None, Some(120)),
            ("18446744073709551615", None, Some(86_400)),
            (date, Some("Wed, 21 Oct 2009 07:28:00 GMT"), Some(86_400)),
            (date, Some("Wed, 21 Oct 2015 07:27:30 GMT"), Some(30)),
            (date, Some("Wed, 21 Oct 2015 07:28:30 GMT"), None),
            (date, None, None),
            ("soon", None, None),
            ("-1", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, after.parse().unwrap());
            if let Some(now) = now {
                headers.insert(DATE, now.parse().unwrap());
            }
            assert_eq!(retry_after(&headers), seconds.map(Duration::from_secs), "{after} at {now:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
