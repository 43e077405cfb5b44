//! A consumer's waker is foreign code: one that panics harms neither the runtime nor other waiters.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_core::Stream as _;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::timeout;
use watchkeeper::runtime::{StateKind, StopOutcome, StopReason};
use watchkeeper::{ObservationConfig, ObservationRuntime};

use crate::common::threads::{Flavour, Gate, block_on, executor, poll_once};
use crate::common::{Act, App, Call, each_second, ms};

/// It panics when it wakes and when it is dropped.
struct Bad {
    woken: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.over.load(Relaxed) {
            self.woken.fetch_add(1, Relaxed);
            panic!("a waker that panics");
        }
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Relaxed);
        let harmless = self.over.load(Relaxed) || std::thread::panicking();
        assert!(harmless, "a waker that panics when it is dropped");
    }
}

/// Makes bad wakers and counts what became of them.
#[derive(Default)]
struct Range {
    woken: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Range {
    /// Polls once. What it waits on is the last to hold the waker.
    fn poll<F: Future + ?Sized>(&self, future: Pin<&mut F>) -> Poll<F::Output> {
        let (woken, dropped, over) =
            (Arc::clone(&self.woken), Arc::clone(&self.dropped), Arc::clone(&self.over));
        let waker = Waker::from(Arc::new(Bad { woken, dropped, over }));
        future.poll(&mut Context::from_waker(&waker))
    }

    fn woken(&self) -> usize {
        self.woken.load(Relaxed)
    }

    /// From now on they are harmless.
    fn close(&self) {
        self.over.store(true, Relaxed);
    }
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What one may wait for, made for a runtime.
type Wait = fn(&ObservationRuntime<App>) -> Waiting;

const NEWS: [(&str, Wait); 4] = [
    ("a subscription", |runtime| {
        let mut batches = runtime.handle().subscribe();
        Box::pin(async move { assert_eq!(batches.recv().await.unwrap().seq, 0) })
    }),
    ("a stream", |runtime| {
        let mut batches = runtime.handle().subscribe();
        Box::pin(async move {
            let next = std::future::poll_fn(|context| Pin::new(&mut batches).poll_next(context)).await;
            assert_eq!(next.unwrap().unwrap().seq, 0);
        })
    }),
    ("a watch", |runtime| {
        let mut watch = runtime.handle().watch();
        Box::pin(async move { assert_eq!(watch.changed().await.unwrap().cycle, 1) })
    }),
    ("a wait", |runtime| {
        let wait = runtime.handle().eventually("a poll", |view| view.polls == 1).within(ms(10_000));
        Box::pin(async move { assert_eq!(wait.await.unwrap().cycle, 1) })
    }),
];

/// Tokio wakes lists of 32: the rest of a list would sleep on after a panic in it.
const MANY: usize = 100;

#[test]
fn all_others_that_wait_for_news_are_woken() {
    for (name, wait) in NEWS {
        let executor = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        executor.block_on(async {
            let app = App::new();
            app.then(Call::Poll, [Act::Ok(vec![1])]);
            let runtime = app.start(each_second()).await;
            let range = Range::default();
            let mut good = JoinSet::new();
            let mut bad = Vec::new();
            for _ in 0..MANY {
                let mut waits_badly = wait(&runtime);
                assert!(range.poll(waits_badly.as_mut()).is_pending(), "{name}");
                bad.push(waits_badly);
                good.spawn(wait(&runtime));
            }
            timeout(ms(5_000), good.join_all())
                .await
                .unwrap_or_else(|_| panic!("{name}: somebody sleeps on"));
            assert_eq!(range.woken(), MANY, "{name}");
            assert_eq!(runtime.handle().stop_reason(), None, "{name}: the runtime goes on");
            // Their wakers are dropped here.
            drop(bad);
            assert_eq!(range.dropped.load(Relaxed), MANY, "{name}");
            assert_eq!(runtime.control().poll_now().await.map(|cycle| cycle > 1), Ok(true), "{name}");
            assert_eq!(runtime.stop().await, StopOutcome::Stopped, "{name}");
            range.close();
        });
    }
}

/// Every way to wait for the end, or for the answer to a control.
const ANSWERS: [(&str, Wait); 4] = [
    ("a stop", |runtime| {
        let control = runtime.control();
        Box::pin(async move { assert_eq!(control.stop().await, StopOutcome::Stopped) })
    }),
    ("a control", |runtime| {
        let control = runtime.control();
        Box::pin(async move {
            let _ = control.pause().await;
        })
    }),
    ("the end of a stream", |runtime| {
        let mut batches = runtime.handle().subscribe();
        Box::pin(async move {
            let _ = batches.recv().await.unwrap_err();
        })
    }),
    ("the end of a watch", |runtime| {
        let mut watch = runtime.handle().watch();
        Box::pin(async move {
            let _ = watch.wait_for(|_| false).await.map(drop).unwrap_err();
        })
    }),
];

#[test]
fn everyone_is_answered_and_gets_the_end() {
    for (name, wait) in ANSWERS {
        let executor = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        executor.block_on(async {
            let app = App::new();
            app.then(Call::Poll, [Act::Hang]);
            let runtime = app.start(each_second()).await;
            let handle = runtime.handle();
            handle.reaches(StateKind::Polling).within(ms(2_000)).await.unwrap();
            let range = Range::default();
            let mut bad = Vec::new();
            // A control is one of at most 16 that wait.
            for _ in 0..8 {
                let mut waits_badly = wait(&runtime);
                assert!(range.poll(waits_badly.as_mut()).is_pending(), "{name}");
                bad.push(waits_badly);
            }
            let mut good = JoinSet::new();
            for _ in 0..if name == "a control" { 8 } else { MANY } {
                good.spawn(wait(&runtime));
            }
            tokio::task::yield_now().await;
            assert_eq!(timeout(ms(1_000), runtime.stop()).await, Ok(StopOutcome::Stopped), "{name}");
            timeout(ms(1_000), good.join_all())
                .await
                .unwrap_or_else(|_| panic!("{name}: somebody sleeps on"));
            assert!(range.woken() >= 8, "{name}: {}", range.woken());
            assert_eq!(handle.stop_reason(), Some(StopReason::Requested), "{name}");
            drop(bad);
            range.close();
        });
    }
}

// On real threads: the deadline's own thread wakes them.
#[test]
fn a_stop_that_cannot_wait_any_longer_is_answered_as_detached() {
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let app = App::new();
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
    let config = ObservationConfig { interval: ms(1), stop_timeout: ms(50), ..ObservationConfig::default() };
    let runtime = executor.block_on(app.start(config));
    gate.wait_until_reached();

    let range = Range::default();
    let mut bad: Vec<Waiting> = Vec::new();
    for _ in 0..MANY {
        let control = runtime.control();
        bad.push(Box::pin(async move {
            let _ = control.stop().await;
        }));
        let mut batches = runtime.handle().subscribe();
        bad.push(Box::pin(async move { drop(batches.recv().await) }));
        let mut watch = runtime.handle().watch();
        bad.push(Box::pin(async move { drop(watch.wait_for(|_| false).await) }));
    }
    for waits_badly in &mut bad {
        assert!(range.poll(waits_badly.as_mut()).is_pending());
    }
    assert_eq!(block_on(runtime.stop()), StopOutcome::Detached);
    assert_eq!(runtime.handle().stop_reason(), Some(StopReason::Requested));
    assert_eq!(block_on(runtime.stop()), StopOutcome::Detached, "and again");
    gate.open();
    drop(bad);
    range.close();
}

/// Tokio's own driver of timers wakes here.
#[test]
fn data_that_turns_stale_wakes_everyone() {
    let executor = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    executor.block_on(async {
        let runtime = App::new().start(each_second()).await;
        runtime.control().pause().await.unwrap();
        let turns_stale = || -> Waiting {
            let mut watch = runtime.handle().watch();
            Box::pin(async move { assert!(watch.changed().await.unwrap().freshness.is_stale()) })
        };
        let window = || -> Waiting {
            let wait = runtime.handle().becomes_stale().within(Duration::from_secs(60));
            Box::pin(async move { drop(wait.await.unwrap()) })
        };
        let range = Range::default();
        let (mut good, mut bad) = (JoinSet::new(), Vec::new());
        for nth in 0..MANY {
            let mut waits_badly = if nth % 2 == 0 { turns_stale() } else { window() };
            assert!(range.poll(waits_badly.as_mut()).is_pending());
            bad.push(waits_badly);
            good.spawn(if nth % 2 == 0 { turns_stale() } else { window() });
        }
        timeout(ms(9_000), good.join_all()).await.unwrap();
        drop(bad);
        range.close();
    });
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_waker_panics_starts_all_the_same() {
    for fails in [false, true] {
        let app = App::new();
        let init = if fails { Act::Err("down") } else { Act::slow(500) };
        app.then(Call::Init, [init]);
        let range = Range::default();
        let mut start = pin!(ObservationRuntime::start(app.clone(), app.clone(), each_second()));
        assert!(range.poll(start.as_mut()).is_pending());
        tokio::time::sleep(ms(600)).await;
        range.close();
        let Poll::Ready(started) = poll_once(start) else { panic!("it has ended: {fails}") };
        assert_eq!(started.is_err(), fails);
        let alive = started.map(|runtime| runtime.handle().stop_reason());
        assert!(alive.is_err() || alive.unwrap().is_none(), "the driver lives");
    }
}
