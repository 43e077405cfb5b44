//! What follows when the retries have failed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use watchkeeper::supervise::FailureWindow;
use watchkeeper_pipeline::{
    Item, MemoryStore, OnError, OnStageFailure, Pipeline, RestartStageError, StageFailureKind, StageState,
    Upstream, UpstreamPosition, stage,
};

use crate::common::{Published, Refusing, STEADY, Seen, has_committed, is_in, numbers, pass, scripted};

/// A pipeline whose stage `one` fails at 2 until it is mended.
async fn failing(
    source: &Published,
    seen: &Seen,
    on_error: OnError,
    store: &MemoryStore<u64, u64>,
) -> (Pipeline, Arc<AtomicBool>) {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let act = move |item, attempt| {
        if item == Item::Event(2) && !is_mended.load(Relaxed) {
            Err("two".into())
        } else {
            pass(item, attempt)
        }
    };
    let pipeline = Pipeline::builder("policies")
        .on_stage_failure(OnStageFailure::Isolate)
        .stage(
            stage("one", scripted(seen, act))
                .from(Upstream::observation("numbers", &source.handle()))
                .store(store.clone())
                .retries(2)
                .on_error(on_error)
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    (pipeline, mended)
}

#[tokio::test(start_paused = true)]
async fn stop_fails_the_stage_and_a_restart_begins_at_the_item() {
    let mut source = Published::new(64);
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let (pipeline, mended) = failing(&source, &seen, OnError::Stop, &store).await;
    let one = pipeline.stage("one").unwrap();
    let begin = source.cursor();
    source.batch([1, 2, 3]);
    is_in(&pipeline, "one", StageState::Failed).await;
    assert_eq!(one.status().failure.unwrap().attempt, 3);
    assert_eq!(
        store.stored().position.get("numbers"),
        Some(UpstreamPosition::Batch { cursor: begin, done: 1 })
    );
    // Its attempts count from 1 again.
    one.restart().await.unwrap();
    is_in(&pipeline, "one", StageState::Failed).await;
    assert_eq!(one.status().failure.unwrap().attempt, 3);
    assert_eq!(numbers(&seen), [1, 2, 2, 2, 2, 2, 2]);
    mended.store(true, Relaxed);
    one.restart().await.unwrap();
    has_committed(&pipeline, "one", 3).await;
    assert_eq!(numbers(&seen)[7..], [2, 3]);
    assert_eq!(one.status().failure, None);
}

#[tokio::test(start_paused = true)]
async fn only_a_stage_that_has_given_up_is_restarted() {
    let mut source = Published::new(64);
    let (pipeline, _) = failing(&source, &Seen::default(), OnError::Stop, &MemoryStore::new()).await;
    let one = pipeline.stage("one").unwrap();
    let refused = |state: &str| {
        format!("stage one is {state}: only a stage that has failed or is poisoned can be restarted")
    };
    assert_eq!(one.restart().await.unwrap_err().to_string(), refused("running"));
    source.batch([2]);
    is_in(&pipeline, "one", StageState::BackingOff).await;
    assert_eq!(one.restart().await.unwrap_err().to_string(), refused("backing off"));
    is_in(&pipeline, "one", StageState::Failed).await;
    pipeline.stop().await;
    let error = one.restart().await.unwrap_err();
    assert!(matches!(error, RestartStageError::Ended { state: StageState::Failed, .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "stage one has ended with its pipeline, its last state was failed: build the pipeline again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_committed_with_the_position_after_it_and_the_stage_goes_on() {
    let mut source = Published::new(64);
    let (seen, store) = (Seen::default(), MemoryStore::new());
    let (pipeline, _) = failing(&source, &seen, OnError::DeadLetter, &store).await;
    let begin = source.cursor();
    source.batch([1, 2]);
    source.batch([3]);
    has_committed(&pipeline, "one", 3).await;
    assert_eq!(numbers(&seen), [1, 2, 2, 2, 3]);
    assert_eq!(pipeline.stage("one").unwrap().state(), StageState::Running);
    let stored = store.stored();
    assert_eq!(
        stored.position.get("numbers"),
        Some(UpstreamPosition::Batch { cursor: source.cursor(), done: 0 })
    );
    let letter = &stored.dead_letters[0];
    assert_eq!((letter.id, letter.item, &*letter.error, letter.attempts), (0, Item::Event(2), "two", 3));
    assert_eq!(letter.position, UpstreamPosition::Batch { cursor: begin, done: 1 });
    assert_eq!((stored.dead_letters.len(), stored.next_dead_letter), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stage_is_poisoned_by_too_many_failures_within_a_time_and_a_restart_clears_them() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    // The attempts are at 0, 1, 3 and 7 s: the fourth is one too many. The two retries do not count.
    let window = FailureWindow::new(3, Duration::from_secs(14));
    let (pipeline, mended) = failing(&source, &seen, OnError::Poison(window), &MemoryStore::new()).await;
    let one = pipeline.stage("one").unwrap();
    source.batch([1, 2]);
    is_in(&pipeline, "one", StageState::Poisoned).await;
    let first = one.status().failure.unwrap();
    assert_eq!((first.attempt, &*first.message), (4, "two"));
    one.restart().await.unwrap();
    is_in(&pipeline, "one", StageState::Poisoned).await;
    assert_eq!(one.status().failure.unwrap().attempt, 4);
    mended.store(true, Relaxed);
    one.restart().await.unwrap();
    has_committed(&pipeline, "one", 2).await;
}

#[tokio::test(start_paused = true)]
async fn failures_outside_of_the_window_are_retried_for_as_long_as_it_takes() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    // The attempts are at 0, 1, 3, 7, 15 s and so on: never four within 5 s.
    let window = FailureWindow::new(3, Duration::from_secs(5));
    let (pipeline, mended) = failing(&source, &seen, OnError::Poison(window), &MemoryStore::new()).await;
    source.batch([2]);
    crate::common::has_seen(&seen, 9).await;
    mended.store(true, Relaxed);
    has_committed(&pipeline, "one", 1).await;
    assert_eq!(numbers(&seen).len(), 10);
}

/// A pipeline with a store that refuses.
async fn refusing(source: &Published, seen: &Seen, store: &Refusing) -> Pipeline {
    Pipeline::builder("policies")
        .on_stage_failure(OnStageFailure::Isolate)
        .stage(
            stage("one", scripted(seen, pass))
                .from(Upstream::observation("numbers", &source.handle()))
                .store(store.clone())
                .retries(2)
                .on_error(OnError::DeadLetter)
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_is_retried_without_the_handler() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    let store = Refusing::default();
    let pipeline = refusing(&source, &seen, &store).await;
    let mut outputs = pipeline.output::<u64>("one").unwrap().subscribe();
    store.refusals.store(2, Relaxed);
    source.batch([1, 2]);
    is_in(&pipeline, "one", StageState::BackingOff).await;
    let failure = pipeline.stage("one").unwrap().status().failure.unwrap();
    assert_eq!(failure.kind, StageFailureKind::Commit);
    assert_eq!(failure.to_string(), "the commit, attempt 1: the disk is full");
    assert!(outputs.try_recv().is_none(), "nothing is published before its commit");
    has_committed(&pipeline, "one", 2).await;
    assert_eq!(numbers(&seen), [1, 2]);
    assert_eq!(outputs.recv().await.unwrap().events, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_stage_fails_when_the_retries_of_a_commit_have_failed() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    let store = Refusing::default();
    let pipeline = refusing(&source, &seen, &store).await;
    let one = pipeline.stage("one").unwrap();
    store.refusals.store(3, Relaxed);
    source.batch([1, 2]);
    is_in(&pipeline, "one", StageState::Failed).await;
    assert_eq!(one.status().failure.unwrap().to_string(), "the commit, attempt 3: the disk is full");
    assert_eq!(store.kept.stored().position.get("numbers"), None);
    one.restart().await.unwrap();
    has_committed(&pipeline, "one", 2).await;
    assert_eq!(store.kept.stored().outputs, Vec::<Vec<u64>>::new(), "no stage reads them");
    assert_eq!(one.dead_letters(), []);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_panics_has_refused_the_commit() {
    use watchkeeper::DynError;
    use watchkeeper_pipeline::store::{DeadLetterChange, NewOutputs, StageName, Stored};
    use watchkeeper_pipeline::{CommitStore, StagePosition};

    struct Panics(Arc<AtomicU64>);

    impl CommitStore<u64, u64> for Panics {
        async fn load(&mut self, _: &StageName) -> Result<Stored<u64, u64>, DynError> {
            Ok(Stored::default())
        }

        async fn commit(
            &mut self,
            _: &StagePosition,
            _: NewOutputs<'_, u64>,
            _: &[DeadLetterChange<u64>],
        ) -> Result<(), DynError> {
            assert!(self.0.fetch_add(1, Relaxed) > 0, "no disk");
            Ok(())
        }
    }

    let mut source = Published::new(64);
    let commits = Arc::new(AtomicU64::new(0));
    let pipeline = Pipeline::builder("policies")
        .stage(
            stage("one", scripted(&Seen::default(), pass))
                .from(Upstream::observation("numbers", &source.handle()))
                .store(Panics(Arc::clone(&commits))),
        )
        .start()
        .await
        .unwrap();
    source.batch([1]);
    is_in(&pipeline, "one", StageState::BackingOff).await;
    let failure = pipeline.stage("one").unwrap().status().failure.unwrap();
    assert_eq!(failure.to_string(), "the commit, attempt 1: the store panicked: no disk");
    has_committed(&pipeline, "one", 1).await;
    assert_eq!(commits.load(Relaxed), 2);
}
