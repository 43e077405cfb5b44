//! The analysis of errors and the consolidation of playbooks over a journal on disk.

use std::path::Path;
use std::time::Duration;

use observerd::config::{ErrorsConfig, PlaybooksConfig};
use observerd::loops::{errors, playbooks};
use observerd::operation::Operation;
use observerd::review::{ReviewContext, ReviewRequest, Verdict, review};
use observerd::store::{Store, StoreConfig};
use serde_json::json;
use watchkeeper::runtime::{CancellationToken, StopOutcome};
use watchkeeper_journal::JournalConfig;
use watchkeeper_journal::run::{Replay, RunJournal, SerdeFormat};

const SOON: Duration = Duration::from_mins(1);

fn journal() -> JournalConfig {
    JournalConfig { reserve: 0, ..JournalConfig::default() }
}

async fn open(directory: &Path) -> Store {
    let directory = Some(directory.to_owned());
    Store::open(StoreConfig { directory, journal: journal(), idempotency_window: 10 }).await.unwrap()
}

async fn record(store: &Store, endpoint: &str, error: Option<&str>) {
    let body = json!({"endpoint": endpoint, "success": error.is_none(), "error": error, "staffer_id": "s"})
        .to_string();
    let (operation, entry) = Operation::read(&body, jiff::Timestamp::now()).unwrap();
    store.record(operation, entry, None, None).await.unwrap();
}

#[tokio::test]
async fn both_find_the_same_after_a_restart_and_a_review_knows_it() {
    let directory = tempfile::tempdir().unwrap();
    let every = Duration::from_millis(20);
    let of_errors = ErrorsConfig { every, ..ErrorsConfig::default() };
    let of_playbooks = PlaybooksConfig { every, ..PlaybooksConfig::default() };
    let mut before = None;
    for life in 0..2 {
        let store = open(directory.path()).await;
        if life == 0 {
            for number in 0..3 {
                record(&store, "/plan", None).await;
                record(&store, "/put", None).await;
                record(&store, "/get", Some(&format!("timeout after {number} ms"))).await;
            }
        }
        let errors = errors::start(&store, &of_errors, errors::observation(&of_errors)).unwrap();
        let playbooks =
            playbooks::start(&store, &of_playbooks, playbooks::observation(&of_playbooks)).unwrap();
        let found = errors.handle().eventually("nine operations", |report| report.operations == 9);
        let clusters = found.within(SOON).await.unwrap().value.clusters.clone();
        let found = playbooks.handle().eventually("nine operations", |report| report.operations == 9);
        let sequences = found.within(SOON).await.unwrap().value.playbooks.clone();
        assert_eq!((clusters[0].count, &*clusters[0].message), (3, "timeout after <duration>"));
        assert_eq!(
            (sequences[0].successes, &sequences[0].steps[..]),
            (3, &["/plan".into(), "/put".into()][..])
        );

        let body = json!({"op": {"endpoint": "/get", "error": "timeout after 99 ms"}}).to_string();
        let context = ReviewContext { clusters: clusters.clone(), playbooks: sequences.clone() };
        let answer = review(&ReviewRequest::read(&body).unwrap(), &context, jiff::Timestamp::now()).unwrap();
        assert_eq!((answer.verdict, answer.reasons.len()), (Verdict::Reject, 2), "{answer:?}");

        let found = Some((clusters, sequences));
        assert!(before.is_none() || before == found);
        before = found;
        assert_eq!(errors.stop().await, StopOutcome::Stopped);
        assert_eq!(playbooks.stop().await, StopOutcome::Stopped);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_run_is_recorded_and_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    let config = ErrorsConfig::default();
    for number in 0..20 {
        record(&store, "/get", Some(&"bad ".repeat(number))).await;
    }
    let parent = CancellationToken::new();
    let run = RunJournal::open(directory.path(), errors::NAME, journal(), SerdeFormat).await.unwrap();
    let mut observation = errors::observation(&config);
    observation.resume = run.resume().await.unwrap();
    observation.parent = Some(parent.clone());
    let runtime = errors::start(&store, &config, observation.clone()).unwrap();
    let recording = run.record(&runtime.handle(), &observation).unwrap();
    let all =
        runtime.handle().eventually("all", |report| report.operations == 20 && report.clusters.len() == 20);
    all.within(SOON).await.unwrap();
    parent.cancel();
    assert!(recording.finished().await.is_ok());
    drop(runtime);
    run.close().await.unwrap();
    let mut replay =
        Replay::<errors::ErrorAnalysis, _>::open(directory.path(), errors::NAME, SerdeFormat).unwrap();
    replay.play().await.unwrap();
    let seen = replay.handle().latest_snapshot().unwrap();
    assert_eq!((seen.value.clusters.len(), seen.value.failures), (10, 20));
    assert_eq!(seen.value.not_recorded, 10);
    store.close().await.unwrap();
}
