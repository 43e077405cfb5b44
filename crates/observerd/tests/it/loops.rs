//! The loops behind the routes: clusters, playbooks, reviews, corrections, escalation, and what health says of them.

use std::io::Write as _;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

/// Asks until the analysis has come so far. Each answer before says where it is.
async fn analysed(client: &Client, path: &str, up_to: u64) -> Value {
    loop {
        let answer = client.get(path).await;
        if answer.status == 200 && answer.json()["analysed_up_to"].as_u64() >= Some(up_to) {
            return answer.json();
        }
        if answer.status != 200 {
            assert_eq!(answer.problem(), (503, "not-analysed".to_owned()));
        }
        tokio::task::yield_now().await;
    }
}

fn quick() -> observerd::config::ObserverdConfig {
    let mut config = config(None);
    config.errors.every = std::time::Duration::from_millis(10);
    config.playbooks.every = std::time::Duration::from_millis(10);
    config
}

#[tokio::test]
async fn failures_are_clusters_and_successes_are_playbooks() {
    let (service, client) = start(quick()).await;
    let mut batch = Vec::new();
    for nth in 0..4 {
        for endpoint in ["/plan", "/put", "/check"] {
            batch.push(json!({"endpoint": endpoint, "success": true, "staffer_id": format!("s{nth}")}));
        }
        batch
            .push(json!({"endpoint": "/get", "error": format!("timeout after {nth} ms"), "staffer_id": "x"}));
    }
    assert_eq!(client.post("events", Value::from(batch).to_string()).await.status, 200);
    let clusters = analysed(&client, "clusters", 16).await;
    assert_eq!((&clusters["operations"], &clusters["failures"]), (&json!(16), &json!(4)));
    let cluster = &clusters["clusters"][0];
    assert_eq!(
        (cluster["endpoint"].as_str(), cluster["count"].as_u64()),
        (Some("/get"), Some(4)),
        "{clusters}"
    );
    assert_eq!((cluster["share"].as_f64(), clusters["fresh"].as_bool()), (Some(1.0), Some(true)));
    let playbooks = analysed(&client, "playbooks", 16).await;
    let steps = &playbooks["playbooks"][0]["steps"];
    assert_eq!(*steps, json!(["/plan", "/put", "/check"]), "{playbooks}");
    assert_eq!(playbooks["playbooks"][0]["successes"], 4);
    assert_eq!(analysed(&client, "clusters?limit=1", 0).await["clusters"].as_array().unwrap().len(), 1);
    assert_eq!(client.get("clusters?limit=0").await.problem(), (400, "invalid-query".to_owned()));

    // The same failure again is a known cluster, and the next step of a playbook continues it.
    let review = |op: Value, history: Value| {
        let (client, body) = (client.clone(), json!({"op": op, "history": history}).to_string());
        async move { client.post("review", body).await.json() }
    };
    let known = review(json!({"endpoint": "/get", "error": "timeout after 99 ms"}), json!([])).await;
    assert_eq!(known["verdict"], "reject");
    assert!(known["reasons"].to_string().contains("R3"), "{known}");
    let next = review(
        json!({"endpoint": "/check", "success": true}),
        json!([{"endpoint": "/plan", "success": true}, {"endpoint": "/put", "success": true}]),
    )
    .await;
    assert_eq!(next["verdict"], "accept");
    assert!(next["reasons"].to_string().contains("A2"), "{next}");
    let failed = json!({"endpoint": "/x", "error": "no"});
    let round = review(failed.clone(), json!([failed.clone(), failed.clone()])).await;
    assert_eq!(round["verdict"], "cycle", "{round}");
    for (body, kind) in
        [("{", "invalid-json"), ("{}", "invalid-review"), (r#"{"op":{"endpoint":""}}"#, "invalid-review")]
    {
        assert_eq!(client.post("review", body).await.problem(), (400, kind.to_owned()));
    }
    assert_eq!(client.get("stats").await.json()["total"], 16, "a review records nothing");
    service.stop().await.unwrap();
}

#[tokio::test]
async fn corrections_are_tailed_into_the_ring_and_a_restart_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("overseer_corrections.jsonl");
    std::fs::write(&file, "{\"note\":\"one\"}\n{\"note\":\"two\",\"success\":true}\n{\"half").unwrap();
    let mut config = config(Some(&directory.path().join("data")));
    config.corrections.path.clone_from(&file);
    // Long enough to be fresh on a machine that is busy.
    config.corrections.every = std::time::Duration::from_millis(200);
    let corrections = |stats: &Value| stats["by_source"]["overseer_correction"].as_u64().unwrap_or(0);
    for _ in 0..2 {
        let (service, client) = start(config.clone()).await;
        while corrections(&client.get("stats").await.json()) < 2 {
            tokio::task::yield_now().await;
        }
        let health = client.get("health").await.json();
        let names: Vec<_> =
            health["loops"].as_array().unwrap().iter().map(|known| known["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["errors", "playbooks", "corrections"]);
        while client.get("health").await.json()["loops"][2]["fresh"] != true {
            tokio::task::yield_now().await;
        }
        service.stop().await.unwrap();
    }
    let mut file = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    file.write_all(b"\":1}\n").unwrap();
    let (service, client) = start(config).await;
    while corrections(&client.get("stats").await.json()) < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.get("stats").await.json()["total"], 3);
    service.stop().await.unwrap();
}

/// A loop that works may have nothing to read: health says so, and says no more than that to callers without the token.
#[tokio::test]
async fn a_missing_file_and_skipped_lines_are_warnings() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("overseer_corrections.jsonl");
    let mut config = config(None);
    config.corrections.path.clone_from(&file);
    config.corrections.every = std::time::Duration::from_millis(10);
    let (service, client) = start(config).await;
    let warned = |client: Client, text: &'static str| async move {
        loop {
            let health = client.get("health").await.json();
            assert_eq!(health["ready"], true);
            if let Some(warning) = health["warnings"]
                .as_array()
                .unwrap()
                .iter()
                .find(|known| known.as_str().unwrap().starts_with(text))
            {
                return warning.as_str().unwrap().to_owned();
            }
            tokio::task::yield_now().await;
        }
    };
    warned(client.clone(), "the file of corrections is missing").await;
    std::fs::write(&file, "{\"note\":\"one\"}\nnonsense\n").unwrap();
    let skipped = warned(client.clone(), "corrections were skipped: 1, the last one at byte 15, ").await;
    assert!(!skipped.contains("nonsense"), "{skipped}");
    assert_eq!(warned(client.without_token(), "corrections were skipped").await, "corrections were skipped");
    service.stop().await.unwrap();
}

/// Answers each request with 200, and sends its head and body.
async fn webhook() -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut text, mut bytes) = (String::new(), [0; 4_096]);
            while !text.ends_with('}') {
                let length = stream.read(&mut bytes).await.unwrap();
                if length == 0 {
                    break;
                }
                text.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[tokio::test]
async fn a_cluster_over_the_threshold_is_posted_once_also_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (address, mut posts) = webhook().await;
    let mut config = quick();
    config.persist_path = directory.path().join("data");
    config.escalation.webhook = format!("http://{address}/secret-path");
    config.escalation.threshold = 3;
    config.outgoing.allow = vec!["127.0.0.1".to_owned()];
    let (service, client) = start(config.clone()).await;
    for nth in 0..5 {
        let operation = json!({"endpoint": "/get", "error": format!("lost node {nth}")});
        client.post("event", operation.to_string()).await;
    }
    let post = posts.recv().await.unwrap();
    let (head, body) = post.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("idempotency-key: "), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((body["endpoint"].as_str(), body["threshold"].as_u64()), (Some("/get"), Some(3)), "{body}");
    while client.get("health").await.json()["escalation"]["posted"] != 1 {
        tokio::task::yield_now().await;
    }
    service.stop().await.unwrap();
    let (service, client) = start(config).await;
    analysed(&client, "clusters", 5).await;
    let health = client.get("health").await;
    assert!(!health.text.contains("secret-path"), "{health:?}");
    service.stop().await.unwrap();
    assert!(posts.try_recv().is_err());
}

#[tokio::test]
async fn a_webhook_at_the_metadata_address_is_refused_at_the_start() {
    let mut config = config(None);
    config.escalation.webhook = "http://169.254.169.254/latest/meta-data".to_owned();
    let error = observerd::service::Service::start(config, Some(token())).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("169.254.169.254") && text.contains("allow"), "{text}");
    assert!(!text.contains("meta-data"), "{text}");
}

/// What the loops did is there afterwards, as a run that can be replayed and judged.
#[tokio::test]
async fn the_runs_of_the_loops_are_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = quick();
    config.persist_path = directory.path().to_path_buf();
    let (service, client) = start(config).await;
    client.post("event", r#"{"endpoint":"/get","error":"lost"}"#).await;
    analysed(&client, "clusters", 1).await;
    service.stop().await.unwrap();
    let replay = |args: &[&str]| {
        let output = command(&["replay", directory.path().to_str().unwrap(), "--run", "errors"])
            .args(args)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, text) = replay(&[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("appeared"), "{text}");
    assert!(
        text.trim_end().ends_with("stop: requested"),
        "the loop was stopped, and its record closed: {text}"
    );
    let (code, text) =
        replay(&["--expect", "eventually", "--at", "/failures", "--at-least", "1", "--within", "1m"]);
    assert_eq!(code, 0, "{text}");
    let (code, text) =
        replay(&["--expect", "never", "--at", "/failures", "--at-least", "1", "--during", "1ms"]);
    assert_ne!(code, 2, "{text}");
}
