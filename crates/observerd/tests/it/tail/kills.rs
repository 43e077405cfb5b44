//! Interruptions in the middle of something.

use super::*;
use crate::support::faulty::{Faulty, Operation as Fault};

/// Lines 0 to 2 are recorded, and 3 to 5 are being appended until the guard is dropped.
async fn append_in_flight<'a>(faulty: &'a Faulty, rig: &mut Rig) -> tokio::sync::MutexGuard<'a, ()> {
    rig.start().await;
    rig.write(lines(0..3));
    rig.caught_up().await;
    rig.write(lines(3..6));
    let held = faulty.hold_syncs().await;
    let syncs = faulty.syncs();
    let _ = rig.runtime().control().poll_now().await;
    watchkeeper::until("the append is in flight", || async { faulty.syncs() > syncs })
        .every(Duration::from_millis(1))
        .within(Duration::from_secs(30))
        .await
        .unwrap();
    held
}

#[tokio::test]
async fn a_tail_that_is_stopped_while_its_lines_are_appended_neither_doubles_nor_loses() {
    let faulty = Faulty::default();
    let mut rig = Rig::on(&faulty);
    let held = append_in_flight(&faulty, &mut rig).await;
    // The same store gets another tail: what the first one has begun comes first.
    let service = rig.service.take().unwrap();
    let _ = service.tail.stop().await;
    let tail = rig.tail(&service.store);
    rig.service = Some(Service { store: service.store, tail });
    rig.write(lines([6]));
    let _ = rig.runtime().control().poll_now().await;
    for _ in 0..20 {
        // Time enough for one that does not wait.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
    }
    assert!(rig.runtime().handle().latest_snapshot().is_none(), "it has a position already");
    drop(held);
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, (0..7).collect::<Vec<_>>());
    rig.restart().await;
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, (0..7).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_poll_that_is_cut_off_while_its_lines_are_appended_is_finished_by_the_next_one() {
    let faulty = Faulty::default();
    let mut rig = Rig::on(&faulty);
    let held = append_in_flight(&faulty, &mut rig).await;
    let handle = rig.runtime().handle();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let failed = handle.reaches(watchkeeper::runtime::StateKind::Failed).or_now();
    failed.within(Duration::from_secs(30)).await.unwrap();
    rig.write(lines([6]));
    drop(held);
    let report = rig.until(|report| report.offset == 56).await;
    assert_eq!(report.recorded, 7);
    assert_eq!(rig.recorded().await, (0..7).collect::<Vec<_>>());
    assert_eq!(handle.latest_snapshot().unwrap().generation, 1, "the state was kept");
}

#[tokio::test]
async fn an_append_that_fails_leaves_the_lines_to_the_next_poll() {
    for fault in [Fault::Append, Fault::Sync] {
        let faulty = Faulty::default();
        let mut rig = Rig::on(&faulty);
        rig.start().await;
        rig.write(lines(0..3));
        rig.caught_up().await;
        rig.write(lines(3..6));
        faulty.fail(fault, 1);
        let failure = rig.poll_fails().await;
        assert!(failure.contains("read again"), "{failure}");
        assert_eq!(rig.store().stats().total, 3);
        rig.write(lines([6]));
        rig.caught_up().await;
        assert_eq!(rig.recorded().await, (0..7).collect::<Vec<_>>(), "{fault:?}");
        rig.restart().await;
        rig.caught_up().await;
        assert_eq!(rig.recorded().await, (0..7).collect::<Vec<_>>(), "{fault:?}");
    }
}

/// The bytes of a sync that failed may survive if the process ends then: the position shows whether they did.
#[tokio::test]
async fn lines_of_a_failed_sync_that_survive_are_not_read_again() {
    let faulty = Faulty::default();
    let mut rig = Rig::on(&faulty);
    rig.start().await;
    rig.write(lines(0..3));
    rig.caught_up().await;
    rig.write(lines(3..6));
    faulty.fail(Fault::Sync, 1);
    faulty.fail(Fault::Truncate, usize::MAX);
    let _ = rig.poll_fails().await;
    let _ = rig.poll_fails().await;
    rig.stop().await;
    faulty.heal();
    rig.start().await;
    let before = rig.recorded().await;
    assert_eq!(before, (0..6).collect::<Vec<_>>(), "they survive");
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, before);
}

#[tokio::test]
async fn with_buffered_nothing_is_in_the_ring_alone() {
    let faulty = Faulty::default();
    let mut rig = Rig::on(&faulty);
    rig.config.durability = watchkeeper_journal::Durability::Buffered;
    rig.start().await;
    rig.write(lines(0..3));
    rig.caught_up().await;
    faulty.fail(Fault::Append, 1);
    rig.write(lines(3..6));
    // They wait in memory for the disk.
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, [0, 1, 2]);
    let saved = fs::read_to_string(rig.data().join("tail.json")).unwrap();
    // A checkpoint is due, but they would be lost in a crash.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    rig.poll().await;
    assert_eq!(fs::read_to_string(rig.data().join("tail.json")).unwrap(), saved);
    rig.write(lines([6]));
    rig.caught_up().await;
    assert_eq!(rig.recorded().await, (0..7).collect::<Vec<_>>());
    assert_eq!(rig.store().stats().total, 7);
}
