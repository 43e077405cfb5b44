//! The store tests of the system that this service replaces, by their names.

use jiff::Timestamp;
use observerd::Recorded;
use observerd::operation::{Operation, OperationError};
use observerd::ring::Ring;
use observerd::store::{Store, StoreConfig};
use serde_json::{Value, json};
use watchkeeper_journal::{Durability, JournalConfig, import};

fn now() -> Timestamp {
    "2026-11-30T08:15:00.5Z".parse().unwrap()
}

async fn in_memory() -> Store {
    open(None).await
}

async fn open(directory: Option<&std::path::Path>) -> Store {
    let config = StoreConfig {
        directory: directory.map(std::path::Path::to_path_buf),
        journal: JournalConfig { reserve: 0, ..JournalConfig::default() },
        idempotency_window: 100,
    };
    Store::open(config).await.unwrap()
}

async fn record(store: &Store, operation: &Value) -> Recorded {
    let (operation, entry) = Operation::read(&operation.to_string(), now()).unwrap();
    store.record(operation, entry, None, None).await.unwrap()
}

type Check = Box<dyn Fn(&OperationError) -> bool>;

#[test]
fn validation() {
    let field = |name: &'static str| move |error: &OperationError| error.name() == Some(name);
    let cases: Vec<(&str, Check)> = vec![
        ("", Box::new(|error| matches!(error, OperationError::NotJson { .. }))),
        ("{", Box::new(|error| matches!(error, OperationError::NotJson { .. }))),
        (r#"{"endpoint":"a"} {}"#, Box::new(|error| matches!(error, OperationError::NotJson { .. }))),
        ("[]", Box::new(|error| *error == OperationError::NotAnObject)),
        ("null", Box::new(|error| *error == OperationError::NotAnObject)),
        ("{}", Box::new(field("endpoint"))),
        (r#"{"endpoint":""}"#, Box::new(field("endpoint"))),
        (r#"{"endpoint":" \t"}"#, Box::new(field("endpoint"))),
        (r#"{"endpoint":null}"#, Box::new(field("endpoint"))),
        (r#"{"endpoint":7}"#, Box::new(field("endpoint"))),
        (r#"{"endpoint":"a","endpoint":"b"}"#, Box::new(field("endpoint"))),
        (r#"{"endpoint":"a","source":["mcp"]}"#, Box::new(field("source"))),
        (r#"{"endpoint":"a","success":"yes"}"#, Box::new(field("success"))),
        (r#"{"endpoint":"a","success":1}"#, Box::new(field("success"))),
        (r#"{"endpoint":"a","duration_ms":"12"}"#, Box::new(field("duration_ms"))),
        (r#"{"endpoint":"a","duration_ms":-1}"#, Box::new(field("duration_ms"))),
        (r#"{"endpoint":"a","duration_ms":1e999}"#, Box::new(|error| *error == OperationError::HugeNumber)),
        (r#"{"endpoint":"a","timestamp":"yesterday"}"#, Box::new(field("timestamp"))),
        (r#"{"endpoint":"a","timestamp":"2026-11-30"}"#, Box::new(field("timestamp"))),
        (r#"{"endpoint":"a","timestamp":"2026-11-30 08:15:00Z"}"#, Box::new(field("timestamp"))),
        (r#"{"endpoint":"a","timestamp":"2026-11-30T08:15:00"}"#, Box::new(field("timestamp"))),
        (r#"{"endpoint":"a","timestamp":"2026-02-30T08:15:00Z"}"#, Box::new(field("timestamp"))),
        (r#"{"endpoint":"a","timestamp":"2026-11-30T25:15:00Z"}"#, Box::new(field("timestamp"))),
        (r#"{"endpoint":"a","timestamp":1764490500}"#, Box::new(field("timestamp"))),
        (r#"{"endpoint":"a","_wk_n":"7"}"#, Box::new(|error| matches!(error, OperationError::Entry(_)))),
        (r#"{"endpoint":"a","\u005fwk_c":7}"#, Box::new(|error| matches!(error, OperationError::Entry(_)))),
    ];
    for (text, is_expected) in cases {
        let error = Operation::read(text, now()).expect_err(text);
        assert!(is_expected(&error), "{text}: {error}");
    }
    for (name, most) in
        [("endpoint", 1_024), ("source", 256), ("staffer_id", 256), ("event_kind", 256), ("role", 256)]
    {
        let with = |length: usize| {
            let mut operation = json!({"endpoint": "a"});
            operation[name] = "x".repeat(length).into();
            Operation::read(&operation.to_string(), now())
        };
        assert!(with(most).is_ok(), "{name}");
        assert_eq!(with(most + 1).unwrap_err().name(), Some(name));
    }
}

#[test]
fn defaults() {
    for text in [
        r#"{"endpoint":"/put"}"#,
        r#"{"endpoint":"/put","source":"","timestamp":""}"#,
        r#"{"endpoint":"/put","source":null,"timestamp":null}"#,
    ] {
        let (operation, entry) = Operation::read(text, now()).unwrap();
        assert_eq!((operation.source.as_str(), operation.success), ("mcp", false));
        assert_eq!(operation.timestamp, now());
        let stored: Value = serde_json::from_str(entry.body()).unwrap();
        assert_eq!(
            stored,
            json!({"endpoint": "/put", "source": "mcp", "timestamp": "2026-11-30T08:15:00.5Z"})
        );
    }
    // What is there stays as it came: order, spaces, numbers, unknown fields, and a time of the future.
    let text = r#"{ "z": 1.10, "endpoint": "/put", "source": "langfuse", "timestamp": "2126-11-30T08:15:00.000Z", "n": 1e300 }"#;
    let (operation, entry) = Operation::read(text, now()).unwrap();
    assert_eq!((entry.body(), operation.timestamp_text.as_str()), (text, "2126-11-30T08:15:00.000Z"));
    for (given, stored) in [
        ("{}", r#"{"endpoint":"e"}"#),
        (r#"{ "a": 1.0 , "b":[ ] }"#, r#"{ "a": 1.0 , "b":[ ],"endpoint":"e"}"#),
    ] {
        // As of a correction, which needs no endpoint.
        let (_, entry) = Operation::read_correction(given, now()).unwrap();
        let (begin, _) = entry.body().split_once("\"source\"").unwrap();
        assert!(
            begin.starts_with(stored.replace("\"e\"}", "\"/overseer/correction\"").as_str()),
            "{}",
            entry.body()
        );
    }
    for (given, stored) in [
        ("2026-11-30t08:15:00z", "2026-11-30T08:15:00Z"),
        ("2026-11-30T08:15:60Z", "2026-11-30T08:15:59Z"),
        ("2026-11-30T08:15:00.1234567891Z", "2026-11-30T08:15:00.1234567891Z"),
    ] {
        let text = json!({"endpoint": "a", "timestamp": given}).to_string();
        assert_eq!(Operation::read(&text, now()).unwrap().0.timestamp_text, stored);
    }
    // An offset becomes UTC.
    let (operation, entry) =
        Operation::read(r#"{"endpoint":"a","timestamp":"2026-11-30T10:15:00+02:00","source":"x"}"#, now())
            .unwrap();
    assert_eq!(operation.timestamp_text, "2026-11-30T08:15:00Z");
    assert!(entry.body().contains(r#""timestamp":"2026-11-30T08:15:00Z""#), "{}", entry.body());
}

#[tokio::test]
async fn aggregation() {
    let store = in_memory().await;
    for (source, success) in [("mcp", true), ("mcp", false), ("scenario", true), ("mine", true)] {
        record(&store, &json!({"endpoint": "/put", "source": source, "success": success})).await;
    }
    let stats = serde_json::to_value(store.stats()).unwrap();
    assert_eq!(
        stats,
        json!({
            "total": 4, "successes": 3, "failures": 1,
            "by_source": {"mcp": 2, "scenario": 1, "mine": 1},
            "recent_scenario_ops": [
                {"ts": "2026-11-30T08:15:00.5Z", "ok": true, "staffer": "", "kind": "", "role": ""},
            ],
        })
    );
}

#[tokio::test]
async fn recent_scenario_cap_and_order() {
    let store = in_memory().await;
    for nth in 0..25 {
        // Later timestamps come first: what counts is the order of the records.
        let timestamp = format!("2026-11-30T08:{:02}:00Z", 59 - nth);
        let operation = json!({
            "endpoint": "/step", "source": "scenario", "timestamp": timestamp, "staffer_id": format!("s{nth}"),
            "event_kind": "step", "role": "leader", "success": nth % 2 == 0,
        });
        record(&store, &operation).await;
        record(&store, &json!({"endpoint": "/other"})).await;
    }
    let recent = store.stats().recent_scenario_ops;
    let staffers: Vec<_> = recent.iter().map(|op| op.staffer.as_str()).collect();
    assert_eq!(staffers, ["s15", "s16", "s17", "s18", "s19", "s20", "s21", "s22", "s23", "s24"]);
    assert_eq!((recent[9].ok, recent[9].kind.as_str(), recent[9].role.as_str()), (true, "step", "leader"));
    assert_eq!(recent[9].ts, "2026-11-30T08:35:00Z");
}

#[tokio::test]
async fn ring_rollover() {
    let store = in_memory().await;
    let operation = |nth: u64| json!({"endpoint": "/put", "success": nth < 100, "source": if nth == 0 { "first" } else { "mcp" }});
    for nth in 0..2_000 {
        record(&store, &operation(nth)).await;
    }
    let full = store.stats();
    assert_eq!((full.total, full.successes, full.by_source["first"]), (2_000, 100, 1));
    record(&store, &operation(2_000)).await;
    let after = store.stats();
    assert_eq!((after.total, after.successes, after.by_source.get("first")), (2_000, 99, None));
}

/// Answers come in another order than the records, and counts are kept beside the entries: the statistics are those of the newest.
#[test]
fn counts_are_those_of_the_entries_in_each_order() {
    let (mut ring, mut all, mut random) = (Ring::default(), Vec::new(), 1_u64);
    for nth in 0..6_000_u64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Neighbours in blocks of eight come the other way round.
        let number = nth / 8 * 8 + 7 - nth % 8;
        let (source, success) = (random >> 60, random >> 59 & 1 == 1);
        let text =
            json!({"endpoint": "/put", "source": format!("s{source}"), "success": success}).to_string();
        ring.push(Some(number), Operation::of_text(&text).unwrap());
        all.push((number, format!("s{source}"), success));
        if nth % 500 == 499 {
            all.sort_unstable();
            let newest = &all[all.len().saturating_sub(2_000)..];
            let stats = ring.stats();
            assert_eq!(stats.total, newest.len());
            assert_eq!(stats.successes, newest.iter().filter(|(_, _, success)| *success).count());
            for (source, count) in &stats.by_source {
                assert_eq!(*count, newest.iter().filter(|(_, known, _)| known == source).count(), "{source}");
            }
            assert_eq!(stats.by_source.values().sum::<usize>(), stats.total);
        }
    }
}

#[tokio::test]
async fn round_trip() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(Some(directory.path())).await;
    for nth in 0..2_100_u32 {
        let source = if nth % 3 == 0 { "scenario" } else { "mcp" };
        let recorded = record(
            &store,
            &json!({"endpoint": "/put", "source": source, "success": nth % 7 == 0, "role": "r"}),
        )
        .await;
        assert_eq!((recorded.sequence, recorded.durability), (Some(nth.into()), Durability::Group));
    }
    let before = store.stats();
    store.close().await.unwrap();
    let again = open(Some(directory.path())).await;
    assert_eq!(again.stats(), before);
    assert_eq!(before.total, 2_000);
    again.close().await.unwrap();
}

/// Records that are no operations do not keep the ring from being filled.
#[tokio::test]
async fn the_ring_is_filled_from_behind_other_records() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(Some(directory.path())).await;
    for nth in 0..2_100_u32 {
        record(&store, &json!({"endpoint": "/put", "success": nth % 2 == 0, "role": nth.to_string()})).await;
    }
    let before = store.stats();
    for _ in 0..9_000 {
        let entry = watchkeeper_journal::Entry::from_text("{}").unwrap();
        drop(store.journal().submit_entry(entry).await.unwrap());
    }
    store.close().await.unwrap();
    let again = open(Some(directory.path())).await;
    assert_eq!(again.stats(), before);
    again.close().await.unwrap();
}

/// Valid, corrupt, valid: two are applied. Once in the old file, and once in the journal itself.
#[tokio::test]
async fn corruption_tolerant_replay() {
    let directory = tempfile::tempdir().unwrap();
    let old = directory.path().join("ops.jsonl");
    let valid =
        r#"{"endpoint":"/put","source":"mcp","success":true,"timestamp":"2026-01-02T03:04:05.678901234Z"}"#;
    std::fs::write(&old, format!("{valid}\n{{\"endpoint\":\"/pu\n{valid}\n")).unwrap();
    let data = directory.path().join("data");
    let journal = watchkeeper_journal::Journal::open(&data, JournalConfig::default()).await.unwrap();
    let report = import(std::fs::File::open(&old).unwrap(), &journal).await.unwrap();
    assert_eq!((report.imported, report.skipped()), (2, 1));
    journal.close().await.unwrap();
    let store = open(Some(&data)).await;
    assert_eq!((store.stats().total, store.stats().successes), (2, 2));
    record(&store, &json!({"endpoint": "/third", "success": true})).await;
    store.close().await.unwrap();

    let segment = data.join("00000000000000000000.jsonl");
    let text = std::fs::read_to_string(&segment).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines[1].replace_range(3..8, "#####");
    std::fs::write(&segment, lines.join("\n") + "\n").unwrap();
    let store = open(Some(&data)).await;
    assert_eq!((store.stats().total, store.stats().successes), (2, 2));
    store.close().await.unwrap();
}
