//! Heads that are no requests, and connections over the limit.

use observerd::config::LimitsConfig;

use super::app::{App, patient};
use super::client::{Client, soon};

#[tokio::test]
async fn requests_of_one_connection_are_served() {
    let app = App::start(&patient()).await;
    let mut client = Client::connect(app.address).await;
    let own = client.stream.local_addr().unwrap().to_string();
    assert_eq!(client.get("/").await.body, "here");
    assert_eq!(client.get("/peer").await.body, own);
    assert_eq!(client.get("/nothing").await.problem(), "not-found");
    assert_eq!(client.get("/").await.status, 200);
    let drained = app.stop().await;
    assert_eq!((drained.served, drained.refused, drained.aborted), (1, 0, 0));
}

#[tokio::test]
async fn what_is_not_http_is_answered_with_a_problem() {
    let app = App::start(&patient()).await;
    let many = "X: 1\r\n".repeat(101);
    let large = "x".repeat(20_000);
    let cases: [(Vec<u8>, u16, &str); 13] = [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400, "malformed-request"),
        (b"GET / HTTP/2.0\r\n\r\n".to_vec(), 400, "malformed-request"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n".to_vec(),
            400,
            "malformed-request",
        ),
        (b"\0\0\0\0\r\n\r\n".to_vec(), 400, "malformed-request"),
        (b"EHLO example.org\r\n\r\n".to_vec(), 400, "malformed-request"),
        (b"GET / HTTP/3.0\r\n\r\n".to_vec(), 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n".to_vec(), 400, "malformed-request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n".to_vec(), 400, "malformed-request"),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n".to_vec(),
            400,
            "malformed-request",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(),
            400,
            "malformed-request",
        ),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}\r\n").into(), 431, "head-too-large"),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {large}\r\n\r\n").into(), 431, "head-too-large"),
        (format!("GET /{large} HTTP/1.1\r\nHost: localhost\r\n\r\n").into(), 431, "head-too-large"),
    ];
    for (head, status, kind) in cases {
        let mut client = Client::connect(app.address).await;
        client.send(&head).await;
        let answer = client.answer().await;
        let head = String::from_utf8_lossy(&head[..head.len().min(60)]).into_owned();
        assert_eq!(answer.status, status, "{head:?}");
        assert_eq!(answer.problem(), kind, "{head:?}");
        assert!(answer.closes());
        assert_eq!(client.rest().await, "");
    }
    app.stop().await;
}

#[tokio::test]
async fn an_endless_head_is_refused_before_it_ends() {
    let app = App::start(&patient()).await;
    let mut client = Client::connect(app.address).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(200_000))).await;
    assert_eq!(client.answer().await.problem(), "head-too-large");
    assert_eq!(client.rest().await, "");
    app.stop().await;
}

#[tokio::test]
async fn garbage_after_a_request_does_not_change_its_answer() {
    let app = App::start(&patient()).await;
    let mut client = Client::connect(app.address).await;
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\ngarbage\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "here"));
    assert_eq!(client.answer().await.problem(), "malformed-request");
    assert_eq!(client.rest().await, "");
    app.stop().await;
}

#[tokio::test]
async fn a_request_without_a_host_or_for_another_one() {
    let app = App::start(&patient()).await;
    for (head, status, kind) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "invalid-host"),
        ("GET / HTTP/1.0\r\n\r\n", 400, "invalid-host"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400, "invalid-host"),
        ("GET http://evil.com/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400, "invalid-host"),
        ("GET / HTTP/1.1\r\nHost: rebound.evil.com:3219\r\n\r\n", 421, "misdirected"),
        ("CONNECT evil.com:80 HTTP/1.1\r\nHost: evil.com:80\r\n\r\n", 421, "misdirected"),
        (
            "POST /ignore HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.com\r\n\r\n",
            403,
            "foreign-origin",
        ),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:1\r\n\r\n", 403, "foreign-origin"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\n\r\n", 403, "foreign-origin"),
    ] {
        let mut client = Client::connect(app.address).await;
        client.send(head).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, kind), "{head:?}");
    }
    let mut client = Client::connect(app.address).await;
    client.send(format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", app.address)).await;
    assert_eq!(client.answer().await.status, 200);
    client.send("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n").await;
    assert_eq!(client.answer().await.problem(), "not-found");
    app.stop().await;
}

#[tokio::test]
async fn a_connection_over_the_limit_is_refused() {
    let app = App::start(&LimitsConfig { connections: 2, ..patient() }).await;
    let mut first = Client::connect(app.address).await;
    assert_eq!(first.get("/").await.status, 200);
    let mut second = Client::connect(app.address).await;
    assert_eq!(second.get("/").await.status, 200);

    let mut third = Client::connect(app.address).await;
    let answer = third.get("/").await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "too-many-connections"));
    assert!(answer.head.contains("retry-after: 1\r\n") && answer.closes());
    assert_eq!(third.rest().await, "");
    // One that sends nothing is answered too.
    let mut silent = Client::connect(app.address).await;
    assert_eq!(silent.answer().await.problem(), "too-many-connections");

    // The others are still served, and there is a place again when one has ended.
    assert_eq!(first.get("/").await.status, 200);
    drop(second);
    soon(async { while Client::connect(app.address).await.get("/").await.status != 200 {} }).await;
    assert_eq!(first.get("/").await.status, 200);
    drop(first);
    assert!(app.stop().await.refused >= 2);
}

#[tokio::test]
async fn a_body_in_another_transfer_coding_is_refused_and_the_connection_ends() {
    let app = App::start(&patient()).await;
    for coding in ["gzip, chunked", "chunked, chunked", "identity, chunked"] {
        let mut client = Client::connect(app.address).await;
        let body = "1\r\nx\r\n0\r\n\r\n";
        client
            .send(format!(
                "POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {coding}\r\n\r\n{body}"
            ))
            .await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (501, "unsupported-transfer-encoding"),
            "{coding}"
        );
        assert!(answer.closes());
        assert_eq!(client.rest().await, "");
    }
    let mut client = Client::connect(app.address).await;
    client
        .send(
            "POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(client.answer().await.body, "1");
    app.stop().await;
}

#[tokio::test]
async fn one_address_does_not_take_each_place() {
    let app = App::start(&LimitsConfig { connections: 4, connections_per_address: 2, ..patient() }).await;
    let from = |address: &'static str| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(address.parse().unwrap()).unwrap();
        Client { stream: soon(socket.connect(app.address)).await.unwrap() }
    };
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut client = from("127.0.0.2:0").await;
        assert_eq!(client.get("/").await.status, 200);
        idle.push(client);
    }
    let mut third = from("127.0.0.2:0").await;
    assert_eq!(third.get("/").await.problem(), "too-many-connections");
    let mut other = from("127.0.0.3:0").await;
    assert_eq!(other.get("/").await.status, 200);
    // An address has its place again.
    drop(idle.pop());
    soon(async { while from("127.0.0.2:0").await.get("/").await.status != 200 {} }).await;
    drop((idle, other));
    assert!(app.stop().await.refused >= 1);
}

#[tokio::test]
async fn a_flood_of_connections_over_the_limit_is_closed() {
    let app = App::start(&LimitsConfig { connections: 1, ..patient() }).await;
    let mut first = Client::connect(app.address).await;
    assert_eq!(first.get("/").await.status, 200);
    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.push(Client::connect(app.address).await);
    }
    for client in &mut flood {
        let rest = client.rest().await;
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 503 "), "{rest}");
    }
    assert_eq!(first.get("/").await.status, 200);
    assert_eq!((app.counts.refused(), app.counts.open()), (300, 1));
    app.stop().await;
}
