//! `GET events` as a page.

use serde_json::{Value, json};

use crate::support::*;

fn sequences(page: &Value) -> Vec<u64> {
    page["events"].as_array().unwrap().iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_without_a_loss() {
    let (service, client) = in_memory().await;
    for nth in 0..25 {
        client.post("event", json!({"endpoint": "/put", "nth": nth}).to_string()).await;
    }
    let mut from = "oldest".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = client.get(&format!("events?limit=10&from={from}")).await.json();
        seen.extend(sequences(&page));
        page["next"].as_str().unwrap().clone_into(&mut from);
        if page["at_end"] == true {
            break;
        }
    }
    assert_eq!(seen, (0..25).collect::<Vec<_>>());
    // What comes later is on the next page.
    assert_eq!(sequences(&client.get(&format!("events?from={from}")).await.json()), [] as [u64; 0]);
    client.post("event", r#"{"endpoint":"/put"}"#).await;
    assert_eq!(sequences(&client.get(&format!("events?from={from}")).await.json()), [25]);
    assert_eq!(sequences(&client.get("events?from=last:2").await.json()), [24, 25]);
    assert_eq!(sequences(&client.get("events?from=end").await.json()), [] as [u64; 0]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn filters_take_source_endpoint_outcome_and_time() {
    let (service, client) = in_memory().await;
    for (endpoint, source, success, hour) in [
        ("/a", "mcp", true, "01"),
        ("/b", "mcp", false, "02"),
        ("/a", "mine", false, "03"),
        ("/a b&c", "mcp", true, "04"),
    ] {
        let timestamp = format!("2026-11-30T{hour}:00:00Z");
        let operation =
            json!({"endpoint": endpoint, "source": source, "success": success, "timestamp": timestamp});
        client.post("event", operation.to_string()).await;
    }
    for (query, expected) in [
        ("source=mcp", vec![0, 1, 3]),
        ("source=none", vec![]),
        ("endpoint=/a", vec![0, 2]),
        ("endpoint=%2Fa%20b%26c", vec![3]),
        ("outcome=failure", vec![1, 2]),
        ("outcome=success&source=mcp", vec![0, 3]),
        ("since=2026-11-30T02:00:00Z&until=2026-11-30T04:00:00Z", vec![1, 2]),
        ("since=2026-11-30T03:00:00%2B01:00", vec![1, 2, 3]),
    ] {
        let page = client.get(&format!("events?{query}")).await.json();
        assert_eq!(sequences(&page), expected, "{query}");
        assert_eq!(page["at_end"], true);
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn queries_that_are_wrong_are_problems() {
    let (service, client) = in_memory().await;
    client.post("event", r#"{"endpoint":"/put"}"#).await;
    let cursor = client.get("events").await.json()["next"].as_str().unwrap().to_owned();
    let (instance, _) = cursor.split_once('.').unwrap();
    let foreign = format!("{}.1.0", instance.chars().rev().collect::<String>());
    for (query, status, kind) in [
        ("from=yesterday".to_owned(), 400, "invalid-cursor"),
        ("from=".to_owned(), 400, "invalid-cursor"),
        ("from=1.1.1".to_owned(), 400, "invalid-cursor"),
        (format!("from={cursor}x"), 400, "invalid-cursor"),
        (format!("from={foreign}"), 410, "unknown-cursor"),
        (format!("from={instance}.1.99"), 410, "unknown-cursor"),
        (format!("from={instance}.1.18446744073709551615"), 410, "unknown-cursor"),
        ("limit=0".to_owned(), 400, "invalid-query"),
        ("limit=1001".to_owned(), 400, "invalid-query"),
        ("limit=-1".to_owned(), 400, "invalid-query"),
        ("from=last:0".to_owned(), 400, "invalid-cursor"),
        ("from=last:%2B1".to_owned(), 400, "invalid-cursor"),
        ("from=last:9999999".to_owned(), 400, "invalid-cursor"),
        ("outcome=fine".to_owned(), 400, "invalid-query"),
        ("since=today".to_owned(), 400, "invalid-query"),
        ("form=oldest".to_owned(), 400, "invalid-query"),
        ("limit=1&limit=2".to_owned(), 400, "invalid-query"),
    ] {
        let answer = client.get(&format!("events?{query}")).await;
        assert_eq!(answer.problem(), (status, kind.to_owned()), "{query}: {answer:?}");
    }
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_retention_has_removed_is_an_exact_gap() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(Some(directory.path()));
    (config.segment_bytes, config.segments) = (4_096, 2);
    let (service, client) = start(config).await;
    let first =
        client.post("event", r#"{"endpoint":"/put"}"#).await.json()["cursor"].as_str().unwrap().to_owned();
    for _ in 0..100 {
        client
            .post(
                "event",
                r#"{"endpoint":"/put","fill":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#,
            )
            .await;
    }
    let page = client.get(&format!("events?from={first}&limit=1000")).await.json();
    let gap = &page["gaps"][0];
    assert_eq!((gap["first"].as_u64(), gap["cause"].as_str()), (Some(1), Some("retired")));
    let last = gap["last"].as_u64().unwrap();
    assert_eq!(gap["count"].as_u64(), Some(last));
    assert_eq!(sequences(&page), (last + 1..101).collect::<Vec<_>>());

    let mut stream = client.stream(&format!("events?from={first}")).await;
    let (name, data) = stream.next().await.unwrap();
    assert_eq!((name.as_str(), &data), ("gap", gap));
    assert_eq!(stream.sequences(1).await, [last + 1]);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn damage_in_the_middle_is_a_gap_of_page_and_stream() {
    let directory = tempfile::tempdir().unwrap();
    let (service, client) = start(config(Some(directory.path()))).await;
    for nth in 0..5 {
        client.post("event", json!({"endpoint": "/put", "nth": nth}).to_string()).await;
    }
    service.stop().await.unwrap();
    let segment = directory.path().join("00000000000000000000.jsonl");
    let text = std::fs::read_to_string(&segment).unwrap();
    std::fs::write(&segment, text.replace(r#""nth":2"#, r#""nth":7"#)).unwrap();
    let (service, client) = start(config(Some(directory.path()))).await;
    let page = client.get("events?source=mcp").await.json();
    assert_eq!(sequences(&page), [0, 1, 3, 4]);
    assert_eq!((&page["gaps"][0]["first"], &page["gaps"][0]["cause"]), (&json!(2), &json!("damaged")));
    let mut stream = client.stream("events?from=oldest").await;
    assert_eq!(stream.sequences(2).await, [0, 1]);
    assert_eq!(stream.next().await.unwrap(), ("gap".to_owned(), page["gaps"][0].clone()));
    assert_eq!(stream.sequences(2).await, [3, 4]);
    assert_eq!(client.get("stats").await.json()["total"], 4);
    assert_eq!(client.get("health").await.json()["storage"]["recovered"], true);
    service.stop().await.unwrap();
}
