//! An event that is waited for, also among those published before.

use tokio::time::Instant;
use watchkeeper::ObservationConfig;
use watchkeeper::wait::{Inconclusive, UnmetOutcome};

use crate::common::{Act, App, Call, at, each_second, ms};

fn finds(events: &[&[u64]]) -> Vec<Act> {
    events.iter().map(|events| Act::Ok(events.to_vec())).collect()
}

//   0 s    1 s      2 s    3 s            4 s
//   made   10, 11   none   20, 21, 21     30
#[tokio::test(start_paused = true)]
async fn it_is_met_by_the_first_such_event() {
    // (from this event on, and which batch and place meets it)
    let cases = [(0, (1, 0)), (11, (1, 1)), (12, (3, 0)), (21, (3, 1)), (22, (4, 0))];
    for (least, (cycle, index)) in cases {
        let app = App::new();
        app.then(Call::Poll, finds(&[&[10, 11], &[], &[20, 21, 21], &[30]]));
        let start = Instant::now();
        let runtime = app.start(each_second()).await;
        let wait = runtime.handle().event("that event", move |event| *event >= least);
        let met = wait.within(ms(10_000)).await.unwrap();
        assert_eq!((met.batch.cycle, met.index), (cycle, index), "from {least} on");
        assert_eq!(start.elapsed(), ms(cycle * 1_000), "from {least} on");
        assert_eq!(*met.event(), met.batch.events[index]);
        assert_eq!(*met.clone().event(), *met.event());
    }
}

/// Events that no predicate wants are passed over in order.
#[tokio::test(start_paused = true)]
async fn each_event_is_judged_once_and_in_order() {
    let app = App::new();
    app.then(Call::Poll, finds(&[&[1, 2], &[3], &[], &[4, 5, 6]]));
    let runtime = app.start(each_second()).await;
    let mut judged = Vec::new();
    let wait = runtime.handle().event("five", |event| {
        judged.push(*event);
        *event == 5
    });
    wait.within(ms(10_000)).await.unwrap();
    assert_eq!(judged, [1, 2, 3, 4, 5]);
}

//   0 s    0.5 s   1 s       1.5 s   2 s        2.5 s
//   init   mark    10        mark    20 begins  mark, 20 at 2.8 s
#[tokio::test(start_paused = true)]
async fn after_a_mark_events_count_that_were_published_before_the_wait() {
    // (marked at, wait made at, event; met at, or how it ends)
    let cases = [
        ("published after the mark", 500, 1_700, 10, Some(1_700)),
        ("published before the mark", 1_500, 1_700, 10, None),
        ("published in between and not the last", 500, 2_900, 10, Some(2_900)),
        ("the last", 500, 2_900, 20, Some(2_900)),
        ("found by a cycle that began before the mark", 2_500, 2_900, 20, None),
        ("still to come", 500, 2_500, 20, Some(2_800)),
    ];
    for (name, marked, made, wanted, expected) in cases {
        let app = App::new();
        app.then(Call::Poll, [Act::Ok(vec![10]), Act::Ok(vec![20]).after(800)]);
        let start = Instant::now();
        let runtime = app.start(each_second()).await;
        let handle = runtime.handle();
        at(start, marked).await;
        let mark = handle.mark();
        at(start, made).await;
        let wait = handle.event("that event", move |event| *event == wanted).after(mark);
        match (wait.within(ms(5_000)).await, expected) {
            (Ok(met), Some(millis)) => {
                assert_eq!((*met.event(), start.elapsed()), (wanted, ms(millis)), "{name}");
            }
            (Err(unmet), None) => assert_eq!(unmet.outcome(), UnmetOutcome::NotMet, "{name}"),
            (ended, _) => panic!("{name}: {ended:?}"),
        }
    }
}

/// Only what is published from now on counts by default, and with `or_now` too: an event is no present
/// state.
#[tokio::test(start_paused = true)]
async fn without_a_mark_what_was_published_before_does_not_count() {
    let app = App::new();
    app.then(Call::Poll, finds(&[&[1], &[], &[1]]));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    at(start, 1_500).await;
    let (by_default, or_now) = tokio::join!(
        handle.event("one", |event| *event == 1).within(ms(5_000)),
        handle.event("one", |event| *event == 1).or_now().within(ms(5_000)),
    );
    assert_eq!((by_default.unwrap().batch.cycle, or_now.unwrap().batch.cycle), (3, 3));
}

//   history of 2:  | 1 s: 1 | 2 s: 2 | 3 s: 3 |
//                    gone     kept     kept
#[tokio::test(start_paused = true)]
async fn what_the_history_no_longer_holds_may_have_been_it() {
    let forgotten = UnmetOutcome::Inconclusive(Inconclusive::FellBehind { missed: 1 });
    // (marked at, event; met by cycle, or how it ends)
    let cases = [
        ("gone", 500, 1, Err(forgotten)),
        ("kept", 500, 2, Ok(2)),
        ("kept, and none of it", 1_500, 9, Err(UnmetOutcome::NotMet)),
        ("none of what is kept, and one was dropped", 500, 9, Err(forgotten)),
    ];
    for (name, marked, wanted, expected) in cases {
        let app = App::new();
        app.then(Call::Poll, finds(&[&[1], &[2], &[3]]));
        let start = Instant::now();
        let runtime = app.start(ObservationConfig { history_limit: 2, ..each_second() }).await;
        let handle = runtime.handle();
        at(start, marked).await;
        let mark = handle.mark();
        at(start, 3_500).await;
        let wait = handle.event("that event", move |event| *event == wanted).after(mark);
        let ended = wait.within(ms(2_000)).await;
        let ended = ended.map(|met| met.batch.cycle).map_err(|unmet| unmet.outcome());
        assert_eq!(ended, expected, "{name}");
    }
}

/// What was stale when it came meets no wait: not one that was there, nor one that is made later.
#[tokio::test(start_paused = true)]
async fn events_that_were_stale_when_they_came_do_not_count() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1]).after(100), Act::Ok(vec![2]).after(99)]);
    let start = Instant::now();
    let runtime = app.start(ObservationConfig { stale_after: Some(ms(100)), ..each_second() }).await;
    let handle = runtime.handle();
    let mark = handle.mark();
    let there = handle.event("any", |_| true).within(ms(9_000)).await.unwrap();
    assert_eq!((*there.event(), start.elapsed()), (2, ms(2_099)));
    at(start, 2_500).await;
    let later = handle.event("any", |_| true).after(mark).within(ms(9_000)).await.unwrap();
    assert_eq!((*later.event(), start.elapsed()), (2, ms(2_500)), "fresh when it came, stale by now");
}

#[tokio::test(start_paused = true)]
async fn a_report_shows_the_last_events_that_were_not_it() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1]), Act::Ok((10..19).collect()), Act::Ok(vec![])]);
    let runtime = app.start(each_second()).await;
    let report = runtime.handle().event("a hundred", |event| *event == 100).within(ms(3_500)).await;
    let report = report.unwrap_err().to_string();
    let expected = "  events: 10, the last:
    cycle 2: 11
    cycle 2: 12
    cycle 2: 13
    cycle 2: 14
    cycle 2: 15
    cycle 2: 16
    cycle 2: 17
    cycle 2: 18
  freshness: fresh\n";
    assert!(report.contains(expected), "{report}");

    let silent = App::new().start(each_second()).await;
    let report = silent.handle().event("anything", |_| true).within(ms(1_500)).await.unwrap_err().to_string();
    assert!(report.contains("\n  events: 0\n  freshness"), "{report}");
}
