//! Stops, crashes and what the next process does.

use std::fs;
use std::time::Duration;

use super::cluster;
use super::running::{Answering, HOUR, Running};
use crate::loops::escalation::EscalationState;
use crate::loops::escalation::poster::Next;

#[tokio::test(start_paused = true)]
async fn what_was_written_is_not_posted_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&[Answering::Accepts], Some(directory.path()));
    running.escalation.sighted(&[cluster("a1", 10, 7)]);
    assert_eq!(running.attempt().await.key, "a1-7");
    running.until(|status| status.state == EscalationState::Idle).await;
    // Killed: without a stop.
    running.escalation.machine().abort().await;
    let mut running = Running::start(&[Answering::Accepts], Some(directory.path()));
    running.escalation.sighted(&[cluster("a1", 30, 9), cluster("b2", 10, 8)]);
    assert_eq!(running.attempt().await.key, "b2-8");
    let status = running.until(|status| status.state == EscalationState::Idle).await;
    assert_eq!(status.posted, 1, "a1 cools down");
    tokio::time::sleep(2 * HOUR).await;
    running.escalation.sighted(&[cluster("a1", 30, 9)]);
    assert_eq!(running.attempt().await.key, "a1-9");
}

#[tokio::test(start_paused = true)]
async fn what_was_not_answered_is_posted_again_with_the_same_key() {
    for is_killed in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let mut running = Running::start(&[Answering::Hangs], Some(directory.path()));
        running.escalation.sighted(&[cluster("a1", 10, 7)]);
        let first = running.attempt().await;
        if is_killed {
            running.escalation.machine().abort().await;
        } else {
            let began = tokio::time::Instant::now();
            running.escalation.stop().await;
            assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
            assert!(!running.escalation.is_failing());
        }
        let mut running = Running::start(&[Answering::Accepts], Some(directory.path()));
        // It needs no sighting: the operations may be out of the window.
        let second = running.attempt().await;
        assert_eq!((first.key, first.document), (second.key, second.document));
        let status = running.until(|status| status.state == EscalationState::Idle).await;
        assert_eq!(status.posted, 1);
        running.escalation.stop().await;
        let mut running = Running::start(&[Answering::Accepts], Some(directory.path()));
        running.escalation.sighted(&[cluster("a1", 10, 7), cluster("b2", 10, 8)]);
        assert_eq!(running.attempt().await.key, "b2-8");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_a_pause_ends_at_once_and_loses_nothing() {
    for next in [Next::Retry { after: HOUR }, Next::Refused] {
        let directory = tempfile::tempdir().unwrap();
        let mut running = Running::start(&[Answering::Fails(next)], Some(directory.path()));
        running.escalation.sighted(&[cluster("a1", 10, 7)]);
        let key = running.attempt().await.key;
        running.until(|status| status.consecutive_failures == 1).await;
        let began = tokio::time::Instant::now();
        running.escalation.stop().await;
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(running.escalation.status().state, EscalationState::Stopped);
        let mut running = Running::start(&[Answering::Accepts], Some(directory.path()));
        assert_eq!(running.attempt().await.key, key);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut running = Running::start(&[Answering::Fails(Next::GiveUp)], Some(directory.path()));
    running.escalation.sighted(&[cluster("a1", 10, 7)]);
    running.attempt().await;
    running.until(|status| status.failed == 1 && status.state != EscalationState::Recording).await;
    running.escalation.machine().abort().await;
    let mut running = Running::start(&[Answering::Accepts], Some(directory.path()));
    running.escalation.sighted(&[cluster("a1", 12, 9), cluster("b2", 10, 8)]);
    assert_eq!(running.attempt().await.key, "b2-8");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written_does_not_hold_the_post() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    fs::create_dir(&path).unwrap();
    let mut running = Running::start(&[Answering::Accepts], Some(&path));
    fs::remove_dir(&path).unwrap();
    running.escalation.sighted(&[cluster("a1", 10, 7)]);
    running.attempt().await;
    let status = running.until(|status| status.state == EscalationState::Idle).await;
    assert_eq!(status.posted, 1);
    let error = status.last_error.unwrap();
    assert!(error.contains("escalations.json was not written"), "{error}");
    // Once is enough in this process.
    running.escalation.sighted(&[cluster("a1", 11, 8)]);
    fs::create_dir(&path).unwrap();
    running.escalation.sighted(&[cluster("b2", 11, 8)]);
    assert_eq!(running.attempt().await.key, "b2-8");
    running.until(|status| status.posted == 2 && status.state == EscalationState::Idle).await;
    assert!(path.join("escalations.json").exists());
}

#[tokio::test(start_paused = true)]
async fn after_a_stop_nothing_is_taken() {
    let mut running = Running::start(&[Answering::Accepts], None);
    running.escalation.stop().await;
    running.escalation.sighted(&[cluster("a1", 10, 7)]);
    running.escalation.stop().await;
    assert!(running.attempts.try_recv().is_err());
    let status = running.escalation.status();
    assert_eq!((status.state, status.failing), (EscalationState::Stopped, false));
}
