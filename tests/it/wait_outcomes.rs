//! A wait that is not met says why: it did not hold in time, or it is inconclusive.

use tokio::time::Instant;
use watchkeeper::ObservationConfig;
use watchkeeper::runtime::{StateKind, StopReason};
use watchkeeper::wait::{Inconclusive, UnmetOutcome};

use crate::common::{Act, App, Call, at, each_second, ms};

const NOT_MET: UnmetOutcome = UnmetOutcome::NotMet;

fn inconclusive(why: Inconclusive) -> UnmetOutcome {
    UnmetOutcome::Inconclusive(why)
}

#[tokio::test(start_paused = true)]
async fn each_reason_in_turn() {
    use Inconclusive::{NothingObserved, Paused, Stale, Stopped};
    let ok = || Act::Ok(vec![]);
    let all = |act: fn() -> Act| std::iter::repeat_with(act).take(10).collect::<Vec<_>>();
    let short = Some(ms(100));
    let dropped = Stopped { reason: StopReason::Dropped };
    // (what the polls do, stale_after, paused at, dropped at; how it ends, snapshots judged, failures)
    let cases = [
        ("fresh, and never so", vec![], None, None, None, NOT_MET, 3, 0),
        ("one was fresh, then nothing", vec![ok(), Act::Hang], None, None, None, NOT_MET, 1, 0),
        ("one was fresh, then a pause", vec![], None, Some(1_500), None, NOT_MET, 1, 0),
        ("polls hang", vec![Act::Hang], None, None, None, inconclusive(NothingObserved), 0, 0),
        ("polls fail", all(|| Act::Err("down")), None, None, None, inconclusive(NothingObserved), 0, 3),
        ("paused throughout", vec![], None, Some(500), None, inconclusive(Paused), 0, 0),
        ("paused in a hanging poll", vec![Act::Hang], None, Some(1_500), None, inconclusive(Paused), 0, 0),
        ("all data stale", all(|| Act::slow(100)), short, None, None, inconclusive(Stale), 0, 0),
        ("stale, then fresh", vec![Act::slow(100)], short, None, None, NOT_MET, 2, 0),
        ("the end", vec![], None, None, Some(2_500), inconclusive(dropped), 2, 0),
        ("the end of nothing", vec![Act::Hang], None, None, Some(2_500), inconclusive(dropped), 0, 0),
    ];
    for (name, polls, stale_after, paused, dropped, outcome, judged, failures) in cases {
        let app = App::new();
        app.then(Call::Poll, polls);
        let start = Instant::now();
        let runtime = app.start(ObservationConfig { stale_after, ..each_second() }).await;
        let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(3_500));
        let wait = tokio::spawn(wait);
        if let Some(millis) = paused {
            at(start, millis).await;
            runtime.control().pause().await.unwrap();
        }
        if let Some(millis) = dropped {
            at(start, millis).await;
            drop(runtime);
        }
        let unmet = wait.await.unwrap().unwrap_err();
        assert_eq!(unmet.outcome(), outcome, "{name}");
        assert_eq!(start.elapsed(), ms(dropped.unwrap_or(3_500)), "{name}");
        assert_eq!((unmet.judged(), unmet.failures().len()), (judged, failures), "{name}");
        assert_eq!(unmet.label(), "the impossible", "{name}");
    }
}

/// What is stale does not pass either.
#[tokio::test(start_paused = true)]
async fn stale_data_does_not_meet_a_wait() {
    let app = App::new();
    app.then(Call::Poll, [Act::slow(100), Act::slow(99)]);
    let start = Instant::now();
    let runtime = app.start(ObservationConfig { stale_after: Some(ms(100)), ..each_second() }).await;
    let handle = runtime.handle();
    at(start, 500).await;
    let met = handle.eventually("anything", |_| true).or_now().within(ms(5_000)).await.unwrap();
    assert_eq!((met.cycle, start.elapsed()), (2, ms(2_099)), "neither the old cycle 0 nor the slow cycle 1");
}

#[tokio::test(start_paused = true)]
async fn a_state_that_was_not_reached() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    at(start, 500).await;
    let unmet = handle.reaches(StateKind::Failed).within(ms(2_000)).await.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.label()), (NOT_MET, "the runtime reaches failed"));
    assert_eq!(unmet.judged(), 6, "three publications of each of two cycles");

    let (stopped, unmet) = tokio::join!(runtime.stop(), handle.reaches(StateKind::Failed).within(ms(2_000)));
    assert_eq!(stopped, watchkeeper::runtime::StopOutcome::Stopped);
    let reason = StopReason::Requested;
    assert_eq!(unmet.unwrap_err().outcome(), inconclusive(Inconclusive::Stopped { reason }));
}

/// A queue holds 1,024 publications, and a cycle makes three: it refreshes, polls, succeeds.
#[tokio::test(start_paused = true)]
async fn a_wait_that_fell_behind_says_by_how_many() {
    // (first polled after this cycle; missed)
    for (cycle, missed) in [(341, 0), (342, 2), (400, 176), (1_000, 1_976)] {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(1_100_000));
        at(start, cycle * 1_000 + 500).await;
        let unmet = wait.await.unwrap_err();
        let outcome = if missed == 0 { NOT_MET } else { inconclusive(Inconclusive::FellBehind { missed }) };
        assert_eq!(unmet.outcome(), outcome, "cycle {cycle}");
        assert_eq!(start.elapsed(), ms(1_100_000), "cycle {cycle}: it goes on until its end");
    }
}

/// What it missed last counts too, although no later publication shows the gap.
#[tokio::test(start_paused = true)]
async fn a_wait_that_missed_the_very_last_publication_says_so() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(1_100_000));
    at(start, 341_500).await;
    runtime.control().pause().await.unwrap(); // The queue's last place.
    runtime.control().resume().await.unwrap();
    runtime.control().pause().await.unwrap();
    let unmet = wait.await.unwrap_err();
    assert_eq!(unmet.outcome(), inconclusive(Inconclusive::FellBehind { missed: 2 }));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_fell_behind_is_met_by_what_it_did_see() {
    for polls in [100, 500] {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let wait =
            runtime.handle().eventually("that poll", move |seen| seen.polls == polls).within(ms(1_100_000));
        at(start, 400_500).await;
        assert_eq!(wait.await.unwrap().cycle, polls);
    }
}

/// What came after its window was not missed.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_not_polled_after_its_window_did_not_fall_behind() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(10_500));
    at(start, 1_000_500).await;
    let unmet = wait.await.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.judged()), (NOT_MET, 10));
}

/// A wait that fell behind gets the end too.
#[tokio::test(start_paused = true)]
async fn a_wait_that_fell_behind_still_gets_the_end() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let (wait, short) = (
        handle.eventually("the impossible", |_| false).within(ms(1_000_000)),
        handle.eventually("the impossible", |_| false).within(ms(399_500)),
    );
    at(start, 400_500).await;
    drop(runtime);
    tokio::task::yield_now().await;
    let reason = StopReason::Dropped;
    assert_eq!(wait.await.unwrap_err().outcome(), inconclusive(Inconclusive::Stopped { reason }));
    // The end came after this one's window, and what it missed may have been inside.
    let outcome = short.await.unwrap_err().outcome();
    assert_eq!(outcome, inconclusive(Inconclusive::FellBehind { missed: 176 }));
}
