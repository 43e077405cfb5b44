//! Clients that are slow, idle or do not read.

use std::time::Duration;

use observerd::config::LimitsConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::app::{App, patient};
use super::client::{Client, soon};

const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_ends_at_the_deadline() {
    let app = App::start(&LimitsConfig { head: SHORT, ..patient() }).await;
    let client = Client::connect(app.address).await;
    let (mut read, mut write) = client.stream.into_split();
    let dripping = tokio::spawn(async move {
        let _ = write.write_all(b"GET / HTTP/1.1\r\n").await;
        while write.write_all(b"X").await.is_ok() {
            sleep(SHORT / 10).await;
        }
    });
    let mut answer = Vec::new();
    let _ = soon(read.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("urn:observerd:problem:slow-head"), "{answer}");
    soon(dripping).await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_an_answer() {
    let app = App::start(&LimitsConfig { head: SHORT, ..patient() }).await;
    let mut silent = Client::connect(app.address).await;
    assert_eq!(silent.rest().await, "");
    let mut kept = Client::connect(app.address).await;
    assert_eq!(kept.get("/").await.status, 200);
    assert_eq!(kept.rest().await, "");
    let mut posted = Client::connect(app.address).await;
    posted.send("POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx").await;
    assert_eq!(posted.answer().await.body, "1");
    assert_eq!(posted.rest().await, "");
    app.stop().await;
}

#[tokio::test]
async fn a_second_head_in_part_ends_at_the_deadline() {
    let app = App::start(&LimitsConfig { head: SHORT, ..patient() }).await;
    let mut client = Client::connect(app.address).await;
    assert_eq!(client.get("/").await.status, 200);
    client.send("GET / HTT").await;
    assert_eq!(client.answer().await.problem(), "slow-head");
    assert_eq!(client.rest().await, "");
    app.stop().await;
}

#[tokio::test]
async fn a_second_head_in_part_in_the_packet_of_the_first_ends_at_the_deadline() {
    let app = App::start(&LimitsConfig { head: SHORT, ..patient() }).await;
    let mut client = Client::connect(app.address).await;
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTT").await;
    assert_eq!(client.answer().await.body, "here");
    assert_eq!(client.answer().await.problem(), "slow-head");
    assert_eq!(client.rest().await, "");
    // An empty line after a request is no head.
    let mut client = Client::connect(app.address).await;
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "here");
    assert_eq!(client.rest().await, "");
    app.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_and_steadily_is_not_disconnected() {
    let limit = SHORT * 3;
    let mut app = App::start(&LimitsConfig { write: limit, ..patient() }).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut client = Client { stream: soon(socket.connect(app.address)).await.unwrap() };
    client.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(app.begun.recv()).await.unwrap();
    // Far less in each limit than what wakes a writer.
    let mut read = vec![0; 2_048];
    for _ in 0..50 {
        soon(client.stream.read_exact(&mut read)).await.unwrap();
        sleep(limit / 10).await;
    }
    assert!(app.ended.try_recv().is_err(), "it was disconnected");
    // When it stops reading, it is.
    soon(app.ended.recv()).await.unwrap();
    app.stop().await;
}

#[tokio::test]
async fn a_request_that_is_answered_late_is_not_idle() {
    let mut app = App::start(&LimitsConfig { head: SHORT, write: SHORT, ..patient() }).await;
    let mut client = Client::connect(app.address).await;
    client.send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(app.begun.recv()).await.unwrap();
    // Nothing is to be seen of a deadline that does not end a request.
    sleep(SHORT * 3).await;
    app.held.add_permits(1);
    assert_eq!(client.answer().await.body, "held");
    app.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected() {
    let mut app = App::start(&LimitsConfig { write: SHORT, ..patient() }).await;
    let mut client = Client::connect(app.address).await;
    client.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(app.begun.recv()).await.unwrap();
    soon(app.ended.recv()).await.unwrap();
    assert_eq!(Client::connect(app.address).await.get("/").await.status, 200);
    assert_eq!(app.stop().await.aborted, 0);
    drop(client);
}

#[tokio::test]
async fn a_stream_without_news_is_not_disconnected() {
    let mut app = App::start(&LimitsConfig { head: SHORT, write: SHORT, drain: SHORT, ..patient() }).await;
    let mut client = Client::connect(app.address).await;
    client.send("GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(app.begun.recv()).await.unwrap();
    sleep(SHORT * 3).await;
    assert!(app.ended.try_recv().is_err());
    // A client that goes away ends it.
    drop(client);
    soon(app.ended.recv()).await.unwrap();
    assert_eq!(app.stop().await.aborted, 0);
}
