//! Faults that runtimes of this kind are known for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, advance, sleep};
use watchkeeper::supervise::{AskError, NotSent, Outcome, Supervised, WhileBusy};

use crate::common::{Do, HOUR, Job, SECOND, Script, drained, entered, reached, spawned, with_hands};

/// A machine whose channel is never empty.
async fn flooded(script: Script) -> (Supervised<Script>, mpsc::UnboundedReceiver<String>) {
    let own = Arc::clone(&script.own);
    let (builder, jobs) = with_hands(script);
    // Room of taken events is given back in batches.
    let machine = builder.capacity(1000).spawn().unwrap();
    own.set(machine.downgrade()).unwrap();
    machine.send(Do::Flood).await.unwrap();
    // It has begun.
    machine.ask(Do::Nothing).await.unwrap();
    (machine, jobs)
}

#[tokio::test(start_paused = true)]
async fn an_unhandled_event_does_not_end_the_machine() {
    let machine = spawned(Script::default());
    machine.send(Do::Unhandled).await.unwrap();
    assert!(matches!(machine.ask(Do::Unhandled).await, Err(AskError::Unhandled(Do::Unhandled))));
    assert_eq!(machine.ask(Do::Move(1)).await.unwrap(), 1);
    assert!(machine.outcome().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_does_not_keep_the_timeout_from_coming() {
    for start in [vec![], vec![Job::Hang]] {
        let (machine, _jobs) =
            flooded(Script { timeouts: [(0, SECOND)].into(), start, ..Script::default() }).await;
        let wait = machine.wait_for("it times out", |state| *state == 100).within(HOUR);
        advance(2 * SECOND).await;
        wait.await.unwrap();
        machine.abort().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_does_not_keep_the_work_from_ending() {
    let start = vec![Job::Sleep(SECOND), Job::Return(7)];
    let (machine, _jobs) = flooded(Script { start, ..Script::default() }).await;
    let wait = machine.wait_for("the work is done", |state| *state == 7).within(HOUR);
    advance(2 * SECOND).await;
    wait.await.unwrap();
    machine.abort().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_does_not_keep_the_stop_from_coming() {
    for start in [vec![], vec![Job::Hang]] {
        let (machine, _jobs) = flooded(Script { start, ..Script::default() }).await;
        assert!(machine.stop().await.is_cancelled());
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_always_ready_does_not_keep_the_timeout_from_coming() {
    let machine = spawned(Script { timeouts: [(0, SECOND)].into(), ..Script::default() });
    machine.ask(Do::Turn).await.unwrap();
    let wait = machine.wait_for("it times out", |state| *state == 100).within(HOUR);
    advance(2 * SECOND).await;
    wait.await.unwrap();
    assert!(machine.stop().await.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn work_that_is_always_ready_does_not_outlast_the_drain() {
    let (builder, _jobs) = with_hands(Script { on_stop: Some(Do::Stop), ..Script::default() });
    let machine = builder.drain(SECOND).spawn().unwrap();
    machine.send(Do::Turn).await.unwrap();
    let stopped = tokio::spawn({
        let machine = machine.clone();
        async move { machine.stop().await }
    });
    reached(&machine, 900).await;
    advance(2 * SECOND).await;
    let outcome = stopped.await.unwrap();
    assert!(outcome.is_cancelled(), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_waits_for_a_change_gets_the_end() {
    let machine = spawned(Script::default());
    let mut watch = machine.watch();
    let waits = tokio::spawn(async move { watch.changed().await });
    // The watch waits before the machine ends.
    tokio::task::yield_now().await;
    assert!(machine.abort().await.is_cancelled());
    let changed = waits.await.unwrap();
    assert!(matches!(changed, Err(Outcome::Cancelled)), "{changed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_channel_is_reported_as_full_and_an_ended_machine_as_ended() {
    let (builder, _jobs) = with_hands(Script { while_busy: WhileBusy::Hold, ..Script::default() });
    let machine = builder.capacity(2).spawn().unwrap();
    machine.send(Do::Run(1, vec![Job::Hang])).await.unwrap();
    reached(&machine, 1).await;
    machine.try_send(Do::Move(2)).unwrap();
    machine.try_send(Do::Move(3)).unwrap();
    let error = machine.try_send(Do::Move(4)).unwrap_err();
    assert_eq!(error.event, Do::Move(4));
    assert!(matches!(error.reason, NotSent::Full { capacity: 2 }));
    let text =
        "Move was not sent: 2 events wait in the channel: use send, which waits for room, or drop the event";
    assert_eq!(error.to_string(), text);
    machine.abort().await;
    let error = machine.try_send(Do::Move(4)).unwrap_err();
    assert_eq!(error.to_string(), "Move was not sent: the machine has ended (cancelled): spawn another one");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_returned_to_each_of_several_waits_and_again_later() {
    let machine = spawned(Script::default());
    let waits = [(); 3].map(|()| {
        let machine = machine.clone();
        tokio::spawn(async move { machine.ended().await })
    });
    tokio::task::yield_now().await;
    machine.send(Do::Panic).await.unwrap();
    let panicked = "panicked: Machine::handle panicked: asked to panic";
    for wait in waits {
        assert_eq!(wait.await.unwrap().to_string(), panicked);
    }
    assert_eq!(machine.ended().await.to_string(), panicked);
    assert_eq!(machine.watch().ended().await.to_string(), panicked);
    assert_eq!(machine.outcome().unwrap().to_string(), panicked);
}

#[tokio::test(start_paused = true)]
async fn the_commands_before_a_failed_one_have_run() {
    let (builder, mut jobs) = with_hands(Script { on_failure: Some(Do::Failed), ..Script::default() });
    let machine = builder.spawn().unwrap();
    let leave_transit_enter = vec![Job::Return(1), Job::Return(2), Job::Fail("entry"), Job::Quiet];
    machine.send(Do::Run(0, leave_transit_enter)).await.unwrap();
    reached(&machine, 500).await;
    let ran: Vec<String> = drained(&mut jobs).into_iter().filter(|job| job.starts_with("begin")).collect();
    assert_eq!(ran, ["begin Return(1)", "begin Return(2)", "begin Fail(\"entry\")"]);
    let states: Vec<u32> = machine.transitions().iter().map(|transition| transition.to).collect();
    assert_eq!(states, [0, 1, 2, 500], "no outcome is lost");
}

#[tokio::test(start_paused = true)]
async fn an_old_deadline_does_not_fire_in_the_new_state() {
    let began = Instant::now();
    for start in [vec![], vec![Job::Hang]] {
        let timeouts = [(0, SECOND), (1, 10 * SECOND)].into();
        let began = Instant::now();
        let machine = spawned(Script { timeouts, start, ..Script::default() });
        sleep(Duration::from_millis(900)).await;
        machine.send(Do::Move(1)).await.unwrap();
        reached(&machine, 101).await;
        assert_eq!(entered(&machine, began), [(900, 1), (10_900, 101)]);
        // That state has no time-out.
        sleep(HOUR).await;
        assert_eq!(machine.state(), 101);
    }
    assert!(began.elapsed() > 2 * HOUR);
}

/// Work counts how often it is polled, and fails when that has no end.
#[tokio::test(start_paused = true)]
async fn a_machine_that_waits_does_not_poll_without_end() {
    let script = Script { while_busy: WhileBusy::Hold, start: vec![Job::Counted], ..Script::default() };
    let (builder, _jobs) = with_hands(Script { on_stop: Some(Do::Stop), ..script });
    let machine = builder.drain(HOUR).spawn().unwrap();
    for state in 1..4 {
        machine.send(Do::Move(state)).await.unwrap();
    }
    sleep(HOUR).await;
    assert_eq!(machine.state(), 0, "the events are held");
    // The drain polls no token that is ready.
    let outcome = machine.stop().await;
    assert!(outcome.is_cancelled(), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn every_deferred_event_is_tried_in_order_and_again_after_each_transition() {
    let (script, mut heard) = Script { state: 9, ..Script::default() }.heard();
    let machine = spawned(script);
    for state in [3, 1, 2, 0] {
        machine.send(Do::Only(state)).await.unwrap();
    }
    assert_eq!(machine.ask(Do::Nothing).await.unwrap(), 9);
    drained(&mut heard);
    machine.send(Do::Move(0)).await.unwrap();
    reached(&machine, 4).await;
    let only = [3, 1, 2, 0, 3, 1, 3, 2, 3].map(Do::Only);
    assert_eq!(drained(&mut heard), [vec![Do::Move(0)], only.to_vec()].concat());
}

#[tokio::test(start_paused = true)]
async fn work_that_sends_to_its_own_full_machine_ends_at_its_timeout() {
    let script = Script { while_busy: WhileBusy::Hold, on_failure: Some(Do::Failed), ..Script::default() };
    let (builder, mut jobs) = with_hands(script);
    let machine = builder.capacity(1).work_timeout(10 * SECOND).spawn().unwrap();
    let began = Instant::now();
    let sends = Job::SendOwn(Box::new(Do::Move(8)));
    machine.send(Do::Run(1, vec![Job::Sleep(SECOND), sends])).await.unwrap();
    reached(&machine, 1).await;
    machine.send(Do::Move(2)).await.unwrap();
    reached(&machine, 2).await;
    assert_eq!(entered(&machine, began), [(0, 1), (11_000, 500), (11_000, 2)]);
    assert_eq!(drained(&mut jobs).last().unwrap(), "end SendOwn(Move(8))");
    assert_eq!(machine.ask(Do::Nothing).await.unwrap(), 2, "the own event was not sent");
}

#[tokio::test(start_paused = true)]
async fn work_that_tries_to_send_to_its_own_full_machine_gets_that_answer_at_once() {
    let (builder, mut jobs) = with_hands(Script { while_busy: WhileBusy::Hold, ..Script::default() });
    let machine = builder.capacity(1).spawn().unwrap();
    let tries = || Job::TrySendOwn(Box::new(Do::Move(8)));
    machine.send(Do::Run(1, vec![tries(), Job::Sleep(SECOND), tries(), Job::Return(3)])).await.unwrap();
    reached(&machine, 8).await;
    let sent: Vec<String> = drained(&mut jobs).into_iter().filter(|job| job.contains("capacity")).collect();
    assert_eq!(sent, ["Err(Full { capacity: 1 })"]);
    let states: Vec<u32> = machine.transitions().iter().map(|transition| transition.to).collect();
    assert_eq!(states, [1, 3, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_a_handle_of_its_machine_does_not_keep_it_alive() {
    let machine = spawned(Script::default());
    let (weak, watch) = (machine.downgrade(), machine.watch());
    assert!(weak.upgrade().is_some());
    drop(machine);
    assert!(watch.ended().await.is_finished());
    assert!(weak.upgrade().is_none());
}
