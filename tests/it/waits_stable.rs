//! A value that stays the same for a while.

use std::task::Poll;

use tokio::time::Instant;
use watchkeeper::wait::{Inconclusive, InvalidWait, UnmetOutcome};
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, at, each_second, ms};

type Case = (&'static str, &'static [Option<u8>], u64, Option<u64>);

/// What a snapshot shows by its number of polls, 1 first; after the last, always 0.
fn shows(values: &'static [Option<u8>]) -> impl FnMut(&crate::common::View) -> Option<u8> {
    move |seen| {
        usize::try_from(seen.polls - 1).ok().map_or(Some(0), |nth| *values.get(nth).unwrap_or(&Some(0)))
    }
}

//   0 s    1 s   2 s   3 s   4 s   5 s   6 s
//   made   a     a     a     b     b     b      two seconds: met at 3 s
//          a     b     b     b                  met at 4 s
//          a     -     a     a     a            met at 5 s
#[tokio::test(start_paused = true)]
async fn it_is_met_when_one_value_was_seen_for_long_enough() {
    const A: Option<u8> = Some(1);
    const B: Option<u8> = Some(2);
    const NOTHING: &[Option<u8>] = &[None; 30];
    // (what is shown, hold; the cycle that meets it)
    let cases: [Case; 8] = [
        ("the same from the first on", &[A, A, A, B], 2_000, Some(3)),
        ("a millisecond longer", &[A, A, A, A, B], 2_001, Some(4)),
        ("a change starts over", &[A, B, B, B], 2_000, Some(4)),
        ("a change back starts over", &[A, A, B, A, A, A], 2_000, Some(6)),
        ("a gap starts over", &[A, None, A, A, A], 2_000, Some(5)),
        ("nothing is never stable", NOTHING, 2_000, None),
        ("it changes each time", &[A, B, A, B, A, B, A, B, A, B, A, B, A], 1_000, None),
        ("nearly as long as the window", &[A; 20], 10_000, None),
    ];
    for (name, values, hold, expected) in cases {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let wait = runtime.handle().stable_for("the same", ms(hold), shows(values)).within(ms(10_500));
        match (wait.await, expected) {
            (Ok(met), Some(cycle)) => {
                assert_eq!((met.cycle, start.elapsed()), (cycle, ms(cycle * 1_000)), "{name}");
            }
            (Err(unmet), None) => {
                assert_eq!((unmet.outcome(), unmet.judged()), (UnmetOutcome::NotMet, 10), "{name}");
            }
            (ended, _) => panic!("{name}: {ended:?}"),
        }
    }
}

/// Nobody knows what a source did while its data was stale.
#[tokio::test(start_paused = true)]
async fn a_gap_of_stale_data_starts_over() {
    // (what the second poll does; the cycle that meets it, and when)
    let cases = [
        ("fresh all the time", Act::slow(1_999), 2, 3_999),
        ("stale for an instant before each of the next two", Act::slow(2_000), 5, 7_000),
        ("stale when it came", Act::slow(3_000), 5, 8_000),
    ];
    for (name, second, cycle, millis) in cases {
        let app = App::new();
        app.then(Call::Poll, [Act::Ok(vec![]), second]);
        let start = Instant::now();
        let runtime = app.start(ObservationConfig { stale_after: Some(ms(3_000)), ..each_second() }).await;
        let wait = runtime.handle().stable_for("the same", ms(2_000), |_| Some(())).within(ms(20_000));
        let met = wait.await.unwrap();
        assert_eq!((met.cycle, start.elapsed().as_millis()), (cycle, millis), "{name}");
    }
}

/// A failed cycle is no gap while the data is fresh.
#[tokio::test(start_paused = true)]
async fn a_failed_cycle_in_between_is_no_change() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Err("down"), Act::Ok(vec![])]);
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().stable_for("the same", ms(2_000), |_| Some(())).within(ms(10_000));
    assert_eq!(wait.await.unwrap().cycle, 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_starts_over() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    // The first 341 cycles are queued; 176 publications are missed, and seconds later all is known again.
    let wait = runtime.handle().stable_for("the same", ms(500_000), |_| Some(())).within(ms(1_000_000));
    at(start, 400_500).await;
    let met = wait.await.unwrap();
    assert_eq!((met.cycle, start.elapsed()), (901, ms(901_000)), "a run that began with cycle 401");
}

/// It holds until the end as far as is known, and the data of the last publication that came is fresh.
#[tokio::test(start_paused = true)]
async fn what_was_missed_at_the_very_end_has_not_held() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    // The first 341 cycles are queued, and one publication of the next.
    let wait = runtime.handle().stable_for("the same", ms(341_000), |_| Some(())).within(ms(342_400));
    at(start, 342_500).await;
    let missed = UnmetOutcome::Inconclusive(Inconclusive::FellBehind { missed: 2 });
    assert_eq!(wait.await.unwrap_err().outcome(), missed);
}

#[tokio::test(start_paused = true)]
async fn the_window_that_would_do_is_named_up_to_the_longest() {
    const DAY: u64 = 24 * 3_600_000;
    let runtime = App::new().start(each_second()).await;
    for (hold, note) in [
        (DAY - 2_000, "a window of 86400s would do"),
        (DAY - 1_999, "no window would do: the longest is 86400s"),
    ] {
        let wait = runtime.handle().stable_for("the same", ms(hold), |_| Some(())).within(ms(hold));
        let Poll::Ready(Err(unmet)) = poll_once(wait) else { panic!("at once") };
        assert!(unmet.to_string().contains(note), "{unmet}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_makes_no_sense_is_refused_at_once() {
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    // (hold, window; what is wrong)
    let cases = [
        (0, 1_000, Some(InvalidWait::Hold)),
        (1_001, 1_000, Some(InvalidWait::Hold)),
        (1_000, 1_000, Some(InvalidWait::Hold)),
        (999, 1_000, None),
        (1_000, 0, Some(InvalidWait::Window)),
        (0, 0, Some(InvalidWait::Window)),
    ];
    for (hold, window, expected) in cases {
        let wait = handle.stable_for("the same", ms(hold), |_| Some(())).within(ms(window));
        let outcome = match poll_once(wait) {
            Poll::Ready(Err(unmet)) => Some(unmet.outcome()),
            Poll::Ready(Ok(met)) => panic!("met by {met:?}"),
            Poll::Pending => None,
        };
        assert_eq!(outcome, expected.map(UnmetOutcome::Invalid), "{hold} ms within {window} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn without_data_nothing_can_be_said() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().stable_for("the same", ms(1_000), |_| Some(())).within(ms(5_000));
    let nothing = UnmetOutcome::Inconclusive(Inconclusive::NothingObserved);
    assert_eq!(wait.await.unwrap_err().outcome(), nothing);
}

#[tokio::test(start_paused = true)]
async fn a_report_counts_the_changes() {
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().stable_for("as many polls", ms(2_000), |seen| Some(seen.polls / 2));
    let report = wait.within(ms(4_500)).await.unwrap_err().to_string();
    let expected = "not met in time: \"as many polls\" within 4.5s\n  \
                    to be the same for 2s; 3 runs of equal values began\n  judged 4;";
    assert!(report.starts_with(expected), "{report}");
}

//   0 s    1 s   2 s   3 s ...
//   made   a     a     a          the run is as long as it is to be when the window ends: between two cycles
#[tokio::test(start_paused = true)]
async fn a_run_that_is_long_enough_at_the_end_of_the_window_counts() {
    let hang = || vec![Act::Ok(vec![]), Act::Hang];
    // (what the polls do, hold, window; met at the end, or why not)
    let cases = [
        ("long enough", vec![], 2_500, 3_500, None),
        ("a millisecond too short", vec![], 2_501, 3_500, Some(UnmetOutcome::NotMet)),
        ("fresh until the very end", hang(), 2_900, 3_999, None),
        ("stale at the very end", hang(), 2_900, 4_000, Some(UnmetOutcome::NotMet)),
    ];
    for (name, polls, hold, window, expected) in cases {
        let app = App::new();
        app.then(Call::Poll, polls);
        let start = Instant::now();
        let runtime = app.start(ObservationConfig { stale_after: Some(ms(3_000)), ..each_second() }).await;
        let wait = runtime.handle().stable_for("the same", ms(hold), |_| Some(())).within(ms(window));
        let ended = wait.await.map(|_| ()).map_err(|unmet| unmet.outcome());
        assert_eq!(ended, expected.map_or(Ok(()), Err), "{name}");
        assert_eq!(start.elapsed(), ms(window), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_present_snapshot_may_be_the_same_for_the_whole_window() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let mark = handle.mark();
    at(start, 1_500).await;
    let whole = || handle.stable_for("the same", ms(2_300), |_| Some(()));
    let (now, after, later) = tokio::join!(
        whole().or_now().within(ms(2_300)),
        whole().after(mark).within(ms(2_300)),
        whole().after(handle.mark()).within(ms(2_300)),
    );
    assert_eq!((now.unwrap().cycle, after.unwrap().cycle), (3, 3));
    assert_eq!(later.unwrap_err().outcome(), UnmetOutcome::Invalid(InvalidWait::Hold));
    assert_eq!(start.elapsed(), ms(3_800));
}

/// A cycle that begins at the very moment of the mark counts, and so do its answers: for the refusal as for the verdict.
#[tokio::test(start_paused = true)]
async fn a_hold_as_long_as_the_window_is_not_refused_when_a_cycle_began_at_the_mark() {
    let probe = |_: ObservedSource<()>| async { Ok::<_, DynError>(7) };
    let start = Instant::now();
    let runtime =
        ObservationRuntime::start([("n1", ())], PerSource::new(probe), each_second()).await.unwrap();
    let handle = runtime.handle();
    at(start, 1_500).await;
    let mark = handle.mark();
    let polled = runtime.poll_now_and_wait().await.unwrap();
    assert_eq!((polled.observed_at, polled.cycle), (mark.at(), 2));
    let whole = handle.stable_for("the same", ms(2_000), |_| Some(())).after(mark).within(ms(2_000));
    assert_eq!(whole.await.unwrap().cycle, 4);
    assert_eq!(start.elapsed(), ms(3_500));
}

/// A snapshot from after the mark counts only once each source has answered or failed since: no run begins earlier.
#[tokio::test(start_paused = true)]
async fn a_hold_as_long_as_the_window_is_refused_while_a_source_is_not_heard() {
    async fn probe(source: ObservedSource<u64>) -> Result<u64, DynError> {
        tokio::time::sleep(ms(source.source)).await;
        Ok(0)
    }
    let start = Instant::now();
    let sources = [("quick", 0), ("slow", 800)];
    let observer = PerSource::new(probe).collect_for(ms(100));
    let runtime = ObservationRuntime::start(sources, observer, each_second()).await.unwrap();
    let handle = runtime.handle();
    at(start, 900).await;
    let mark = handle.mark();
    let whole = || handle.stable_for("the same", ms(2_000), |_| Some(())).after(mark).within(ms(2_000));
    at(start, 1_550).await;
    let unmet = whole().await.unwrap_err();
    assert_eq!(unmet.outcome(), UnmetOutcome::Invalid(InvalidWait::Hold), "{unmet}");
    at(start, 2_150).await;
    whole().await.unwrap();
}

/// What cannot be met is refused at once, with what would do; and that does.
#[tokio::test(start_paused = true)]
async fn a_hold_that_cannot_be_met_is_refused_with_a_window_that_would_do() {
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    for window in [1_000, 5_000] {
        let wait = handle.stable_for("the same", ms(5_000), |_| Some(())).within(ms(window));
        let Poll::Ready(Err(unmet)) = poll_once(wait) else { panic!("at once") };
        let report = unmet.to_string();
        let expected = "\n  for a value to be the same for 5s, a window of 7s would do: \
                        the first snapshot that counts is yet to come";
        assert!(report.ends_with(expected), "{report}");
    }
    handle.stable_for("the same", ms(5_000), |_| Some(())).within(ms(7_000)).await.unwrap();
    let Poll::Ready(Err(unmet)) = poll_once(handle.stable_for("x", ms(0), |_| Some(())).within(ms(1))) else {
        panic!("at once")
    };
    assert!(
        unmet.to_string().ends_with("for a value to be the same for 0ns, ask for more than zero"),
        "{unmet}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_no_window_has_room_for_is_refused_without_advice() {
    const DAY: u64 = 24 * 3_600_000;
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().stable_for("the same", ms(DAY), |_| Some(())).within(ms(DAY));
    let Poll::Ready(Err(unmet)) = poll_once(wait) else { panic!("at once") };
    let report = unmet.to_string();
    assert!(
        report.ends_with("be the same for 86400s, no window would do: the longest is 86400s"),
        "{report}"
    );
}

/// What is there is no beginning of a run once it is stale.
#[tokio::test(start_paused = true)]
async fn a_hold_as_long_as_the_window_is_refused_over_stale_data() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let wait = || runtime.handle().stable_for("the same", ms(1_000), |_| Some(())).or_now().within(ms(1_000));
    assert!(poll_once(wait()).is_pending(), "fresh data may be the same all along");
    runtime.control().pause().await.unwrap();
    at(start, 60_000).await;
    let Poll::Ready(Err(unmet)) = poll_once(wait()) else { panic!("at once") };
    assert_eq!(unmet.outcome(), UnmetOutcome::Invalid(InvalidWait::Hold), "{unmet}");
}
