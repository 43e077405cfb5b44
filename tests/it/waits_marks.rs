//! Marks older and younger than their wait, and several of them: the last one counts, and it alone.

use tokio::time::Instant;
use watchkeeper::ObservationConfig;
use watchkeeper::runtime::{StateKind, StopReason};
use watchkeeper::wait::{Inconclusive, InvalidWait, UnmetOutcome};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, at, each_second, ms};

/// Each poll finds its number.
fn numbered() -> App {
    let app = App::new();
    app.then(Call::Poll, (1..=2_000).map(|n| Act::Ok(vec![n])));
    app
}

//   0.5 s   1 s   2 s   2.5 s   3 s
//   made    1     2     mark    3
#[tokio::test(start_paused = true)]
async fn a_mark_that_is_younger_than_its_wait() {
    // History holds one batch: nothing before the mark is lost.
    for history_limit in [0, 1, 64] {
        let start = Instant::now();
        let runtime = numbered().start(ObservationConfig { history_limit, ..each_second() }).await;
        let handle = runtime.handle();
        at(start, 500).await;
        let (event, none) = (handle.event("any", |_| true), handle.event("none", |_| false));
        let snapshot = handle.eventually("any", |_| true);
        let idle = handle.reaches(StateKind::Idle);
        at(start, 2_500).await;
        let mark = handle.mark();
        let (event, none, snapshot, idle) = tokio::join!(
            event.after(mark).within(ms(9_000)),
            none.after(mark).within(ms(4_000)),
            snapshot.after(mark).within(ms(9_000)),
            idle.after(mark).within(ms(9_000)),
        );
        assert_eq!((*event.unwrap().event(), snapshot.unwrap().cycle, idle.unwrap().cycle), (3, 3, 3));
        let none = none.unwrap_err();
        assert_eq!(none.outcome(), UnmetOutcome::NotMet, "history of {history_limit}: {none}");
        assert_eq!(start.elapsed(), ms(4_500), "the window begins with the wait");
    }
}

/// What the queue could not hold lies before the mark, too.
#[tokio::test(start_paused = true)]
async fn what_was_missed_before_the_mark_does_not_count() {
    let start = Instant::now();
    let runtime = numbered().start(each_second()).await;
    let handle = runtime.handle();
    let (late, early) = (handle.event("none", |_| false), handle.event("none", |_| false));
    let now = handle.event("none", |_| false);
    at(start, 400_500).await;
    let mark = handle.mark();
    let late = late.after(mark).within(ms(405_000)).await.unwrap_err();
    assert_eq!((late.outcome(), late.judged()), (UnmetOutcome::NotMet, 4), "{late}");
    // With a mark amid the missed publications some of them count, and without a mark all.
    for (name, unmet) in [
        ("a mark of now, given up", early.after(mark).or_now().within(ms(401_000)).await.unwrap_err()),
        ("without a mark", now.within(ms(401_000)).await.unwrap_err()),
    ] {
        let outcome = unmet.outcome();
        assert!(matches!(outcome, UnmetOutcome::Inconclusive(_)), "{name}: {outcome}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_starts_the_last_one_counts() {
    let start = Instant::now();
    let runtime = numbered().start(each_second()).await;
    let handle = runtime.handle();
    let other = App::new().start(each_second()).await.handle().mark();
    let first = handle.mark();
    at(start, 2_500).await;
    let second = handle.mark();
    at(start, 4_500).await;
    let mut judged = Vec::new();
    let wait = handle.event("six", |event| {
        judged.push(*event);
        *event == 6
    });
    wait.after(first).after(first).within(ms(9_000)).await.unwrap();
    assert_eq!(judged, [1, 2, 3, 4, 5, 6], "each once");

    let first_event =
        |wait: watchkeeper::wait::WaitBuilder<'static, App, watchkeeper::wait::ObservedEvent<u64>>| async {
            *wait.within(ms(60_000)).await.unwrap().event()
        };
    let any = || handle.event("any", |_| true);
    assert_eq!(first_event(any().after(first).after(second)).await, 3);
    assert_eq!(first_event(any().after(second).after(first)).await, 1);
    assert_eq!(first_event(any().or_now().after(second)).await, 3);
    assert_eq!(first_event(any().after(first).or_now()).await, 7, "an event is no present state");
    assert_eq!(first_event(any().after(other).after(second)).await, 3);
    assert_eq!(first_event(any().after(other).or_now()).await, 8);

    let now = poll_once(handle.eventually("any", |_| true).after(handle.mark()).or_now().within(ms(1)));
    assert!(now.is_ready(), "the present snapshot");
    let foreign = any().after(second).after(other).within(ms(1_000)).await.unwrap_err();
    assert_eq!(foreign.outcome(), UnmetOutcome::Invalid(InvalidWait::ForeignMark));
}

/// A mark from before everything the history holds: a dropped batch may have had the event, and is counted once.
#[tokio::test(start_paused = true)]
async fn a_mark_that_is_older_than_the_history() {
    let start = Instant::now();
    let runtime = numbered().start(ObservationConfig { history_limit: 2, ..each_second() }).await;
    let handle = runtime.handle();
    let mark = handle.mark();
    at(start, 4_500).await;
    let wait = handle.event("none", |_| false).after(mark).after(mark);
    let unmet = wait.within(ms(1_000)).await.unwrap_err();
    let gone = Inconclusive::FellBehind { missed: 2 };
    assert_eq!(unmet.outcome(), UnmetOutcome::Inconclusive(gone));
}

/// All that came up to the end is judged before the end is.
#[tokio::test(start_paused = true)]
async fn an_event_between_the_mark_and_the_end_is_found_after_the_end() {
    let start = Instant::now();
    let runtime = numbered().start(each_second()).await;
    let handle = runtime.handle();
    let mark = handle.mark();
    at(start, 3_500).await;
    let _ = runtime.stop().await;
    let event = handle.event("three", |event| *event == 3).after(mark).within(ms(1_000)).await.unwrap();
    assert_eq!(*event.event(), 3);
    let reason = StopReason::Requested;
    let stopped = UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason });
    let unmet = handle.event("four", |event| *event == 4).after(mark).within(ms(1_000)).await.unwrap_err();
    assert_eq!(unmet.outcome(), stopped);
}
