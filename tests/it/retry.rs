//! A failed cycle is retried at the next tick, or after a backoff; a success resets it.

use tokio::time::Instant;
use watchkeeper::runtime::{Backoff, Retry, State};
use watchkeeper::{ObservationConfig, ObservationRuntime};

use crate::common::{Act, App, Call, at, each_second, ms};

const BACKOFF: Backoff = Backoff { first: ms(100), max: ms(400), jitter: 0.0, seed: 7 };

fn by(backoff: Backoff) -> ObservationConfig {
    ObservationConfig { retry: Retry::Backoff(backoff), poll_timeout: ms(300), ..each_second() }
}

fn start(app: &App, config: ObservationConfig) -> ObservationRuntime<App> {
    ObservationRuntime::start_in_background(app.clone(), app.clone(), config).unwrap()
}

#[tokio::test(start_paused = true)]
async fn by_default_it_is_retried_at_the_next_tick() {
    let app = App::new();
    app.then(Call::Init, vec![Act::Err("down"); 3]);
    let began = Instant::now();
    let _runtime = start(&app, each_second());
    at(began, 4500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 1000, 2000, 3000, 4000]);
}

//    failures 1 to 5 of cycles 0 to 4           success    on the grid again
//    0    100     300        700        1100    1500       2000       3000
//    |100 |  200  |   400    |   400    |  400  |          |          |
#[tokio::test(start_paused = true)]
async fn a_backoff_doubles_up_to_its_cap_and_a_success_returns_to_the_grid() {
    let app = App::new();
    app.then(Call::Sources, vec![Act::Err("down"); 5]);
    let began = Instant::now();
    let runtime = start(&app, by(BACKOFF));
    let handle = runtime.handle();
    at(began, 3500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 100, 300, 700, 1100, 1500, 2000, 3000]);
    let consecutive: Vec<_> = handle.failures().iter().map(|failure| failure.consecutive).collect();
    assert_eq!(consecutive, [1, 2, 3, 4, 5]);
    assert_eq!(handle.status().missed_ticks, 0, "nobody meant to use the point at 1000");

    // The next failure starts from the first delay.
    app.then(Call::Poll, [Act::Err("down"), Act::Err("down")]);
    at(began, 5500).await;
    assert_eq!(app.times(Call::Sources, began)[8..], [4000, 4100, 4300, 5000]);
    assert_eq!((handle.state(), handle.status().missed_ticks), (State::Idle, 0));
}

#[tokio::test(start_paused = true)]
async fn the_delay_counts_from_the_end_of_the_failed_cycle() {
    // (which call fails in cycle 1, how, when the cycle ends)
    let cases = [
        (Call::Sources, Act::Err("down").after(150), 1150),
        (Call::Poll, Act::Err("down"), 1000),
        (Call::Poll, Act::Panic("boom").after(50), 1050),
        (Call::Poll, Act::Hang, 1300),
    ];
    for (call, act, ends) in cases {
        let name = format!("{call:?}: {act:?}");
        let app = App::new();
        let spared = usize::from(call == Call::Sources);
        app.then(call, vec![Act::Ok(Vec::new()); spared]).then(call, [act]);
        let began = Instant::now();
        let _runtime = start(&app, by(BACKOFF));
        at(began, 2500).await;
        assert_eq!(app.times(Call::Sources, began), [0, 1000, ends + 100, 2000], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_longer_than_the_interval_holds_the_ticks_back() {
    let app = App::new();
    app.then(Call::Sources, vec![Act::Err("down"); 2]);
    let began = Instant::now();
    let runtime = start(&app, by(Backoff { first: ms(2500), max: ms(9000), ..BACKOFF }));
    at(began, 9500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 2500, 7500, 8000, 9000]);
    assert_eq!(runtime.handle().status().missed_ticks, 0);
}

//    0    100   150 200  300        700
//    F    F     a   a    F          F           a: poll_now, and fails
#[tokio::test(start_paused = true)]
async fn poll_now_tries_at_once_and_leaves_the_backoff_as_it_is() {
    for paused in [false, true] {
        let app = App::new();
        app.then(Call::Sources, vec![Act::Err("down"); 6]);
        let began = Instant::now();
        let runtime = start(&app, by(BACKOFF));
        let control = runtime.control();
        for (millis, cycle) in [(150, 2), (200, 3)] {
            at(began, millis).await;
            assert_eq!(control.poll_now().await, Ok(cycle));
            if paused {
                control.pause().await.unwrap();
            }
        }
        if paused {
            at(began, 250).await;
            control.resume().await.unwrap();
        }
        at(began, 900).await;
        // What a pause has cut short begins again when it is over: 200 ms.
        let then = if paused { [450, 850] } else { [300, 700] };
        assert_eq!(app.times(Call::Sources, began), [0, 100, 150, 200, then[0], then[1]], "paused: {paused}");
        let consecutive: Vec<_> =
            runtime.handle().failures().iter().map(|failure| failure.consecutive).collect();
        assert_eq!(consecutive, [1, 2, 3, 4, 5, 6], "all of them are consecutive failures");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_now_that_outlasts_the_delay_stands_for_the_retry() {
    let app = App::new();
    app.then(Call::Sources, [Act::Err("down"), Act::Err("down"), Act::Err("down").after(200)]);
    let began = Instant::now();
    let runtime = start(&app, by(BACKOFF));
    at(began, 150).await;
    runtime.control().poll_now().await.unwrap();
    at(began, 900).await;
    assert_eq!(app.times(Call::Sources, began), [0, 100, 150, 750], "400 ms after its end at 350");
}

#[tokio::test(start_paused = true)]
async fn a_poll_now_that_is_remembered_leaves_the_backoff_as_it_is() {
    let app = App::new();
    app.then(Call::Sources, [Act::Err("down").after(50), Act::Err("down"), Act::Err("down")]);
    let began = Instant::now();
    let runtime = start(&app, by(BACKOFF));
    at(began, 20).await;
    assert_eq!(runtime.control().poll_now().await, Ok(1));
    at(began, 900).await;
    assert_eq!(app.times(Call::Sources, began), [0, 50, 150, 350]);
}

#[tokio::test(start_paused = true)]
async fn a_poll_now_that_succeeds_ends_the_backoff() {
    let app = App::new();
    app.then(Call::Sources, vec![Act::Err("down"); 2]);
    let began = Instant::now();
    let runtime = start(&app, by(Backoff { first: ms(5_000), max: ms(60_000), ..BACKOFF }));
    at(began, 5_500).await;
    assert_eq!(runtime.control().poll_now().await, Ok(2));
    app.then(Call::Sources, [Act::Err("down")]);
    at(began, 12_500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 5_000, 5_500, 6_000, 11_000, 12_000], "5 s again");
}

/// When the failing cycles began, in milliseconds.
async fn failing(backoff: Backoff) -> Vec<u128> {
    let app = App::new();
    app.then(Call::Sources, vec![Act::Err("down"); 12]);
    let began = Instant::now();
    let _runtime = start(&app, by(backoff));
    at(began, 20_500).await;
    app.times(Call::Sources, began)[..12].to_vec()
}

#[tokio::test(start_paused = true)]
async fn jitter_only_shortens_and_is_reproducible_by_its_seed() {
    let jittered = Backoff { jitter: 0.5, ..BACKOFF };
    let drawn = failing(jittered).await;
    assert_eq!(drawn, failing(jittered).await, "the same seed");
    assert_ne!(drawn, failing(Backoff { seed: 8, ..jittered }).await, "another seed");

    let full = [100, 200].into_iter().chain([400; 9]);
    for (pair, full) in drawn.windows(2).zip(full) {
        let delay = pair[1] - pair[0];
        assert!((full / 2..=full).contains(&delay), "{delay} of {full} ms: {drawn:?}");
    }
    assert!(drawn[11] < 100 + 200 + 9 * 400, "none was shortened: {drawn:?}");
}
