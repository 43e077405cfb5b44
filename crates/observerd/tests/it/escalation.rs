//! Escalation to a webhook on loopback.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use observerd::config::EscalationConfig;
use observerd::loops::cluster::Cluster;
use observerd::loops::escalation::{Escalation, EscalationError, EscalationState, EscalationStatus};
use observerd::outgoing::{Connector, OutgoingFilter};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

struct Hook {
    address: SocketAddr,
    /// The lines of the head, and the body.
    requests: mpsc::UnboundedReceiver<(Vec<String>, Value)>,
    _task: AbortOnDropHandle<()>,
}

impl Hook {
    /// A webhook with one answer after another; the last one is for all further requests.
    async fn answering(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut answered = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut bytes = Vec::new();
                let request = loop {
                    if let Some(request) = request(&bytes) {
                        break request;
                    }
                    if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                        return;
                    }
                };
                let _ = sender.send(request);
                let answer = answers[answered.min(answers.len() - 1)];
                answered += 1;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { address, requests, _task: AbortOnDropHandle::new(task) }
    }

    fn start(
        &self,
        host: &str,
        allow: &[&str],
        directory: Option<&Path>,
    ) -> Result<Escalation, EscalationError> {
        let allow: Vec<String> = allow.iter().map(|entry| (*entry).to_owned()).collect();
        let config = EscalationConfig {
            webhook: format!("http://{host}:{}/SECRET?key=SECRET", self.address.port()),
            pause: Duration::from_millis(10),
            longest_pause: Duration::from_millis(20),
            ..EscalationConfig::default()
        };
        let connector = Connector::new(OutgoingFilter::new(&allow).unwrap());
        Escalation::start(&config, connector, directory, CancellationToken::new()).map(Option::unwrap)
    }
}

/// A request, if it is whole.
fn request(bytes: &[u8]) -> Option<(Vec<String>, Value)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let body = serde_json::from_str(body).ok()?;
    Some((head.lines().map(str::to_owned).collect(), body))
}

fn cluster(count: u64, last_sequence: u64) -> Cluster {
    Cluster {
        id: "9f86d081884c7d65".to_owned(),
        endpoint: "/v1/chat".to_owned(),
        message: "timeout after <num> ms".to_owned(),
        count,
        share: 0.4,
        per_minute: 3.5,
        first_sequence: 100,
        last_sequence,
        first_timestamp: "2026-11-28T10:00:00Z".to_owned(),
        last_timestamp: "2026-11-28T10:05:00Z".to_owned(),
        example: "timeout after 300 ms".to_owned(),
        sources: vec!["mcp".to_owned()],
    }
}

/// Polls: the status has no watch of its own.
async fn until(escalation: &Escalation, holds: impl Fn(&EscalationStatus) -> bool) -> EscalationStatus {
    let found = async {
        loop {
            let status = escalation.status();
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap()
}

#[tokio::test]
async fn a_cluster_is_posted_after_a_failure_and_not_again_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut hook = Hook::answering(&[
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 9999\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ])
    .await;
    let escalation = hook.start("127.0.0.1", &["127.0.0.1"], Some(directory.path())).unwrap();
    escalation.sighted(&[cluster(12, 180)]);
    let (head, body) = hook.requests.recv().await.unwrap();
    assert_eq!(head[0], "POST /SECRET?key=SECRET HTTP/1.1");
    assert!(head.contains(&"idempotency-key: 9f86d081884c7d65-180".to_owned()), "{head:?}");
    let posted_at = body["posted_at"].clone();
    assert!(posted_at.as_str().unwrap().ends_with('Z'), "{posted_at}");
    let expected = json!({
        "id": "9f86d081884c7d65", "endpoint": "/v1/chat", "message": "timeout after <num> ms",
        "count": 12, "share": 0.4, "per_minute": 3.5, "first_sequence": 100, "last_sequence": 180,
        "first_timestamp": "2026-11-28T10:00:00Z", "last_timestamp": "2026-11-28T10:05:00Z",
        "example": "timeout after 300 ms", "sources": ["mcp"],
        "threshold": 10, "posted_at": posted_at, "service": "observerd",
    });
    assert_eq!(body, expected);
    assert_eq!(hook.requests.recv().await.unwrap(), (head, body), "the same again");
    let status = until(&escalation, |status| status.state == EscalationState::Idle).await;
    assert_eq!((status.posted, status.failing), (1, false));
    escalation.stop().await;
    let escalation = hook.start("127.0.0.1", &["127.0.0.1"], Some(directory.path())).unwrap();
    let mut other = cluster(11, 190);
    other.id = "other".to_owned();
    escalation.sighted(&[cluster(99, 500), other]);
    let (_, body) = hook.requests.recv().await.unwrap();
    assert_eq!(body["id"], "other");
    escalation.stop().await;
}

#[tokio::test]
async fn a_redirect_is_given_up() {
    let mut hook = Hook::answering(&[
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://169.254.169.254/SECRET\r\nContent-Length: 0\r\n\r\n",
    ])
    .await;
    let escalation = hook.start("127.0.0.1", &["127.0.0.1"], None).unwrap();
    escalation.sighted(&[cluster(12, 180)]);
    hook.requests.recv().await.unwrap();
    let status = until(&escalation, |status| status.failed == 1).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("answered 307, a redirect, which is not followed") && !error.contains("SECRET"));
    assert!(escalation.is_failing());
    escalation.stop().await;
}

#[tokio::test]
async fn a_webhook_that_is_refused_gets_nothing() {
    let mut hook = Hook::answering(&["HTTP/1.1 204 No Content\r\n\r\n"]).await;
    for host in ["127.0.0.1", "2130706433", "[::ffff:7f00:1]"] {
        let error = hook.start(host, &[], None).err().unwrap();
        assert!(format!("{error}: {error:?}").contains("add \"127.0.0.1\" to outgoing.allow"), "{error:?}");
    }
    let escalation = hook.start("localhost", &[], None).unwrap();
    escalation.sighted(&[cluster(12, 180)]);
    let status = until(&escalation, |status| status.state == EscalationState::Refused).await;
    let error = status.last_error.unwrap();
    assert!(
        error.contains("is a loopback address; to allow it, add") && !error.contains("SECRET"),
        "{error}"
    );
    assert!(escalation.is_failing());
    escalation.stop().await;
    assert!(hook.requests.try_recv().is_err());
}

#[tokio::test]
async fn cancelling_the_parent_is_a_stop() {
    let hook = Hook::answering(&["HTTP/1.1 204 No Content\r\n\r\n"]).await;
    let config =
        EscalationConfig { webhook: format!("http://{}/", hook.address), ..EscalationConfig::default() };
    let parent = CancellationToken::new();
    let connector = Connector::new(OutgoingFilter::new(&["127.0.0.0/8".to_owned()]).unwrap());
    let escalation = Escalation::start(&config, connector, None, parent.clone()).unwrap().unwrap();
    parent.cancel();
    until(&escalation, |status| status.state == EscalationState::Stopped).await;
    assert!(!escalation.is_failing());
}
