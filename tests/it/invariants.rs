//! A condition that is watched while a test runs.

use std::sync::mpsc;

use tokio::time::{Instant, timeout};
use watchkeeper::group::ObservationGroup;
use watchkeeper::runtime::StopReason;
use watchkeeper::wait::{Inconclusive, Invariant, Unmet, UnmetOutcome};
use watchkeeper::{ObservationConfig, ObservationHandle};

use crate::common::threads::{Flavour, Tally, block_on, executor};
use crate::common::{Act, App, Call, at, each_second, ms};

/// Watches that fewer polls than this have succeeded.
fn fewer_than(limit: u64, handle: &ObservationHandle<App>) -> Invariant {
    handle.invariant("few polls", move |seen| seen.polls < limit)
}

//   0 s    1 s   2 s        3 s ... 9.5 s
//   made   ok    violated   not read until it is collected
#[tokio::test(start_paused = true)]
async fn the_first_violation_is_pinned_while_the_test_does_other_things() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("down")]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let invariant = fewer_than(2, &runtime.handle());
    assert_eq!(invariant.label(), "few polls");
    at(start, 2_500).await;
    assert!(invariant.violation().is_none(), "one poll has succeeded");
    at(start, 3_500).await;
    let pinned = invariant.violation().unwrap();
    assert_eq!(pinned.first_violation(), Some(3));
    at(start, 9_500).await;
    let awaited = timeout(ms(0), invariant.violated()).await.unwrap();
    let collected = invariant.finish().await.unwrap_err();
    assert_eq!(start.elapsed(), ms(9_500));
    let report = r#"violated: "few polls"
  first violation at +3.000s, in cycle 3:
    View {
        polls: 2,
        sources: [
            "a",
        ],
    }
  judged 2; that was the last snapshot
  changes
    +1.000s polls: 0 -> 1
    +3.000s polls: 1 -> 2
  freshness: fresh
  lifecycle
    +0.000s idle, cycle 0
    +1.000s cycle 1 succeeded
    +2.000s cycle 2 failed in poll: down
    +3.000s cycle 3 succeeded
    +3.000s idle, cycle 3
  sources: a"#;
    for (name, unmet) in [("pinned", pinned), ("awaited", awaited), ("collected", collected)] {
        assert_eq!(unmet.to_string(), report, "{name}");
        assert_eq!((unmet.outcome(), unmet.window()), (UnmetOutcome::Violated, None), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_may_wait_for_the_violation() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let (violated, held) = (fewer_than(2, &runtime.handle()), fewer_than(9, &runtime.handle()));
    let unmet = tokio::select! {
        unmet = violated.violated() => unmet,
        unmet = held.violated() => panic!("{unmet}"),
    };
    assert_eq!((unmet.first_violation(), start.elapsed()), (Some(2), ms(2_000)));
    assert!(timeout(ms(2_500), held.violated()).await.is_err(), "for ever, if there is none");
    assert_eq!(held.finish().await.unwrap().judged, 4);
}

#[tokio::test(start_paused = true)]
async fn what_was_published_up_to_the_end_is_judged() {
    // (the limit, collected at; how often it was judged, or the first violation)
    let cases = [(9, 2_500, Ok(2)), (9, 999, Err(None)), (3, 3_001, Err(Some(3)))];
    for (limit, collected, expected) in cases {
        let runtime = App::new().start(each_second()).await;
        let start = Instant::now();
        let invariant = fewer_than(limit, &runtime.handle());
        at(start, collected).await;
        let ended = invariant.finish().await;
        let ended = ended.map(|held| held.judged).map_err(|unmet| unmet.first_violation());
        assert_eq!(ended, expected, "limit {limit}, collected at {collected} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_judged_proves_nothing() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let at_once = fewer_than(9, &runtime.handle());
    let hung = fewer_than(9, &runtime.handle());
    let nothing = UnmetOutcome::Inconclusive(Inconclusive::NothingObserved);
    assert_eq!(at_once.finish().await.unwrap_err().outcome(), nothing);
    at(start, 5_500).await;
    let unmet = hung.finish().await.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.judged()), (nothing, 0));
}

/// It outlives what it watches: the end is no violation, and no doubt.
#[tokio::test(start_paused = true)]
async fn it_has_held_until_the_runtime_ended() {
    // (stopped at; how often it was judged)
    for (stopped, judged) in [(2_500, Some(2)), (500, None)] {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let invariant = fewer_than(9, &runtime.handle());
        at(start, stopped).await;
        let _ = runtime.stop().await;
        at(start, 9_500).await;
        assert!(invariant.violation().is_none());
        let ended = invariant.finish().await.map(|held| held.judged);
        assert_eq!(ended.ok(), judged, "stopped at {stopped} ms");
    }
}

/// Data that is stale while the test ends is no doubt either: what it judged has held.
#[tokio::test(start_paused = true)]
async fn it_is_collected_while_a_poll_hangs() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let invariant = fewer_than(9, &runtime.handle());
    at(start, 8_500).await;
    assert!(runtime.handle().freshness().is_stale());
    assert_eq!(invariant.finish().await.unwrap().judged, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_predicate_is_reported_at_once() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let invariant = runtime.handle().invariant("that is fine", |seen| {
        assert!(seen.polls < 2, "scripted panic of a predicate");
        true
    });
    at(start, 1_500).await;
    assert!(invariant.violation().is_none());
    let unmet = invariant.violated().await;
    assert_eq!(start.elapsed(), ms(2_000));
    assert_eq!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::Panicked));
    let report = unmet.to_string();
    assert!(report.contains("  app code panicked: scripted panic of a predicate\n"), "{report}");
    assert_eq!(invariant.finish().await.unwrap_err().to_string(), report);
    assert_eq!(runtime.handle().latest_snapshot().unwrap().cycle, 2, "the runtime goes on");
}

/// The function that shows a snapshot is app code too.
#[tokio::test(start_paused = true)]
async fn a_violation_that_cannot_be_shown_keeps_its_report() {
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let invariant = handle.invariant_shown("never", |_| false, |_| panic!("scripted panic of a show"));
    let unmet = timeout(ms(5_000), invariant.violated()).await.expect("it is reported");
    assert_eq!((unmet.outcome(), unmet.first_violation()), (UnmetOutcome::Violated, Some(1)));
    let report = unmet.to_string();
    let expected = "violated: \"never\"\n  first violation at +1.000s, in cycle 1:\n    \
                    (showing it panicked: scripted panic of a show)\n  judged 1; that was the last snapshot\n  \
                    freshness: fresh\n  lifecycle\n";
    assert!(report.starts_with(expected), "{report}");
    assert_eq!(invariant.finish().await.unwrap_err().to_string(), report);
}

/// A predicate that takes longer than a cycle of its runtime: others have their turn, and the end comes.
#[test]
fn a_predicate_that_is_slower_than_the_runtime_ends_when_it_is_collected() {
    let executor =
        tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    executor.block_on(async {
        let config = ObservationConfig { interval: ms(1), ..each_second() };
        let runtime = App::new().start(config).await;
        let slow = runtime.handle().invariant("slowly", |_| {
            std::thread::sleep(ms(5));
            true
        });
        let wait = runtime.handle().eventually("the impossible", |_| {
            std::thread::sleep(ms(5));
            false
        });
        assert!(timeout(ms(200), wait.within(ms(60_000))).await.is_err(), "another future has its turn");
        // Whether it kept up depends on the machine.
        let collected = timeout(ms(30_000), slow.finish()).await.expect("it ends");
        let fell_behind = |unmet: &Unmet| {
            matches!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::FellBehind { .. }))
        };
        assert!(collected.as_ref().map_or_else(fell_behind, |held| held.judged > 0), "{collected:?}");
        let _ = runtime.stop().await;
    });
}

#[tokio::test(start_paused = true)]
async fn one_that_is_dropped_watches_no_more() {
    let (judged, polls) = mpsc::channel();
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let invariant = runtime.handle().invariant("watched", move |seen| {
        judged.send(seen.polls).unwrap();
        true
    });
    at(start, 2_500).await;
    drop(invariant);
    at(start, 5_500).await;
    assert_eq!(polls.iter().collect::<Vec<_>>(), [1, 2], "the predicate was dropped with it");
}

#[test]
fn an_executor_that_has_shut_down_leaves_it_open() {
    let executor = executor(Flavour::CurrentThread);
    let runtime = executor.block_on(Tally::default().start(4));
    let invariant = runtime.handle().invariant("never run", |_| true);
    drop(executor);
    let unmet = block_on(invariant.finish()).unwrap_err();
    let stopped = Inconclusive::Stopped { reason: StopReason::Shutdown };
    assert_eq!(unmet.outcome(), UnmetOutcome::Inconclusive(stopped));
    assert_eq!((unmet.label(), unmet.window(), unmet.judged()), ("never run", None, 0));
    let report = "inconclusive (the runtime has stopped: the executor shut down): \"never run\"\n  \
                  nothing else is known: the task that watched it is gone";
    assert_eq!(unmet.to_string(), report);
}

/// Snapshots that have no `Debug`, or too much of it, are shown by the app's own function.
#[tokio::test(start_paused = true)]
async fn the_app_may_show_what_violated() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let invariant = runtime.handle().invariant_shown(
        "one poll",
        |seen| seen.polls < 2,
        |seen| format!("{} polls", seen.polls),
    );
    at(start, 2_500).await;
    let report = invariant.finish().await.unwrap_err().to_string();
    assert!(report.contains("+2.000s, in cycle 2:\n    2 polls\n  judged 2;"), "{report}");
}

/// Several at once, collected with `?` at the end of a test.
#[tokio::test(start_paused = true)]
async fn many_are_collected_one_after_the_other() {
    async fn test(runtime: watchkeeper::ObservationRuntime<App>) -> Result<(), Unmet> {
        let handle = runtime.handle();
        let held = fewer_than(9, &handle);
        let violated = fewer_than(4, &handle);
        handle.eventually("five polls", |seen| seen.polls == 5).within(ms(9_000)).await?;
        held.finish().await?;
        violated.finish().await?;
        Ok(())
    }
    let unmet = test(App::new().start(each_second()).await).await.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.first_violation()), (UnmetOutcome::Violated, Some(4)));
}

#[tokio::test(start_paused = true)]
async fn a_handle_of_a_group_watches_as_well() {
    let group = ObservationGroup::new();
    let start = Instant::now();
    group.add_as("app", App::new().start(each_second()).await).unwrap();
    let handle = group.handle("app").unwrap();
    let held = handle.invariant("cycles ascend", |seen| seen.cycle() < 100);
    let violated =
        handle.invariant("few polls", |seen| seen.value::<crate::common::View>().unwrap().polls < 2);
    at(start, 4_500).await;
    assert_eq!(violated.violation().unwrap().first_violation(), Some(2));
    assert_eq!(held.finish().await.unwrap().judged, 4);
    assert_eq!(violated.finish().await.unwrap_err().outcome(), UnmetOutcome::Violated);
}

/// Panics when it is dropped.
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "scripted panic of a destructor");
    }
}

/// What the app's destructors do changes nothing about what was seen.
#[tokio::test(start_paused = true)]
async fn an_invariant_whose_destructors_panic_is_reported_as_it_ended() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let fewer_than = |limit: u64| {
        let (bad, worse) = (Bad, Bad);
        handle.invariant_shown(
            "few polls",
            move |seen| {
                let _held = &bad;
                seen.polls < limit
            },
            move |seen| {
                let _held = &worse;
                format!("{} polls", seen.polls)
            },
        )
    };
    let (held, violated) = (fewer_than(9), fewer_than(2));
    at(start, 2_500).await;
    assert_eq!(held.finish().await.unwrap().judged, 2);
    let unmet = violated.finish().await.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.first_violation()), (UnmetOutcome::Violated, Some(2)));
}
