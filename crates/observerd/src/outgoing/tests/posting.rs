//! What is sent, and what is made of the answer.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::peers::{FakeNet, Leads, Server, allow, read_request, url};
use crate::outgoing::{Answer, Connector, OutgoingError, OutgoingFilter, Step};

const LONG: Duration = Duration::from_secs(20);

fn connector() -> Connector {
    Connector::new(allow(&["127.0.0.1"]))
}

async fn post(answer: &str) -> Result<Answer, OutgoingError> {
    let server = Server::answering(answer).await;
    connector().post_json(&server.url("/SECRET"), Bytes::from_static(b"{}"), HeaderMap::new(), LONG).await
}

#[tokio::test]
async fn a_request_has_what_it_needs_and_no_more() {
    let server = Server::answering("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok").await;
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("idempotency-key"), HeaderValue::from_static("abc-1"));
    headers.insert(http::header::HOST, HeaderValue::from_static("other.example"));
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from_static("99"));
    let url = server.url("/hook?key=value#fragment");
    let answer = connector().post_json(&url, Bytes::from_static(b"{\"a\":1}"), headers, LONG).await.unwrap();
    assert_eq!(answer, Answer { status: 202, retry_after: None });
    let [request] = &server.requests()[..] else { panic!("{:?}", server.requests()) };
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    let agent = format!("user-agent: observerd/{}", env!("CARGO_PKG_VERSION"));
    let mut expected = [
        "POST /hook?key=value HTTP/1.1",
        "connection: close",
        "content-length: 7",
        "content-type: application/json",
        &host,
        "idempotency-key: abc-1",
        &agent,
    ];
    expected.sort_unstable();
    assert_eq!((lines, body), (expected.to_vec(), "{\"a\":1}"));
}

#[tokio::test]
async fn the_host_header_has_no_default_port_and_no_dot() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let net = FakeNet::answering(&[&["127.0.0.1"]], Leads::There);
    let connector = Connector::with(allow(&["127.0.0.1"]), Box::new(net.clone()), None);
    let url = url(format!("http://Hooks.Example.:{}/", server.address.port()));
    connector.post_json(&url, Bytes::new(), HeaderMap::new(), LONG).await.unwrap();
    let request = server.requests().remove(0);
    assert!(request.contains(&format!("host: hooks.example:{}\r\n", server.address.port())), "{request}");
    assert_eq!(*net.resolved.lock().unwrap(), ["hooks.example."], "the dot ends the search for domains");
    assert_eq!(super::peers::url("https://hooks.example./").origin().host_header(), "hooks.example");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [300, 301, 302, 303, 304, 307, 308] {
        let target = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
        let location = format!("http://{}/SECRET", target.address);
        let error =
            post(&format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"))
                .await
                .unwrap_err();
        assert!(matches!(error, OutgoingError::Redirect { status: found, .. } if found == status), "{error}");
        assert!(
            error.to_string().contains("not followed") && !error.to_string().contains("SECRET"),
            "{error}"
        );
        assert_eq!(target.requests(), [""; 0]);
    }
}

type Check = fn(Option<Duration>) -> bool;

#[tokio::test]
async fn retry_after_is_read() {
    let cases: [(_, Check); 9] = [
        ("7", |after| after == Some(Duration::from_secs(7))),
        ("0", |after| after == Some(Duration::ZERO)),
        ("99999999999999999999999", |after| after == Some(Duration::from_secs(u64::MAX))),
        ("Sun, 06 Nov 1994 08:49:37 GMT", |after| after == Some(Duration::ZERO)),
        ("Fri, 31 Dec 2100 23:59:59 GMT", |after| after > Some(Duration::from_hours(24 * 365))),
        ("-1", |after| after.is_none()),
        ("1.5", |after| after.is_none()),
        ("soon", |after| after.is_none()),
        ("", |after| after.is_none()),
    ];
    for (text, expected) in cases {
        let answer = format!("HTTP/1.1 503 X\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n");
        let answer = post(&answer).await.unwrap();
        assert!(answer.status == 503 && expected(answer.retry_after), "{text:?}: {answer:?}");
    }
}

#[tokio::test]
async fn an_interim_answer_is_passed_over() {
    let answer =
        post("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(answer.await.unwrap().status, 500);
}

#[tokio::test]
async fn what_is_no_http_is_an_error() {
    let huge = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1024 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(5_000));
    for answer in ["", "SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 2", "HTTP/1.1 9999 X\r\n\r\n", &huge, &many] {
        let error = post(answer).await.unwrap_err();
        let text = format!("{error:?}");
        assert!(matches!(error, OutgoingError::Http { .. }), "{text}");
        assert!(text.len() < 500 && !text.contains("SECRET"), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url(format!("http://{}/", listener.local_addr().unwrap()));
    let short = Duration::from_millis(100);
    let error = connector().post_json(&url, Bytes::new(), HeaderMap::new(), short).await.unwrap_err();
    assert!(matches!(error, OutgoingError::Timeout { step: Step::Answer, .. }), "{error}");
}

/// The status counts, also if the body does not end; and the connection is closed.
#[tokio::test]
async fn an_endless_body_is_dropped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url(format!("http://{}/", listener.local_addr().unwrap()));
    let writes = AbortOnDropHandle::new(tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut written = 0_usize;
        while stream.write_all(&[b'x'; 16 * 1024]).await.is_ok() {
            written += 16 * 1024;
        }
        written
    }));
    let answer = connector().post_json(&url, Bytes::new(), HeaderMap::new(), LONG).await.unwrap();
    assert_eq!(answer.status, 200);
    // 64 KiB, and what the sockets hold.
    let written = writes.await.unwrap();
    assert!(written < 32 * 1024 * 1024, "{written} bytes were read");
}

#[tokio::test]
async fn a_refused_address_gets_nothing() {
    let server = Server::answering("HTTP/1.1 200 OK\r\n\r\n").await;
    let closed = Connector::new(OutgoingFilter::default());
    let error = closed.post_json(&server.url("/"), Bytes::new(), HeaderMap::new(), LONG).await.unwrap_err();
    assert!(matches!(error, OutgoingError::Refused { .. }), "{error}");
    assert_eq!(server.requests(), [""; 0]);
}
