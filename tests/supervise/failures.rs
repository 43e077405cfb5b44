//! Failures of work are events; failures of the machine end its life.

use std::error::Error;
use std::fmt;

use tokio::time::Instant;
use watchkeeper::DynError;
use watchkeeper::supervise::{
    AskError, Failure, FailureKind, Machine, Out, Outcome, Reaction, Trigger, VariantName, WhileBusy, Worker,
    supervise,
};

use crate::common::{Do, Job, SECOND, Script, drained, entered, reached, spawned, with_hands};

#[tokio::test(start_paused = true)]
async fn an_error_a_timeout_and_a_panic_of_work_are_events() {
    let cases = [
        (Job::Fail("no"), "Fail: no", 0),
        (Job::Hang, "Hang: timed out after 1s", 1000),
        (Job::Panic, "Panic: panicked: the worker panics", 0),
    ];
    for (job, text, at) in cases {
        let (script, mut heard) = Script { on_failure: Some(Do::Failed), ..Script::default() }.heard();
        let (builder, _jobs) = with_hands(script);
        let machine = builder.work_timeout(SECOND).spawn().unwrap();
        let began = Instant::now();
        machine.send(Do::Run(1, vec![job])).await.unwrap();
        reached(&machine, 500).await;
        assert_eq!(entered(&machine, began), [(0, 1), (at, 500)]);
        assert_eq!(machine.transitions()[1].trigger, Trigger::Failure);
        assert_eq!(drained(&mut heard)[1..], [Do::Failed(text.to_owned())]);
        // The worker goes on.
        machine.send(Do::Run(2, vec![Job::Return(3)])).await.unwrap();
        reached(&machine, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_commands_after_a_failed_one_of_the_same_event_are_dropped_and_named() {
    let (script, mut heard) = Script { on_failure: Some(Do::Failed), ..Script::default() }.heard();
    let (builder, mut jobs) = with_hands(script);
    let machine = builder.spawn().unwrap();
    machine.send(Do::Run(1, vec![Job::Return(2), Job::Fail("no"), Job::Quiet, Job::Hang])).await.unwrap();
    machine.send(Do::Add(vec![Job::Return(3)])).await.unwrap();
    reached(&machine, 3).await;
    let begun: Vec<String> = drained(&mut jobs).into_iter().filter(|job| job.starts_with("begin")).collect();
    assert_eq!(begun, ["begin Return(2)", "begin Fail(\"no\")", "begin Return(3)"]);
    let text = "Fail: no; not run after it: Quiet, Hang".to_owned();
    assert!(drained(&mut heard).contains(&Do::Failed(text)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_an_event_ends_the_machine_with_its_details() {
    let (builder, mut jobs) = with_hands(Script::default());
    let machine = builder.spawn().unwrap();
    machine.send(Do::Run(1, vec![Job::Fail("no"), Job::Quiet])).await.unwrap();
    let outcome = machine.ended().await;
    let Outcome::Failed(failure) = &outcome else { panic!("{outcome}") };
    assert_eq!(failure.kind(), FailureKind::Error);
    assert_eq!(failure.command().unwrap().as_str(), "Fail");
    assert_eq!(failure.message(), "no");
    assert_eq!(failure.error().unwrap().to_string(), "no");
    assert_eq!(failure.dropped().iter().map(VariantName::as_str).collect::<Vec<_>>(), ["Quiet"]);
    assert!(failure.during().is_none());
    assert_eq!(outcome.to_string(), "failed: Fail: no; not run after it: Quiet");
    assert_eq!(drained(&mut jobs), ["begin Fail(\"no\")", "end Fail(\"no\")"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_failure_while_one_is_handled_ends_the_machine_with_both() {
    type Case = (fn(String) -> Do, &'static str, FailureKind);
    let first = "while this failure was handled: Fail: no";
    let cases: [Case; 3] = [
        (
            |_| Do::Unhandled,
            "failed: Unhandled, the event for a failure, is unhandled in 1: handle it there, or return none in \
             on_failure",
            FailureKind::FailureUnhandled,
        ),
        (|_| Do::Panic, "panicked: Machine::handle panicked: asked to panic", FailureKind::MachinePanicked),
        (
            |_| panic!("no event"),
            "panicked: Machine::on_failure panicked: no event",
            FailureKind::MachinePanicked,
        ),
    ];
    for (on_failure, text, kind) in cases {
        let machine = spawned(Script { on_failure: Some(on_failure), ..Script::default() });
        machine.send(Do::Run(1, vec![Job::Fail("no")])).await.unwrap();
        let outcome = machine.ended().await;
        assert_eq!(outcome.to_string(), format!("{text}; {first}"));
        let failure = outcome.failure().unwrap();
        assert_eq!(failure.kind(), kind);
        assert_eq!(failure.during().unwrap().kind(), FailureKind::Error);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_handled_is_not_named_by_a_later_one() {
    let machine = spawned(Script { on_failure: Some(Do::Failed), ..Script::default() });
    machine.send(Do::Run(1, vec![Job::Fail("no")])).await.unwrap();
    reached(&machine, 500).await;
    machine.send(Do::Panic).await.unwrap();
    assert_eq!(machine.ended().await.to_string(), "panicked: Machine::handle panicked: asked to panic");
}

#[tokio::test(start_paused = true)]
async fn the_event_for_a_failure_may_be_deferred_and_without_room_for_it_the_machine_fails() {
    let on_failure: Option<fn(String) -> Do> = Some(|_| Do::Only(5));
    for full in [false, true] {
        let (builder, _jobs) = with_hands(Script { on_failure, ..Script::default() });
        let machine = builder.capacity(1).spawn().unwrap();
        if full {
            machine.send(Do::Only(7)).await.unwrap();
        }
        machine.send(Do::Run(1, vec![Job::Fail("no")])).await.unwrap();
        if full {
            let outcome = machine.ended().await;
            assert_eq!(outcome.failure().unwrap().kind(), FailureKind::FailureUnhandled, "{outcome}");
            assert_eq!(outcome.failure().unwrap().during().unwrap().message(), "no");
        } else {
            machine.send(Do::Move(5)).await.unwrap();
            reached(&machine, 6).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn held_events_come_after_the_event_for_the_failure() {
    let script = Script { while_busy: WhileBusy::Hold, on_failure: Some(Do::Failed), ..Script::default() };
    let machine = spawned(script);
    machine.send(Do::Run(1, vec![Job::Sleep(SECOND), Job::Fail("no")])).await.unwrap();
    assert_eq!(machine.ask(Do::Nothing).await.unwrap(), 500);
}

#[tokio::test(start_paused = true)]
async fn an_ask_whose_event_panics_is_answered_with_the_end() {
    let machine = spawned(Script::default());
    let error = machine.ask(Do::Panic).await.unwrap_err();
    assert!(matches!(error, AskError::Ended(Outcome::Panicked(_))), "{error}");
}

/// Panics in one of its methods.
#[derive(Debug)]
struct Fragile {
    panics_in: &'static str,
    judged: u32,
}

impl Fragile {
    fn pass(&self, method: &str) {
        assert!(self.panics_in != method || self.judged == 0 && method != "start", "in {method}");
    }
}

impl Machine for Fragile {
    type State = u32;
    type Event = &'static str;
    type Command = &'static str;

    fn state(&self) -> u32 {
        self.pass("state");
        self.judged
    }

    fn start(&mut self, _: &mut Out<&'static str>) {
        self.pass("start");
    }

    fn handle(&mut self, event: &'static str, out: &mut Out<&'static str>) -> Reaction<&'static str> {
        if event == "work" {
            out.run("fail");
        }
        self.judged += 1;
        self.pass("handle");
        Reaction::Moved
    }

    fn timeout(&self) -> Option<(std::time::Duration, &'static str)> {
        self.pass("timeout");
        None
    }

    fn while_busy(&self) -> WhileBusy {
        self.pass("while_busy");
        WhileBusy::Take
    }

    fn on_failure(&self, _: &Failure) -> Option<&'static str> {
        self.pass("on_failure");
        None
    }

    fn on_stop(&self) -> Option<&'static str> {
        self.pass("on_stop");
        None
    }

    fn on_abandoned(&self) -> Option<&'static str> {
        self.pass("on_abandoned");
        None
    }
}

/// An error with a cause.
#[derive(Debug)]
struct Outer(std::num::ParseIntError);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no number")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

struct Fails;

impl Worker<Fragile> for Fails {
    async fn run(&mut self, _: &'static str) -> Result<Option<&'static str>, DynError> {
        Err(Outer("x".parse::<u32>().unwrap_err()).into())
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_any_method_of_the_machine_is_its_end() {
    let methods =
        ["start", "handle", "state", "timeout", "while_busy", "on_failure", "on_stop", "on_abandoned"];
    for panics_in in methods {
        let machine = supervise(Fragile { panics_in, judged: 0 }).worker(Fails).spawn().unwrap();
        let watch = machine.watch();
        if panics_in != "start" {
            let event = if panics_in == "on_failure" { "work" } else { "other" };
            machine.send(event).await.unwrap();
        }
        match panics_in {
            "on_stop" => {
                machine.watch().changed().await.unwrap();
                machine.stop().await;
            }
            "on_abandoned" => drop(machine),
            _ => {}
        }
        let outcome = watch.ended().await;
        let Outcome::Panicked(failure) = &outcome else { panic!("{panics_in}: {outcome}") };
        assert_eq!(failure.kind(), FailureKind::MachinePanicked);
        assert_eq!(failure.message(), format!("Machine::{panics_in} panicked: in {panics_in}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_prints_the_causes_of_its_error_and_keeps_it_for_a_downcast() {
    let machine = supervise(Fragile { panics_in: "", judged: 0 }).worker(Fails).spawn().unwrap();
    machine.send("work").await.unwrap();
    let outcome = machine.ended().await;
    let failure = outcome.failure().unwrap();
    assert_eq!(failure.message(), "no number: invalid digit found in string");
    assert!(failure.error().unwrap().downcast_ref::<Outer>().is_some());
}
