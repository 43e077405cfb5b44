//! `GET events` as a stream.

use serde_json::json;

use crate::support::*;

async fn post(client: &Client, count: usize) {
    let lines: String =
        (0..count).map(|nth| json!({"endpoint": "/put", "nth": nth}).to_string() + "\n").collect();
    assert_eq!(client.post("events", lines).await.status, 200);
}

#[tokio::test]
async fn a_stream_begins_at_the_end_and_goes_on() {
    let (service, client) = in_memory().await;
    post(&client, 3).await;
    let mut live = client.stream("events").await;
    let mut all = client.stream("events?from=oldest").await;
    assert_eq!(all.sequences(3).await, [0, 1, 2]);
    post(&client, 2).await;
    assert_eq!(live.sequences(2).await, [3, 4]);
    assert_eq!(all.sequences(2).await, [3, 4]);
    service.stop().await.unwrap();
    // The stop ends the streams.
    assert_eq!(live.next().await, None);
    assert_eq!(all.next().await, None);
}

#[tokio::test]
async fn last_event_id_continues_without_loss_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (service, client) = start(config(Some(directory.path()))).await;
    post(&client, 10).await;
    let mut stream = client.stream("events?from=oldest").await;
    assert_eq!(stream.sequences(4).await, [0, 1, 2, 3]);
    let id = stream.id.clone();
    service.stop().await.unwrap();

    let (service, client) = start(config(Some(directory.path()))).await;
    post(&client, 1).await;
    // It goes before `from`.
    let mut stream = client.with("last-event-id", &id).stream("events?from=oldest").await;
    assert_eq!(stream.sequences(7).await, [4, 5, 6, 7, 8, 9, 10]);
    let answer = client.with("accept", "text/event-stream").with("last-event-id", "x").get("events").await;
    assert_eq!(answer.problem(), (400, "invalid-cursor".to_owned()));
    service.stop().await.unwrap();
}

/// Many records more than what waits for a slow reader: it reads the rest from the journal.
#[tokio::test(flavor = "multi_thread")]
async fn readers_of_each_speed_lose_nothing() {
    let (service, client) = in_memory().await;
    let mut slow = client.stream("events?from=oldest").await;
    let mut filtered = client.stream("events?from=oldest&endpoint=/other").await;
    let writing = tokio::spawn({
        let client = client.clone();
        async move {
            for _ in 0..100 {
                post(&client, 200).await;
            }
            client.post("event", r#"{"endpoint":"/other"}"#).await;
        }
    });
    let mut fast = client.stream("events?from=oldest").await;
    let expected: Vec<_> = (0..20_000).collect();
    assert_eq!(fast.sequences(20_000).await, expected);
    writing.await.unwrap();
    assert_eq!(slow.sequences(20_000).await, expected);
    assert_eq!(filtered.sequences(1).await, [20_000]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn the_number_of_streams_is_bounded() {
    let mut config = config(None);
    config.limits.streams = 2;
    let (service, client) = start(config).await;
    let _first = client.stream("events").await;
    let second = client.stream("events").await;
    let more = client.with("accept", "text/event-stream").get("events").await;
    assert_eq!(more.problem(), (503, "too-many-streams".to_owned()));
    assert_eq!(more.headers["retry-after"], "5");
    drop(second);
    // The slot is free once the service knows that the reader is gone.
    loop {
        post(&client, 1).await;
        if client
            .with("accept", "text/event-stream")
            .call(http::Method::HEAD, "events", bytes::Bytes::new())
            .await
            .status
            == 200
        {
            break;
        }
    }
    service.stop().await.unwrap();
}
