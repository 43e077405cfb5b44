//! Time-outs of states, staying, and moving to the same state.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::supervise::{Trigger, WhileBusy};

use crate::common::{Do, HOUR, Job, SECOND, Script, entered, reached, spawned, with_hands};

const HALF: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn a_transition_to_the_same_state_arms_the_timeout_again_and_staying_does_not() {
    for (event, at) in [(Do::Move(0), 1500), (Do::Nothing, 1000), (Do::Change(0), 1000)] {
        let began = Instant::now();
        let machine = spawned(Script { timeouts: [(0, SECOND)].into(), ..Script::default() });
        sleep(HALF).await;
        machine.send(event.clone()).await.unwrap();
        reached(&machine, 100).await;
        assert_eq!(entered(&machine, began).last().unwrap(), &(at, 100), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_state_that_stays_keeps_the_timeout_of_its_transition() {
    let began = Instant::now();
    let timeouts = [(0, SECOND), (1, HOUR)].into();
    let machine = spawned(Script { timeouts, ..Script::default() });
    machine.ask(Do::Change(1)).await.unwrap();
    reached(&machine, 101).await;
    assert_eq!(entered(&machine, began), [(0, 1), (1000, 101)]);
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_the_first_state_comes_without_any_event() {
    let began = Instant::now();
    let machine = spawned(Script { timeouts: [(0, SECOND)].into(), ..Script::default() });
    reached(&machine, 100).await;
    assert_eq!(entered(&machine, began), [(1000, 100)]);
    assert_eq!(machine.transitions()[0].trigger, Trigger::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_comes_while_work_is_in_flight_whatever_happens_to_events_from_outside() {
    for while_busy in [WhileBusy::Take, WhileBusy::Hold, WhileBusy::Refuse] {
        let began = Instant::now();
        let timeouts = [(1, HALF)].into();
        let machine = spawned(Script { while_busy, timeouts, ..Script::default() });
        machine.send(Do::Run(1, vec![Job::Sleep(SECOND), Job::Return(3)])).await.unwrap();
        reached(&machine, 3).await;
        assert_eq!(entered(&machine, began), [(0, 1), (500, 101), (1000, 3)], "{while_busy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_the_timeouts_of_state_and_work_comes_first() {
    let limits =
        [(SECOND, HALF, vec![(0, 1), (500, 101), (1000, 500)]), (HALF, SECOND, vec![(0, 1), (500, 500)])];
    for (work, state, expected) in limits {
        let began = Instant::now();
        let timeouts = [(1, state)].into();
        let (builder, _jobs) =
            with_hands(Script { timeouts, on_failure: Some(Do::Failed), ..Script::default() });
        let machine = builder.work_timeout(work).spawn().unwrap();
        machine.send(Do::Run(1, vec![Job::Hang])).await.unwrap();
        reached(&machine, 500).await;
        sleep(HOUR).await;
        assert_eq!(entered(&machine, began), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn each_command_has_the_whole_limit_of_work() {
    let began = Instant::now();
    let (builder, _jobs) = with_hands(Script { on_failure: Some(Do::Failed), ..Script::default() });
    let machine = builder.work_timeout(SECOND).spawn().unwrap();
    let most = Duration::from_millis(900);
    let jobs = vec![Job::Sleep(most), Job::Sleep(most), Job::Hang];
    machine.send(Do::Run(1, jobs)).await.unwrap();
    reached(&machine, 500).await;
    assert_eq!(entered(&machine, began), [(0, 1), (2800, 500)]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_judges_deferred_events_again() {
    let machine = spawned(Script { timeouts: [(0, SECOND)].into(), ..Script::default() });
    machine.send(Do::Only(100)).await.unwrap();
    reached(&machine, 101).await;
}
