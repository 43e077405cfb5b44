//! `POST event` and `POST events`.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

#[tokio::test]
async fn an_operation_has_sequence_and_durability() {
    let (service, client) = in_memory().await;
    for prefix in ["/v1/observer", "/observer"] {
        let answer = client.post(&format!("{prefix}/event"), r#"{"endpoint":"/put","success":true}"#).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["durability"], "memory");
    }
    assert_eq!(client.get("stats").await.json()["total"], 2);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said_and_nothing_is_stored() {
    let (service, client) = in_memory().await;
    for (body, status, kind, pointer) in [
        (&b""[..], 400, "invalid-json", None),
        (b"{", 400, "invalid-json", None),
        (b"\xff\xfe", 400, "invalid-json", None),
        (b"{\"endpoint\":\"a\xff\"}", 400, "invalid-json", None),
        (b"[]", 400, "invalid-operation", None),
        (b"{}", 400, "invalid-operation", Some("/endpoint")),
        (br#"{"endpoint":""}"#, 400, "invalid-operation", Some("/endpoint")),
        (br#"{"endpoint":"a","success":"true"}"#, 400, "invalid-operation", Some("/success")),
        (br#"{"endpoint":"a","timestamp":"now"}"#, 400, "invalid-operation", Some("/timestamp")),
        (br#"{"endpoint":"a","_wk_n":1}"#, 400, "invalid-operation", None),
        (br#"{"endpoint":"a","x":"\ud800"}"#, 400, "invalid-operation", None),
    ] {
        let answer = client.post("event", body.to_vec()).await;
        assert_eq!(answer.problem(), (status, kind.to_owned()), "{answer:?}");
        assert_eq!(answer.json().get("pointer").and_then(Value::as_str), pointer, "{answer:?}");
    }
    assert_eq!(client.get("stats").await.json()["total"], 0);
    assert_eq!(client.get("events").await.json()["events"], json!([]));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_batch_is_recorded_as_a_whole_or_not_at_all() {
    let (service, client) = in_memory().await;
    let array = client.post("events", r#" [{"endpoint":"a"},{"endpoint":"b","success":true}]"#).await.json();
    assert_eq!((array["sequence"].as_u64(), array["count"].as_u64()), (Some(0), Some(2)));
    let lines = client.post("events", "{\"endpoint\":\"a\"}\r\n\n{\"endpoint\":\"b\"}\n").await.json();
    assert_eq!((lines["sequence"].as_u64(), lines["count"].as_u64()), (Some(2), Some(2)));
    for (body, kind, pointer) in [
        ("[]", "empty-batch", None),
        ("\n \n", "empty-batch", None),
        (r#"[{"endpoint":"a"},"#, "invalid-json", None),
        (r#"[{"endpoint":"a"},{"endpoint":""}]"#, "invalid-operation", Some("/1/endpoint")),
        ("{\"endpoint\":\"a\"}\n{\"endpoint\":\"b\",\"role\":3}\n", "invalid-operation", Some("/1/role")),
        ("{\"endpoint\":\"a\"}\n{\"endpoint\":\n", "invalid-json", None),
        ("7", "invalid-operation", None),
    ] {
        let answer = client.post("events", body).await;
        assert_eq!(answer.problem(), (400, kind.to_owned()), "{body}");
        assert_eq!(answer.json().get("pointer").and_then(Value::as_str), pointer, "{answer:?}");
    }
    assert_eq!(client.get("stats").await.json()["total"], 4);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_with_a_key_is_recorded_once_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (service, client) = start(config(Some(directory.path()))).await;
    let keyed = client.with("idempotency-key", "k-1");
    let batch = r#"[{"endpoint":"a"},{"endpoint":"b"}]"#;
    let first = keyed.post("events", batch).await.json();
    let second = keyed.post("events", batch).await.json();
    assert_eq!((first["repeated"].as_bool(), second["repeated"].as_bool()), (Some(false), Some(true)));
    assert_eq!((&first["sequence"], &first["count"]), (&second["sequence"], &second["count"]));
    assert_eq!(first["cursor"], second["cursor"]);
    let other = keyed.post("events", r#"[{"endpoint":"c"}]"#).await;
    assert_eq!(other.problem(), (422, "key-reused".to_owned()));
    // Without a key a retry doubles.
    client.post("event", r#"{"endpoint":"x"}"#).await;
    client.post("event", r#"{"endpoint":"x"}"#).await;
    service.stop().await.unwrap();

    let (service, client) = start(config(Some(directory.path()))).await;
    let third = client.with("idempotency-key", "k-1").post("events", batch).await.json();
    assert_eq!(third["repeated"], true, "{third}");
    assert_eq!((&first["sequence"], &first["cursor"]), (&third["sequence"], &third["cursor"]));
    assert_eq!(client.get("stats").await.json()["total"], 4);
    for key in ["", "a b", &"k".repeat(201)] {
        let answer = client.with("idempotency-key", key).post("event", r#"{"endpoint":"x"}"#).await;
        assert_eq!(answer.problem(), (400, "invalid-key".to_owned()), "{key:?}");
    }
    service.stop().await.unwrap();
}

/// The window is of all records, and not of those with keys.
#[tokio::test]
async fn a_key_is_forgotten_after_its_window() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(Some(directory.path()));
    config.idempotency_window = 5;
    let (service, client) = start(config.clone()).await;
    let keyed = client.with("idempotency-key", "k-1");
    let body = r#"{"endpoint":"a"}"#;
    assert_eq!(keyed.post("event", body).await.json()["sequence"], 0);
    for nth in 0..4 {
        client.post("event", body).await;
        assert_eq!(keyed.post("event", body).await.json()["repeated"], true, "{nth}");
    }
    service.stop().await.unwrap();
    // A restart remembers as much.
    let (service, client) = start(config).await;
    let keyed = client.with("idempotency-key", "k-1");
    assert_eq!(keyed.post("event", body).await.json()["repeated"], true);
    client.post("event", body).await;
    let other = keyed.post("event", r#"{"endpoint":"b"}"#).await.json();
    assert_eq!((other["repeated"].as_bool(), other["sequence"].as_u64()), (Some(false), Some(6)));
    service.stop().await.unwrap();
}

/// A batch counts from its last operation.
#[tokio::test]
async fn the_key_of_a_batch_that_is_larger_than_the_window_is_known_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(Some(directory.path()));
    config.idempotency_window = 10;
    let batch = "{\"endpoint\":\"a\"}\n".repeat(50);
    for repeated in [false, true] {
        let (service, client) = start(config.clone()).await;
        for again in [false, true] {
            let answer = client.with("idempotency-key", "k").post("events", batch.clone()).await.json();
            assert_eq!((answer["sequence"].as_u64(), answer["count"].as_u64()), (Some(0), Some(50)));
            assert_eq!(answer["repeated"], repeated || again, "{answer}");
        }
        assert_eq!(client.get("stats").await.json()["total"], 50);
        service.stop().await.unwrap();
    }
}

/// One request is recorded, by the first of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_many_send_at_once_is_recorded_once() {
    let (service, client) = in_memory().await;
    let keyed = client.with("idempotency-key", "k-1");
    let calls = (0..20).map(|_| keyed.post("event", r#"{"endpoint":"a"}"#));
    for answer in futures_util::future::join_all(calls).await {
        match answer.status.as_u16() {
            200 => assert_eq!(answer.json()["sequence"], 0),
            _ => assert_eq!(answer.problem(), (409, "key-in-progress".to_owned())),
        }
    }
    assert_eq!(client.get("stats").await.json()["total"], 1);
    service.stop().await.unwrap();
}

/// What would not fit into a batch of the journal ends the reading of the body, and not only the append.
#[tokio::test]
async fn a_batch_that_is_too_large_is_refused_with_what_fits() {
    let (service, client) = in_memory().await;
    // With a time of its own: that of receipt is longer at one moment than at another.
    let line = "{\"endpoint\":\"a\",\"timestamp\":\"2026-11-30T08:15:00Z\"}\n";
    let answer = client.post("events", line.repeat(60_000)).await;
    assert_eq!(answer.problem(), (413, "body-too-large".to_owned()));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    let fit: usize = detail.split(": ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(client.post("events", line.repeat(fit)).await.status, 200, "{detail}");
    let large = format!(r#"{{"endpoint":"a","fill":"{}"}}"#, "x".repeat(1_044_400));
    assert_eq!(client.post("event", large.clone()).await.status, 200);
    assert_eq!(client.post("events", format!("[{large}]")).await.status, 200);
    let larger = large.replace("fill", &"fill".repeat(100));
    // The length alone is too much: nothing of the body is read.
    let mut stream = tokio::net::TcpStream::connect(client.address).await.unwrap();
    let (address, length) = (client.address, larger.len());
    let head = format!(
        "POST /observer/event HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    assert_eq!(client.post("events", larger).await.problem(), (413, "body-too-large".to_owned()));
    service.stop().await.unwrap();
}

#[tokio::test]
async fn metrics_count_what_was_recorded_repeated_and_refused() {
    let (service, client) = in_memory().await;
    let keyed = client.with("idempotency-key", "k");
    for _ in 0..3 {
        keyed.post("event", r#"{"endpoint":"a","success":true,"source":"mine"}"#).await;
    }
    keyed.post("event", r#"{"endpoint":"b"}"#).await;
    client.post("events", "{\"endpoint\":\"a\"}\n".repeat(5)).await;
    client.get("/nowhere").await;
    let metrics = client.get("/metrics").await.text;
    for line in [
        r#"observerd_operations_total{source="other",outcome="success"} 1"#,
        r#"observerd_operations_total{source="mcp",outcome="failure"} 5"#,
        "observerd_operations_repeated_total 2",
        r#"observerd_operations_refused_total{reason="key"} 1"#,
        r#"observerd_http_requests_total{route="none",method="GET",status="404"} 1"#,
        "observerd_ring_operations 6",
        "observerd_ready 1",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line} in {metrics}");
    }
    service.stop().await.unwrap();
}

/// Without the token health says that something is wrong, and not what.
#[tokio::test]
async fn health_without_a_token_has_no_details() {
    let (service, client) = in_memory().await;
    let full = client.get("health").await.json();
    assert_eq!((&full["ready"], &full["storage"]["durability"]), (&json!(true), &json!("memory")));
    let bare = client.without_token().get("health").await.json();
    assert_eq!((&bare["ready"], bare.get("storage"), bare.get("version")), (&json!(true), None, None));
    assert_eq!(bare["loops"][0]["name"], "errors");
    for path in ["stats", "events", "clusters", "playbooks", "/metrics"] {
        assert_eq!(client.without_token().get(path).await.problem(), (401, "unauthenticated".to_owned()));
    }
    service.stop().await.unwrap();
}
