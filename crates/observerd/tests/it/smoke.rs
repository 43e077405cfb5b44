//! The smoke test of the system that this service replaces, on the program as a process.

use serde_json::json;
use watchkeeper_process::Signal;

use crate::support::*;

/// Five events, three of them good, of two sources; stats; an empty endpoint; kill and restart.
#[tokio::test]
async fn smoke() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(directory.path(), &[]).await;
    for (endpoint, source, success) in [
        ("/search", "mcp", true),
        ("/search", "mcp", true),
        ("/put", "mcp", false),
        ("/step", "scenario", true),
        ("/step", "scenario", false),
    ] {
        let operation = json!({"endpoint": endpoint, "source": source, "success": success, "role": "r"});
        assert_eq!(program.client.post("/observer/event", operation.to_string()).await.status, 200);
    }
    let stats = program.client.get("/observer/stats").await.json();
    assert_eq!((&stats["total"], &stats["successes"], &stats["failures"]), (&json!(5), &json!(3), &json!(2)));
    assert_eq!(stats["by_source"], json!({"mcp": 3, "scenario": 2}));
    assert_eq!(program.client.post("/observer/event", r#"{"endpoint":""}"#).await.status, 400);
    assert_eq!(program.client.get("/v1/observer/stats").await.json(), stats);
    program.kill().await;

    let program = Program::start(directory.path(), &[]).await;
    assert_eq!(program.client.get("/observer/stats").await.json(), stats);
    program.signal(Signal::TERM);
    assert_eq!(program.ended().await.code(), Some(0));
}
