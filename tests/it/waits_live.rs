//! What a wait holds on to, and for how long: it borrows, may be given up and taken up again, and
//! leaves nothing registered.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, timeout};
use watchkeeper::runtime::StateKind;
use watchkeeper::wait::{Unmet, UnmetOutcome};
use watchkeeper::{ObservationHandle, ObservationSnapshot};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, View, at, each_second, ms};

fn latest(handle: &ObservationHandle<App>) -> Weak<ObservationSnapshot<View>> {
    Arc::downgrade(&handle.latest_snapshot().unwrap())
}

#[tokio::test(start_paused = true)]
async fn without_waits_a_replaced_snapshot_is_dropped_at_once() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let _watch = handle.watch();
    let _batches = handle.subscribe();
    for cycle in 0..5 {
        at(start, cycle * 1_000 + 500).await;
        let snapshot = latest(&handle);
        assert_eq!(snapshot.strong_count(), 1, "only the status holds it");
        at(start, cycle * 1_000 + 1_500).await;
        assert!(snapshot.upgrade().is_none(), "the snapshot of cycle {cycle} is still held");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_is_unregistered() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let builder = handle.eventually("never given a window", |_| false);
    let unpolled = handle.eventually("never polled", |_| false).within(ms(60_000));
    let mut polled = Box::pin(handle.eventually("polled", |_| false).within(ms(60_000)));
    assert!(poll_once(polled.as_mut()).is_pending());
    let mut snapshots = Vec::new();
    for cycle in 0..5 {
        at(start, cycle * 1_000 + 500).await;
        snapshots.push(latest(&handle));
    }
    assert!(snapshots.iter().all(|snapshot| snapshot.strong_count() > 0), "held for the waits");
    drop((builder, unpolled, polled));
    let held: Vec<_> = snapshots.iter().map(Weak::strong_count).collect();
    assert_eq!(held, [0, 0, 0, 0, 1], "the newest is the status's");
    let newest = snapshots.pop().unwrap();
    at(start, 5_500).await;
    assert!(newest.upgrade().is_none(), "nothing is queued any more");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_over_holds_nothing_while_it_is_not_yet_dropped() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let mut wait = handle.eventually("a poll", |seen| seen.polls == 1).within(ms(60_000));
    let met = Arc::downgrade(&(&mut wait).await.unwrap());
    at(start, 3_500).await;
    let queued = latest(&handle);
    at(start, 4_500).await;
    assert!(queued.upgrade().is_none(), "nothing is queued any more");
    drop(wait);
    assert!(met.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_predicate_may_borrow_and_judges_each_snapshot_once() {
    let runtime = App::new().start(each_second()).await;
    let mut judged = Vec::new();
    let enough = 3;
    let wait = runtime.handle().eventually("enough polls", |seen| {
        judged.push(seen.polls);
        seen.polls == enough
    });
    wait.within(ms(60_000)).await.unwrap();
    assert_eq!(judged, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_given_up_and_taken_up_again_has_missed_nothing() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let mut judged = Vec::new();
    let wait = runtime.handle().eventually("six polls", |seen| {
        judged.push(seen.polls);
        seen.polls == 6
    });
    let mut wait = wait.or_now().within(ms(60_000));
    let mut given_up = 0;
    let met = loop {
        match timeout(ms(400), &mut wait).await {
            Ok(met) => break met.unwrap(),
            Err(_) => given_up += 1,
        }
        // Cycles pass while nobody polls it.
        tokio::time::sleep(ms(1_700)).await;
    };
    assert_eq!((met.cycle, given_up), (6, 3));
    assert_eq!(start.elapsed(), ms(6_300));
    drop(wait);
    assert_eq!(judged, [0, 1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn several_may_be_awaited_together() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let (third, fifth, idle, impossible) = tokio::join!(
        handle.eventually("three polls", |seen| seen.polls == 3).within(ms(10_000)),
        handle.eventually("five polls", |seen| seen.polls == 5).within(ms(10_000)),
        handle.reaches(StateKind::Polling).within(ms(10_000)),
        handle.eventually("the impossible", |_| false).within(ms(7_500)),
    );
    assert_eq!((third.unwrap().cycle, fifth.unwrap().cycle, idle.unwrap().cycle), (3, 5, 1));
    assert_eq!((impossible.unwrap_err().judged(), start.elapsed()), (7, ms(7_500)));
}

#[tokio::test(start_paused = true)]
async fn many_that_come_and_go_are_all_served() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    for round in 1..=3_u64 {
        let given_up: Vec<_> =
            (0..200).map(|_| handle.eventually("given up", |_| true).within(ms(10_000))).collect();
        let waits = (0..200).map(|_| handle.eventually("a poll", move |seen| seen.polls == round));
        let waits: Vec<_> = waits.map(|wait| tokio::spawn(wait.within(ms(10_000)))).collect();
        drop(given_up);
        for wait in waits {
            assert_eq!(wait.await.unwrap().unwrap().cycle, round);
        }
        assert_eq!(start.elapsed().as_millis(), u128::from(round) * 1_000);
    }
}

//   0 s    1 s   2 s   3 s ...
//   given up in select! every 700 ms; what came meanwhile is judged when it is taken up again
#[tokio::test(start_paused = true)]
async fn each_kind_is_taken_up_again_where_it_was_given_up() {
    async fn now_and_then<T>(wait: impl Future<Output = Result<T, Unmet>>) -> Result<T, Unmet> {
        let mut wait = std::pin::pin!(wait);
        loop {
            tokio::select! {
                biased;
                ended = &mut wait => return ended,
                () = tokio::time::sleep(ms(700)) => {}
            }
            tokio::time::sleep(ms(2_600)).await;
        }
    }
    let app = App::new();
    app.then(Call::Poll, (1..=30).map(|n| Act::Ok(vec![n])));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let mut judged = Vec::new();
    let (all, violated, stable, event, state, fresh, stale) = tokio::join!(
        now_and_then(
            handle
                .always("anything", |seen| {
                    judged.push(seen.polls);
                    true
                })
                .during(ms(9_500))
        ),
        now_and_then(handle.never("five polls", |seen| seen.polls == 5).during(ms(20_500))),
        now_and_then(handle.stable_for("same", ms(2_000), |seen| Some(seen.polls >= 3)).within(ms(20_500))),
        now_and_then(handle.event("4", |event| *event == 4).within(ms(20_500))),
        now_and_then(handle.reaches(StateKind::Polling).within(ms(20_500))),
        now_and_then(handle.stays_fresh().during(ms(9_500))),
        now_and_then(handle.becomes_stale().within(ms(9_500))),
    );
    // Taken up at 3.3, 6.6 and 9.9 s, for 0.7 s each.
    assert_eq!((all.unwrap().cycle, fresh.unwrap().cycle), (9, 9));
    assert_eq!(violated.unwrap_err().first_violation(), Some(5));
    assert_eq!((stable.unwrap().cycle, event.unwrap().batch.cycle, state.unwrap().cycle), (5, 4, 1));
    assert_eq!(stale.unwrap_err().outcome(), UnmetOutcome::NotMet);
    assert_eq!(judged, (1..=9).collect::<Vec<_>>());
    assert_eq!(start.elapsed(), ms(9_900));
}

/// Losing a race is no harm to the wait that is dropped by it, nor to those that go on.
#[tokio::test(start_paused = true)]
async fn a_wait_that_loses_a_race_is_unregistered() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    tokio::select! {
        met = handle.eventually("two polls", |seen| seen.polls == 2).within(ms(9_500)) => {
            assert_eq!(met.unwrap().cycle, 2);
        }
        ended = handle.always("few polls", |seen| seen.polls < 9).during(ms(9_500)) => panic!("{ended:?}"),
        ended = handle.event("none", |_| true).within(ms(9_500)) => panic!("{ended:?}"),
        ended = handle.becomes_stale().within(ms(9_500)) => panic!("{}", ended.is_ok()),
    }
    let snapshot = latest(&handle);
    at(start, 3_500).await;
    assert!(snapshot.upgrade().is_none(), "nobody queues it any more");
}

#[tokio::test(start_paused = true)]
async fn all_kinds_are_awaited_together() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1]), Act::Err("down"), Act::Ok(vec![3]), Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let when = |ended: bool| (ended, start.elapsed().as_millis());
    let ended = tokio::join!(
        async {
            when(handle.eventually("two polls", |seen| seen.polls == 2).within(ms(9_500)).await.is_ok())
        },
        async { when(handle.always("few polls", |seen| seen.polls < 3).during(ms(3_500)).await.is_ok()) },
        async { when(handle.never("one poll", |seen| seen.polls == 1).during(ms(3_500)).await.is_ok()) },
        async { when(handle.stable_for("same", ms(2_000), |_| Some(())).within(ms(9_500)).await.is_ok()) },
        async { when(handle.event("3", |event| *event == 3).within(ms(9_500)).await.is_ok()) },
        async { when(handle.reaches(StateKind::Failed).within(ms(9_500)).await.is_ok()) },
        async { when(handle.stays_fresh().during(ms(9_500)).await.is_ok()) },
        async { when(handle.becomes_stale().within(ms(9_500)).await.is_ok()) },
        async { when(handle.source_vanished("a").within(ms(9_500)).await.is_ok()) },
    );
    let expected = (
        (true, 3_000),
        (true, 3_500),
        (false, 1_000),
        (true, 3_000),
        (true, 3_000),
        (true, 2_000),
        (false, 6_000),
        (true, 6_000),
        (false, 9_500),
    );
    assert_eq!(ended, expected);
}
