//! Bad input: one typed error or outcome each, which names the fix.

use std::convert::Infallible;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::DynError;
use watchkeeper::supervise::{
    AskError, Backoff, Delays, FailureKind, FailureWindow, Machine, NoWorker, Out, Outcome, Reaction,
    Restart, SuperviseError, UnhandledEvents, Worker, supervise, supervise_with,
};

use crate::common::{Do, HOUR, Hands, Job, SECOND, Script, drained, entered, reached, spawned, with_hands};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn restart(first: Duration, jitter: f64, window: Duration) -> Restart {
    let backoff = Backoff { first, max: 8 * first, jitter, seed: 1 };
    Restart::on_failure(Delays::new(backoff), FailureWindow::new(3, window))
}

#[tokio::test(start_paused = true)]
async fn each_setting_that_is_out_of_range_is_an_error_that_names_it() {
    let made = || supervise_with(|| (Script::default(), Hands::new().0));
    let once = || with_hands(Script::default()).0;
    let backoff =
        "`first` must be more than zero, `max` at least `first` and at most 24 h, `jitter` between 0 and 1";
    let zero = Duration::ZERO;
    let cases = [
        (
            once().capacity(0),
            "capacity is 0: it must be at least 1 and at most 2305843009213693951".to_owned(),
        ),
        (
            once().capacity(usize::MAX),
            format!("capacity is {}: it must be at least 1 and at most 2305843009213693951", usize::MAX),
        ),
        (once().drain(zero), "drain is 0ns: it must be more than zero and at most 24 h".to_owned()),
        (
            once().drain(DAY + SECOND),
            "drain is 86401s: it must be more than zero and at most 24 h".to_owned(),
        ),
        (
            once().work_timeout(zero),
            "work_timeout is 0ns: it must be more than zero and at most 24 h".to_owned(),
        ),
        (
            once().work_timeout(Duration::MAX),
            format!("work_timeout is {:?}: it must be more than zero and at most 24 h", Duration::MAX),
        ),
        (once().name(""), "name must have 1 to 256 bytes".to_owned()),
        (once().name("x".repeat(257)), "name must have 1 to 256 bytes".to_owned()),
    ];
    for (builder, text) in cases {
        assert_eq!(builder.spawn().unwrap_err().to_string(), text);
    }
    let text = "restart needs a factory that makes each life: spawn it with supervise_with";
    assert_eq!(once().restart(restart(SECOND, 0.0, HOUR)).spawn().unwrap_err().to_string(), text);
    let error = made().restart(restart(zero, 0.0, HOUR)).spawn().unwrap_err();
    assert_eq!(error.to_string(), format!("Backoff::first is 0ns: {backoff}"));
    let error = made().restart(restart(SECOND, 1.5, HOUR)).spawn().unwrap_err();
    assert_eq!(error.to_string(), format!("Backoff::jitter is 1.5: {backoff}"));
    let error = made().restart(restart(SECOND, 0.0, zero)).spawn().unwrap_err();
    assert_eq!(error.to_string(), "the time of FailureWindow must be more than zero and at most 24 h");
}

#[tokio::test(start_paused = true)]
async fn no_kept_transitions_and_the_smallest_capacity_are_no_faults() {
    let (builder, _jobs) = with_hands(Script::default());
    let machine = builder.capacity(1).trace(0).spawn().unwrap();
    for state in 1..5 {
        machine.send(Do::Move(state)).await.unwrap();
    }
    assert_eq!(machine.ask(Do::Nothing).await.unwrap(), 4);
    assert!(machine.transitions().is_empty());
}

/// A machine without commands.
#[derive(Debug, Default)]
struct Plain {
    state: u32,
    timeout: Option<Duration>,
    panics_in_state: bool,
}

/// An event whose text is app code that panics.
struct Unprintable(bool);

impl fmt::Debug for Unprintable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!self.0, "no text");
        f.write_str("Unprintable")
    }
}

impl Machine for Plain {
    type State = u32;
    type Event = Unprintable;
    type Command = Infallible;

    fn state(&self) -> u32 {
        assert!(!self.panics_in_state, "no state");
        self.state
    }

    fn handle(&mut self, _: Unprintable, _: &mut Out<Infallible>) -> Reaction<Unprintable> {
        self.state += 1;
        Reaction::Moved
    }

    fn timeout(&self) -> Option<(Duration, Unprintable)> {
        self.timeout.map(|after| (after, Unprintable(false)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_beside_a_factory_is_an_error_with_and_without_a_restart() {
    struct Idle;
    impl Worker<Plain> for Idle {
        async fn run(&mut self, _: Infallible) -> Result<Option<Unprintable>, DynError> {
            Ok(None)
        }
    }
    let builder = || supervise_with(|| (Plain::default(), NoWorker)).worker(Idle);
    for builder in [builder(), builder().restart(restart(SECOND, 0.0, HOUR))] {
        assert_eq!(builder.spawn().unwrap_err(), SuperviseError::TwoWorkers);
    }
}

#[test]
fn a_spawn_without_a_tokio_runtime_is_an_error() {
    let error = supervise(Plain::default()).spawn().unwrap_err();
    assert_eq!(error, SuperviseError::NoTokioRuntime);
    assert_eq!(error.to_string(), "there is no tokio runtime here: call spawn inside one");
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_there_is_a_task_is_an_error_of_spawn() {
    let fails = |panics: bool| -> (Plain, NoWorker) {
        assert!(!panics, "no machine");
        (Plain { panics_in_state: true, ..Plain::default() }, NoWorker)
    };
    let text = |panics| supervise_with(move || fails(panics)).spawn().unwrap_err().to_string();
    assert_eq!(text(true), "the factory panicked: no machine");
    assert_eq!(text(false), "Machine::state panicked: no state");
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_panics_for_a_new_life_is_a_failure_of_that_life() {
    let mut calls = 0;
    let factory = move || {
        calls += 1;
        assert!(calls == 1 || calls > 3, "call {calls}");
        (Script { state: calls, ..Script::default() }, Hands::new().0)
    };
    let machine = supervise_with(factory).restart(restart(SECOND, 0.0, HOUR)).spawn().unwrap();
    machine.send(Do::Panic).await.unwrap();
    reached(&machine, 4).await;
    // One more than the window tolerates.
    machine.send(Do::Panic).await.unwrap();
    let mut watch = machine.watch();
    let poison = loop {
        if let watchkeeper::supervise::Condition::Poisoned(failure) = machine.condition() {
            break failure;
        }
        watch.changed().await.unwrap();
    };
    assert_eq!(poison.kind(), FailureKind::MachinePanicked);
    let states: Vec<u32> = machine.transitions().iter().map(|transition| transition.to).collect();
    assert_eq!(states, [4]);
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_always_panics_poisons_and_the_end_names_it() {
    let mut calls = 0;
    let factory = move || {
        calls += 1;
        assert!(calls == 1, "call {calls}");
        (Script::default(), Hands::new().0)
    };
    let machine = supervise_with(factory).restart(restart(SECOND, 0.0, HOUR)).spawn().unwrap();
    let watch = machine.watch();
    machine.send(Do::Panic).await.unwrap();
    drop(machine);
    assert_eq!(watch.ended().await.to_string(), "panicked: the factory panicked: call 4");
}

/// Blocks its thread until the test drops the other end.
struct Blocks(Sender<()>, Receiver<()>);

impl Worker<Script> for Blocks {
    async fn run(&mut self, _: Job) -> Result<Option<Do>, DynError> {
        let _ = self.0.send(());
        let _ = self.1.recv();
        Ok(Some(Do::Done(7)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_worker_blocks_its_thread_is_detached() {
    let (began, begun) = channel();
    let machines = [(); 2].map(|()| {
        let (release, released) = channel::<()>();
        let script = Script { start: vec![Job::Hang], ..Script::default() };
        let worker = Blocks(began.clone(), released);
        (supervise(script).worker(worker).drain(Duration::from_millis(1)).spawn().unwrap(), release)
    });
    for _ in &machines {
        begun.recv().unwrap();
    }
    let [(stopped, _), (aborted, _)] = &machines;
    // The ask is sent before the stop closes the channel.
    let (asked, ends) =
        tokio::join!(stopped.ask(Do::Nothing), async { tokio::join!(stopped.stop(), aborted.abort()) });
    assert!(matches!(ends, (Outcome::Detached, Outcome::Detached)), "{ends:?}");
    assert!(matches!(asked, Err(AskError::Ended(Outcome::Detached))), "{asked:?}");
    let text = "detached: app code blocks its thread (run blocking work in tokio::task::spawn_blocking)";
    assert_eq!(ends.0.to_string(), text);
    let error = stopped.try_send(Do::Nothing).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Nothing was not sent: the machine has ended ({text}): spawn another one")
    );
    // Once they are released, nothing more is published.
    let handles = machines.map(|(machine, release)| {
        drop(release);
        machine
    });
    for machine in handles {
        assert!(matches!(machine.ended().await, Outcome::Detached));
        assert_eq!(machine.state(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_for_an_ended_or_poisoned_machine_is_given_back() {
    let machine = spawned(Script::default());
    machine.send(Do::Finish).await.unwrap();
    machine.ended().await;
    let ended = "Move was not sent: the machine has ended (finished): spawn another one";
    assert_eq!(machine.try_send(Do::Move(1)).unwrap_err().to_string(), ended);
    let error = machine.send(Do::Move(1)).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.event), (ended, Do::Move(1)));
    assert_eq!(machine.ask(Do::Move(1)).await.unwrap_err().to_string(), ended);

    let restart = Restart::on_failure(
        Delays::new(Backoff { first: SECOND, max: SECOND, jitter: 0.0, seed: 1 }),
        FailureWindow::new(0, HOUR),
    );
    let made = supervise_with(|| (Script::default(), Hands::new().0)).restart(restart).capacity(1);
    let machine = made.spawn().unwrap();
    machine.send(Do::Panic).await.unwrap();
    let mut watch = machine.watch();
    watch.changed().await.unwrap();
    let poisoned = "Move was not sent: the machine is poisoned, call unpoison or restart; its last failure: \
                    Machine::handle panicked: asked to panic";
    assert_eq!(machine.try_send(Do::Move(1)).unwrap_err().to_string(), poisoned);
    assert_eq!(machine.send(Do::Move(1)).await.unwrap_err().to_string(), poisoned);
    assert_eq!(machine.ask(Do::Move(1)).await.unwrap_err().to_string(), poisoned);
    machine.unpoison().unwrap();
    assert!(matches!(watch.changed().await, Ok(0)));
    assert_eq!(machine.ask(Do::Move(1)).await.unwrap(), 1, "no room was lost");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_room_gets_its_event_back_when_the_machine_is_poisoned_or_ends() {
    for poisons in [true, false] {
        let restart = Restart::on_failure(
            Delays::new(Backoff { first: SECOND, max: SECOND, jitter: 0.0, seed: 1 }),
            FailureWindow::new(0, HOUR),
        );
        let script = || Script { while_busy: watchkeeper::supervise::WhileBusy::Hold, ..Script::default() };
        let made = supervise_with(move || (script(), Hands::new().0)).capacity(1);
        let made = if poisons { made.restart(restart) } else { made };
        let machine = made.spawn().unwrap();
        machine.send(Do::Run(1, vec![Job::Sleep(SECOND), Job::Fail("no")])).await.unwrap();
        reached(&machine, 1).await;
        machine.send(Do::Move(2)).await.unwrap();
        let error = machine.send(Do::Move(3)).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.event, Do::Move(3));
        assert_eq!(text.contains("poisoned"), poisons, "{text}");
        assert_eq!(text.contains("has ended (failed: Fail: no)"), !poisons, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_of_zero_comes_after_the_events_that_wait_already() {
    let (script, mut heard) = Script { timeouts: [(0, Duration::ZERO)].into(), ..Script::default() }.heard();
    let began = Instant::now();
    let machine = spawned(script);
    machine.try_send(Do::Nothing).unwrap();
    machine.try_send(Do::Nothing).unwrap();
    reached(&machine, 100).await;
    assert_eq!(drained(&mut heard), [Do::Nothing, Do::Nothing, Do::TimedOut]);
    assert_eq!(entered(&machine, began), [(0, 100)]);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_too_far_to_come_is_no_fault() {
    let machine = spawned(Script { timeout: Some(Duration::MAX), ..Script::default() });
    sleep(24 * HOUR).await;
    assert_eq!(machine.ask(Do::Move(1)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_moves_for_ever_fails_and_names_the_fix() {
    let machine = supervise(Plain { timeout: Some(Duration::ZERO), ..Plain::default() }).spawn().unwrap();
    let outcome = machine.ended().await;
    assert_eq!(outcome.failure().unwrap().kind(), FailureKind::Spins);
    let text = "failed: 1001 time-outs of zero in succession, the last in 1000: give the time-out a duration, or finish";
    assert_eq!(outcome.to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn many_timeouts_of_zero_with_events_between_them_are_no_fault() {
    let machine = spawned(Script { timeouts: [(0, Duration::ZERO)].into(), ..Script::default() });
    for _ in 0..1100 {
        reached(&machine, 100).await;
        assert_eq!(machine.ask(Do::Move(0)).await.unwrap(), 0);
    }
    assert!(machine.outcome().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_moves_for_ever_beside_its_work_fails_too() {
    let script = Script { timeout: Some(Duration::ZERO), start: vec![Job::Hang], ..Script::default() };
    let outcome = spawned(script).ended().await;
    assert_eq!(outcome.failure().unwrap().kind(), FailureKind::Spins, "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_text_panics_has_no_name_and_is_judged() {
    let machine = supervise(Plain::default()).spawn().unwrap();
    assert_eq!(machine.ask(Unprintable(false)).await.unwrap(), 1);
    assert_eq!(machine.ask(Unprintable(true)).await.unwrap(), 2);
    let names: Vec<String> =
        machine.transitions().iter().map(|transition| transition.event.to_string()).collect();
    assert_eq!(names, ["Unprintable", "(unnamed)"]);
}

#[tokio::test(start_paused = true)]
async fn an_unhandled_event_that_is_fatal_names_the_event_the_state_and_the_fix() {
    let (builder, _jobs) = with_hands(Script::default());
    let machine = builder.unhandled(UnhandledEvents::Fatal).spawn().unwrap();
    machine.send(Do::Move(3)).await.unwrap();
    let error = machine.ask(Do::Unhandled).await.unwrap_err();
    assert!(matches!(error, AskError::Unhandled(Do::Unhandled)));
    let text = "failed: Unhandled is unhandled in 3: handle it there, defer it, or let the builder reject such events";
    assert_eq!(machine.ended().await.to_string(), text);
}
