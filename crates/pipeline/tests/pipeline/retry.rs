//! What has failed is tried again after the delays of the backoff.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use watchkeeper_pipeline::{
    Item, MemoryStore, Pipeline, StageFailureKind, StageHandle, StageState, Upstream, UpstreamPosition, stage,
};

use crate::common::{Published, STEADY, Seen, gated, has_committed, has_seen, is_in, pass, scripted};

const SECOND: Duration = Duration::from_secs(1);

/// How long each delay was.
fn delays(stage: &StageHandle) -> Vec<Duration> {
    let mut began: Option<Instant> = None;
    let mut delays = Vec::new();
    for transition in stage.transitions() {
        match transition.to.state {
            StageState::BackingOff => began = Some(transition.at),
            _ => delays.extend(began.take().map(|began| transition.at - began)),
        }
    }
    delays
}

/// The attempts at an item.
fn attempts(seen: &Seen, number: u64) -> Vec<u64> {
    let of = |(item, _, attempt): &(Item<u64>, UpstreamPosition, u64)| {
        (*item == Item::Event(number)).then_some(*attempt)
    };
    seen.lock().unwrap().iter().filter_map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_are_retried_with_the_delays_of_the_backoff() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    let act = |item, attempt| match (item, attempt) {
        (Item::Event(2), 1 | 3) => Err(format!("attempt {attempt}").into()),
        (Item::Event(2), 2) => panic!("attempt 2"),
        _ => pass(item, attempt),
    };
    let pipeline = Pipeline::builder("retry")
        .stage(
            stage("one", scripted(&seen, act))
                .from(Upstream::observation("numbers", &source.handle()))
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    let one = pipeline.stage("one").unwrap();
    source.batch([1, 2, 3]);
    has_committed(&pipeline, "one", 3).await;
    assert_eq!(attempts(&seen, 1), [1]);
    assert_eq!(attempts(&seen, 2), [1, 2, 3, 4]);
    assert_eq!(attempts(&seen, 3), [1]);
    assert_eq!(delays(&one), [SECOND, 2 * SECOND, 4 * SECOND]);
    let failures: Vec<_> = one
        .transitions()
        .iter()
        .filter(|transition| transition.to.state == StageState::BackingOff)
        .map(|transition| transition.to.failure.as_ref().unwrap().message.to_string())
        .collect();
    assert_eq!(failures, ["attempt 1", "panicked: attempt 2", "attempt 3"]);
}

#[tokio::test(start_paused = true)]
async fn each_item_begins_with_the_first_delay() {
    let mut source = Published::new(64);
    let act = |item, attempt| if attempt < 3 { Err("not yet".into()) } else { pass(item, attempt) };
    let pipeline = Pipeline::builder("retry")
        .stage(
            stage("one", scripted(&Seen::default(), act))
                .from(Upstream::observation("numbers", &source.handle()))
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    source.batch([1, 2]);
    has_committed(&pipeline, "one", 2).await;
    assert_eq!(delays(&pipeline.stage("one").unwrap()), [SECOND, 2 * SECOND, SECOND, 2 * SECOND]);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_takes_too_long_is_retried() {
    let mut source = Published::new(64);
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let pipeline = Pipeline::builder("retry")
        .stage(
            stage("one", gated(&seen, &gate))
                .from(Upstream::observation("numbers", &source.handle()))
                .item_timeout(5 * SECOND)
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    let one = pipeline.stage("one").unwrap();
    source.batch([7]);
    has_seen(&seen, 1).await;
    let began = Instant::now();
    is_in(&pipeline, "one", StageState::BackingOff).await;
    // It was seen up to 100 ms before.
    assert!(began.elapsed() <= 5 * SECOND && began.elapsed() > 4 * SECOND);
    let failure = one.status().failure.unwrap();
    assert_eq!(&*failure.message, "took longer than the item_timeout of 5s");
    assert!(matches!(&failure.kind, StageFailureKind::Item { upstream, .. } if &**upstream == "numbers"));
    gate.add_permits(1);
    has_committed(&pipeline, "one", 1).await;
    assert_eq!(attempts(&seen, 7), [1, 2]);
    assert_eq!(delays(&one), [SECOND]);
}

#[tokio::test(start_paused = true)]
async fn outputs_of_failed_attempts_are_dropped() {
    use watchkeeper::DynError;
    use watchkeeper_pipeline::{Emitter, Handler};

    /// Emits, then fails at odd attempts: by an error, then by a panic.
    struct EmitsFirst;

    impl Handler<u64> for EmitsFirst {
        type Output = u64;

        async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<u64>) -> Result<(), DynError> {
            let number = item.cloned().event().unwrap();
            out.emit(10 * number + out.attempt());
            match (number, out.attempt()) {
                (2, 1) => Err("an error".into()),
                (2, 2) => panic!("a panic"),
                _ => Ok(()),
            }
        }
    }

    let mut source = Published::new(64);
    let pipeline = Pipeline::builder("retry")
        .stage(stage("one", || EmitsFirst).from(Upstream::observation("numbers", &source.handle())))
        .start()
        .await
        .unwrap();
    let mut outputs = pipeline.output::<u64>("one").unwrap().subscribe();
    source.batch([1, 2, 3]);
    assert_eq!(outputs.recv().await.unwrap().events, [11]);
    assert_eq!(outputs.recv().await.unwrap().events, [23, 31]);
}

#[tokio::test(start_paused = true)]
async fn what_was_handled_before_a_failure_is_committed_before_the_delay() {
    let mut source = Published::new(64);
    let store = MemoryStore::new();
    let act = |item, attempt| if item == Item::Event(3) { Err("three".into()) } else { pass(item, attempt) };
    let pipeline = Pipeline::builder("retry")
        .stage(
            stage("one", scripted(&Seen::default(), act))
                .from(Upstream::observation("numbers", &source.handle()))
                .store(store.clone())
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    let one = pipeline.stage("one").unwrap();
    let begin = source.cursor();
    let mut watch = one.watch();
    source.batch([1, 2, 3, 4]);
    while watch.state().state != StageState::BackingOff {
        watch.changed().await.unwrap();
    }
    let position = UpstreamPosition::Batch { cursor: begin, done: 2 };
    assert_eq!(store.stored().position.get("numbers"), Some(position));
    let failure = one.status().failure.unwrap();
    let text = format!("the item of numbers at {position}, attempt 1: three");
    assert_eq!(failure.to_string(), text);
    let progress = pipeline.output::<u64>("one").unwrap().latest_snapshot().unwrap().value;
    assert_eq!((progress.items, progress.outputs, progress.commits), (2, 2, 1));
}
