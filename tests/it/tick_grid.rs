//! Ticks lie on a grid from the start: nothing moves it, and points that a cycle outlasts are missed.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use watchkeeper::runtime::State;
use watchkeeper::{ObservationConfig, ObservationRuntime};

use crate::common::{Act, App, Call, at, each_second, ms};

#[tokio::test(start_paused = true)]
async fn cycles_begin_on_the_grid_to_the_instant() {
    // (interval, offset, when cycles begin)
    let cases: [(u64, u64, &[u128]); 6] = [
        (1000, 0, &[0, 1000, 2000, 3000]),
        (1000, 300, &[0, 300, 1300, 2300, 3300]),
        (1000, 1000, &[0, 1000, 2000, 3000]),
        (1000, 2500, &[0, 2500, 3500]),
        (900, 1, &[0, 1, 901, 1801, 2701]),
        (5000, 0, &[0]),
    ];
    for (interval, offset, expected) in cases {
        let app = App::new();
        let began = Instant::now();
        let config =
            ObservationConfig { interval: ms(interval), offset: ms(offset), ..ObservationConfig::default() };
        let _runtime = app.start(config).await;
        at(began, 3550).await;
        assert_eq!(app.times(Call::Sources, began), expected, "{interval} ms, offset {offset} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn the_grid_does_not_drift() {
    let app = App::new();
    app.then(Call::Poll, vec![Act::slow(7); 1000]);
    let began = Instant::now();
    let runtime = app.start(ObservationConfig { interval: ms(333), ..each_second() }).await;
    at(began, 1000 * 333 + 100).await;
    let expected: Vec<_> = (0..=1000).map(|n| n * 333).collect();
    assert_eq!(app.times(Call::Sources, began), expected);
    assert_eq!(runtime.handle().status().missed_ticks, 0);
}

//    1000              2000    3000    4000    5000
//    cycle of 3.5 s    missed  missed  missed  |next
#[tokio::test(start_paused = true)]
async fn points_that_a_cycle_outlasts_are_missed_and_not_caught_up_with() {
    let (ok, slow) = (|| Act::Ok(Vec::new()), Act::slow);
    // (which call is slow, when it begins and ends, when the next two cycles begin, points missed)
    let cases = [
        (Call::Poll, vec![slow(999)], (1000, 1999), [2000, 3000], 0),
        (Call::Poll, vec![slow(1000)], (1000, 2000), [3000, 4000], 1),
        (Call::Poll, vec![slow(1001)], (1000, 2001), [3000, 4000], 1),
        (Call::Poll, vec![slow(3500)], (1000, 4500), [5000, 6000], 3),
        (Call::Poll, vec![Act::Err("down").after(3500)], (1000, 4500), [5000, 6000], 3),
        (Call::Poll, vec![Act::Panic("boom").after(3500)], (1000, 4500), [5000, 6000], 3),
        (Call::Poll, vec![Act::Hang], (1000, 11_000), [12_000, 13_000], 10),
        (Call::Sources, vec![ok(), slow(3500)], (1000, 4500), [5000, 6000], 3),
        (Call::Sources, vec![slow(2500)], (0, 2500), [3000, 4000], 2),
        (Call::Init, vec![slow(2500)], (0, 2500), [3000, 4000], 2),
    ];
    for (call, acts, (begins, ends), next, missed) in cases {
        let name = format!("{call:?}: {acts:?}");
        let app = App::new();
        app.then(call, acts);
        let began = Instant::now();
        let runtime =
            ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap();
        let handle = runtime.handle();
        let mut watch = handle.watch();
        let ended = watch.wait_for(|status| {
            status.cycle == begins / 1000 && matches!(status.state, State::Idle | State::Failed { .. })
        });
        let ended = ended.await.unwrap();
        assert_eq!(ended.since, began + ms(ends), "{name}");
        assert_eq!(ended.missed_ticks, missed, "{name}: published with the outcome");

        at(began, next[1] + 500).await;
        let times = app.times(Call::Sources, began);
        assert_eq!(times[times.len() - 2..], next.map(u128::from), "{name}");
        assert_eq!(times[times.len() - 3], u128::from(begins), "{name}: nothing in between");
        assert_eq!(handle.status().missed_ticks, missed, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn missed_points_add_up() {
    let app = App::new();
    app.then(Call::Poll, [Act::slow(1500), Act::Ok(Vec::new()), Act::slow(2500)]);
    let began = Instant::now();
    let runtime = app.start(each_second()).await;
    at(began, 8500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 1000, 3000, 4000, 7000, 8000]);
    assert_eq!(runtime.handle().status().missed_ticks, 1 + 2);
}

#[tokio::test(start_paused = true)]
async fn an_offset_grid_misses_its_own_points() {
    let app = App::new();
    app.then(Call::Init, [Act::slow(1400)]);
    let began = Instant::now();
    let runtime = app.start(ObservationConfig { offset: ms(300), ..each_second() }).await;
    assert_eq!(runtime.handle().status().missed_ticks, 2, "300 and 1300");
    at(began, 3500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 2300, 3300]);
}

//    1000   1500       2000   2300   3000   3600            4400   5000
//    tick   poll_now   tick   wake   tick   poll_now ......|       tick
//                                              4000 missed
#[tokio::test(start_paused = true)]
async fn poll_now_and_wakes_do_not_move_the_grid() {
    let app = App::new();
    let (ok, wake) = (|| Act::Ok(Vec::new()), Arc::<Notify>::default());
    app.then(Call::Poll, [ok(), ok(), ok(), ok(), ok(), Act::slow(800)]);
    let began = Instant::now();
    let runtime = app.start(ObservationConfig { wake: Some(Arc::clone(&wake)), ..each_second() }).await;
    let control = runtime.control();
    at(began, 1500).await;
    control.poll_now().await.unwrap();
    at(began, 2300).await;
    wake.notify_one();
    at(began, 3500).await;
    assert_eq!(runtime.handle().status().missed_ticks, 0);
    at(began, 3600).await;
    control.poll_now().await.unwrap();
    at(began, 5500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 1000, 1500, 2000, 2300, 3000, 3600, 5000]);
    assert_eq!(runtime.handle().status().missed_ticks, 1);
}

/// What is done to a runtime, and when.
enum Do {
    Pause(u64),
    Resume(u64),
    PollNow(u64),
}

#[tokio::test(start_paused = true)]
async fn points_passed_while_paused_are_not_missed() {
    use Do::{Pause, PollNow, Resume};
    // (name, what polls do, what is done, when cycles begin, points missed)
    type Case = (&'static str, Vec<Act>, Vec<Do>, &'static [u128], u64);
    #[rustfmt::skip]
    let cases: Vec<Case> = vec![
        ("while it waits", vec![],
            vec![Pause(1500), Resume(4700)],
            &[0, 1000, 5000, 6000, 7000], 0),
        ("during a poll_now that ends in the pause", vec![Act::Ok(vec![]), Act::slow(800)],
            vec![Pause(1500), PollNow(2600), Resume(4700)],
            &[0, 1000, 2600, 5000, 6000, 7000], 0),
        ("resumed during a poll_now: up to there", vec![Act::Ok(vec![]), Act::slow(3000)],
            vec![Pause(1500), PollNow(2600), Resume(3200)],
            &[0, 1000, 2600, 6000, 7000], 2),
        ("paused and resumed in one long cycle: those between", vec![Act::slow(4600)],
            vec![Pause(3500), Resume(4500)],
            &[0, 1000, 6000, 7000], 3),
        ("paused in a long cycle that ends in the pause", vec![Act::slow(2600)],
            vec![Pause(2500), Resume(5500)],
            &[0, 1000, 6000, 7000], 1),
        ("paused twice", vec![],
            vec![Pause(500), Resume(2500), Pause(3500), Pause(4500), Resume(6500)],
            &[0, 3000, 7000], 0),
    ];
    for (name, polls, script, begins, missed) in cases {
        let app = App::new();
        app.then(Call::Poll, polls);
        let began = Instant::now();
        let runtime = app.start(each_second()).await;
        let control = runtime.control();
        for step in script {
            match step {
                Pause(millis) => {
                    at(began, millis).await;
                    control.pause().await.unwrap();
                }
                Resume(millis) => {
                    at(began, millis).await;
                    control.resume().await.unwrap();
                }
                PollNow(millis) => {
                    at(began, millis).await;
                    control.poll_now().await.unwrap();
                }
            }
        }
        at(began, 7500).await;
        assert_eq!(app.times(Call::Sources, began), begins, "{name}");
        assert_eq!(runtime.handle().status().missed_ticks, missed, "{name}");
    }
}

/// A tick that comes late because the executor was busy is late, not lost.
#[tokio::test(start_paused = true)]
async fn a_late_tick_misses_the_points_after_it_and_keeps_to_the_grid() {
    let app = App::new();
    let began = Instant::now();
    let runtime = app.start(each_second()).await;
    // In one step: nobody has a turn meanwhile.
    tokio::time::advance(ms(3400)).await;
    at(began, 5500).await;
    assert_eq!(app.times(Call::Sources, began), [0, 3400, 4000, 5000]);
    assert_eq!(runtime.handle().status().missed_ticks, 2, "2000 and 3000");
}
