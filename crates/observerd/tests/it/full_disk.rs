//! A disk that is full, or does not answer.

use std::sync::Arc;
use std::time::Duration;

use observerd::config::ObserverdConfig;
use observerd::service::Service;
use observerd::store::Store;
use serde_json::{Value, json};
use watchkeeper_journal::{Durability, Journal, JournalConfig};

use crate::support::faulty::Faulty;
use crate::support::*;

async fn service(disk: &Faulty, durability: Durability) -> (Service, Client) {
    service_with(disk, durability, config(None)).await
}

async fn service_with(disk: &Faulty, durability: Durability, settings: ObserverdConfig) -> (Service, Client) {
    let config = JournalConfig { durability, reserve: 4_096, ..JournalConfig::default() };
    let journal = Journal::open_on(Arc::new(disk.clone()), config).await.unwrap();
    let store = Store::of(journal, 1_000).await.unwrap();
    let service = Service::with_store(settings, Some(token()), store).await.unwrap();
    let client = Client::new(service.address());
    (service, client)
}

const OPERATION: &str = r#"{"endpoint":"/put","success":true}"#;

#[tokio::test]
async fn with_group_it_is_507_and_the_ring_is_unchanged() {
    let disk = Faulty::default();
    let (service, client) = service(&disk, Durability::Group).await;
    assert_eq!(client.post("event", OPERATION).await.status, 200);
    disk.set_capacity(0);
    let keyed = client.with("idempotency-key", "k");
    let answer = keyed.post("event", OPERATION).await;
    assert_eq!(answer.problem(), (507, "storage-full".to_owned()));
    assert_eq!(client.get("stats").await.json()["total"], 1);
    let health = client.get("health").await;
    assert_eq!((health.status.as_u16(), health.json()["ready"].as_bool()), (503, Some(false)));
    assert!(health.json()["reasons"][0].as_str().unwrap().contains("the disk is full"), "{health:?}");
    assert_eq!(client.get("health?check=live").await.status, 200);
    // Reading goes on, and the key is free again.
    assert_eq!(client.get("events").await.json()["events"].as_array().unwrap().len(), 1);
    disk.heal();
    let answer = keyed.post("event", OPERATION).await.json();
    assert_eq!((answer["repeated"].as_bool(), answer["durability"].as_str()), (Some(false), Some("group")));
    assert_eq!(client.get("health").await.status, 200);
    assert_eq!(client.get("stats").await.json()["total"], 2);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn with_buffered_it_is_200_the_ring_takes_it_and_the_health_is_red() {
    let disk = Faulty::default();
    let (service, client) = service(&disk, Durability::Buffered).await;
    disk.set_capacity(0);
    // Up to 16 MiB wait for the disk, and have a sequence; what comes later has none.
    let large = format!(r#"{{"endpoint":"/put","fill":"{}"}}"#, "x".repeat(1_000_000));
    let mut without = 0;
    for _ in 0..20 {
        let answer = client.post("event", large.clone()).await;
        assert_eq!(answer.status, 200);
        let answer = answer.json();
        assert_eq!(answer["durability"], "memory");
        without += usize::from(answer["sequence"].is_null());
    }
    assert!((1..20).contains(&without), "{without}");
    assert_eq!(client.get("stats").await.json()["total"], 20);
    let health = client.get("health").await;
    assert_eq!((health.status.as_u16(), health.json()["ready"].as_bool()), (503, Some(false)));
    disk.heal();
    assert_eq!(client.post("event", OPERATION).await.json()["durability"], "buffered");
    assert_eq!(client.get("health").await.status, 200);
    service.stop().await.unwrap();
}

/// What waits for the disk has a sequence and no position yet; a repeated answer says what is true by then.
#[tokio::test]
async fn with_buffered_a_key_is_known_while_the_operation_waits_for_the_disk() {
    let disk = Faulty::default();
    let (service, client) = service(&disk, Durability::Buffered).await;
    disk.set_capacity(0);
    let keyed = client.with("idempotency-key", "k");
    let waiting = keyed.post("event", OPERATION).await.json();
    assert_eq!(
        (&waiting["durability"], &waiting["sequence"], &waiting["cursor"]),
        (&json!("memory"), &json!(0), &Value::Null)
    );
    assert_eq!(keyed.post("event", OPERATION).await.json()["repeated"], true);
    disk.heal();
    client.post("event", OPERATION).await;
    let written = keyed.post("event", OPERATION).await.json();
    assert_eq!(
        (&written["repeated"], &written["durability"], &written["sequence"]),
        (&json!(true), &json!("buffered"), &json!(0))
    );
    let cursor = written["cursor"].as_str().unwrap();
    assert_eq!(client.get(&format!("events?from={cursor}")).await.json()["events"][0]["sequence"], 1);
    // Beyond what waits, an operation is in the ring alone: its key is known all the same.
    disk.set_capacity(0);
    let large = format!(r#"{{"endpoint":"/put","fill":"{}"}}"#, "x".repeat(1_000_000));
    while !client.post("event", large.clone()).await.json()["sequence"].is_null() {}
    let total = client.get("stats").await.json()["total"].as_u64().unwrap();
    let alone = client.with("idempotency-key", "alone");
    for repeated in [false, true] {
        let answer = alone.post("event", large.clone()).await.json();
        assert_eq!((&answer["sequence"], answer["repeated"].as_bool()), (&Value::Null, Some(repeated)));
    }
    assert_eq!(client.get("stats").await.json()["total"], total + 1);
    disk.heal();
    service.stop().await.unwrap();
}

/// The client learns nothing, and finds out with its key.
#[tokio::test]
async fn a_disk_that_does_not_answer_is_503_and_the_operation_is_recorded_once() {
    let disk = Faulty::default();
    let mut settings = config(None);
    settings.limits.append = Duration::from_millis(50);
    let (service, client) = service_with(&disk, Durability::Group, settings).await;
    let held = disk.hold_syncs().await;
    let keyed = client.with("idempotency-key", "k");
    let answer = keyed.post("event", OPERATION).await;
    assert_eq!(answer.problem(), (503, "storage-slow".to_owned()));
    assert_eq!(keyed.post("event", OPERATION).await.problem(), (409, "key-in-progress".to_owned()));
    drop(held);
    let recorded = loop {
        let answer = keyed.post("event", OPERATION).await;
        if answer.status == 200 {
            break answer.json();
        }
    };
    assert_eq!((recorded["repeated"].as_bool(), recorded["sequence"].as_u64()), (Some(true), Some(0)));
    assert_eq!(client.get("stats").await.json()["total"], 1);
    service.stop().await.unwrap();
}

/// The ring has what the journal has, also if the client has gone meanwhile.
#[tokio::test]
async fn a_client_that_goes_away_changes_nothing() {
    let disk = Faulty::default();
    let (service, client) = service(&disk, Durability::Group).await;
    let held = disk.hold_syncs().await;
    let syncs = disk.syncs();
    {
        let call = client.post("event", OPERATION);
        let begun = async {
            while disk.syncs() == syncs {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = call => panic!("no sync has ended"),
            () = begun => {}
        }
    }
    drop(held);
    while client.get("stats").await.json()["total"] != 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.get("events").await.json()["events"].as_array().unwrap().len(), 1);
    service.stop().await.unwrap();
}
