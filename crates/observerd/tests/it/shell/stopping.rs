//! The end of the accept loop.

use std::time::Duration;

use observerd::config::LimitsConfig;
use tokio::net::TcpStream;

use super::app::{App, patient};
use super::client::{Client, soon};

const SHORT: Duration = Duration::from_millis(200);

async fn held(app: &mut App) -> Client {
    let mut client = Client::connect(app.address).await;
    client.send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    soon(app.begun.recv()).await.unwrap();
    client
}

/// The listener is closed at the stop, not at the end.
async fn is_closed(app: &App) {
    soon(async { while TcpStream::connect(app.address).await.is_ok() {} }).await;
}

#[tokio::test]
async fn an_open_request_is_answered_after_the_stop() {
    let mut app = App::start(&patient()).await;
    let mut client = held(&mut app).await;
    app.stop.cancel();
    is_closed(&app).await;
    app.held.add_permits(1);
    let answer = client.answer().await;
    assert_eq!(answer.body, "held");
    assert!(answer.closes());
    assert_eq!(client.rest().await, "");
    let drained = app.stop().await;
    assert_eq!((drained.served, drained.aborted), (1, 0));
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_stop() {
    let app = App::start(&patient()).await;
    let mut silent = Client::connect(app.address).await;
    let mut kept = Client::connect(app.address).await;
    assert_eq!(kept.get("/").await.status, 200);
    let mut half = Client::connect(app.address).await;
    half.send("POST /body HTTP/1.1\r\nHost: loc").await;
    soon(async {
        while app.counts.open() < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut answered = Client::connect(app.address).await;
    assert_eq!(answered.get("/").await.status, 200);

    assert_eq!(app.stop().await.aborted, 0);
    assert_eq!(silent.rest().await, "");
    assert_eq!(kept.rest().await, "");
    let rest = half.rest().await;
    // Its bytes may not have been read yet.
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 503 "), "{rest}");
    assert_eq!(answered.rest().await, "");
}

#[tokio::test]
async fn what_is_open_at_the_deadline_is_aborted() {
    let mut app = App::start(&LimitsConfig { drain: SHORT, ..patient() }).await;
    let mut waiting = held(&mut app).await;
    let mut silent = Client::connect(app.address).await;
    silent.send("GET /silent HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    // A client that stopped reading.
    let mut stopped = Client::connect(app.address).await;
    stopped.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    for _ in 0..2 {
        soon(app.begun.recv()).await.unwrap();
    }
    app.stop.cancel();
    let drained = soon(&mut app.serving).await.unwrap();
    assert_eq!((drained.served, drained.aborted), (3, 3));
    // Nothing outlives the call.
    for _ in 0..3 {
        app.ended.try_recv().unwrap();
    }
    assert_eq!(waiting.rest().await, "");
    assert!(silent.rest().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_loop_that_is_dropped_aborts_its_connections() {
    let mut app = App::start(&patient()).await;
    let mut waiting = held(&mut app).await;
    app.serving.abort();
    soon(app.ended.recv()).await.unwrap();
    assert_eq!(waiting.rest().await, "");
    is_closed(&app).await;
}

#[tokio::test]
async fn a_stop_before_the_first_connection_ends_at_once() {
    let app = App::start(&patient()).await;
    let drained = app.stop().await;
    assert_eq!((drained.served, drained.refused, drained.aborted), (0, 0, 0));
}

#[tokio::test]
async fn a_body_that_panics_ends_its_connection_alone() {
    let app = App::start(&patient()).await;
    let mut client = Client::connect(app.address).await;
    client.send("GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    client.rest().await;
    assert_eq!(Client::connect(app.address).await.get("/").await.status, 200);
    let drained = app.stop().await;
    assert_eq!((drained.served, drained.aborted), (2, 0));
}
