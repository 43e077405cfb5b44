//! Window and start of a wait are fixed when it is made; by default only cycles count that begin
//! after that.

use tokio::time::Instant;
use watchkeeper::ObservationHandle;
use watchkeeper::runtime::{State, StateKind};
use watchkeeper::wait::{InvalidWait, Mark, UnmetOutcome, WaitBuilder};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, View, at, each_second, ms};

type Builder = WaitBuilder<'static, App, std::sync::Arc<watchkeeper::ObservationSnapshot<View>>>;

fn anything(handle: &ObservationHandle<App>) -> Builder {
    handle.eventually("anything", |_| true)
}

//   0 s       1 s ......... 1.5 s     2 s ......... 2.5 s     3 s
//   cycle 0   cycle 1 in flight       cycle 2 in flight       cycle 3
#[tokio::test(start_paused = true)]
async fn which_cycle_meets_a_wait_for_anything() {
    type Make = fn(&ObservationHandle<App>, Mark) -> Builder;
    let by_default: Make = |handle, _| anything(handle);
    let or_now: Make = |handle, _| anything(handle).or_now();
    let after_mark: Make = |handle, mark| anything(handle).after(mark);
    // (mark taken at, wait made at, how; met by cycle, at)
    let cases = [
        ("nothing is in flight", 0, 500, by_default, 1, 1_500),
        ("cycle 1 is in flight: it began before", 0, 1_200, by_default, 2, 2_500),
        ("the present snapshot", 0, 500, or_now, 0, 500),
        ("the present snapshot, before that in flight", 0, 1_200, or_now, 0, 1_200),
        ("marked before cycle 1, which has ended", 500, 1_700, after_mark, 1, 1_700),
        ("marked in cycle 1: cycle 2 counts", 1_200, 1_700, after_mark, 2, 2_500),
        ("marked in cycle 1: cycle 2 is in flight", 1_200, 2_200, after_mark, 2, 2_500),
        ("marked in cycle 1: cycle 2 has ended", 1_200, 2_700, after_mark, 2, 2_700),
        ("marked long ago: the latest of those that count", 500, 2_700, after_mark, 2, 2_700),
        ("marked now", 1_700, 1_700, after_mark, 2, 2_500),
    ];
    for (name, marked, made, how, cycle, met) in cases {
        let app = App::new();
        app.then(Call::Poll, (0..4).map(|_| Act::slow(500)));
        let start = Instant::now();
        let runtime = app.start(each_second()).await;
        let handle = runtime.handle();
        at(start, marked).await;
        let mark = handle.mark();
        at(start, made).await;
        let snapshot = how(&handle, mark).within(ms(10_000)).await.unwrap();
        assert_eq!((snapshot.cycle, start.elapsed().as_millis()), (cycle, met), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn or_now_also_takes_the_outcome_of_the_cycle_in_flight() {
    let app = App::new();
    app.then(Call::Poll, [Act::slow(500)]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 1_200).await;
    let first = runtime.handle().eventually("a poll", |seen| seen.polls > 0).or_now().within(ms(5_000));
    assert_eq!((first.await.unwrap().cycle, start.elapsed()), (1, ms(1_500)));
}

/// A write that only later polls can see.
#[tokio::test(start_paused = true)]
async fn polls_begun_before_a_mark_do_not_count_even_if_they_end_after_it() {
    let app = App::new();
    app.then(Call::Poll, [Act::slow(500), Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    at(start, 1_200).await;
    let mark = handle.mark();
    assert_eq!(mark, handle.mark());
    let unmet = anything(&handle).after(mark).within(ms(3_000)).await.unwrap_err();
    assert_eq!((unmet.judged(), start.elapsed()), (0, ms(4_200)));
}

#[tokio::test(start_paused = true)]
async fn a_state_is_reached_by_a_later_cycle_or_now() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    at(start, 500).await;
    let now = handle.reaches(StateKind::Idle).or_now().within(ms(5_000)).await.unwrap();
    assert_eq!((now.cycle, start.elapsed()), (0, ms(500)));
    let next = handle.reaches(State::Idle).within(ms(5_000)).await.unwrap();
    assert_eq!((next.cycle, next.state, start.elapsed()), (1, State::Idle, ms(1_000)));
    let mark = handle.mark();
    at(start, 3_500).await;
    let since = handle.reaches(StateKind::Idle).after(mark).within(ms(5_000)).await.unwrap();
    assert_eq!((since.cycle, start.elapsed()), (3, ms(3_500)));
}

//   made                                first polled
//   0 s     1 s     2 s     3 s | 4 s  ... 60 s
//   window ---------------------+
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_polled_late_judges_its_own_window() {
    // (the poll that is waited for; the cycle that meets it)
    for (polls, expected) in
        [(1, Ok(1)), (3, Ok(3)), (4, Err(UnmetOutcome::NotMet)), (60, Err(UnmetOutcome::NotMet))]
    {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let wait =
            runtime.handle().eventually("that poll", move |seen| seen.polls == polls).within(ms(3_500));
        at(start, 60_000).await;
        let met = wait.await.map(|snapshot| snapshot.cycle);
        assert_eq!(met.map_err(|unmet| unmet.outcome()), expected, "poll {polls}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_is_over_at_its_end_whenever_it_is_first_polled() {
    for polled_at in [0, 1_000, 3_499] {
        let start = Instant::now();
        let runtime = App::new().start(each_second()).await;
        let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(3_500));
        at(start, polled_at).await;
        let unmet = wait.await.unwrap_err();
        assert_eq!(start.elapsed(), ms(3_500), "polled at {polled_at} ms");
        assert_eq!((unmet.judged(), unmet.window()), (3, Some(ms(3_500))), "polled at {polled_at} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_before_it_is_given_its_window_counts() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    // Both are made at 0 s and given their window at 2.5 s.
    let (first, fourth) = (
        handle.eventually("the first poll", |seen| seen.polls == 1),
        handle.eventually("the fourth poll", |seen| seen.polls == 4),
    );
    at(start, 2_500).await;
    assert_eq!(first.within(ms(3_500)).await.unwrap().cycle, 1);
    assert_eq!(start.elapsed(), ms(2_500));
    assert_eq!(fourth.within(ms(3_500)).await.unwrap_err().judged(), 3);
    assert_eq!(start.elapsed(), ms(3_500));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_makes_no_sense_says_so_at_once() {
    const DAY: u64 = 24 * 3600 * 1000;
    let runtime = App::new().start(each_second()).await;
    let other = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let cases = [
        (anything(&handle).within(ms(0)), InvalidWait::Window),
        (anything(&handle).or_now().within(ms(DAY + 1)), InvalidWait::Window),
        (anything(&handle).after(other.handle().mark()).within(ms(1_000)), InvalidWait::ForeignMark),
    ];
    for (wait, expected) in cases {
        let std::task::Poll::Ready(Err(unmet)) = poll_once(wait) else { panic!("{expected:?}: at once") };
        assert_eq!(unmet.outcome(), UnmetOutcome::Invalid(expected));
    }
    assert!(poll_once(anything(&handle).or_now().within(ms(DAY))).is_ready(), "a day is allowed");
}
