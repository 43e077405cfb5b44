//! Queues of waits and taps.

use super::*;
use crate::config::ObservationConfig;

fn publish(queues: &mut Queues<u64, u64>) {
    numbered(queues, 0);
}

fn numbered(queues: &mut Queues<u64, u64>, number: u64) {
    let now = Instant::now();
    let mut status = Published::before_the_start(now, &ObservationConfig::default());
    status.number = number;
    queues.publish(now, &status, None);
}

fn read(queues: &mut Queues<u64, u64>, id: ReaderId) -> (usize, u64) {
    let mut taken = VecDeque::new();
    let missed = queues.take(id, &mut taken);
    (taken.len(), missed)
}

#[test]
fn each_reads_what_came_after_it_once_and_what_all_have_read_is_gone() {
    let mut queues = Queues::default();
    publish(&mut queues);
    assert!(queues.recent.is_empty(), "nobody reads");
    let one = queues.register(true);
    publish(&mut queues);
    let other = queues.register(false);
    publish(&mut queues);
    assert_eq!((read(&mut queues, one), read(&mut queues, one)), ((2, 0), (0, 0)));
    assert_eq!(queues.recent.len(), 1, "the other has not read the second");
    assert_eq!(read(&mut queues, other), (1, 0));
    assert!(queues.recent.is_empty());
    publish(&mut queues);
    queues.close(other);
    assert_eq!((read(&mut queues, one), queues.recent.len()), ((1, 0), 0), "one that is gone keeps nothing");
    assert_eq!(queues.register(false), other, "its place is used again");
}

#[test]
fn one_that_lags_behind_loses_the_newest_and_costs_the_others_nothing() {
    let mut queues = Queues::default();
    let (slow, quick) = (queues.register(false), queues.register(false));
    for _ in 0..BOUND + 50 {
        publish(&mut queues);
        assert_eq!(read(&mut queues, quick), (1, 0));
    }
    assert!(queues.recent.len() <= RECENT);
    assert_eq!(queues.missed_until(slow, u64::MAX - 1), 50);
    assert_eq!(read(&mut queues, slow), (BOUND, 50));
    publish(&mut queues);
    assert_eq!((read(&mut queues, slow), read(&mut queues, quick)), ((1, 50), (1, 0)));
}

fn publish_events(queues: &mut Queues<u64, u64>, events: usize) -> Arc<ObservationBatch<u64>> {
    let now = Instant::now();
    let batch = Arc::new(ObservationBatch {
        generation: 1,
        seq: 0,
        cycle: 0,
        observed_at: now,
        system_time: std::time::SystemTime::now(),
        source_count: 0,
        events: vec![0; events],
        began: now,
        fresh: true,
    });
    let status = Published::before_the_start(now, &ObservationConfig::default());
    queues.publish(now, &status, Some(&batch));
    batch
}

#[test]
fn what_pins_more_than_is_kept_for_all_is_moved() {
    let mut queues = Queues::default();
    let slow = queues.register(true);
    for kept in [RECENT, 0] {
        (0..if kept == 0 { 1 } else { RECENT }).for_each(|_| publish(&mut queues));
        assert_eq!(queues.recent.len(), kept);
    }
    assert_eq!(read(&mut queues, slow), (RECENT + 1, 0));
    for (events, kept) in [(RECENT_PINNED, 1), (1, 0), (RECENT_PINNED + 1, 0)] {
        publish_events(&mut queues, events);
        assert_eq!(queues.recent.len(), kept, "{events} events");
    }
    assert_eq!(read(&mut queues, slow), (3, 0));
    assert_eq!(queues.pinned, 0);
}

#[test]
fn names_count_where_they_are_not_those_of_before() {
    let now = Instant::now();
    let none = Published::<u64>::before_the_start(now, &ObservationConfig::default());
    let mut some = none.clone();
    some.source_names = ["n1", "node-2"].map(Arc::from).into();
    let publication =
        |status: &Published<u64>| Publication::<_, u64>::new(now, Arc::new(status.clone()), None);
    let (first, second, third) = (publication(&none), publication(&some), publication(&some));
    let bytes = [first.bytes(&none), second.bytes(&none), third.bytes(&some)];
    assert_eq!(bytes, [RECORD, RECORD + 2 * NAME + 8, RECORD]);
    assert_eq!([first.pins(None), second.pins(Some(&first)), third.pins(Some(&second))], [0, 2, 0]);
}

#[test]
fn events_are_kept_for_those_who_are_shown_them() {
    let mut queues = Queues::default();
    let (quick, listens) = (queues.register(false), queues.register(true));
    let batch = publish_events(&mut queues, 1);
    assert_eq!(Arc::strong_count(&batch), 2, "kept for one");
    assert_eq!((read(&mut queues, listens), read(&mut queues, quick)), ((1, 0), (1, 0)));
    assert!(queues.has_dropped(), "a batch that is not shown, to be dropped without the lock");
    drop(queues.dropped());
    assert!(!queues.has_dropped());
    assert_eq!(Arc::strong_count(&batch), 1);
    queues.close(listens);
    let batch = publish_events(&mut queues, 1);
    assert_eq!(Arc::strong_count(&batch), 1, "nobody is shown any");
}

#[test]
fn what_was_lost_is_to_be_dropped() {
    let mut queues = Queues::default();
    let slow = queues.register(false);
    (0..BOUND).for_each(|_| publish(&mut queues));
    assert!(!queues.has_dropped());
    (0..=RECENT).for_each(|_| publish(&mut queues));
    assert!(queues.has_dropped() && queues.dropped.batches.is_empty());
    assert_eq!(queues.missed_until(slow, u64::MAX - 1), RECENT as u64 + 1);
}

#[test]
fn a_tap_that_is_gone_leaves_the_other_one_alone() {
    let mut queues = Queues::default();
    let before = Published::before_the_start(Instant::now(), &ObservationConfig::default());
    let mut tap = || queues.register_tap(9, usize::MAX, Arc::new(before.clone()));
    let (gone, stays) = (tap(), tap());
    queues.close(gone);
    assert_eq!(queues.taps, [stays.0]);
    publish(&mut queues);
    assert!(matches!(queues.next_of_tap(stays, 0), Next::Item(_)));
}

#[test]
fn the_memory_of_few_waits_is_kept_and_that_of_many_is_not() {
    for (waits, kept) in [(KEPT, KEPT), (KEPT + 1, 0), (KEPT + 9, 0)] {
        let mut queues = Queues::<u64, u64>::default();
        let open: Vec<_> = (0..waits).map(|_| queues.register(false)).collect();
        for id in open {
            queues.close(id);
        }
        assert_eq!((queues.readers.len(), queues.free.len()), (kept, kept), "{waits} waits");
    }
}

//  1 2 3 | 4 .. 8 lost | 9 .. 1029 | 1030 .. 2000 did not fit
#[test]
fn what_was_missed_is_known_up_to_each_number_where_there_are_two_gaps() {
    for reads_first in [false, true] {
        let mut queues = Queues::default();
        let id = queues.register(false);
        let late = BOUND as u64 + 5;
        (1..=3).for_each(|number| numbered(&mut queues, number));
        queues.lost(4, 5);
        queues.lost(9, 0);
        (9..=2_000).for_each(|number| numbered(&mut queues, number));
        let known = [(0, 0), (3, 0), (4, 1), (8, 5), (9, 5), (late, 5), (late + 1, 6), (2_000, 976)];
        for (number, missed) in known {
            assert_eq!(queues.missed_until(id, number), missed, "up to {number}");
        }
        if reads_first {
            assert_eq!(read(&mut queues, id), (BOUND, 976));
        }
        let later = queues.register(true);
        queues.lost(2_001, 7);
        assert_eq!([queues.missed_until(later, 2_003), queues.missed_until(later, 2_007)], [3, 7]);
        numbered(&mut queues, 2_008);
        assert_eq!([queues.missed_until(later, 2_003), queues.missed_until(later, 2_008)], [3, 7]);
        assert_eq!(read(&mut queues, later), (1, 7));
    }
}

/// A paused runtime publishes nothing.
#[test]
fn waits_that_are_gone_do_not_pile_up_where_nothing_is_published() {
    let mut queues = Queues::<u64, u64>::default();
    let open: Vec<_> = (0..100).map(|_| queues.register(false)).collect();
    for _ in 0..10_000 {
        let gone = queues.register(false);
        queues.close(gone);
    }
    assert_eq!((queues.live(), queues.readers.len()), (open.len(), open.len() + 1));
}
