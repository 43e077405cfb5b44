//! Runs on the paused clock, with a webhook that is made up.

use std::panic;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster;
use crate::config::{EscalationConfig, OutgoingConfig};
use crate::loops::escalation::poster::{Next, PostFailure, Poster};
use crate::loops::escalation::{
    EscalatedCluster, Escalation, EscalationError, EscalationState, EscalationStatus,
};
use crate::outgoing::{Connector, OutgoingFilter};

pub(super) const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);

/// What the webhook does with an attempt.
#[derive(Clone, Debug)]
pub(super) enum Answering {
    Accepts,
    Fails(Next),
    Hangs,
    Panics,
}

/// An attempt as the webhook has received it.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) key: String,
    pub(super) document: EscalatedCluster,
    pub(super) at: Instant,
}

/// Answers one attempt after another; the last answer is for all further ones.
pub(super) struct Hook {
    answers: Mutex<Vec<Answering>>,
    attempts: mpsc::UnboundedSender<Attempt>,
}

#[async_trait]
impl Poster for Arc<Hook> {
    async fn post(&self, key: &str, body: Bytes) -> Result<(), PostFailure> {
        let document = serde_json::from_slice(&body).unwrap();
        let attempt = Attempt { key: key.to_owned(), document, at: Instant::now() };
        self.attempts.send(attempt).unwrap();
        let answer = {
            let mut answers = self.answers.lock().unwrap();
            if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
        };
        match answer {
            Answering::Accepts => Ok(()),
            Answering::Fails(next) => Err(PostFailure { next, message: format!("failed: {next:?}") }),
            Answering::Hangs => std::future::pending().await,
            Answering::Panics => panic!("the poster panics"),
        }
    }
}

pub(super) fn config() -> EscalationConfig {
    EscalationConfig { webhook: "https://hooks.example/".to_owned(), ..EscalationConfig::default() }
}

pub(super) struct Running {
    pub(super) escalation: Escalation,
    pub(super) attempts: mpsc::UnboundedReceiver<Attempt>,
}

impl Running {
    pub(super) fn start(answers: &[Answering], directory: Option<&std::path::Path>) -> Self {
        let (sender, attempts) = mpsc::unbounded_channel();
        let hook = Arc::new(Hook { answers: Mutex::new(answers.to_vec()), attempts: sender });
        let escalation =
            Escalation::with(&config(), Box::new(hook), directory, CancellationToken::new()).unwrap();
        Self { escalation, attempts }
    }

    /// Waits for a state, at most a day of the paused clock.
    pub(super) async fn until(&self, holds: impl Fn(&EscalationStatus) -> bool + Send) -> EscalationStatus {
        let waits = self.escalation.machine().wait_for("the escalation", holds);
        waits.within(Duration::from_hours(24)).await.unwrap()
    }

    pub(super) async fn attempt(&mut self) -> Attempt {
        self.attempts.recv().await.unwrap()
    }
}

fn retry(after: Duration) -> Answering {
    Answering::Fails(Next::Retry { after })
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_posted_once_and_again_after_the_cooldown() {
    let mut running = Running::start(&[Answering::Accepts], None);
    let began = Instant::now();
    running.escalation.sighted(&[cluster("few", 9, 5), cluster("a1", 10, 7)]);
    let attempt = running.attempt().await;
    assert!(attempt.key.starts_with("a1-7-"), "a journal in memory begins again: {}", attempt.key);
    assert_eq!(attempt.document.cluster, cluster("a1", 10, 7));
    assert_eq!((attempt.document.threshold, attempt.document.service.as_str()), (10, "observerd"));
    let status = running.until(|status| status.state == EscalationState::Idle).await;
    assert_eq!((status.posted, status.failed, status.waiting, status.failing), (1, 0, 0, false));
    let last = status.last_posted.unwrap();
    assert_eq!((last.id.as_str(), last.sequence), ("a1", 7));
    // More operations come for 150 minutes, then none.
    for minute in 0..300 {
        let sequence = 8 + u64::min(minute, 150);
        running.escalation.sighted(&[cluster("a1", 11, sequence)]);
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    let mut further = Vec::new();
    while let Ok(attempt) = running.attempts.try_recv() {
        further.push((attempt.at - began).as_secs().div_ceil(60));
    }
    assert_eq!(further, [60, 120, 180], "the last one is new at the end of its cooldown");
    assert_eq!(running.escalation.status().posted, 4);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_fails_is_tried_again_and_then_given_up() {
    let mut running = Running::start(&[retry(Duration::ZERO)], None);
    running.escalation.sighted(&[cluster("a1", 10, 7)]);
    let mut attempts = vec![running.attempt().await];
    for _ in 1..8 {
        attempts.push(running.attempt().await);
    }
    for (pair, pause) in attempts.windows(2).zip([1, 2, 4, 8, 16, 32, 64]) {
        let (found, pause) = (pair[1].at - pair[0].at, Duration::from_secs(pause));
        assert!(
            found >= pause.mul_f64(0.8) && found <= pause + Duration::from_millis(2),
            "{found:?} for {pause:?}"
        );
        assert_eq!((&pair[0].key, &pair[0].document), (&pair[1].key, &pair[1].document));
    }
    let status = running.until(|status| status.state == EscalationState::Idle).await;
    assert_eq!((status.posted, status.failed, status.consecutive_failures), (0, 1, 8));
    assert!(running.escalation.is_failing());
    // It cools down.
    running.escalation.sighted(&[cluster("a1", 12, 9)]);
    tokio::time::sleep(HOUR / 2).await;
    assert!(running.attempts.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_not_failing_and_a_success_ends_it() {
    let answers = [retry(SECOND), retry(SECOND), Answering::Accepts];
    let mut running = Running::start(&answers, None);
    running.escalation.sighted(&[cluster("a1", 10, 7)]);
    for failing in [false, true] {
        running.attempt().await;
        let status = running.until(|status| status.state == EscalationState::BackingOff).await;
        assert_eq!(status.failing, failing);
        running.until(|status| status.state == EscalationState::Posting).await;
    }
    running.attempt().await;
    let status = running.until(|status| status.state == EscalationState::Idle).await;
    assert_eq!((status.consecutive_failures, status.failing, status.posted), (0, false, 1));
    assert!(status.last_error.is_some(), "it is kept for people");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_up_to_the_longest_pause() {
    let cases = [(Duration::from_secs(77), Duration::from_secs(77)), (Duration::MAX, Duration::from_mins(5))];
    for (after, expected) in cases {
        let mut running = Running::start(&[retry(after), Answering::Accepts], None);
        running.escalation.sighted(&[cluster("a1", 10, 7)]);
        let (first, second) = (running.attempt().await, running.attempt().await);
        let found = second.at - first.at;
        assert!(found >= expected && found < expected + SECOND, "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_at_once_does_not_flood_the_webhook() {
    let mut running = Running::start(&[Answering::Fails(Next::GiveUp)], None);
    let many: Vec<_> = (0..20).map(|n| cluster(&format!("c{n}"), 100 - n, 7)).collect();
    running.escalation.sighted(&many);
    let first = running.attempt().await;
    assert_eq!(first.document.cluster.id, "c0", "the worst one first");
    let mut at = first.at;
    for n in 1..20_u64 {
        let next = running.attempt().await;
        assert_eq!(next.document.cluster.id, format!("c{n}"));
        let pause = Duration::from_secs(1 << (n - 1).min(9)).min(Duration::from_mins(5));
        assert!(next.at - at >= pause.mul_f64(0.8), "{:?} before {n}", next.at - at);
        at = next.at;
    }
    assert!(running.escalation.is_failing());
}

#[tokio::test(start_paused = true)]
async fn a_refused_address_waits_for_the_longest_pause_and_not_for_the_cooldown() {
    let mut running = Running::start(&[Answering::Fails(Next::Refused), Answering::Accepts], None);
    running.escalation.sighted(&[cluster("a1", 10, 7)]);
    let first = running.attempt().await;
    let status = running.until(|status| status.state == EscalationState::Refused).await;
    assert!(status.failing && status.last_error.is_some(), "{status:?}");
    running.escalation.sighted(&[cluster("a1", 11, 8), cluster("b2", 10, 9)]);
    let second = running.attempt().await;
    let pause = second.at - first.at;
    let longest = config().longest_pause;
    assert!(pause >= longest && pause < longest + SECOND && second.key == first.key, "{pause:?}");
    let third = running.attempt().await;
    assert_eq!(third.document.cluster.id, "b2", "what came meanwhile is not lost");
    let status = running.until(|status| status.state == EscalationState::Idle).await;
    assert_eq!((status.posted, status.failed, status.failing), (2, 0, false));
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_posted_after_the_cooldown_without_newer_errors() {
    let answers = [Answering::Fails(Next::GiveUp), Answering::Accepts];
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&answers, Some(directory.path()));
    let mut keys = Vec::new();
    let began = Instant::now();
    // The same errors are in each analysis of five hours.
    for _ in 0..300 {
        running.escalation.sighted(&[cluster("a1", 10, 7)]);
        // The file is written by a thread.
        running.until(|status| status.state != EscalationState::Recording).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        while let Ok(attempt) = running.attempts.try_recv() {
            keys.push((attempt.key, (attempt.at - began).as_secs() / 3_600));
        }
    }
    assert_eq!(keys.len(), 2, "once more, and then it is posted: {keys:?}");
    assert_eq!((keys[0].0.as_str(), keys[0].1, keys[1].1), ("a1-7", 0, 1));
    assert!(keys[1].0.starts_with("a1-7-"), "another document has another key: {keys:?}");
    let status = running.escalation.status();
    assert_eq!((status.posted, status.failed), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_clusters_is_posted_at_the_rate_of_the_setting() {
    let mut running = Running::start(&[Answering::Accepts], None);
    let many: Vec<_> = (0..500).map(|n| cluster(&format!("c{n}"), 1_000 - n, 7)).collect();
    let began = Instant::now();
    running.escalation.sighted(&many);
    let status = running.until(|status| status.state == EscalationState::Limited).await;
    assert_eq!((status.posted, status.waiting, status.dropped, status.failing), (60, 440, 0, false));
    assert!(began.elapsed() < SECOND);
    let mut attempts = Vec::new();
    for n in 0..=120 {
        attempts.push(running.attempt().await);
        assert_eq!(attempts[n].document.cluster.id, format!("c{n}"), "the worst one first");
    }
    let gaps: Vec<_> = attempts[59..].windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs()).collect();
    assert!(gaps.iter().all(|gap| (59..=60).contains(gap)), "one a minute: {gaps:?}");
    running.until(|status| status.state == EscalationState::Limited).await;
    // A worse one is the next.
    running.escalation.sighted(&[cluster("worst", 9_999, 8)]);
    assert_eq!(running.attempt().await.document.cluster.id, "worst");
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_and_has_the_newest_counts() {
    let mut running = Running::start(&[retry(Duration::from_mins(4)), Answering::Accepts], None);
    running.escalation.sighted(&[cluster("first", 10, 7)]);
    running.until(|status| status.state == EscalationState::BackingOff).await;
    let many: Vec<_> = (0..3_000).map(|n| cluster(&format!("c{n}"), 20, 7)).collect();
    running.escalation.sighted(&many[..1_000]);
    running.until(|status| status.waiting == 1_000).await;
    running.escalation.sighted(&many[1_000..]);
    running.until(|status| status.dropped == 1_000).await;
    running.escalation.sighted(&[cluster("worst", 30, 8), cluster("c5", 25, 9)]);
    let status = running.until(|status| status.dropped == 1_001).await;
    assert_eq!(status.waiting, 1_000, "{status:?}");
    let mut order = Vec::new();
    for _ in 0..4 {
        let Attempt { document: EscalatedCluster { cluster, .. }, .. } = running.attempt().await;
        order.push((cluster.id, cluster.count));
    }
    let expected = [("first", 10), ("first", 10), ("worst", 30), ("c5", 25)];
    assert_eq!(order, expected.map(|(id, count)| (id.to_owned(), count)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_post_is_a_failure() {
    let mut running = Running::start(&[Answering::Panics, Answering::Accepts], None);
    running.escalation.sighted(&[cluster("a1", 10, 7)]);
    let keys = [running.attempt().await.key, running.attempt().await.key];
    assert_eq!(keys[0], keys[1]);
    let status = running.until(|status| status.posted == 1).await;
    assert!(status.last_error.unwrap().contains("the poster panics"));
}

#[tokio::test(start_paused = true)]
async fn hostile_clusters_are_bounded() {
    let mut running = Running::start(&[Answering::Accepts], None);
    let mut hostile = cluster("a1", 10, 7);
    hostile.example = "line\nline ".repeat(100_000);
    (hostile.share, hostile.per_minute) = (f64::NAN, f64::INFINITY);
    hostile.sources = vec!["s".to_owned(); 1_000];
    let (mut header, mut empty) = (cluster("a\r\nb", 20, 7), cluster("", 20, 7));
    (header.count, empty.count) = (u64::MAX, u64::MAX);
    running.escalation.sighted(&[header, empty, hostile]);
    let EscalatedCluster { cluster, .. } = running.attempt().await.document;
    assert!(cluster.id == "a1" && cluster.example.len() < 2_100 && !cluster.example.contains('\n'));
    assert_eq!((cluster.share, cluster.per_minute, cluster.sources.len()), (0.0, 0.0, 10));
    let status = running.until(|status| status.state == EscalationState::Idle).await;
    assert_eq!((status.posted, status.dropped), (1, 0));
}

#[tokio::test]
async fn settings_are_checked() {
    let connector = || Connector::new(OutgoingFilter::new(&OutgoingConfig::default().allow).unwrap());
    let start = |config| Escalation::start(&config, connector(), None, CancellationToken::new());
    assert!(start(EscalationConfig::default()).unwrap().is_none(), "without a webhook");
    let hour = HOUR;
    let cases = [
        ("threshold", EscalationConfig { threshold: 0, ..config() }),
        ("attempts", EscalationConfig { attempts: 0, ..config() }),
        ("cooldown", EscalationConfig { cooldown: Duration::MAX, ..config() }),
        ("timeout", EscalationConfig { timeout: Duration::ZERO, ..config() }),
        ("timeout", EscalationConfig { timeout: 25 * hour, ..config() }),
        ("pause", EscalationConfig { pause: Duration::ZERO, ..config() }),
        ("posts_per_hour", EscalationConfig { posts_per_hour: 0, ..config() }),
        ("longest_pause", EscalationConfig { pause: hour, longest_pause: hour / 2, ..config() }),
        ("longest_pause", EscalationConfig { longest_pause: Duration::MAX, ..config() }),
    ];
    for (expected, config) in cases {
        match start(config) {
            Err(EscalationError::Setting { setting, .. }) => assert_eq!(setting, expected),
            other => panic!("{expected}: {:?}", other.err()),
        }
    }
    let webhooks = [
        ("http://169.254.169.254/SECRET", "169.254.169.254 is a metadata address"),
        ("http://127.1/SECRET", "127.0.0.1 is a loopback address"),
        ("http://[::1]/SECRET", "::1 is a loopback address"),
        ("http://1.1.1.1/SECRET", "an address in place of a host name"),
        ("SECRET", "it is no URL"),
        ("file:///SECRET", "it is no URL"),
    ];
    for (webhook, expected) in webhooks {
        let error = start(EscalationConfig { webhook: webhook.to_owned(), ..config() }).err().unwrap();
        let text = format!("{error:?}");
        assert!(text.contains("escalation.webhook") && text.contains(expected), "{text}");
        assert!(!text.contains("SECRET"), "{text}");
    }
}
