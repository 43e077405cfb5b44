//! What a wait holds on to, and for how long: it borrows, may be given up and taken up again, and
//! leaves nothing behind.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, timeout};
use watchkeeper::{ObservationHandle, ObservationSnapshot, StateKind};

use crate::common::threads::poll_once;
use crate::common::{App, View, at, each_second, ms};

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
    assert!(snapshots.iter().all(|snapshot| snapshot.strong_count() > 0), "held for those who wait");
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
