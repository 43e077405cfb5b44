//! A wake starts a cycle soon, `min_gap` keeps a storm apart, and none is lost.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use watchkeeper::runtime::{Backoff, Retry, StateKind};
use watchkeeper::source::source_fn;
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource};

use crate::common::stateless::{idle, stateless};
use crate::common::{Act, App, Call, at, each_second, ms};

fn woken_by(wake: &Arc<Notify>) -> ObservationConfig {
    ObservationConfig { wake: Some(Arc::clone(wake)), ..each_second() }
}

type Send = fn(&Notify);

fn both(notify: &Notify) {
    notify.notify_one();
    notify.notify_waiters();
}

/// The ways to wake: the next or first waiter, all present waiters, and both at once.
const SENDS: [(&str, Send); 3] =
    [("notify_one", Notify::notify_one), ("notify_waiters", Notify::notify_waiters), ("both", both)];

#[tokio::test(start_paused = true)]
async fn it_starts_a_cycle_at_once_and_leaves_the_grid_alone() {
    for (name, send) in SENDS {
        let (app, wake) = (App::new(), Arc::default());
        let began = Instant::now();
        let runtime = app.start(woken_by(&wake)).await;
        at(began, 500).await;
        send(&wake);
        at(began, 1700).await;
        send(&wake);
        at(began, 3500).await;
        assert_eq!(app.times(Call::Sources, began), [0, 500, 1000, 1700, 2000, 3000], "{name}");
        assert_eq!(runtime.handle().status().missed_ticks, 0, "{name}");
    }
}

//    500            510            520         ...  600
//    cycle          cycle          cycle            cycle
//    ||||||||||||||||||||||||||||||||||||||||||||||||  a wake each millisecond
#[tokio::test(start_paused = true)]
async fn a_storm_makes_one_cycle_each_min_gap() {
    for (name, send) in SENDS {
        let (app, wake) = (App::new(), Arc::default());
        let began = Instant::now();
        let _runtime = app.start(woken_by(&wake)).await;
        for millis in 500..600 {
            at(began, millis).await;
            send(&wake);
        }
        at(began, 1500).await;
        let expected: Vec<_> = [0].into_iter().chain((500..=600).step_by(10)).chain([1000]).collect();
        assert_eq!(app.times(Call::Sources, began), expected, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn min_gap_counts_from_the_begin_of_any_cycle() {
    let (app, wake) = (App::new(), Arc::default());
    let began = Instant::now();
    let runtime = app.start(ObservationConfig { min_gap: ms(400), ..woken_by(&wake) }).await;
    // After cycle 0, a tick and a `poll_now`.
    for (millis, poll_now) in [(100, false), (1100, false), (1700, true)] {
        at(began, millis).await;
        if poll_now {
            runtime.control().poll_now().await.unwrap();
        }
        wake.notify_one();
    }
    at(began, 2500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 400, 1000, 1400, 1700, 2000]);
}

//    1000                    1500       2000
//    cycle 1 ................|cycle 2   tick
//         wakes ^ ^ ^
#[tokio::test(start_paused = true)]
async fn wakes_during_a_cycle_start_one_more_right_after_it() {
    let slow = || Act::slow(500);
    // (which call is slow in cycle 1, min_gap, when cycle 2 begins)
    let cases = [
        (Call::Sources, vec![Act::Ok(Vec::new()), slow()], 10, 1500),
        (Call::Poll, vec![slow()], 10, 1500),
        (Call::Poll, vec![slow()], 700, 1700),
        (Call::Poll, vec![Act::Err("down").after(500)], 10, 1500),
        (Call::Poll, vec![Act::Panic("boom").after(500)], 10, 1500),
    ];
    for (send_name, send) in SENDS {
        for (call, acts, gap, begins) in cases.clone() {
            let name = format!("{send_name}, {call:?}: {acts:?}, {gap}");
            let (app, wake) = (App::new(), Arc::default());
            app.then(call, acts);
            let began = Instant::now();
            let _runtime = app.start(ObservationConfig { min_gap: ms(gap), ..woken_by(&wake) }).await;
            for millis in [1100, 1101, 1400] {
                at(began, millis).await;
                send(&wake);
            }
            at(began, 2500).await;
            assert_eq!(app.times(Call::Sources, began), [0, 1000, begins, 2000], "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wake_during_the_first_cycle_counts() {
    let (app, wake) = (App::new(), Arc::<Notify>::default());
    app.then(Call::Init, [Act::slow(500)]);
    let began = Instant::now();
    let _runtime =
        ObservationRuntime::start_in_background(app.clone(), app.clone(), woken_by(&wake)).unwrap();
    at(began, 200).await;
    wake.notify_waiters();
    at(began, 1500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 500, 1000]);
}

#[tokio::test(start_paused = true)]
async fn a_wake_around_the_start_is_not_lost() {
    for before in [true, false] {
        let (app, wake) = (App::new(), Arc::<Notify>::default());
        if before {
            wake.notify_one();
        }
        let began = Instant::now();
        let _runtime =
            ObservationRuntime::start_in_background(app.clone(), app.clone(), woken_by(&wake)).unwrap();
        if !before {
            // To the present waiters; the driver had no turn yet.
            wake.notify_waiters();
        }
        at(began, 1500).await;
        assert_eq!(app.times(Call::Sources, began), [0, 10, 1000], "before the start: {before}");
    }
}

/// The driver runs the app's code itself here, so it cannot be waiting for a wake.
#[tokio::test(start_paused = true)]
async fn a_wake_from_inside_the_app_s_own_call_is_not_lost() {
    for (name, send) in SENDS {
        let (app, wake) = (App::new(), Arc::<Notify>::default());
        let calls = AtomicU64::new(0);
        let (news, began) = (Arc::clone(&wake), Instant::now());
        let provider = source_fn(move || {
            if calls.fetch_add(1, Relaxed) == 1 {
                send(&news);
            }
            async { Ok::<_, DynError>(vec![ObservedSource::new("a", ())]) }
        });
        let _runtime = ObservationRuntime::start(provider, app.clone(), woken_by(&wake)).await.unwrap();
        at(began, 2500).await;
        assert_eq!(app.times(Call::Poll, began), [1000, 1010, 2000], "{name}");
    }
}

//    200     300 301 302      2500             3000
//    pause   wakes            resume, cycle    tick
/// Work that a wake has begun and that is never suspended: all wakes during it are one, of any kind.
#[tokio::test]
async fn wakes_from_inside_a_cycle_that_one_has_started_are_one() {
    for (name, send) in SENDS {
        let (wake, calls) = (Arc::<Notify>::default(), Arc::<AtomicU64>::default());
        let (sender, count) = (Arc::clone(&wake), Arc::clone(&calls));
        let sources = source_fn(move || {
            if count.fetch_add(1, Relaxed) == 1 {
                send(&sender);
                send(&sender);
            }
            async { Ok::<_, DynError>(vec![ObservedSource::new("n1", ())]) }
        });
        // On the real clock the gap is over when a cycle is.
        let config = ObservationConfig { min_gap: Duration::from_nanos(1), ..woken_by(&wake) };
        let config = ObservationConfig { interval: Duration::from_secs(24 * 3600), ..config };
        let runtime = ObservationRuntime::start(sources, idle(), config).await.unwrap();
        let mut watch = runtime.handle().watch();
        wake.notify_one();
        watch.wait_for(|status| status.cycle >= 2 && status.state.kind() == StateKind::Idle).await.unwrap();
        // Comes after every earlier wake.
        runtime.poll_now_and_wait().await.unwrap();
        assert_eq!(
            calls.load(Relaxed),
            4,
            "{name}: the start, the woken one, one more, and the one asked for"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn while_paused_one_is_remembered_until_it_is_resumed() {
    for (name, send) in SENDS {
        let (app, wake) = (App::new(), Arc::default());
        let began = Instant::now();
        let runtime = app.start(woken_by(&wake)).await;
        let control = runtime.control();
        at(began, 200).await;
        control.pause().await.unwrap();
        for millis in [300, 301, 302] {
            at(began, millis).await;
            send(&wake);
        }
        at(began, 2500).await;
        assert_eq!(app.times(Call::Sources, began), [0], "{name}");
        control.resume().await.unwrap();
        at(began, 3500).await;
        assert_eq!(app.times(Call::Sources, began), [0, 2500, 3000], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cycle_uses_up_the_wakes_that_came_before_it() {
    let (app, wake) = (App::new(), Arc::default());
    let began = Instant::now();
    let runtime = app.start(woken_by(&wake)).await;
    let control = runtime.control();
    at(began, 200).await;
    control.pause().await.unwrap();
    wake.notify_one();
    at(began, 1500).await;
    assert_eq!(control.poll_now().await, Ok(1), "it has seen the news");
    at(began, 2500).await;
    control.resume().await.unwrap();
    at(began, 3500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 1500, 3000]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_it_need_not_wait_for_the_next_tick() {
    for act in [Act::Err("down"), Act::Panic("boom")] {
        let name = format!("{act:?}");
        let (app, wake) = (App::new(), Arc::default());
        app.then(Call::Poll, [act]);
        let began = Instant::now();
        let runtime = app.start(woken_by(&wake)).await;
        at(began, 1500).await;
        assert_eq!(runtime.handle().state().kind(), StateKind::Failed, "{name}");
        wake.notify_one();
        at(began, 2500).await;
        assert_eq!(app.times(Call::Sources, began), [0, 1000, 1500, 2000], "{name}");
    }
}

/// Down for good, with backoff from 1 s to 600 s.
fn backing_off(wake: &Arc<Notify>) -> ObservationConfig {
    let backoff = Backoff { first: ms(1_000), max: ms(600_000), jitter: 0.0, seed: 0 };
    ObservationConfig { retry: Retry::Backoff(backoff), ..woken_by(wake) }
}

fn always_down() -> App {
    let app = App::new();
    app.then(Call::Sources, vec![Act::Err("down"); 5_000]);
    app
}

//    0    1 s    3 s       7 s           15 s                     31 s
#[tokio::test(start_paused = true)]
async fn a_storm_of_wakes_neither_shortens_nor_lengthens_a_backoff() {
    for (name, send) in SENDS {
        let (app, wake) = (always_down(), Arc::default());
        let began = Instant::now();
        let _runtime =
            ObservationRuntime::start_in_background(app.clone(), app.clone(), backing_off(&wake)).unwrap();
        for millis in (5..30_000).step_by(5) {
            at(began, millis).await;
            send(&wake);
        }
        at(began, 31_500).await;
        assert_eq!(app.times(Call::Sources, began), [0, 1_000, 3_000, 7_000, 15_000, 31_000], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_wakes_while_all_is_down_do_not_put_the_next_try_off() {
    let (app, wake) = (always_down(), Arc::default());
    let began = Instant::now();
    let runtime =
        ObservationRuntime::start_in_background(app.clone(), app.clone(), backing_off(&wake)).unwrap();
    for nth in 1..=20 {
        at(began, 20 * nth).await;
        wake.notify_one();
    }
    for nth in 21..=40 {
        at(began, 20 * nth).await;
        runtime.control().poll_now().await.unwrap();
    }
    at(began, 3_500).await;
    let times = app.times(Call::Sources, began);
    assert_eq!((times.len(), &times[21..]), (23, &[1_000, 3_000][..]), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wake_during_a_backoff_is_taken_along_by_the_retry() {
    let (app, wake) = (App::new(), Arc::default());
    app.then(Call::Poll, [Act::Err("down")]);
    let began = Instant::now();
    let _runtime = app.start(backing_off(&wake)).await;
    // The first one starts the cycle that fails; the others come while its retry is waited for.
    for millis in [900, 1_200, 1_850] {
        at(began, millis).await;
        wake.notify_one();
    }
    at(began, 3_500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 900, 1_900, 2_000, 3_000]);
}

#[tokio::test(start_paused = true)]
async fn one_notify_in_several_configs_wakes_all_of_them_each_time() {
    for (name, send) in SENDS {
        let wake = Arc::<Notify>::default();
        let apps = [App::new(), App::new(), App::new()];
        let began = Instant::now();
        let mut runtimes = Vec::new();
        for app in &apps {
            runtimes.push(app.start(woken_by(&wake)).await);
        }
        for (millis, alive) in [(300, 3), (1_300, 2), (2_300, 1)] {
            at(began, millis).await;
            // One that ends takes nothing with it.
            runtimes.truncate(alive);
            send(&wake);
        }
        at(began, 2_500).await;
        let times = apps.each_ref().map(|app| app.times(Call::Sources, began));
        assert_eq!(times[0], [0, 300, 1_000, 1_300, 2_000, 2_300], "{name}");
        assert_eq!(times[1], [0, 300, 1_000, 1_300, 2_000], "{name}");
        assert_eq!(times[2], [0, 300, 1_000], "{name}");

        // Nothing stays registered: after the last one was dropped, the next one is woken.
        drop(runtimes);
        let app = App::new();
        let _runtime = app.start(woken_by(&wake)).await;
        let began = Instant::now();
        at(began, 300).await;
        send(&wake);
        at(began, 500).await;
        assert_eq!(app.times(Call::Sources, began)[1..], [300], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_works_gets_a_wake_that_another_one_took() {
    let wake = Arc::<Notify>::default();
    let (busy, idle) = (App::new(), App::new());
    busy.then(Call::Poll, [Act::slow(700)]);
    let began = Instant::now();
    let _runtimes = (busy.start(woken_by(&wake)).await, idle.start(woken_by(&wake)).await);
    at(began, 1_200).await;
    wake.notify_one();
    at(began, 2_500).await;
    assert_eq!(idle.times(Call::Sources, began), [0, 1_000, 1_200, 2_000]);
    assert_eq!(busy.times(Call::Sources, began), [0, 1_000, 1_700, 2_000]);
}

/// From another thread, at any step of drivers that are about to wait, or at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_many_is_lost_at_any_moment() {
    for (name, send) in SENDS {
        let wake = Arc::<Notify>::default();
        let polls = [(); 2].map(|()| Arc::<AtomicU64>::default());
        let config = ObservationConfig { min_gap: Duration::from_nanos(1), ..woken_by(&wake) };
        let config = ObservationConfig { interval: Duration::from_secs(24 * 3600), ..config };
        let mut runtimes = Vec::new();
        for polls in &polls {
            let polls = Arc::clone(polls);
            let observer = stateless(move || {
                polls.fetch_add(1, Relaxed);
                ready(Ok(()))
            });
            runtimes.push(ObservationRuntime::start([("n1", ())], observer, config.clone()).await.unwrap());
        }
        let sender = std::thread::spawn(move || {
            for round in 0..5_000_u32 {
                let before = polls.each_ref().map(|polls| polls.load(Relaxed));
                send(&wake);
                let began = std::time::Instant::now();
                while polls.iter().zip(before).any(|(polls, before)| polls.load(Relaxed) == before) {
                    assert!(began.elapsed() < Duration::from_secs(20), "{name} {round} was lost");
                    std::thread::yield_now();
                }
                (0..round % 300).for_each(|_| std::hint::spin_loop());
            }
        });
        tokio::task::spawn_blocking(|| sender.join()).await.unwrap().unwrap();
    }
}
