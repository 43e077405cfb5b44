//! Bodies that are too large, too slow or broken.

use std::time::Duration;

use observerd::config::LimitsConfig;
use tokio::io::AsyncWriteExt;

use super::app::{App, MOST, patient};
use super::client::{Client, soon};

const SHORT: Duration = Duration::from_millis(200);

fn head(fields: &str) -> String {
    format!("POST /body HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n")
}

#[tokio::test]
async fn bodies_are_read() {
    let app = App::start(&patient()).await;
    let mut client = Client::connect(app.address).await;
    client.send(head("Content-Length: 5") + "12345").await;
    assert_eq!(client.answer().await.body, "5");
    client.send(head("Transfer-Encoding: chunked") + "3\r\n123\r\n2\r\n45\r\n0\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "5");
    client.send(head("Content-Length: 0")).await;
    assert_eq!(client.answer().await.body, "0");
    client.send(head(&format!("Content-Length: {MOST}")) + &"x".repeat(MOST)).await;
    assert_eq!(client.answer().await.body, MOST.to_string());
    client.send(head("Content-Length: 2\r\nExpect: 100-continue")).await;
    assert_eq!(client.answer().await.status, 100);
    client.send("12").await;
    assert_eq!(client.answer().await.body, "2");
    drop(client);
    app.stop().await;
}

#[tokio::test]
async fn a_length_that_is_too_large_is_refused_at_once() {
    let app = App::start(&patient()).await;
    for fields in [
        "Content-Length: 100000000",
        "Content-Length: 9223372036854775807",
        "Content-Length: 1000001\r\nExpect: 100-continue",
    ] {
        let mut client = Client::connect(app.address).await;
        client.send(head(fields)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (413, "body-too-large"), "{fields}");
        assert!(answer.closes(), "the rest is not read as a request");
        assert_eq!(client.rest().await, "");
    }
    app.stop().await;
}

/// A client that sends 100 MB without reading, and then reads.
async fn greedy(app: &App, head: String, chunk_head: &str, chunk_tail: &str) {
    let client = Client::connect(app.address).await;
    let (read, mut write) = client.stream.into_split();
    let part = format!("{chunk_head}{}{chunk_tail}", "x".repeat(100_000)).into_bytes();
    let sending = tokio::spawn(async move {
        write.write_all(head.as_bytes()).await?;
        for _ in 0..1_000 {
            write.write_all(&part).await?;
        }
        std::io::Result::Ok(write)
    });
    let mut answer = Vec::new();
    let mut read = read;
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("urn:observerd:problem:body-too-large"), "{answer}");
    let _ = soon(sending).await.unwrap();
    assert_eq!(app.bodies.used(), 0);
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_in_both_encodings() {
    let app = App::start(&patient()).await;
    greedy(&app, head("Content-Length: 100000000"), "", "").await;
    greedy(&app, head("Transfer-Encoding: chunked"), "186a0\r\n", "\r\n").await;
    assert_eq!(Client::connect(app.address).await.get("/").await.status, 200);
    app.stop().await;
}

#[tokio::test]
async fn a_body_that_a_route_does_not_read_is_not_read_as_a_request() {
    let app = App::start(&patient()).await;
    let mut client = Client::connect(app.address).await;
    let inner = "GET /peer HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client
        .send(format!("POST /ignore HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{inner}"))
        .await;
    let answer = client.answer().await;
    assert_eq!(answer.body, "ignored");
    assert!(answer.closes());
    assert_eq!(client.rest().await, "");
    app.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_refused() {
    let app = App::start(&LimitsConfig { body: SHORT, ..patient() }).await;
    for start in [head("Content-Length: 10") + "1", head("Transfer-Encoding: chunked") + "5\r\n1"] {
        let mut client = Client::connect(app.address).await;
        client.send(start).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (408, "slow-body"));
        assert!(answer.closes());
        assert_eq!(client.rest().await, "");
    }
    assert_eq!(app.bodies.used(), 0);
    app.stop().await;
}

#[tokio::test]
async fn a_broken_body_is_refused() {
    let app = App::start(&patient()).await;
    for body in ["zz\r\n12\r\n", "5\r\n1234567\r\n", "FFFFFFFFFFFFFFFFF\r\n"] {
        let mut client = Client::connect(app.address).await;
        client.send(head("Transfer-Encoding: chunked") + body).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "broken-body"), "{body:?}");
        assert_eq!(client.rest().await, "");
    }
    // The client goes away in the middle.
    let mut client = Client::connect(app.address).await;
    client.send(head("Content-Length: 10") + "1").await;
    drop(client);
    assert_eq!(app.stop().await.aborted, 0);
}

#[tokio::test]
async fn bodies_share_their_memory() {
    let app = App::start(&LimitsConfig { bodies: 100_000, ..patient() }).await;
    let mut slow = Client::connect(app.address).await;
    slow.send(head("Content-Length: 90000") + &"x".repeat(80_000)).await;
    soon(async {
        while app.bodies.used() < 80_000 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut other = Client::connect(app.address).await;
    other.send(head("Content-Length: 50000")).await;
    let answer = other.answer().await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "overloaded"));
    assert!(answer.head.contains("retry-after: 1\r\n"));
    slow.send("x".repeat(10_000)).await;
    assert_eq!(slow.answer().await.body, "90000");
    let mut other = Client::connect(app.address).await;
    other.send(head("Content-Length: 50000") + &"x".repeat(50_000)).await;
    assert_eq!(other.answer().await.body, "50000");
    drop((slow, other));
    app.stop().await;
}

/// A socket that is closed with unread bytes is reset: the client's write fails, and it may never read the answer.
#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_gets_the_answer() {
    let app = App::start(&patient()).await;
    let mut client = Client::connect(app.address).await;
    client.send(head("Content-Length: 20000000")).await;
    for _ in 0..20 {
        client.send("x".repeat(MOST)).await;
    }
    assert_eq!(client.answer().await.problem(), "body-too-large");
    drop(client);
    app.stop().await;
}
