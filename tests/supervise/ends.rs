//! How a machine ends: drains, aborts, dropped handles, and what readers get on each path.

use std::convert::Infallible;
use std::thread;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use watchkeeper::supervise::{
    Condition, Machine, MachineBuilder, NotSent, Out, Outcome, Reaction, WhileBusy, supervise,
};

use crate::common::{Do, HOUR, Hands, Job, SECOND, Script, drained, entered, reached, with_hands};

type Reports = mpsc::UnboundedReceiver<String>;

fn named(script: Script) -> (MachineBuilder<Script, Hands>, Reports) {
    let (hands, jobs) = Hands::new();
    (supervise(script).worker(hands.named("worker")), jobs)
}

#[tokio::test(start_paused = true)]
async fn the_end_is_the_same_for_every_reader_and_everything_is_dropped_before() {
    let fails = || vec![Job::Fail("no")];
    let cases = [
        ("finished", Script::default(), Some(Do::Finish)),
        ("failed: Fail: no", Script::default(), Some(Do::Run(1, fails()))),
        ("panicked: Machine::handle panicked: asked to panic", Script::default(), Some(Do::Panic)),
        ("failed: Fail: no", Script { start: fails(), ..Script::default() }, None),
        ("cancelled", Script { on_stop: Some(Do::Unhandled), ..Script::default() }, None),
    ];
    for (text, script, last) in cases {
        let (builder, mut jobs) = named(script);
        let machine = builder.spawn().unwrap();
        let (mut watch, other) = (machine.watch(), machine.watch());
        let wait = machine.wait_for("it never comes", |state| *state == 77).within(HOUR);
        if let Some(last) = last {
            machine.send(last).await.unwrap();
        } else if text == "cancelled" {
            machine.stop().await;
        }
        assert_eq!(other.ended().await.to_string(), text);
        let reports = drained(&mut jobs);
        assert_eq!(reports.last().unwrap(), "drop worker", "{text}");
        let end = loop {
            if let Err(end) = watch.changed().await {
                break end;
            }
        };
        assert_eq!(end.to_string(), text);
        assert_eq!(machine.outcome().unwrap().to_string(), text);
        assert!(matches!(machine.condition(), Condition::Ended(end) if end.to_string() == text));
        let unmet = wait.await.unwrap_err().to_string();
        assert!(unmet.contains(&format!("the machine has ended: {text}")), "{unmet}");
        assert_eq!(machine.stop().await.to_string(), text);
        assert_eq!(machine.abort().await.to_string(), text);
    }
}

#[test]
fn a_thread_with_a_watch_gets_the_end_when_the_tokio_runtime_is_shut_down() {
    for has_run in [true, false] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (builder, mut jobs) = named(Script::default());
        let (machine, mut watch) = {
            let _entered = runtime.enter();
            let machine = builder.spawn().unwrap();
            (machine.clone(), machine.watch())
        };
        if has_run {
            runtime.block_on(machine.ask(Do::Run(0, vec![Job::Hang]))).unwrap();
            runtime.block_on(watch.changed()).unwrap();
        }
        let waits = thread::spawn(move || {
            let own = tokio::runtime::Builder::new_current_thread().build().unwrap();
            own.block_on(watch.changed()).unwrap_err()
        });
        drop(runtime);
        let end = waits.join().unwrap();
        assert!(matches!(end, Outcome::Dropped), "{end}");
        let reports = drained(&mut jobs);
        let expected: &[&str] =
            if has_run { &["begin Hang", "end Hang", "drop worker"] } else { &["drop worker"] };
        assert_eq!(reports, expected);
        let text = "Nothing was not sent: the machine has ended (dropped: the tokio runtime was shut down): spawn \
                    another one";
        assert_eq!(machine.try_send(Do::Nothing).unwrap_err().to_string(), text);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_without_a_drain_drops_the_work_and_judges_nothing_more() {
    let (script, mut heard) = Script { while_busy: WhileBusy::Hold, ..Script::default() }.heard();
    let (builder, mut jobs) = named(script);
    let machine = builder.spawn().unwrap();
    machine.ask(Do::Run(1, vec![Job::Hang, Job::Quiet])).await.unwrap();
    machine.send(Do::Move(2)).await.unwrap();
    assert!(machine.stop().await.is_cancelled());
    assert_eq!(drained(&mut jobs), ["begin Hang", "end Hang", "drop worker"]);
    assert_eq!(drained(&mut heard).len(), 1);
    assert_eq!(machine.state(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_work_and_accepted_events_come_and_ends_when_the_machine_finishes() {
    let goodbye = vec![Job::Return(8), Job::Event(Box::new(Do::Finish))];
    let on_stop = Some(Do::Run(900, goodbye));
    let (script, mut heard) = Script { on_stop, while_busy: WhileBusy::Hold, ..Script::default() }.heard();
    let (builder, _jobs) = named(script);
    let machine = builder.spawn().unwrap();
    let began = Instant::now();
    machine.ask(Do::Run(1, vec![Job::Sleep(SECOND), Job::Return(2)])).await.unwrap();
    machine.send(Do::Move(3)).await.unwrap();
    let stop = tokio::spawn({
        let machine = machine.clone();
        async move { machine.stop().await }
    });
    reached(&machine, 900).await;
    for refused in [machine.try_send(Do::Move(4)), machine.send(Do::Move(4)).await] {
        assert!(matches!(refused.unwrap_err().reason, NotSent::Stopping));
    }
    assert!(stop.await.unwrap().is_finished());
    assert_eq!(entered(&machine, began)[1..], [(0, 900), (1000, 2), (1000, 3), (1000, 8), (1000, 8)]);
    assert_eq!(drained(&mut heard).last().unwrap(), &Do::Finish);
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_does_not_end_is_cancelled_at_its_deadline_also_with_work_in_flight() {
    for start in [vec![], vec![Job::Hang]] {
        let (builder, _jobs) = named(Script { start, on_stop: Some(Do::Stop), ..Script::default() });
        let machine = builder.drain(3 * SECOND).spawn().unwrap();
        let began = Instant::now();
        assert!(machine.stop().await.is_cancelled());
        assert_eq!(began.elapsed(), 3 * SECOND);
        assert_eq!(machine.state(), 900);
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_handle_the_stop_is_cancelled_at_once() {
    let (builder, _jobs) = named(Script { on_stop: Some(Do::Unhandled), ..Script::default() });
    let machine = builder.spawn().unwrap();
    let began = Instant::now();
    assert!(machine.stop().await.is_cancelled());
    assert_eq!(began.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_abort_ends_a_drain_and_each_stop_and_abort_returns_the_same_end_twice() {
    let (builder, _jobs) =
        named(Script { on_stop: Some(Do::Stop), start: vec![Job::Hang], ..Script::default() });
    let machine = builder.drain(HOUR).spawn().unwrap();
    let began = Instant::now();
    let stops = [(); 2].map(|()| {
        let machine = machine.clone();
        tokio::spawn(async move { machine.stop().await })
    });
    reached(&machine, 900).await;
    sleep(SECOND).await;
    let (first, second) = tokio::join!(machine.abort(), machine.abort());
    assert!(first.is_cancelled() && second.is_cancelled());
    for stop in stops {
        assert!(stop.await.unwrap().is_cancelled());
    }
    assert!(machine.abort().await.is_cancelled());
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_of_stop_has_asked_for_it_all_the_same() {
    let (builder, _jobs) = named(Script { on_stop: Some(Do::Stop), ..Script::default() });
    let machine = builder.drain(10 * SECOND).spawn().unwrap();
    assert!(tokio::time::timeout(SECOND, machine.stop()).await.is_err());
    let began = Instant::now();
    assert!(machine.ended().await.is_cancelled());
    assert_eq!(began.elapsed(), 9 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn with_all_handles_dropped_work_runs_to_its_end_at_most_for_the_drain() {
    for (work, takes, last) in [(SECOND, SECOND, 2), (HOUR, 3 * SECOND, 0)] {
        let (builder, mut jobs) =
            named(Script { start: vec![Job::Sleep(work), Job::Return(2)], ..Script::default() });
        let machine = builder.drain(3 * SECOND).spawn().unwrap();
        let watch = machine.watch();
        let began = Instant::now();
        drop(machine);
        assert!(watch.ended().await.is_finished());
        assert_eq!((began.elapsed(), watch.state()), (takes, last));
        assert_eq!(drained(&mut jobs).last().unwrap(), "drop worker");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_judges_the_drop_of_all_handles_after_the_events_before_it() {
    let goodbye = Do::Run(5, vec![Job::Sleep(HOUR), Job::Event(Box::new(Do::Finish))]);
    let (script, mut heard) =
        Script { on_abandoned: Some(goodbye.clone()), while_busy: WhileBusy::Hold, ..Script::default() }
            .heard();
    let (builder, _jobs) = named(script);
    let machine = builder.drain(SECOND).spawn().unwrap();
    let watch = machine.watch();
    let work = Do::Run(1, vec![Job::Sleep(SECOND)]);
    machine.send(work.clone()).await.unwrap();
    machine.send(Do::Move(2)).await.unwrap();
    drop(machine);
    assert!(watch.ended().await.is_finished());
    assert_eq!(drained(&mut heard), [work, Do::Move(2), goodbye, Do::Finish]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_handle_the_drop_of_all_handles_finishes_as_if_it_had_no_event_for_it() {
    for start in [vec![], vec![Job::Sleep(SECOND), Job::Return(2)]] {
        let last = if start.is_empty() { 0 } else { 2 };
        let (builder, _jobs) =
            named(Script { start, on_abandoned: Some(Do::Unhandled), ..Script::default() });
        let machine = builder.spawn().unwrap();
        let watch = machine.watch();
        drop(machine);
        let end = tokio::time::timeout(HOUR, watch.ended()).await.expect("nobody else can end it");
        assert!(end.is_finished());
        assert_eq!(watch.state(), last);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_judged_after_the_event_that_finishes() {
    let on_abandoned = Some(Do::Abandoned);
    let (script, mut heard) = Script { on_abandoned, ..Script::default() }.heard();
    let (builder, _jobs) = named(script);
    let machine = builder.spawn().unwrap();
    let watch = machine.watch();
    machine.send(Do::Finish).await.unwrap();
    machine.send(Do::Move(1)).await.unwrap();
    drop(machine);
    assert!(watch.ended().await.is_finished());
    assert_eq!(drained(&mut heard), [Do::Finish]);
}

/// Cancels its parent with the event that finishes it.
struct StopsItself(CancellationToken, mpsc::UnboundedSender<&'static str>);

impl Machine for StopsItself {
    type State = ();
    type Event = &'static str;
    type Command = Infallible;

    fn state(&self) {}

    fn handle(&mut self, event: &'static str, out: &mut Out<Infallible>) -> Reaction<&'static str> {
        let _ = self.1.send(event);
        if event == "finish" {
            self.0.cancel();
            out.finish();
        }
        Reaction::Stayed
    }

    fn on_stop(&self) -> Option<&'static str> {
        Some("stop")
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_after_the_event_that_finishes_is_not_judged() {
    let (sender, mut heard) = mpsc::unbounded_channel();
    let parent = CancellationToken::new();
    let machine = supervise(StopsItself(parent.clone(), sender)).parent(parent).spawn().unwrap();
    machine.ask("first").await.unwrap();
    tokio::task::yield_now().await;
    machine.send("finish").await.unwrap();
    assert!(machine.ended().await.is_finished());
    assert_eq!(drained(&mut heard), ["first", "finish"]);
}

#[tokio::test(start_paused = true)]
async fn finishing_drops_work_in_flight_and_waiting_commands() {
    let (builder, mut jobs) = with_hands(Script::default());
    let machine = builder.spawn().unwrap();
    machine.ask(Do::Run(1, vec![Job::Hang, Job::Quiet])).await.unwrap();
    assert_eq!(machine.ask(Do::Finish).await.unwrap(), 1, "an ask of the last event has its answer");
    assert!(machine.ended().await.is_finished());
    assert_eq!(drained(&mut jobs), ["begin Hang", "end Hang"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_goes_on_when_all_handles_are_dropped() {
    let (builder, _jobs) = named(Script { on_stop: Some(Do::Stop), ..Script::default() });
    let machine = builder.drain(10 * SECOND).spawn().unwrap();
    let watch = machine.watch();
    let began = Instant::now();
    assert!(tokio::time::timeout(SECOND, machine.stop()).await.is_err());
    assert!(matches!(watch.condition(), Condition::Stopping));
    drop(machine);
    assert!(watch.ended().await.is_cancelled());
    assert_eq!(began.elapsed(), 10 * SECOND);
}
