//! What is to hold during a window: it does, it does not, or it is inconclusive.

use tokio::time::Instant;
use watchkeeper::ObservationConfig;
use watchkeeper::runtime::StopReason;
use watchkeeper::wait::{Inconclusive, UnmetOutcome};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, at, each_second, ms};

//   0 s    0.5 s     1 s      2 s      3 s      4 s
//   init   made      1 poll   2 polls  3 polls  the end
#[tokio::test(start_paused = true)]
async fn it_holds_to_the_end_or_is_violated_at_once() {
    // (fewer polls than this; the first violation and when)
    let cases = [(4, None), (3, Some((3, 3_000))), (2, Some((2, 2_000))), (1, Some((1, 1_000)))];
    for (limit, violated) in cases {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let handle = runtime.handle();
        at(start, 500).await;
        let (mut seen_by_always, mut seen_by_never) = (Vec::new(), Vec::new());
        let always = handle.always("few polls", |seen| {
            seen_by_always.push(seen.polls);
            seen.polls < limit
        });
        let never = handle.never("many polls", |seen| {
            seen_by_never.push(seen.polls);
            seen.polls >= limit
        });
        let timed = |ended| (ended, start.elapsed());
        let (always, never) = tokio::join!(async { timed(always.during(ms(3_500)).await) }, async {
            timed(never.during(ms(3_500)).await)
        });
        for (name, (ended, when)) in [("always", always), ("never", never)] {
            let name = format!("{name}, fewer than {limit}");
            match (ended, violated) {
                (Ok(last), None) => assert_eq!((last.cycle, when), (3, ms(4_000)), "{name}"),
                (Err(unmet), Some((cycle, millis))) => {
                    assert_eq!(unmet.outcome(), UnmetOutcome::Violated, "{name}");
                    assert_eq!((unmet.first_violation(), when), (Some(cycle), ms(millis)), "{name}");
                    assert_eq!(unmet.judged(), cycle, "{name}");
                }
                (ended, _) => panic!("{name}: {ended:?}"),
            }
        }
        let judged: Vec<u64> = (1..limit.min(4) + u64::from(limit < 4)).collect();
        assert_eq!((&seen_by_always, &seen_by_never), (&judged, &judged), "fewer than {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn why_it_cannot_be_said_to_have_held() {
    use Inconclusive::{NothingObserved, Paused, Stale, Stopped};
    let hang = || vec![Act::Ok(vec![]), Act::Hang];
    let slow = || (0..9).map(|_| Act::slow(100)).collect::<Vec<_>>();
    let dropped = Stopped { reason: StopReason::Dropped };
    // (what the polls do, stale_after, window, paused at, dropped at; why it is inconclusive, judged)
    let cases = [
        ("no cycle counts", vec![], None, 400, None, None, Some(NothingObserved), 0),
        ("polls hang", vec![Act::Hang], None, 2_000, None, None, Some(NothingObserved), 0),
        ("all data stale", slow(), Some(100), 3_500, None, None, Some(Stale), 0),
        ("stale at the end", hang(), None, 5_000, None, None, Some(Stale), 1),
        ("stale at the very end", hang(), None, 3_500, None, None, Some(Stale), 1),
        ("fresh until the very end", hang(), None, 3_499, None, None, None, 1),
        ("stale in between", vec![Act::Ok(vec![]), Act::slow(4_000)], None, 7_000, None, None, None, 3),
        ("paused throughout", vec![], None, 2_000, Some(600), None, Some(Paused), 0),
        ("paused, and stale at the end", vec![], None, 6_000, Some(1_600), None, Some(Paused), 1),
        ("paused, and fresh at the end", vec![], None, 3_000, Some(1_600), None, None, 1),
        ("stopped", vec![], None, 3_500, None, Some(2_600), Some(dropped), 2),
    ];
    for (name, polls, stale_after, window, paused, dropped, expected, judged) in cases {
        let app = App::new();
        app.then(Call::Poll, polls);
        let start = Instant::now();
        let runtime =
            app.start(ObservationConfig { stale_after: stale_after.map(ms), ..each_second() }).await;
        at(start, 500).await;
        let wait = tokio::spawn(runtime.handle().always("anything", |_| true).during(ms(window)));
        if let Some(millis) = paused {
            at(start, millis).await;
            runtime.control().pause().await.unwrap();
        }
        if let Some(millis) = dropped {
            at(start, millis).await;
            drop(runtime);
        }
        let ended = wait.await.unwrap();
        assert_eq!(start.elapsed(), ms(dropped.unwrap_or(500 + window)), "{name}");
        match (ended, expected) {
            (Ok(last), None) => assert_eq!(last.cycle, judged, "{name}"),
            (Err(unmet), Some(expected)) => {
                assert_eq!(unmet.outcome(), UnmetOutcome::Inconclusive(expected), "{name}");
                assert_eq!((unmet.judged(), unmet.first_violation()), (judged, None), "{name}");
            }
            (ended, _) => panic!("{name}: {ended:?}"),
        }
    }
}

/// What is stale does not violate either.
#[tokio::test(start_paused = true)]
async fn stale_data_does_not_violate() {
    let app = App::new();
    app.then(Call::Poll, [Act::slow(100)]);
    let start = Instant::now();
    let runtime = app.start(ObservationConfig { stale_after: Some(ms(100)), ..each_second() }).await;
    let not_one = runtime.handle().always("not one poll", |seen| seen.polls != 1);
    assert_eq!(not_one.during(ms(2_050)).await.unwrap().cycle, 2);
    assert_eq!(start.elapsed(), ms(2_050));
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_may_have_violated() {
    // (first polled after this cycle; missed)
    for (cycle, missed) in [(341, 0), (400, 176)] {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let wait = runtime.handle().never("the impossible", |_| false).during(ms(1_000_500));
        at(start, cycle * 1_000 + 500).await;
        match (wait.await, missed) {
            (Ok(last), 0) => assert_eq!(last.cycle, 1_000, "all was judged"),
            (Err(unmet), missed) => {
                let behind = UnmetOutcome::Inconclusive(Inconclusive::FellBehind { missed });
                assert_eq!(unmet.outcome(), behind, "cycle {cycle}");
            }
            (ended, _) => panic!("cycle {cycle}: {ended:?}"),
        }
    }
}

/// A violation that was seen counts, even if publications were missed.
#[tokio::test(start_paused = true)]
async fn a_wait_that_fell_behind_is_violated_by_what_it_did_see() {
    for polls in [100, 500] {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let wait = runtime.handle().never("that poll", move |seen| seen.polls == polls);
        let wait = wait.during(ms(1_000_000));
        at(start, 400_500).await;
        let unmet = wait.await.unwrap_err();
        assert_eq!((unmet.outcome(), unmet.first_violation()), (UnmetOutcome::Violated, Some(polls)));
    }
}

#[tokio::test(start_paused = true)]
async fn the_present_snapshot_counts_when_it_is_asked_for() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    at(start, 1_500).await;
    let later = handle.always("later polls", |seen| seen.polls > 1).during(ms(1_000)).await.unwrap();
    assert_eq!(later.cycle, 2, "cycle 1 is not judged by default");
    let now = handle.never("two polls", |seen| seen.polls == 2).or_now().during(ms(1_000));
    let std::task::Poll::Ready(Err(unmet)) = poll_once(now) else { panic!("at once") };
    assert_eq!((unmet.first_violation(), unmet.judged()), (Some(2), 1));
}
