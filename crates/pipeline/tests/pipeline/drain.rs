//! A stop drains from sources to sinks, an abort ends at once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchkeeper::DynError;
use watchkeeper_pipeline::store::{DeadLetterChange, NewOutputs, StageName, Stored};
use watchkeeper_pipeline::{
    CommitStore, Item, MemoryStore, OnStageFailure, Pipeline, PipelineBuilder, PipelineState, StagePosition,
    StageState, Upstream, UpstreamPosition, stage,
};

use crate::common::{
    LONG, Published, STEADY, Seen, gated, has_committed, has_seen, is_in, numbers, pass, scripted,
};

const SECOND: Duration = Duration::from_secs(1);

/// A chain of `a`, `b` and `c`; `c` needs permits.
fn chain(source: &Published, seen: &[Seen; 3], gate: &Arc<Semaphore>) -> PipelineBuilder {
    Pipeline::builder("drain")
        .stage(stage("c", gated(&seen[2], gate)).from(Upstream::stage("b")))
        .stage(stage("b", scripted(&seen[1], pass)).from(Upstream::stage("a")))
        .stage(stage("a", scripted(&seen[0], pass)).from(Upstream::observation("numbers", &source.handle())))
}

#[tokio::test(start_paused = true)]
async fn what_was_read_goes_through_all_stages() {
    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(0)));
    let pipeline = chain(&source, &seen, &gate).start().await.unwrap();
    (0..10).for_each(|number| source.batch([number]));
    has_seen(&seen[2], 1).await;
    has_committed(&pipeline, "a", 10).await;
    let stopped = pipeline.clone();
    let stopped = tokio::spawn(async move { stopped.stop().await });
    is_in(&pipeline, "a", StageState::Drained).await;
    assert_eq!(pipeline.status().state, PipelineState::Draining);
    // It is not read any more.
    source.batch([10]);
    gate.add_permits(100);
    let status = stopped.await.unwrap();
    assert_eq!((status.state, status.failed, status.cut_off), (PipelineState::Drained, None, vec![]));
    for seen in &seen {
        assert_eq!(numbers(seen), (0..10).collect::<Vec<_>>());
    }
    assert!(pipeline.stages().iter().all(|stage| stage.state() == StageState::Drained));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_was_read_is_handled_to_its_end_and_committed_item_by_item() {
    let mut source = Published::new(64);
    let (seen, gate, store) = (Seen::default(), Arc::new(Semaphore::new(0)), MemoryStore::new());
    let upstream = Upstream::observation("numbers", &source.handle());
    let one = stage("one", gated(&seen, &gate)).from(upstream).store(store.clone());
    let begin = source.cursor();
    source.batch(0..5);
    let pipeline = Pipeline::builder("drain").stage(one).start().await.unwrap();
    gate.add_permits(1);
    has_seen(&seen, 2).await;
    let stopped = pipeline.clone();
    let stopped = tokio::spawn(async move { stopped.stop().await });
    is_in(&pipeline, "one", StageState::Draining).await;
    gate.add_permits(1);
    has_seen(&seen, 3).await;
    let committed = |cursor, done| Some(UpstreamPosition::Batch { cursor, done });
    assert_eq!(store.stored().position.get("numbers"), committed(begin, 2), "a deadline would lose no more");
    source.batch([5]); // not read any more
    gate.add_permits(100);
    assert_eq!(stopped.await.unwrap().state, PipelineState::Drained);
    assert_eq!(numbers(&seen), [0, 1, 2, 3, 4]);
    assert_eq!(store.stored().position.get("numbers"), committed(begin.at(1), 0));
}

/// A store whose commits take a second.
struct Slow(MemoryStore<u64, u64>);

impl CommitStore<u64, u64> for Slow {
    async fn load(&mut self, stage: &StageName) -> Result<Stored<u64, u64>, DynError> {
        self.0.load(stage).await
    }

    async fn commit(
        &mut self,
        position: &StagePosition,
        outputs: NewOutputs<'_, u64>,
        dead_letters: &[DeadLetterChange<u64>],
    ) -> Result<(), DynError> {
        tokio::time::sleep(SECOND).await;
        self.0.commit(position, outputs, dead_letters).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_always_has_more_is_not_read_once_the_stage_drains() {
    let seen = Seen::default();
    let upstream = Upstream::seekable("numbers", |committed| futures_util::stream::iter(committed..));
    let one = stage("one", scripted(&seen, |_, _| Ok(vec![]))).from(upstream).store(Slow(MemoryStore::new()));
    let pipeline = Pipeline::builder("drain").stage(one).start().await.unwrap();
    has_seen(&seen, 1_000).await;
    let began = Instant::now();
    let before = seen.lock().unwrap().len();
    let status = pipeline.stop().await;
    assert!(status.is_complete(), "{status:?}");
    assert!(began.elapsed() <= SECOND, "the commit in flight is the last");
    assert_eq!(seen.lock().unwrap().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_hangs_is_cut_off_at_the_deadline_and_named() {
    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(1)));
    let pipeline = chain(&source, &seen, &gate).drain(7 * SECOND).start().await.unwrap();
    source.batch([1]);
    source.batch([2]);
    has_seen(&seen[2], 2).await;
    let began = Instant::now();
    let status = pipeline.stop().await;
    assert_eq!(began.elapsed(), 7 * SECOND);
    assert_eq!((status.state, status.cut_off), (PipelineState::Drained, vec!["c".into()]));
    let states: Vec<_> = pipeline.stages().iter().map(watchkeeper_pipeline::StageHandle::state).collect();
    assert_eq!(states[..2], [StageState::Drained, StageState::Drained]);
    let progress = pipeline.output::<u64>("c").unwrap().latest_snapshot().unwrap().value;
    assert_eq!(progress.items, 1);
    gate.add_permits(100);
    tokio::time::sleep(LONG).await;
    assert_eq!(numbers(&seen[2]), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_single_stage_that_hangs_is_cut_off_and_its_item_comes_again() {
    let mut source = Published::new(64);
    let (seen, gate, store) = (Seen::default(), Arc::new(Semaphore::new(1)), MemoryStore::new());
    let build = || {
        let upstream = Upstream::observation("numbers", &source.handle());
        Pipeline::builder("drain")
            .stage(stage("one", gated(&seen, &gate)).from(upstream).store(store.clone()))
    };
    let (first, second) = (build(), build());
    source.batch([1]);
    let pipeline = first.start().await.unwrap();
    source.batch([2]);
    has_seen(&seen, 2).await;
    let status = pipeline.stop().await;
    assert_eq!((status.state, status.cut_off), (PipelineState::Drained, vec!["one".into()]));
    gate.add_permits(100);
    let pipeline = second.start().await.unwrap();
    has_committed(&pipeline, "one", 1).await;
    assert_eq!(numbers(&seen), [1, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_hangs_takes_no_time_from_stages_that_do_not_read_it() {
    let (mut hanging, mut source) = (Published::new(64), Published::new(64));
    let (seen, gate) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let (other, slow) = (Seen::default(), Arc::new(Semaphore::new(0)));
    let pipeline = Pipeline::builder("drain")
        .stage(
            stage("hanging", gated(&seen, &gate)).from(Upstream::observation("numbers", &hanging.handle())),
        )
        .stage(stage("other", gated(&other, &slow)).from(Upstream::observation("numbers", &source.handle())))
        .start()
        .await
        .unwrap();
    hanging.batch([1]);
    source.batch([1]);
    has_seen(&seen, 1).await;
    has_seen(&other, 1).await;
    let stopped = pipeline.clone();
    let stopped = tokio::spawn(async move { stopped.stop().await });
    is_in(&pipeline, "hanging", StageState::Draining).await;
    slow.add_permits(1);
    let status = stopped.await.unwrap();
    assert_eq!(status.cut_off, ["hanging".into()]);
    assert_eq!(pipeline.stage("other").unwrap().state(), StageState::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_backs_off_tries_again_at_once() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let act = move |item, attempt| {
        if is_mended.load(Relaxed) { pass(item, attempt) } else { Err("not yet".into()) }
    };
    let pipeline = Pipeline::builder("drain")
        .stage(
            stage("one", scripted(&seen, act))
                .from(Upstream::observation("numbers", &source.handle()))
                .backoff(watchkeeper::runtime::Backoff { first: 100 * SECOND, ..STEADY }),
        )
        .start()
        .await
        .unwrap();
    source.batch([1]);
    is_in(&pipeline, "one", StageState::BackingOff).await;
    mended.store(true, Relaxed);
    let began = Instant::now();
    let status = pipeline.stop().await;
    assert_eq!(
        (status.state, status.cut_off, began.elapsed()),
        (PipelineState::Drained, vec![], Duration::ZERO)
    );
    assert_eq!(numbers(&seen), [1, 1]);
    assert_eq!(pipeline.stage("one").unwrap().state(), StageState::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_drains_waits_for_its_attempts_and_gives_up_after_them() {
    let mut source = Published::new(64);
    let seen = Seen::default();
    let act = |_, attempt| Err(format!("attempt {attempt}").into());
    let pipeline = Pipeline::builder("drain")
        .stage(
            stage("one", scripted(&seen, act))
                .from(Upstream::observation("numbers", &source.handle()))
                .retries(2)
                .backoff(STEADY),
        )
        .start()
        .await
        .unwrap();
    source.batch([1]);
    is_in(&pipeline, "one", StageState::BackingOff).await;
    let began = Instant::now();
    let status = pipeline.stop().await;
    // The second attempt is at once, the third after the first delay: the delays begin again.
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!(numbers(&seen).len(), 3);
    assert_eq!((status.state, status.cut_off), (PipelineState::Failed, vec![]));
    let (stage, status) = status.failed.unwrap();
    assert_eq!((&*stage, status.state), ("one", StageState::Failed));
}

#[tokio::test(start_paused = true)]
async fn an_isolated_stage_that_has_failed_does_not_keep_the_others_from_draining() {
    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(100)));
    let act = |item, attempt| if item == Item::Event(2) { Err("two".into()) } else { pass(item, attempt) };
    let pipeline = chain(&source, &seen, &gate)
        .on_stage_failure(OnStageFailure::Isolate)
        .stage(stage("failing", scripted(&Seen::default(), act)).from(Upstream::stage("a")).retries(0))
        .stage(stage("after", scripted(&Seen::default(), pass)).from(Upstream::stage("failing")))
        .start()
        .await
        .unwrap();
    source.batch([1, 2, 3]);
    is_in(&pipeline, "failing", StageState::Failed).await;
    let began = Instant::now();
    let status = pipeline.stop().await;
    assert_eq!(
        (status.state, status.cut_off, began.elapsed()),
        (PipelineState::Drained, vec![], Duration::ZERO)
    );
    assert_eq!(numbers(&seen[2]), [1, 2, 3]);
    for (name, state) in
        [("failing", StageState::Failed), ("after", StageState::Drained), ("a", StageState::Drained)]
    {
        assert_eq!(pipeline.stage(name).unwrap().state(), state, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_drains() {
    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(0)));
    let pipeline = chain(&source, &seen, &gate).start().await.unwrap();
    source.batch([1, 2]);
    has_seen(&seen[2], 1).await;
    let (c, mut watch) = (pipeline.stage("c").unwrap(), pipeline.watch());
    let clone = pipeline.clone();
    drop(pipeline);
    tokio::time::sleep(LONG).await;
    assert_eq!(clone.status().state, PipelineState::Running);
    drop(clone);
    gate.add_permits(2);
    while watch.changed().await.is_ok() {}
    assert_eq!(watch.state().state, PipelineState::Drained);
    assert_eq!(c.state(), StageState::Drained);
    assert_eq!(numbers(&seen[2]), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_at_once_and_nothing_goes_on() {
    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(1)));
    let pipeline = chain(&source, &seen, &gate).start().await.unwrap();
    source.batch([1, 2, 3]);
    has_seen(&seen[2], 2).await;
    let began = Instant::now();
    pipeline.abort().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    let calls: Vec<_> = seen.iter().map(numbers).collect();
    gate.add_permits(100);
    source.batch([4]);
    tokio::time::sleep(LONG).await;
    assert_eq!(seen.iter().map(numbers).collect::<Vec<_>>(), calls);
    assert_eq!(gate.available_permits(), 100);
    let progress = pipeline.output::<u64>("c").unwrap().latest_snapshot();
    assert_eq!(
        progress.map_or(0, |progress| progress.value.items),
        0,
        "the batch of 1 and 2 was not committed"
    );
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_drain() {
    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(0)));
    let pipeline = chain(&source, &seen, &gate).start().await.unwrap();
    source.batch([1]);
    has_seen(&seen[2], 1).await;
    let stopped = pipeline.clone();
    let stopped = tokio::spawn(async move { stopped.stop().await });
    is_in(&pipeline, "a", StageState::Drained).await;
    let began = Instant::now();
    pipeline.abort().await;
    stopped.await.unwrap();
    assert_eq!(began.elapsed(), Duration::ZERO);
    gate.add_permits(1);
    tokio::time::sleep(LONG).await;
    assert_eq!(gate.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_parent_is_a_stop() {
    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(0)));
    let parent = CancellationToken::new();
    let pipeline = chain(&source, &seen, &gate).parent(parent.clone()).start().await.unwrap();
    source.batch([1, 2]);
    has_seen(&seen[2], 1).await;
    parent.cancel();
    gate.add_permits(2);
    assert_eq!(pipeline.ended().await.state, PipelineState::Drained);
    assert_eq!(numbers(&seen[2]), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_was_cancelled_before_the_start_is_an_error_of_the_start() {
    let source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(0)));
    let parent = CancellationToken::new();
    parent.cancel();
    let error = chain(&source, &seen, &gate).parent(parent).start().await.unwrap_err();
    let text = "the pipeline was stopped before its stages had started: build it again";
    assert_eq!(error.to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn a_stop_may_be_called_again_and_by_several_tasks() {
    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(0)));
    let pipeline = chain(&source, &seen, &gate).start().await.unwrap();
    source.batch([1]);
    has_seen(&seen[2], 1).await;
    let stops: Vec<_> = (0..3)
        .map(|_| {
            let pipeline = pipeline.clone();
            tokio::spawn(async move { pipeline.stop().await })
        })
        .collect();
    is_in(&pipeline, "a", StageState::Drained).await;
    gate.add_permits(1);
    for stop in stops {
        assert_eq!(stop.await.unwrap().state, PipelineState::Drained);
    }
    assert_eq!(pipeline.stop().await.state, PipelineState::Drained);
    pipeline.abort().await;
    assert_eq!(pipeline.ended().await.state, PipelineState::Drained);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_drains_what_has_started() {
    use futures_util::FutureExt;

    let mut source = Published::new(64);
    let (seen, gate) = (<[Seen; 3]>::default(), Arc::new(Semaphore::new(100)));
    let made = Arc::new(AtomicBool::new(false));
    let is_made = Arc::clone(&made);
    let mut make = scripted(&Seen::default(), pass);
    let last = stage("last", move || {
        is_made.store(true, Relaxed);
        make()
    });
    let mut start = Box::pin(chain(&source, &seen, &gate).stage(last.from(Upstream::stage("c"))).start());
    while !made.load(Relaxed) {
        assert!(start.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(start);
    tokio::time::sleep(LONG).await;
    source.batch([1]);
    tokio::time::sleep(LONG).await;
    assert_eq!(seen.map(|seen| numbers(&seen).len()), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_waits_for_room_of_a_failed_one_drains_and_loses_nothing() {
    let mut source = Published::new(64);
    let (first, store) = (Seen::default(), MemoryStore::new());
    let (failing, kept) = (Seen::default(), MemoryStore::new());
    let build = |fails: bool| {
        let act = move |item, attempt| if fails { Err("failed".into()) } else { pass(item, attempt) };
        Pipeline::builder("drain")
            .on_stage_failure(OnStageFailure::Isolate)
            .stage(
                stage("first", scripted(&first, pass))
                    .from(Upstream::observation("numbers", &source.handle()))
                    .capacity(2)
                    .store(store.clone()),
            )
            .stage(
                stage("failing", scripted(&failing, act))
                    .from(Upstream::stage("first"))
                    .retries(0)
                    .store(kept.clone()),
            )
    };
    let (one, two) = (build(true), build(false));
    let pipeline = one.start().await.unwrap();
    (1..=5).for_each(|number| source.batch([number]));
    is_in(&pipeline, "failing", StageState::Failed).await;
    has_seen(&first, 3).await;
    let status = pipeline.stop().await;
    assert_eq!((status.state, status.cut_off), (PipelineState::Drained, vec![]));
    let pipeline = two.start().await.unwrap();
    has_committed(&pipeline, "failing", 5).await;
    assert_eq!(numbers(&failing), [1, 1, 2, 3, 4, 5]);
    assert_eq!(numbers(&first), [1, 2, 3, 4, 5]);
}
