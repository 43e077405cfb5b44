//! Lives after the first: delays, poison, and what survives.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use watchkeeper::supervise::{
    AskError, Backoff, Condition, Delays, FailureKind, FailureWindow, MachineBuilder, NotSent, Outcome,
    Restart, RestartError, Supervised, Trigger, WhileBusy, supervise_with,
};

use crate::common::{Do, HOUR, Hands, Job, SECOND, Script, drained, entered, reached, spawned};

/// Delays of 1, 2, 4, 8, 8 .. seconds, from the first again after 100 s without a failure.
fn delays() -> Delays {
    let backoff = Backoff { first: SECOND, max: 8 * SECOND, jitter: 0.0, seed: 1 };
    Delays::new(backoff).reset_after(100 * SECOND)
}

fn on_failure(most: u32) -> Restart {
    Restart::on_failure(delays(), FailureWindow::new(most, HOUR))
}

type Reports = mpsc::UnboundedReceiver<String>;

/// The lives begin in the states 1000, 2000 ..
fn lives(restart: Restart, script: fn() -> Script) -> (MachineBuilder<Script, Hands>, Reports) {
    let (sender, reports) = mpsc::unbounded_channel();
    let mut life = 0;
    let factory = move || {
        life += 1;
        let _ = sender.send(format!("make {life}"));
        let hands = Hands::reporting(&sender).named(format!("{life}"));
        (Script { state: 1000 * life, ..script() }, hands)
    };
    (supervise_with(factory).restart(restart), reports)
}

async fn until_condition(machine: &Supervised<Script>, is: fn(&Condition) -> bool) -> Condition {
    let mut watch = machine.watch();
    loop {
        let condition = machine.condition();
        if is(&condition) {
            return condition;
        }
        watch.changed().await.unwrap();
    }
}

fn is_poisoned(condition: &Condition) -> bool {
    matches!(condition, Condition::Poisoned(_))
}

#[tokio::test(start_paused = true)]
async fn without_a_restart_the_first_end_is_the_last() {
    for restart in [Restart::never(), on_failure(3)] {
        let (builder, mut reports) = lives(restart, Script::default);
        let machine = builder.spawn().unwrap();
        machine.send(Do::Finish).await.unwrap();
        assert!(machine.ended().await.is_finished());
        assert_eq!(drained(&mut reports), ["make 1", "drop 1"]);
    }
    let (builder, _reports) = lives(Restart::never(), Script::default);
    let machine = builder.spawn().unwrap();
    machine.send(Do::Panic).await.unwrap();
    assert!(matches!(machine.ended().await, Outcome::Panicked(_)));
}

#[tokio::test(start_paused = true)]
async fn each_failed_life_is_dropped_before_the_next_is_made_after_a_longer_delay() {
    let (builder, mut reports) = lives(on_failure(9), Script::default);
    let machine = builder.spawn().unwrap();
    let began = Instant::now();
    let fails = || Do::Run(1, vec![Job::Fail("no")]);
    for (life, event) in
        [(2000, fails()), (3000, Do::Panic), (4000, fails()), (5000, fails()), (6000, Do::Panic)]
    {
        machine.send(event).await.unwrap();
        reached(&machine, life).await;
    }
    let lives: Vec<_> = entered(&machine, began).into_iter().filter(|(_, state)| *state >= 1000).collect();
    assert_eq!(lives, [(1000, 2000), (3000, 3000), (7000, 4000), (15_000, 5000), (23_000, 6000)]);
    let made: Vec<String> =
        drained(&mut reports).into_iter().filter(|report| !report.contains("Fail")).collect();
    let expected =
        (1..6).flat_map(|life| [format!("make {life}"), format!("drop {life}")]).chain(["make 6".to_owned()]);
    assert_eq!(made, expected.collect::<Vec<_>>());
    let begun = machine.transitions().into_iter().find(|transition| transition.to == 3000).unwrap();
    assert_eq!((begun.trigger, begun.to_string().as_str()), (Trigger::Restart, "2000 -> 3000 by a restart"));
}

#[tokio::test(start_paused = true)]
async fn after_a_stable_time_the_first_delay_comes_again() {
    let (builder, _reports) = lives(on_failure(9), Script::default);
    let machine = builder.spawn().unwrap();
    for (life, stable, delay) in [(2000, 0, 1), (3000, 50, 2), (4000, 50, 4), (5000, 101, 1), (6000, 0, 2)] {
        sleep(stable * SECOND).await;
        let began = Instant::now();
        machine.send(Do::Panic).await.unwrap();
        reached(&machine, life).await;
        assert_eq!(began.elapsed().as_secs(), delay, "before {life}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_next_life_is_awaited_the_condition_and_the_last_state_show_it() {
    let (builder, _reports) = lives(on_failure(9), Script::default);
    let machine = builder.spawn().unwrap();
    machine.send(Do::Move(7)).await.unwrap();
    machine.send(Do::Panic).await.unwrap();
    let condition = until_condition(&machine, |condition| !matches!(condition, Condition::Running)).await;
    let Condition::Restarting(failure) = condition else { panic!("{condition:?}") };
    assert_eq!(failure.to_string(), "Machine::handle panicked: asked to panic");
    assert_eq!(machine.state(), 7);
    reached(&machine, 2000).await;
    assert!(matches!(machine.condition(), Condition::Running));
}

#[tokio::test(start_paused = true)]
async fn a_restart_always_follows_a_finish_too_which_is_no_failure() {
    let restart = Restart::always(delays(), FailureWindow::new(0, HOUR));
    let (builder, mut reports) = lives(restart, Script::default);
    let machine = builder.spawn().unwrap();
    for life in 2..5 {
        machine.send(Do::Finish).await.unwrap();
        reached(&machine, 1000 * life).await;
    }
    assert!(machine.stop().await.is_cancelled());
    assert_eq!(drained(&mut reports).last().unwrap(), "drop 4");
}

#[tokio::test(start_paused = true)]
async fn without_handles_a_machine_that_finishes_has_ended_even_if_it_always_restarts() {
    let scripts: [fn() -> Script; 2] =
        [Script::default, || Script { on_abandoned: Some(Do::Abandoned), ..Script::default() }];
    for script in scripts {
        let (builder, mut reports) = lives(Restart::always(delays(), FailureWindow::new(0, HOUR)), script);
        let machine = builder.spawn().unwrap();
        let watch = machine.watch();
        drop(machine);
        let end = tokio::time::timeout(24 * HOUR, watch.ended()).await.expect("no further life");
        assert!(end.is_finished());
        assert_eq!(drained(&mut reports), ["make 1", "drop 1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn more_failures_than_the_window_tolerates_poison() {
    let (builder, mut reports) = lives(on_failure(2), Script::default);
    let machine = builder.spawn().unwrap();
    for life in 2..4 {
        machine.send(Do::Panic).await.unwrap();
        reached(&machine, 1000 * life).await;
    }
    machine.send(Do::Panic).await.unwrap();
    let condition = until_condition(&machine, is_poisoned).await;
    let Condition::Poisoned(failure) = condition else { panic!("{condition:?}") };
    assert_eq!(failure.kind(), FailureKind::MachinePanicked);
    sleep(24 * HOUR).await;
    assert!(is_poisoned(&machine.condition()) && machine.outcome().is_none());
    assert!(matches!(machine.try_send(Do::Nothing).unwrap_err().reason, NotSent::Poisoned(_)));
    assert_eq!(drained(&mut reports).last().unwrap(), "drop 3");
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_long_ago_do_not_poison() {
    let restart = Restart::on_failure(delays(), FailureWindow::new(1, Duration::from_secs(60)));
    let (builder, _reports) = lives(restart, Script::default);
    let machine = builder.spawn().unwrap();
    for life in 2..6 {
        machine.send(Do::Panic).await.unwrap();
        reached(&machine, 1000 * life).await;
        sleep(61 * SECOND).await;
    }
    machine.send(Do::Panic).await.unwrap();
    reached(&machine, 6000).await;
    machine.send(Do::Panic).await.unwrap();
    until_condition(&machine, is_poisoned).await;
}

#[tokio::test(start_paused = true)]
async fn unpoison_begins_a_life_at_once_and_forgets_the_failures() {
    let (builder, _reports) = lives(on_failure(1), Script::default);
    let machine = builder.spawn().unwrap();
    let error = machine.unpoison().unwrap_err();
    assert_eq!(error.to_string(), "the machine is not poisoned: to begin a new life anyway, call restart");
    for _ in 0..2 {
        machine.send(Do::Panic).await.unwrap();
        if !is_poisoned(&machine.condition()) {
            until_condition(&machine, |condition| !matches!(condition, Condition::Running)).await;
            until_condition(&machine, |condition| {
                matches!(condition, Condition::Running) || is_poisoned(condition)
            })
            .await;
        }
    }
    assert!(is_poisoned(&machine.condition()));
    let began = Instant::now();
    machine.unpoison().unwrap();
    reached(&machine, 3000).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    // One failure is tolerated again, with the first delay.
    machine.send(Do::Panic).await.unwrap();
    reached(&machine, 4000).await;
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn restart_begins_a_life_at_once_and_the_failures_still_count() {
    let (builder, _reports) = lives(on_failure(1), Script::default);
    let machine = builder.spawn().unwrap();
    machine.send(Do::Panic).await.unwrap();
    reached(&machine, 2000).await;
    machine.send(Do::Panic).await.unwrap();
    until_condition(&machine, is_poisoned).await;
    let began = Instant::now();
    machine.restart().unwrap();
    reached(&machine, 3000).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(matches!(machine.condition(), Condition::Running));
    machine.send(Do::Panic).await.unwrap();
    until_condition(&machine, is_poisoned).await;
}

#[tokio::test(start_paused = true)]
async fn restart_of_a_running_machine_drops_its_work_and_is_no_failure() {
    for restart in [Restart::never(), on_failure(0)] {
        let (builder, mut reports) = lives(restart, Script::default);
        let machine = builder.spawn().unwrap();
        machine.ask(Do::Run(1, vec![Job::Hang, Job::Quiet])).await.unwrap();
        machine.restart().unwrap();
        reached(&machine, 2000).await;
        assert_eq!(drained(&mut reports), ["make 1", "begin Hang", "end Hang", "drop 1", "make 2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn restart_shortens_the_delay_of_the_next_life() {
    let (builder, _reports) = lives(on_failure(3), Script::default);
    let machine = builder.spawn().unwrap();
    let began = Instant::now();
    machine.send(Do::Panic).await.unwrap();
    until_condition(&machine, |condition| matches!(condition, Condition::Restarting(_))).await;
    machine.restart().unwrap();
    reached(&machine, 2000).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_cannot_be_names_the_reason() {
    let machine = spawned(Script::default());
    let error = machine.restart().unwrap_err();
    assert!(matches!(error, RestartError::NoFactory));
    assert_eq!(error.to_string(), "the machine has no factory: spawn it with supervise_with");
    machine.stop().await;
    for error in [machine.restart().unwrap_err(), machine.unpoison().unwrap_err()] {
        assert_eq!(error.to_string(), "the machine has ended (cancelled): spawn another one");
    }
}

fn holding() -> Script {
    Script { while_busy: WhileBusy::Hold, ..Script::default() }
}

#[tokio::test(start_paused = true)]
async fn events_and_deferred_events_with_their_asks_survive_a_life() {
    let (builder, _reports) = lives(on_failure(3), holding);
    let machine = builder.spawn().unwrap();
    machine.ask(Do::Run(1, vec![Job::Sleep(SECOND), Job::Fail("no")])).await.unwrap();
    let asks = [Do::Only(2), Do::Only(2000), Do::Move(2)].map(|event| {
        let machine = machine.clone();
        tokio::spawn(async move { machine.ask(event).await })
    });
    until_condition(&machine, |condition| matches!(condition, Condition::Restarting(_))).await;
    machine.send(Do::Only(3)).await.unwrap();
    let mut answers = Vec::new();
    for ask in asks {
        answers.push(ask.await.unwrap().unwrap());
    }
    // The new life begins with 2000, and `Move(2)` comes later.
    assert_eq!(answers, [3, 2001, 2]);
    reached(&machine, 4).await;
}

#[tokio::test(start_paused = true)]
async fn an_event_deferred_in_one_life_is_judged_at_the_start_of_the_next() {
    let (builder, _reports) = lives(on_failure(3), Script::default);
    let machine = builder.spawn().unwrap();
    let asked = tokio::spawn({
        let machine = machine.clone();
        async move { machine.ask(Do::Only(2000)).await }
    });
    tokio::task::yield_now().await;
    machine.send(Do::Panic).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap(), 2001);
    let last = machine.transitions().pop().unwrap();
    assert_eq!(last.trigger, Trigger::Deferred);
}

#[tokio::test(start_paused = true)]
async fn the_commands_of_a_new_start_hold_the_events_that_waited() {
    let script = || Script { start: vec![Job::Sleep(SECOND), Job::Return(7)], ..holding() };
    let (builder, _reports) = lives(on_failure(3), script);
    let machine = builder.spawn().unwrap();
    let began = Instant::now();
    machine.send(Do::Run(1, vec![Job::Fail("no")])).await.unwrap();
    for state in 2..4 {
        machine.send(Do::Move(state)).await.unwrap();
    }
    reached(&machine, 3).await;
    let expected = [(1000, 7), (1000, 1), (2000, 2000), (3000, 7), (3000, 2), (3000, 3)];
    assert_eq!(entered(&machine, began), expected);
}

#[tokio::test(start_paused = true)]
async fn an_ask_that_kills_its_life_is_lost_with_the_failure() {
    for most in [3, 0] {
        let (builder, _reports) = lives(on_failure(most), Script::default);
        let machine = builder.spawn().unwrap();
        let error = machine.ask(Do::Panic).await.unwrap_err();
        let AskError::Lost(failure) = &error else { panic!("{error}") };
        assert_eq!(failure.kind(), FailureKind::MachinePanicked);
        let text = "the life ended while the event was judged: Machine::handle panicked: asked to panic";
        assert_eq!(error.to_string(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_the_old_life_does_not_come_in_the_new_one() {
    let script =
        || Script { timeouts: [(1000, 5 * SECOND), (2000, 10 * SECOND)].into(), ..Script::default() };
    let (builder, _reports) = lives(on_failure(3), script);
    let machine = builder.spawn().unwrap();
    let began = Instant::now();
    machine.ask(Do::Panic).await.unwrap_err();
    reached(&machine, 2100).await;
    assert_eq!(entered(&machine, began), [(1000, 2000), (11_000, 2100)]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_or_an_abort_between_two_lives_ends_at_once_with_the_failure() {
    for (most, aborts) in [(3, false), (3, true), (0, false), (0, true)] {
        let (builder, mut reports) = lives(on_failure(most), Script::default);
        let machine = builder.spawn().unwrap();
        let began = Instant::now();
        machine.ask(Do::Panic).await.unwrap_err();
        let end = if aborts { machine.abort().await } else { machine.stop().await };
        assert_eq!(end.to_string(), "panicked: Machine::handle panicked: asked to panic");
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(drained(&mut reports), ["make 1", "drop 1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_fails_begins_no_new_life() {
    let script = || Script { on_stop: Some(Do::Panic), ..Script::default() };
    let (builder, mut reports) = lives(on_failure(3), script);
    let machine = builder.spawn().unwrap();
    assert!(matches!(machine.stop().await, Outcome::Panicked(_)));
    assert_eq!(drained(&mut reports), ["make 1", "drop 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_machine_without_handles_ends_with_its_failure_however_the_two_follow() {
    for drops_first in [true, false] {
        let (builder, _reports) = lives(on_failure(0), || Script { on_failure: None, ..holding() });
        let machine = builder.spawn().unwrap();
        let watch = machine.watch();
        machine.ask(Do::Run(1, vec![Job::Sleep(SECOND), Job::Fail("no")])).await.unwrap();
        // Held, so that the dropped handles are not judged before the failure.
        machine.send(Do::Nothing).await.unwrap();
        if !drops_first {
            until_condition(&machine, is_poisoned).await;
        }
        drop(machine);
        assert_eq!(watch.ended().await.to_string(), "failed: Fail: no");
    }
}

#[tokio::test(start_paused = true)]
async fn without_handles_the_events_that_waited_are_judged_by_the_next_life() {
    let (builder, _reports) = lives(on_failure(3), holding);
    let machine = builder.spawn().unwrap();
    let watch = machine.watch();
    machine.ask(Do::Run(1, vec![Job::Sleep(SECOND), Job::Fail("no")])).await.unwrap();
    machine.send(Do::Move(5)).await.unwrap();
    drop(machine);
    assert!(watch.ended().await.is_finished());
    assert_eq!(watch.state(), 5);
}

#[tokio::test(start_paused = true)]
async fn each_life_without_handles_judges_that_they_were_dropped() {
    let script = || Script {
        on_abandoned: Some(Do::Run(1, vec![Job::Sleep(SECOND), Job::Fail("no")])),
        ..Script::default()
    };
    let (builder, mut reports) = lives(on_failure(2), script);
    let machine = builder.spawn().unwrap();
    let watch = machine.watch();
    drop(machine);
    let end = tokio::time::timeout(HOUR, watch.ended()).await.expect("an end");
    assert_eq!(end.to_string(), "failed: Fail: no");
    let fails = drained(&mut reports).into_iter().filter(|report| report.starts_with("begin Fail")).count();
    assert_eq!(fails, 3);
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_shorten_a_drain() {
    let script = || Script { on_stop: Some(Do::Stop), ..Script::default() };
    let (builder, mut reports) = lives(on_failure(3), script);
    let machine = builder.drain(10 * SECOND).spawn().unwrap();
    let began = Instant::now();
    assert!(tokio::time::timeout(SECOND, machine.stop()).await.is_err());
    let _ = machine.restart();
    assert!(machine.ended().await.is_cancelled());
    assert_eq!(began.elapsed(), 10 * SECOND);
    assert_eq!(drained(&mut reports), ["make 1", "drop 1"]);
}

#[tokio::test(start_paused = true)]
async fn events_that_wait_longer_than_the_drain_for_a_life_are_all_judged_without_handles() {
    let minute = 60 * SECOND;
    let delays = Delays::new(Backoff { first: minute, max: minute, jitter: 0.0, seed: 1 });
    let (builder, _reports) =
        lives(Restart::on_failure(delays, FailureWindow::new(3, HOUR)), Script::default);
    let machine = builder.spawn().unwrap();
    let watch = machine.watch();
    machine.send(Do::Panic).await.unwrap();
    until_condition(&machine, |condition| matches!(condition, Condition::Restarting(_))).await;
    for state in 1..=64 {
        machine.try_send(Do::Move(state)).unwrap();
    }
    drop(machine);
    assert!(watch.ended().await.is_finished());
    assert_eq!(watch.state(), 64);
}

/// The connection of which it speaks has been dropped.
#[tokio::test(start_paused = true)]
async fn a_deferred_outcome_does_not_reach_the_next_life() {
    let (builder, _reports) = lives(on_failure(3), Script::default);
    let machine = builder.spawn().unwrap();
    let outcome = Job::Event(Box::new(Do::Only(5)));
    machine.send(Do::Run(1, vec![outcome, Job::Return(2)])).await.unwrap();
    reached(&machine, 2).await;
    machine.send(Do::Panic).await.unwrap();
    reached(&machine, 2000).await;
    assert_eq!(machine.ask(Do::Move(5)).await.unwrap(), 5);
    assert_eq!(machine.ask(Do::Nothing).await.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn events_are_accepted_from_the_call_on_that_ends_the_poison() {
    for unpoison in [true, false] {
        let (builder, _reports) = lives(on_failure(0), Script::default);
        let machine = builder.spawn().unwrap();
        machine.send(Do::Panic).await.unwrap();
        until_condition(&machine, is_poisoned).await;
        assert!(matches!(machine.try_send(Do::Move(3)).unwrap_err().reason, NotSent::Poisoned(_)));
        if unpoison {
            machine.unpoison().unwrap();
        } else {
            machine.restart().unwrap();
        }
        machine.try_send(Do::Move(4)).unwrap();
        reached(&machine, 4).await;
    }
}
