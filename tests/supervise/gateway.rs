//! The one way in: handles, watches, and what a busy machine does with events.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use watchkeeper::supervise::{
    AskError, Machine, NotSent, Out, Outcome, Reaction, Trigger, WhileBusy, supervise,
};

use crate::common::{Do, HOUR, Job, SECOND, Script, drained, entered, reached, spawned, with_hands};

#[tokio::test(start_paused = true)]
async fn events_of_many_handles_are_judged_one_at_a_time_and_of_each_in_order() {
    let (script, mut heard) = Script::default().heard();
    let (builder, _jobs) = with_hands(script);
    let machine = builder.capacity(3).spawn().unwrap();
    let senders = [0, 1000, 2000].map(|from| {
        let machine = machine.clone();
        tokio::spawn(async move {
            for state in from..from + 100 {
                machine.send(Do::Move(state)).await.unwrap();
            }
        })
    });
    for sender in senders {
        sender.await.unwrap();
    }
    machine.ask(Do::Nothing).await.unwrap();
    let judged = drained(&mut heard);
    assert_eq!(judged.len(), 301);
    for from in [0, 1000, 2000] {
        let of_one: Vec<Do> = judged
            .iter()
            .filter(|event| matches!(event, Do::Move(state) if (from..from + 100).contains(state)))
            .cloned()
            .collect();
        assert_eq!(of_one, (from..from + 100).map(Do::Move).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_is_the_same_machine_and_a_watch_or_a_weak_handle_is_no_handle() {
    let machine = spawned(Script::default());
    let (clone, weak, watch) = (machine.clone(), machine.downgrade(), machine.watch());
    machine.send(Do::Move(1)).await.unwrap();
    drop(machine);
    assert_eq!(clone.ask(Do::Nothing).await.unwrap(), 1);
    let upgraded = weak.upgrade().unwrap();
    drop(clone);
    assert_eq!(upgraded.ask(Do::Move(2)).await.unwrap(), 2);
    drop(upgraded);
    assert!(watch.ended().await.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_watch_sees_moves_and_changes_inside_a_state_and_not_what_stays() {
    let machine = spawned(Script::default());
    let mut watch = machine.watch();
    for (event, seen) in
        [(Do::Move(1), Some(1)), (Do::Change(2), Some(2)), (Do::Nothing, None), (Do::Change(2), None)]
    {
        machine.ask(event).await.unwrap();
        let changed = timeout(SECOND, watch.changed()).await;
        assert_eq!(changed.ok().map(Result::unwrap), seen);
    }
    // A transition to the same state is news.
    machine.ask(Do::Move(2)).await.unwrap();
    assert_eq!(watch.changed().await.unwrap(), 2);
    assert_eq!(machine.transitions().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_of_changed_misses_nothing_and_states_between_are_passed_over() {
    let machine = spawned(Script::default());
    let mut watch = machine.watch();
    assert!(timeout(SECOND, watch.changed()).await.is_err());
    for state in 1..4 {
        machine.ask(Do::Move(state)).await.unwrap();
    }
    let mut other = watch.clone();
    assert_eq!(watch.changed().await.unwrap(), 3);
    assert_eq!(other.changed().await.unwrap(), 3);
    assert!(timeout(SECOND, watch.changed()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_state_that_takes_events_judges_them_while_work_is_in_flight() {
    let began = Instant::now();
    let machine = spawned(Script::default());
    machine.send(Do::Run(1, vec![Job::Sleep(SECOND), Job::Return(3)])).await.unwrap();
    assert_eq!(machine.ask(Do::Move(2)).await.unwrap(), 2);
    reached(&machine, 3).await;
    assert_eq!(entered(&machine, began), [(0, 1), (0, 2), (1000, 3)]);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_holds_events_judges_each_after_the_commands_of_the_one_before() {
    let began = Instant::now();
    let (builder, mut jobs) = with_hands(Script { while_busy: WhileBusy::Hold, ..Script::default() });
    let machine = builder.spawn().unwrap();
    let two = || vec![Job::Sleep(SECOND), Job::Sleep(SECOND)];
    for state in 1..4 {
        machine.send(Do::Run(state, two())).await.unwrap();
    }
    machine.send(Do::Move(4)).await.unwrap();
    reached(&machine, 4).await;
    assert_eq!(entered(&machine, began), [(0, 1), (2000, 2), (4000, 3), (6000, 4)]);
    assert_eq!(drained(&mut jobs).len(), 12);
    // The same from rest, after earlier work.
    for state in 5..7 {
        machine.send(Do::Run(state, two())).await.unwrap();
    }
    reached(&machine, 6).await;
    let last: Vec<_> = entered(&machine, began).into_iter().skip(4).collect();
    assert_eq!(last, [(6000, 5), (8000, 6)]);
}

#[tokio::test(start_paused = true)]
async fn held_events_come_between_the_turns_of_work_that_never_ends() {
    let machine = spawned(Script { while_busy: WhileBusy::Hold, ..Script::default() });
    machine.send(Do::Turn).await.unwrap();
    // Each is held for one command.
    for state in 1..4 {
        assert_eq!(machine.ask(Do::Move(state)).await.unwrap(), state);
    }
    machine.abort().await;
}

#[tokio::test(start_paused = true)]
async fn a_held_event_waits_for_the_commands_of_the_one_before_also_behind_other_work() {
    let (script, mut heard) = Script { while_busy: WhileBusy::Hold, ..Script::default() }.heard();
    let machine = spawned(script);
    // Its outcome commands again, so that commands of two events wait.
    let again = Job::Event(Box::new(Do::Add(vec![Job::Sleep(SECOND), Job::Return(10)])));
    machine.send(Do::Run(1, vec![again])).await.unwrap();
    machine.send(Do::Run(2, vec![Job::Return(20)])).await.unwrap();
    machine.send(Do::Move(3)).await.unwrap();
    reached(&machine, 3).await;
    let judged: Vec<Do> =
        drained(&mut heard).into_iter().filter(|event| matches!(event, Do::Done(_) | Do::Move(_))).collect();
    assert_eq!(judged, [Do::Done(10), Do::Done(20), Do::Move(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_state_that_refuses_events_gives_an_ask_its_event_back_and_drops_others() {
    let (script, mut heard) = Script { while_busy: WhileBusy::Refuse, ..Script::default() }.heard();
    let machine = spawned(script);
    machine.ask(Do::Run(1, vec![Job::Sleep(SECOND), Job::Return(2)])).await.unwrap();
    let error = machine.ask(Do::Move(3)).await.unwrap_err();
    assert!(matches!(error, AskError::Busy(Do::Move(3))));
    assert_eq!(error.to_string(), "Move was refused: work is in flight, ask again when it is done");
    machine.send(Do::Move(4)).await.unwrap();
    reached(&machine, 2).await;
    assert_eq!(machine.ask(Do::Move(5)).await.unwrap(), 5);
    let judged: Vec<Do> = drained(&mut heard).into_iter().skip(1).collect();
    assert_eq!(judged, [Do::Done(2), Do::Move(5)]);
    // Two at once: the first one's command refuses the second.
    machine.send(Do::Run(6, vec![Job::Sleep(SECOND)])).await.unwrap();
    let error = machine.ask(Do::Move(7)).await.unwrap_err();
    assert!(matches!(error, AskError::Busy(Do::Move(7))), "{error}");
}

#[tokio::test(start_paused = true)]
async fn events_are_refused_also_after_a_timeout_and_while_deferred_ones_wait() {
    let timeouts = [(1, SECOND)].into();
    let machine = spawned(Script { while_busy: WhileBusy::Refuse, timeouts, ..Script::default() });
    machine.send(Do::Only(7)).await.unwrap();
    machine.send(Do::Run(1, vec![Job::Sleep(HOUR)])).await.unwrap();
    reached(&machine, 101).await;
    let answer = timeout(SECOND, machine.ask(Do::Move(3))).await.expect("an answer");
    assert!(matches!(answer, Err(AskError::Busy(Do::Move(3)))));
    machine.abort().await;
}

#[tokio::test(start_paused = true)]
async fn cancelled_work_is_dropped_before_the_next_event_and_its_outcome_never_comes() {
    let (builder, mut jobs) = with_hands(Script::default());
    let machine = builder.spawn().unwrap();
    machine.send(Do::Run(1, vec![Job::Hang, Job::Return(9)])).await.unwrap();
    reached(&machine, 1).await;
    sleep(SECOND / 2).await;
    machine.send(Do::Cancel(2)).await.unwrap();
    machine.send(Do::Run(3, vec![Job::Quiet])).await.unwrap();
    reached(&machine, 3).await;
    sleep(HOUR).await;
    assert_eq!(machine.state(), 3);
    assert_eq!(drained(&mut jobs), ["begin Hang", "end Hang", "begin Quiet", "end Quiet"]);
}

#[tokio::test(start_paused = true)]
async fn a_send_waits_for_room_in_the_order_of_the_calls_and_a_dropped_one_sends_nothing() {
    let (script, mut heard) = Script { while_busy: WhileBusy::Hold, ..Script::default() }.heard();
    let (builder, _jobs) = with_hands(script);
    let machine = builder.capacity(1).spawn().unwrap();
    machine.ask(Do::Run(1, vec![Job::Sleep(SECOND)])).await.unwrap();
    machine.send(Do::Move(2)).await.unwrap();
    assert!(timeout(SECOND / 2, machine.send(Do::Move(3))).await.is_err());
    assert!(timeout(SECOND / 4, machine.ask(Do::Move(4))).await.is_err());
    let later = [5, 6, 7].map(|state| {
        let machine = machine.clone();
        tokio::spawn(async move { machine.send(Do::Move(state)).await.unwrap() })
    });
    for sent in later {
        sent.await.unwrap();
    }
    reached(&machine, 7).await;
    let judged: Vec<Do> = drained(&mut heard).into_iter().skip(1).collect();
    assert_eq!(judged, [2, 5, 6, 7].map(Do::Move));
}

#[tokio::test(start_paused = true)]
async fn after_a_dropped_ask_its_event_is_judged_all_the_same() {
    let machine = spawned(Script { while_busy: WhileBusy::Hold, ..Script::default() });
    machine.ask(Do::Run(1, vec![Job::Sleep(SECOND)])).await.unwrap();
    assert!(timeout(SECOND / 2, machine.ask(Do::Move(2))).await.is_err());
    reached(&machine, 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_ask_of_a_deferred_event_is_answered_after_the_transition_that_takes_it() {
    let machine = spawned(Script::default());
    let asked = tokio::spawn({
        let machine = machine.clone();
        async move { machine.ask(Do::Only(5)).await }
    });
    tokio::task::yield_now().await;
    machine.ask(Do::Move(1)).await.unwrap();
    assert!(!asked.is_finished());
    machine.send(Do::Move(5)).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), 6);
    let last = machine.transitions().pop().unwrap();
    assert_eq!((last.from, last.to, last.trigger), (5, 6, Trigger::Deferred));
}

#[tokio::test(start_paused = true)]
async fn an_ask_without_an_answer_gets_the_end() {
    let machine = spawned(Script { while_busy: WhileBusy::Hold, ..Script::default() });
    let asks = [Do::Only(5), Do::Run(1, vec![Job::Hang]), Do::Move(2)].map(|event| {
        let machine = machine.clone();
        tokio::spawn(async move { machine.ask(event).await })
    });
    reached(&machine, 1).await;
    machine.abort().await;
    let [deferred, judged, held] = asks;
    assert_eq!(judged.await.unwrap().unwrap(), 1);
    for ask in [deferred, held] {
        let error = ask.await.unwrap().unwrap_err();
        assert!(matches!(error, AskError::Ended(Outcome::Cancelled)));
        assert_eq!(error.to_string(), "the machine ended before the event had a result: cancelled");
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_events_are_deferred_as_the_channel_holds_and_further_ones_are_given_back() {
    let (builder, _jobs) = with_hands(Script::default());
    let machine = builder.capacity(2).spawn().unwrap();
    machine.ask(Do::Nothing).await.unwrap();
    for _ in 0..2 {
        machine.send(Do::Only(7)).await.unwrap();
    }
    let error = machine.ask(Do::Only(7)).await.unwrap_err();
    assert!(matches!(error, AskError::NoRoomToDefer(Do::Only(7))));
    let text = "Only is to be judged later, and too many events are already: raise the capacity";
    assert_eq!(error.to_string(), text);
    machine.send(Do::Move(7)).await.unwrap();
    reached(&machine, 8).await;
}

#[tokio::test(start_paused = true)]
async fn cancelling_the_parent_drains_like_a_stop_and_refuses_further_events() {
    let parent = CancellationToken::new();
    let (builder, _jobs) = with_hands(Script { on_stop: Some(Do::Stop), ..Script::default() });
    let machine = builder.parent(parent.clone()).spawn().unwrap();
    machine.send(Do::Move(1)).await.unwrap();
    parent.cancel();
    reached(&machine, 900).await;
    let error = machine.try_send(Do::Move(2)).unwrap_err();
    assert!(matches!(error.reason, NotSent::Stopping), "{error}");
    assert_eq!(error.to_string(), "Move was not sent: the machine is stopping and accepts no further event");
    assert!(machine.ended().await.is_cancelled());
    // What was accepted before still came.
    let states: Vec<u32> = machine.transitions().iter().map(|transition| transition.to).collect();
    assert_eq!(states, [900, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_cancelled_already_ends_the_machine() {
    let parent = CancellationToken::new();
    parent.cancel();
    let (builder, _jobs) = with_hands(Script::default());
    assert!(builder.parent(parent).spawn().unwrap().ended().await.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_child_does_not_cancel_its_parent() {
    let parent = CancellationToken::new();
    let (builder, _jobs) = with_hands(Script::default());
    builder.parent(parent.clone()).spawn().unwrap().abort().await;
    assert!(!parent.is_cancelled());
}

/// It cannot be cloned: events come by value.
#[derive(Debug)]
struct Parcel(Box<u64>);

struct Sums(u64);

impl Machine for Sums {
    type State = u64;
    type Event = Parcel;
    type Command = Infallible;

    fn state(&self) -> u64 {
        self.0
    }

    fn handle(&mut self, event: Parcel, _: &mut Out<Infallible>) -> Reaction<Parcel> {
        if *event.0 == 0 {
            return Reaction::Unhandled(event);
        }
        self.0 += *event.0;
        Reaction::Stayed
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_used_comes_back_as_the_same_value() {
    let machine = supervise(Sums(0)).spawn().unwrap();
    assert_eq!(machine.ask(Parcel(Box::new(2))).await.unwrap(), 2);
    let parcel = Box::new(0);
    let place: *const u64 = &raw const *parcel;
    let Err(AskError::Unhandled(Parcel(back))) = machine.ask(Parcel(parcel)).await else {
        panic!("it was handled");
    };
    assert!(std::ptr::eq(place, &raw const *back));
}

#[tokio::test(start_paused = true)]
async fn work_longer_than_its_limit_does_not_stop_events_from_being_held() {
    let began = Instant::now();
    let script = Script { while_busy: WhileBusy::Hold, on_failure: Some(Do::Failed), ..Script::default() };
    let (builder, _jobs) = with_hands(script);
    let machine = builder.work_timeout(Duration::from_millis(300)).spawn().unwrap();
    machine.send(Do::Run(1, vec![Job::Hang, Job::Quiet])).await.unwrap();
    machine.send(Do::Move(2)).await.unwrap();
    reached(&machine, 2).await;
    assert_eq!(entered(&machine, began), [(0, 1), (300, 500), (300, 2)]);
}

#[tokio::test(start_paused = true)]
async fn while_as_many_commands_wait_as_the_channel_holds_further_events_wait_in_the_channel() {
    let (script, mut heard) = Script::default().heard();
    let (builder, _jobs) = with_hands(script);
    let machine = builder.capacity(2).spawn().unwrap();
    machine.ask(Do::Run(1, vec![Job::Hang])).await.unwrap();
    sleep(SECOND).await;
    for _ in 0..4 {
        machine.send(Do::Add(vec![Job::Quiet])).await.unwrap();
    }
    sleep(SECOND).await;
    assert!(matches!(machine.try_send(Do::Nothing).unwrap_err().reason, NotSent::Full { capacity: 2 }));
    assert_eq!(drained(&mut heard).len(), 3, "two commands wait, and two events");
    machine.abort().await;
}

#[tokio::test(start_paused = true)]
async fn held_events_do_not_come_between_the_commands_of_one_outcome() {
    let (script, mut heard) = Script { while_busy: WhileBusy::Hold, ..Script::default() }.heard();
    let machine = spawned(script);
    let two = Do::Add(vec![Job::Quiet, Job::Sleep(SECOND), Job::Return(5)]);
    machine.ask(Do::Run(1, vec![Job::Event(Box::new(two.clone()))])).await.unwrap();
    machine.send(Do::Move(2)).await.unwrap();
    reached(&machine, 2).await;
    machine.send(Do::Move(3)).await.unwrap();
    reached(&machine, 3).await;
    let judged: Vec<Do> = drained(&mut heard).into_iter().skip(1).collect();
    assert_eq!(judged, [two, Do::Done(5), Do::Move(2), Do::Move(3)]);
}

#[tokio::test(start_paused = true)]
async fn held_events_are_all_judged_after_the_last_handle_is_dropped() {
    let (builder, mut jobs) = with_hands(Script { while_busy: WhileBusy::Hold, ..Script::default() });
    let machine = builder.drain(2 * SECOND).spawn().unwrap();
    let watch = machine.watch();
    for state in 1..=20 {
        machine.send(Do::Run(state, vec![Job::Sleep(SECOND)])).await.unwrap();
    }
    drop(machine);
    assert!(watch.ended().await.is_finished());
    assert_eq!(watch.state(), 20);
    assert_eq!(drained(&mut jobs).len(), 40, "each begins and ends");
}
