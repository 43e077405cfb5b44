//! Waits for a state.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::wait::Verdict;

use crate::common::{Do, HOUR, SECOND, Script, spawned};

#[tokio::test(start_paused = true)]
async fn a_wait_judges_every_state_between_two_polls() {
    let machine = spawned(Script::default());
    let mut seen = Vec::new();
    let wait = machine.wait_for("it passes 3", |state| {
        seen.push(*state);
        *state == 3
    });
    let wait = wait.within(HOUR);
    for state in [1, 2, 3, 4, 5] {
        machine.ask(Do::Move(state)).await.unwrap();
    }
    assert_eq!(machine.state(), 5);
    assert_eq!(wait.await.unwrap(), 3);
    assert_eq!(seen, [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_met_by_the_present_state() {
    let machine = spawned(Script::default());
    machine.ask(Do::Move(4)).await.unwrap();
    assert_eq!(machine.wait_for("it is at 4", |state| *state == 4).within(SECOND).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_falls_more_than_1024_states_behind_reports_it() {
    // The present state is the first.
    for (last, missed) in [(1023, None), (1024, Some(1)), (1100, Some(77))] {
        let machine = spawned(Script::default());
        let wait = machine.wait_for("it comes to the end", move |state| *state == last).within(HOUR);
        for state in 1..=last {
            machine.ask(Do::Move(state)).await.unwrap();
        }
        match (wait.await, missed) {
            (Ok(state), None) => assert_eq!(state, last),
            (Ok(_), Some(_)) => panic!("it has missed {last}"),
            (Err(unmet), missed) => {
                let text = format!("inconclusive ({} publications were missed)", missed.unwrap_or(0));
                assert!(unmet.to_string().starts_with(&text), "{unmet}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_after_the_window_does_not_meet_a_wait_that_is_polled_late() {
    let machine = spawned(Script::default());
    let wait = machine.wait_for("it reaches 1", |state| *state == 1).within(SECOND);
    sleep(2 * SECOND).await;
    machine.ask(Do::Move(1)).await.unwrap();
    assert!(wait.await.unwrap_err().to_string().starts_with("not met in time"));
}

#[tokio::test(start_paused = true)]
async fn the_window_is_counted_from_the_call() {
    let machine = spawned(Script::default());
    let began = Instant::now();
    let wait = machine.wait_for("it reaches 1", |state| *state == 1);
    sleep(SECOND).await;
    wait.within(3 * SECOND).await.unwrap_err();
    assert_eq!(began.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_zero_or_over_a_day_is_an_error_at_once() {
    let machine = spawned(Script::default());
    let began = Instant::now();
    for window in [Duration::ZERO, 24 * HOUR + SECOND] {
        let unmet = machine.wait_for("it is at 0", |state| *state == 0).within(window).await.unwrap_err();
        assert!(unmet.to_string().contains("24 h"), "{unmet}");
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_predicate_gives_up_and_says_why() {
    let machine = spawned(Script::default());
    let wait = machine.wait_for("it reaches 9", |state| match state {
        9 => Verdict::Met,
        5 => Verdict::GiveUp("5 leads nowhere".to_owned()),
        _ => Verdict::NotYet("not yet".to_owned()),
    });
    machine.ask(Do::Move(5)).await.unwrap();
    machine.ask(Do::Move(9)).await.unwrap();
    let text = wait.within(SECOND).await.unwrap_err().to_string();
    assert!(text.contains("5 leads nowhere"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_polled_by_reference_and_left_has_missed_nothing() {
    let machine = spawned(Script::default());
    let mut wait = machine.wait_for("it passes 1", |state| *state == 1).within(HOUR);
    assert!(tokio::time::timeout(SECOND, &mut wait).await.is_err());
    machine.ask(Do::Move(1)).await.unwrap();
    machine.ask(Do::Move(2)).await.unwrap();
    assert_eq!((&mut wait).await.unwrap(), 1);
    let again = wait.await.unwrap_err().to_string();
    assert!(again.contains("this wait has ended: make another one"), "{again}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_keeps_no_machine_alive() {
    let machine = spawned(Script::default());
    let wait = machine.wait_for("it reaches 9", |state| *state == 9).within(HOUR);
    let watch = machine.watch();
    drop(machine);
    assert!(watch.ended().await.is_finished());
    let text = wait.await.unwrap_err().to_string();
    assert!(text.contains("the machine has ended: finished"), "{text}");
}
