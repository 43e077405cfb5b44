//! A subscription gets every batch in order; one that falls behind gets the exact count.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use tokio::time::{Instant, timeout};
use watchkeeper::ObservationConfig;
use watchkeeper::runtime::StopReason;
use watchkeeper::subscription::{RecvError, Subscription};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, at, each_second, ms};

/// An app whose cycle `n` finds the event `n`.
fn counting() -> App {
    let app = App::new();
    app.then(Call::Poll, (1..=200).map(|n| Act::Ok(vec![n])));
    app
}

fn keeping(history_limit: usize) -> ObservationConfig {
    ObservationConfig { history_limit, ..each_second() }
}

/// Everything that can be read now, in short.
fn drain(subscription: &mut Subscription<u64>) -> Vec<String> {
    std::iter::from_fn(|| subscription.try_recv()).map(|item| short(&item)).take(300).collect()
}

fn short(item: &Result<Arc<watchkeeper::ObservationBatch<u64>>, RecvError>) -> String {
    match item {
        Ok(batch) => format!("{}", batch.events[0]),
        Err(RecvError::Lagged { missed, resume }) => format!("missed {missed}, on at {}", resume.seq()),
        Err(RecvError::Rebuilt { generation }) => format!("generation {generation}"),
        Err(RecvError::Closed(reason)) => format!("{reason}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_keeps_up_gets_each_batch_once_for_any_history() {
    for limit in [0, 1, 3, 64] {
        let runtime = counting().start(keeping(limit)).await;
        let mut subscription = runtime.handle().subscribe();
        for n in 1..=100 {
            let batch = subscription.recv().await.unwrap();
            assert_eq!((batch.seq, batch.cycle, &batch.events[..]), (n - 1, n, &[n][..]), "limit {limit}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_sleeps_gets_the_exact_count_and_then_the_rest() {
    // (limit, batches, what it reads)
    let cases: [(usize, u64, &[&str]); 7] = [
        (0, 1, &["1"]),
        (0, 10, &["missed 9, on at 9", "10"]),
        (1, 10, &["missed 9, on at 9", "10"]),
        (3, 3, &["1", "2", "3"]),
        (3, 4, &["missed 1, on at 1", "2", "3", "4"]),
        (3, 10, &["missed 7, on at 7", "8", "9", "10"]),
        (64, 5, &["1", "2", "3", "4", "5"]),
    ];
    for (limit, batches, expected) in cases {
        let start = Instant::now();
        let runtime = counting().start(keeping(limit)).await;
        let mut subscription = runtime.handle().subscribe();
        at(start, batches * 1_000 + 500).await;
        assert_eq!(drain(&mut subscription), expected, "limit {limit}, {batches} batches");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_sleeps_again_gets_another_count() {
    let start = Instant::now();
    let runtime = counting().start(keeping(2)).await;
    let mut subscription = runtime.handle().subscribe();
    at(start, 5_500).await;
    assert_eq!(drain(&mut subscription), ["missed 3, on at 3", "4", "5"]);
    at(start, 9_500).await;
    assert_eq!(drain(&mut subscription), ["missed 2, on at 7", "8", "9"]);
    at(start, 10_500).await;
    assert_eq!(drain(&mut subscription), ["10"]);
}

#[tokio::test(start_paused = true)]
async fn a_laggard_s_resume_cursor_reads_the_same_rest() {
    let start = Instant::now();
    let runtime = counting().start(keeping(3)).await;
    let handle = runtime.handle();
    let mut subscription = handle.subscribe();
    at(start, 10_500).await;
    let Err(RecvError::Lagged { missed: 7, resume }) = subscription.recv().await else { panic!("it lags") };
    assert_eq!(subscription.cursor(), resume);
    let mut resumed = handle.subscribe_from(resume).unwrap();
    assert_eq!(drain(&mut resumed), ["8", "9", "10"]);
    assert_eq!(drain(&mut subscription), ["8", "9", "10"]);
}

/// Its cursor is its position, also among batches that it has already taken from the history.
#[tokio::test(start_paused = true)]
async fn its_cursor_is_right_after_what_it_returned() {
    let start = Instant::now();
    let runtime = counting().start(keeping(64)).await;
    let handle = runtime.handle();
    let mut subscription = handle.subscribe();
    assert_eq!(subscription.cursor().seq(), 0);
    at(start, 40_500).await;
    for n in 1..=40 {
        assert_eq!(subscription.recv().await.unwrap().cycle, n);
        assert_eq!((subscription.cursor().seq(), subscription.cursor().generation()), (n, 1));
        let mut copy = handle.subscribe_from(subscription.cursor()).unwrap();
        let next = copy.try_recv().map(|item| short(&item));
        assert_eq!(next, (n < 40).then(|| (n + 1).to_string()), "after {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_one_gets_what_is_published_from_now_on() {
    let start = Instant::now();
    let runtime = counting().start(keeping(64)).await;
    at(start, 3_500).await;
    let mut subscription = runtime.handle().subscribe();
    assert_eq!(subscription.try_recv().map(|item| short(&item)), None);
    assert_eq!(subscription.recv().await.unwrap().cycle, 4);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_recv_has_taken_nothing() {
    let app = counting();
    let start = Instant::now();
    let runtime = app.start(keeping(64)).await;
    let mut subscription = runtime.handle().subscribe();
    let mut read = Vec::new();
    // Every wait is given up many times before its batch comes.
    while read.len() < 20 {
        assert!(poll_once(subscription.recv()).is_pending());
        if let Ok(batch) = timeout(ms(300), subscription.recv()).await {
            read.push(batch.unwrap().cycle);
        }
    }
    assert_eq!(read, (1..=20).collect::<Vec<_>>());
    assert_eq!(start.elapsed().as_millis(), 20_000);
    // Given up when batches lie there.
    at(start, 25_500).await;
    drop(subscription.recv());
    assert_eq!(drain(&mut subscription), ["21", "22", "23", "24", "25"]);
}

//   cycle   1   2   3        4      5   6        7      8
//   event   1   2   panic    init   5   panic    init   8
#[tokio::test(start_paused = true)]
async fn a_rebuild_comes_in_order() {
    let start = Instant::now();
    let runtime = rebuilding().start(keeping(64)).await;
    let handle = runtime.handle();
    let first = handle.latest_snapshot().unwrap().cursor;
    let mut live = handle.subscribe();
    at(start, 2_500).await;
    let old = handle.latest_snapshot().unwrap().cursor;
    at(start, 4_500).await;
    assert_eq!(drain(&mut live), ["1", "2", "generation 2"], "before the new one has a batch");
    at(start, 8_500).await;
    assert_eq!(drain(&mut live), ["5", "generation 3", "8"]);

    let all = ["1", "2", "generation 2", "5", "generation 3", "8"];
    assert_eq!(drain(&mut handle.subscribe_from(first).unwrap()), all, "from the beginning");
    assert_eq!(drain(&mut handle.subscribe_from(old).unwrap()), all[2..], "from the old generation");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_across_a_rebuild_gets_both() {
    let start = Instant::now();
    let runtime = rebuilding().start(keeping(1)).await;
    let handle = runtime.handle();
    let first = handle.latest_snapshot().unwrap().cursor;
    let mut live = handle.subscribe();
    at(start, 7_500).await;
    let expected = ["missed 2, on at 2", "generation 2", "5", "generation 3"];
    assert_eq!(drain(&mut live), expected);
    assert_eq!(drain(&mut handle.subscribe_from(first).unwrap()), expected);
    at(start, 8_500).await;
    assert_eq!(drain(&mut live), ["8"]);
    let expected = ["missed 3, on at 3", "generation 3", "8"];
    assert_eq!(drain(&mut handle.subscribe_from(first).unwrap()), expected, "a generation it saw nothing of");
}

fn rebuilding() -> App {
    let app = App::new();
    let polls =
        [Act::Ok(vec![1]), Act::Ok(vec![2]), Act::Panic("boom"), Act::Ok(vec![5]), Act::Panic("boom")];
    app.then(Call::Poll, polls).then(Call::Poll, [Act::Ok(vec![8])]);
    app
}

#[tokio::test(start_paused = true)]
async fn as_a_stream_it_yields_the_same_and_ends() {
    let start = Instant::now();
    let runtime = rebuilding().start(keeping(2)).await;
    let handle = runtime.handle();
    let (mut plain, mut stream) = (handle.subscribe(), handle.subscribe());
    let read = tokio::spawn(async move {
        let mut read = Vec::new();
        while let Some(item) = next(&mut stream).await {
            read.push(short(&item));
        }
        assert!(next(&mut stream).await.is_none(), "the end is the end");
        read
    });
    at(start, 8_500).await;
    let _ = runtime.stop().await;
    let all = ["1", "2", "generation 2", "5", "generation 3", "8", "stop was requested"];
    assert_eq!(read.await.unwrap(), all);
    assert_eq!(plain.recv().await, Err(RecvError::Lagged { missed: 2, resume: plain.cursor() }));
    assert_eq!(drain(&mut plain).into_iter().take(5).collect::<Vec<_>>(), all[2..]);

    let mut late = handle.subscribe();
    assert_eq!(next(&mut late).await, Some(Err(RecvError::Closed(StopReason::Requested))));
    assert_eq!(next(&mut late).await, None);
}

/// A stream that was polled and then used as a receiver, and the other way round.
#[tokio::test(start_paused = true)]
async fn both_ways_may_be_mixed() {
    let runtime = counting().start(keeping(64)).await;
    let mut subscription = runtime.handle().subscribe();
    for n in (1..=20).step_by(2) {
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(Pin::new(&mut subscription).poll_next(&mut context), Poll::Pending);
        assert_eq!(subscription.recv().await.unwrap().cycle, n);
        assert_eq!(next(&mut subscription).await.unwrap().unwrap().cycle, n + 1);
    }
}

/// A waker keeps its task, and all that the task holds.
#[tokio::test(start_paused = true)]
async fn one_that_was_dropped_or_has_ended_keeps_no_waker() {
    struct Nobody;
    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }
    let task = Arc::new(Nobody);
    let waker = Waker::from(Arc::clone(&task));
    let mut context = Context::from_waker(&waker);
    let kept = || Arc::strong_count(&task) - 2;

    let runtime = counting().start(keeping(64)).await;
    let handle = runtime.handle();
    let mut subscription = handle.subscribe();
    assert!(Pin::new(&mut subscription).poll_next(&mut context).is_pending());
    assert_eq!(kept(), 1, "it waits");
    drop(subscription);
    assert_eq!(kept(), 0, "it was dropped");
    let _ = runtime.stop().await;
    let mut late = handle.subscribe();
    assert!(Pin::new(&mut late).poll_next(&mut context).is_ready());
    assert_eq!(kept(), 0, "nothing comes after the end");
}

#[tokio::test(start_paused = true)]
async fn its_debug_says_where_it_stands() {
    let runtime = counting().start(keeping(64)).await;
    let mut subscription = runtime.handle().subscribe();
    subscription.recv().await.unwrap();
    let shown = format!("{subscription:?}");
    assert_eq!(shown, format!("Subscription {{ cursor: {:?}, .. }}", subscription.cursor()));
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}
