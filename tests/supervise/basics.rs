//! One way in, the state out, and the end.

use watchkeeper::supervise::{AskError, NotSent, Outcome, supervise};

use crate::common::{Do, Hands, Job, SECOND, Script, drained};

#[tokio::test(start_paused = true)]
async fn events_are_judged_in_order_and_an_ask_returns_the_state_after_its_event() {
    let (hands, _) = Hands::new();
    let machine = supervise(Script::default()).worker(hands).spawn().unwrap();
    assert_eq!(machine.state(), 0);
    machine.send(Do::Move(1)).await.unwrap();
    assert_eq!(machine.ask(Do::Move(2)).await.unwrap(), 2);
    assert_eq!(machine.ask(Do::Nothing).await.unwrap(), 2);
    assert!(matches!(machine.ask(Do::Unhandled).await, Err(AskError::Unhandled(Do::Unhandled))));
    assert!(matches!(machine.stop().await, Outcome::Cancelled));
    assert!(matches!(machine.stop().await, Outcome::Cancelled));
    let error = machine.try_send(Do::Move(3)).unwrap_err();
    assert_eq!(error.event, Do::Move(3));
    assert!(matches!(error.reason, NotSent::Ended(Outcome::Cancelled)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn commands_run_in_order_and_their_outcomes_are_events() {
    let (hands, mut jobs) = Hands::new();
    let machine = supervise(Script::default()).worker(hands).spawn().unwrap();
    let jobs_of_one = vec![Job::Sleep(SECOND), Job::Quiet, Job::Return(7)];
    machine.send(Do::Run(1, jobs_of_one)).await.unwrap();
    let state = machine.wait_for("the work is done", |state| *state == 7).within(2 * SECOND).await.unwrap();
    assert_eq!(state, 7);
    let order =
        ["begin Sleep(1s)", "end Sleep(1s)", "begin Quiet", "end Quiet", "begin Return(7)", "end Return(7)"];
    assert_eq!(drained(&mut jobs), order);
    let lines: Vec<String> = machine.transitions().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["0 -> 1 by Run (sent)", "1 -> 7 by Done (work)"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_it_and_the_watch_shows_the_end() {
    let (hands, mut jobs) = Hands::new();
    let machine = supervise(Script::default()).worker(hands).spawn().unwrap();
    let mut watch = machine.watch();
    machine.send(Do::Run(1, vec![Job::Sleep(SECOND), Job::Return(2)])).await.unwrap();
    drop(machine);
    assert!(matches!(watch.ended().await, Outcome::Finished));
    assert_eq!(watch.changed().await.unwrap(), 2, "the last state comes before the end");
    assert!(matches!(watch.changed().await, Err(Outcome::Finished)));
    assert_eq!(drained(&mut jobs).last().unwrap(), "end Return(2)");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_not_met_shows_the_states() {
    let (hands, _) = Hands::new();
    let machine = supervise(Script::default()).worker(hands).spawn().unwrap();
    let wait = machine.wait_for("it reaches 9", |state| *state == 9);
    machine.send(Do::Move(1)).await.unwrap();
    machine.send(Do::Move(2)).await.unwrap();
    let unmet = wait.within(SECOND).await.unwrap_err();
    let text = "\
not met in time: \"it reaches 9\" within 1s
  judged 3; the states
    +0.000s 0
    +0.000s 1
    +0.000s 2";
    assert_eq!(unmet.to_string(), text);
    let wait = machine.wait_for("it reaches 9", |state| *state == 9).within(SECOND);
    machine.send(Do::Finish).await.unwrap();
    let text = "\
not met before the machine ended: \"it reaches 9\" within 1s
  the machine has ended: finished
  judged 2; the states
    +0.000s 2";
    assert_eq!(wait.await.unwrap_err().to_string(), text);
}
