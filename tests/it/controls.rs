//! `pause`, `resume` and `poll_now` work in every state.

use tokio::time::Instant;
use watchkeeper::runtime::StateKind;
use watchkeeper::{ObservationConfig, ObservationRuntime};

use crate::common::{Act, App, Call, at, each_second, ms};

/// A runtime that is in some state 1.5 s after its start: in cycle 1, or in cycle 0 if that is
/// `Starting`. Work that is in flight then ends at 1.7 s.
struct Place {
    name: &'static str,
    state: StateKind,
    script: fn(&App),
}

#[rustfmt::skip]
const PLACES: [Place; 7] = [
    Place { name: "starting, sources", state: StateKind::Starting, script: |app| {
        app.then(Call::Sources, [Act::slow(1700)]);
    } },
    Place { name: "starting, init", state: StateKind::Starting, script: |app| {
        app.then(Call::Init, [Act::slow(1700)]);
    } },
    Place { name: "refreshing", state: StateKind::Refreshing, script: |app| {
        app.then(Call::Sources, [Act::Ok(Vec::new()), Act::slow(700)]);
    } },
    Place { name: "polling", state: StateKind::Polling, script: |app| {
        app.then(Call::Poll, [Act::slow(700)]);
    } },
    Place { name: "idle", state: StateKind::Idle, script: |_| {} },
    Place { name: "failed, state kept", state: StateKind::Failed, script: |app| {
        app.then(Call::Poll, [Act::Err("down")]);
    } },
    Place { name: "failed, to be rebuilt", state: StateKind::Failed, script: |app| {
        app.then(Call::Poll, [Act::Panic("boom")]);
    } },
];

struct There {
    app: App,
    runtime: ObservationRuntime<App>,
    began: Instant,
    /// The cycle in flight, or the last one.
    cycle: u64,
    working: bool,
    /// When cycles began so far.
    so_far: Vec<u128>,
}

impl Place {
    async fn enter(&self) -> There {
        let app = App::new();
        (self.script)(&app);
        let began = Instant::now();
        let runtime =
            ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap();
        at(began, 1500).await;
        let status = runtime.handle().status();
        assert_eq!((status.state.kind(), status.paused), (self.state, false), "{}", self.name);
        let working = !matches!(self.state, StateKind::Idle | StateKind::Failed);
        let so_far = app.times(Call::Sources, began);
        There { app, runtime, began, cycle: status.cycle, working, so_far }
    }
}

impl There {
    /// When cycles began after the state was entered.
    fn since(&self) -> Vec<u128> {
        self.app.times(Call::Sources, self.began).split_off(self.so_far.len())
    }

    fn state(&self) -> StateKind {
        self.runtime.handle().state().kind()
    }
}

#[tokio::test(start_paused = true)]
async fn poll_now_starts_a_cycle_at_once_or_right_after_the_one_in_flight() {
    for place in PLACES {
        for paused in [false, true] {
            let name = format!("{}, paused: {paused}", place.name);
            let it = place.enter().await;
            let (handle, control) = (it.runtime.handle(), it.runtime.control());
            if paused {
                control.pause().await.unwrap();
            }
            let idle = handle.reaches(StateKind::Idle).or_now().within(ms(1000));
            assert_eq!(control.poll_now().await, Ok(it.cycle + 1), "{name}");
            if it.working {
                assert_eq!(control.poll_now().await, Ok(it.cycle + 1), "{name}: asked again");
                // `Idle` is passed over, but the cycle's outcome is not.
                assert_eq!(idle.await.unwrap().cycle, it.cycle + 1, "{name}");
            }

            at(it.began, 1900).await;
            let begins = if it.working { 1700 } else { 1500 };
            assert_eq!(it.since(), [begins], "{name}");
            let status = handle.status();
            assert_eq!((it.state(), status.cycle), (StateKind::Idle, it.cycle + 1), "{name}");
            assert_eq!(status.paused, paused, "{name}: poll_now is one cycle, not a resume");

            at(it.began, 3500).await;
            let then: &[u128] = if paused { &[begins] } else { &[begins, 2000, 3000] };
            assert_eq!(it.since(), then, "{name}: the grid has not moved");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pause_holds_ticks_back_and_lets_work_end() {
    for place in PLACES {
        let name = place.name;
        let it = place.enter().await;
        let (handle, control) = (it.runtime.handle(), it.runtime.control());
        for _ in 0..2 {
            assert_eq!(control.pause().await, Ok(()), "{name}");
            assert!(handle.status().paused, "{name}");
            assert_eq!(it.state(), place.state, "{name}: pausing moves nothing");
        }

        at(it.began, 4500).await;
        assert_eq!(it.since(), [0; 0], "{name}");
        let ended = if it.working { StateKind::Idle } else { place.state };
        assert_eq!((it.state(), handle.status().cycle), (ended, it.cycle), "{name}");
        assert!(handle.status().paused, "{name}");

        for _ in 0..2 {
            assert_eq!(control.resume().await, Ok(()), "{name}");
            assert!(!handle.status().paused, "{name}");
            assert_eq!(it.state(), ended, "{name}: resuming starts no cycle by itself");
        }
        at(it.began, 6500).await;
        assert_eq!(it.since(), [5000, 6000], "{name}: at the next points of the grid");
        // Only a first cycle of 1.7 s has passed a point over.
        assert_eq!(handle.status().missed_ticks, u64::from(it.cycle == 0), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn resume_without_a_pause_does_nothing() {
    for place in PLACES {
        let it = place.enter().await;
        let before = it.runtime.handle().status();
        assert_eq!(it.runtime.control().resume().await, Ok(()), "{}", place.name);
        let after = it.runtime.handle().status();
        assert_eq!((after.state, after.since), (before.state, before.since), "{}", place.name);
        at(it.began, 3500).await;
        assert_eq!(it.since(), [2000, 3000], "{}", place.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_taken_back_in_time_changes_nothing() {
    for place in PLACES {
        let it = place.enter().await;
        let control = it.runtime.control();
        control.pause().await.unwrap();
        at(it.began, 1600).await;
        control.resume().await.unwrap();
        at(it.began, 3500).await;
        assert_eq!(it.since(), [2000, 3000], "{}", place.name);
        let missed = it.runtime.handle().status().missed_ticks;
        assert_eq!(missed, u64::from(it.cycle == 0), "{}", place.name);
    }
}

/// Several requests in one cycle start one cycle, and a failing one is no exception.
#[tokio::test(start_paused = true)]
async fn poll_now_during_a_cycle_that_fails_starts_the_next_one_at_its_end() {
    for (act, generation) in [(Act::Err("down"), 1), (Act::Panic("boom"), 2)] {
        let name = format!("{act:?}");
        let app = App::new();
        app.then(Call::Poll, [act.after(700)]);
        let began = Instant::now();
        let runtime = app.start(ObservationConfig::default()).await;
        let control = runtime.control();
        at(began, 1200).await;
        for _ in 0..5 {
            assert_eq!(control.poll_now().await, Ok(2), "{name}");
        }
        at(began, 1900).await;
        let status = runtime.handle().status();
        assert_eq!((status.state.kind(), status.cycle), (StateKind::Idle, 2), "{name}");
        assert_eq!(status.generation, generation, "{name}");
        assert_eq!(app.times(Call::Sources, began), [0, 1000, 1700], "{name}");
        assert_eq!(runtime.handle().failures().len(), 1, "{name}: the failure in between was recorded");
    }
}

#[tokio::test(start_paused = true)]
async fn controls_are_taken_while_a_poll_hangs() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let began = Instant::now();
    let runtime = app.start(ObservationConfig { poll_timeout: ms(5000), ..each_second() }).await;
    let control = runtime.control();
    at(began, 1500).await;
    control.pause().await.unwrap();
    assert_eq!(control.poll_now().await, Ok(2));
    control.resume().await.unwrap();
    assert_eq!(Instant::now(), began + ms(1500), "each was answered at once");
}
