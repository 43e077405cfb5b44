//! The newest batches, shared by all readers.
//!
//! There is one ring and no queue per subscriber: the cost of publishing does not depend on the number of readers,
//! and a slow reader blocks nobody. Publishing has three steps, in this order: the batch is pushed, the status is
//! published, the [`Head`] is announced. Readers read only batches below the announced head, so the snapshot of a
//! readable batch is published.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::SystemTime;

use tokio::time::Instant;
use watchkeeper_fsm::StopReason;

use crate::cursor::{Cursor, First, Instance};
use crate::error::CursorError;
use crate::panics::{discard_each, discard_logged};
use crate::sync::{Mutex, lock};
use crate::waiting::{Waiting, WakerSlot, drop_waker, wake_all};

/// The events of one cycle, in the order the observer returned them; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservationBatch<E> {
    /// The generation of the observer's state that found the events.
    pub generation: u64,
    /// The batch's number in this runtime: from 0, without gaps, also across generations.
    pub seq: u64,
    /// The cycle that found the events.
    pub cycle: u64,
    /// When the batch was published, on tokio's clock: the same instant as the cycle's snapshot.
    pub observed_at: Instant,
    /// The wall time of publication, for display.
    pub system_time: SystemTime,
    /// How many sources there were.
    pub source_count: usize,
    /// The events.
    pub events: Vec<E>,
    /// When its cycle began.
    pub(crate) began: Instant,
    /// Whether the data was still fresh when the batch was published.
    pub(crate) fresh: bool,
}

/// Events are dropped one by one. A panic of a destructor is logged and does not affect the others.
impl<E> Drop for ObservationBatch<E> {
    fn drop(&mut self) {
        discard_each(std::mem::take(&mut self.events));
    }
}

/// How far readers may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) next_seq: u64,
    pub(crate) generation: u64,
    pub(crate) closed: Option<StopReason>,
}

pub(crate) struct History<E> {
    instance: Instance,
    /// The first numbers of this process; lower ones are of an earlier process.
    first: First,
    /// The batches of an earlier process have the numbers and the generation that they had here: missed, not foreign.
    continues: bool,
    limit: usize,
    ring: Mutex<Ring<E>>,
}

struct Ring<E> {
    batches: VecDeque<Arc<ObservationBatch<E>>>,
    /// The number after the last pushed batch; `head` has the announced one.
    next_seq: u64,
    /// How many numbers since that of the oldest batch have no batch, because a feed lost them.
    lost: u64,
    generation: u64,
    head: Head,
    /// Readers that wait for the head to change.
    waiting: Waiting,
}

impl<E> Ring<E> {
    fn oldest(&self) -> u64 {
        self.next_seq - self.batches.len() as u64 - self.lost
    }

    /// How many batches are readable.
    fn readable(&self) -> usize {
        let announced = self.head.next_seq;
        if self.lost > 0 {
            return self.batches.partition_point(|batch| batch.seq < announced);
        }
        usize::try_from(announced.saturating_sub(self.oldest())).unwrap_or(usize::MAX)
    }

    /// Updates `lost` after the oldest batches were removed.
    fn recount(&mut self) {
        if self.lost > 0 {
            let oldest = self.batches.front().map_or(self.next_seq, |batch| batch.seq);
            self.lost = self.next_seq - self.batches.len() as u64 - oldest;
        }
    }

    /// The place of batch `next`, and the length of the gapless run from it; or, as the error, the number at which
    /// reading continues.
    fn run_from(&self, next: u64) -> Result<(usize, usize), u64> {
        let announced = self.head.next_seq;
        let oldest = self.oldest();
        if next < oldest {
            return Err(oldest.min(announced));
        }
        if self.lost == 0 {
            let skip = usize::try_from(next - oldest).unwrap_or(usize::MAX);
            return Ok((skip, usize::try_from(announced - next).unwrap_or(usize::MAX)));
        }
        let skip = self.batches.partition_point(|batch| batch.seq < next);
        let follows = |(nth, batch): &(u64, &Arc<ObservationBatch<E>>)| {
            batch.seq == next + nth && batch.seq < announced
        };
        match (0..).zip(self.batches.range(skip..)).take_while(follows).count() {
            0 => Err(self.batches.get(skip).map_or(announced, |batch| batch.seq.min(announced))),
            run => Ok((skip, run)),
        }
    }
}

/// The work left after an announcement, to be done without the lock.
pub(crate) struct Announced<E> {
    wakers: Vec<Waker>,
    /// Batches removed from the ring.
    put_out: Vec<Arc<ObservationBatch<E>>>,
}

// A derived `Default` would require `E: Default`.
impl<E> Default for Announced<E> {
    fn default() -> Self {
        Self { wakers: Vec::new(), put_out: Vec::new() }
    }
}

impl<E> Announced<E> {
    fn finish(&mut self) {
        wake_all(&mut self.wakers);
        for batch in self.put_out.drain(..) {
            discard_logged(batch, "a batch");
        }
    }
}

/// The result of a reader's look.
pub(crate) enum NextBatches {
    /// Batches were appended.
    Batches,
    /// The next batch is no longer in the ring, or a feed has lost it. Reading continues with `oldest`.
    Lagged { oldest: u64 },
    /// No new batch: the head. The waker is woken when the head changes.
    Nothing(Head),
}

impl<E> History<E> {
    pub(crate) fn new(instance: Instance, limit: usize, first: First) -> Self {
        let First { generation, seq: next_seq, .. } = first;
        let head = Head { next_seq, generation, closed: None };
        let batches = VecDeque::new();
        let ring = Ring { batches, next_seq, lost: 0, generation, head, waiting: Waiting::default() };
        Self { instance, first, continues: false, limit, ring: Mutex::new(ring) }
    }

    /// The same, for numbers that go on where an earlier process was.
    pub(crate) fn continuing(self) -> Self {
        Self { continues: true, ..self }
    }

    /// Step one of publishing. Returns the batch if the history is closed.
    ///
    /// The batch that this one displaces is kept until the announcement: readers lose nothing for a batch that they
    /// may not read yet.
    pub(crate) fn push(&self, batch: Arc<ObservationBatch<E>>) -> Result<(), Arc<ObservationBatch<E>>> {
        let mut ring = lock(&self.ring);
        if ring.head.closed.is_some() {
            return Err(batch);
        }
        debug_assert_eq!(ring.next_seq, batch.seq, "batches are numbered without gaps");
        ring.next_seq += 1;
        ring.generation = batch.generation;
        ring.batches.push_back(batch);
        Ok(())
    }

    /// Skips this many batches, which readers have missed. Earlier batches stay readable.
    pub(crate) fn lost(&self, batches: u64) {
        let mut wakers = Vec::new();
        {
            let mut ring = lock(&self.ring);
            if batches == 0 || ring.head.closed.is_some() {
                return;
            }
            ring.next_seq += batches;
            ring.lost += batches;
            ring.recount();
            ring.head.next_seq = ring.next_seq;
            ring.waiting.take(&mut wakers);
        }
        wake_all(&mut wakers);
    }

    /// Step one for a generation that begins without a batch.
    pub(crate) fn begin_generation(&self, generation: u64) {
        lock(&self.ring).generation = generation;
    }

    /// Step three: makes batches before `cursor` readable, and wakes readers. `announced` is empty before and after;
    /// it is reused for its memory.
    pub(crate) fn announce(&self, cursor: Cursor, announced: &mut Announced<E>) {
        let Cursor { seq: next_seq, generation, .. } = cursor;
        {
            let mut ring = lock(&self.ring);
            // The head never goes back: a feed may have moved it past its newest success.
            let head = Head { next_seq: next_seq.max(ring.head.next_seq), generation, closed: None };
            if ring.head.closed.is_none() && ring.head != head {
                ring.head = head;
                ring.waiting.take(&mut announced.wakers);
            }
            // With a limit of 0, one batch is kept for subscribers.
            let surplus = ring.readable().saturating_sub(self.limit.max(1));
            announced.put_out.extend(ring.batches.drain(..surplus));
            ring.recount();
        }
        announced.finish();
    }

    /// Ends the stream after the announced batches.
    pub(crate) fn close(&self, reason: StopReason) {
        let mut wakers = Vec::new();
        {
            let mut ring = lock(&self.ring);
            if ring.head.closed.is_none() {
                ring.head.closed = Some(reason);
                ring.waiting.take(&mut wakers);
            }
        }
        wake_all(&mut wakers);
    }

    pub(crate) fn head(&self) -> Head {
        lock(&self.ring).head
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn instance(&self) -> Instance {
        self.instance
    }

    pub(crate) fn first(&self) -> First {
        self.first
    }

    /// All kept and announced batches, oldest first.
    pub(crate) fn kept(&self) -> Vec<Arc<ObservationBatch<E>>> {
        if self.limit == 0 {
            return Vec::new();
        }
        let ring = lock(&self.ring);
        let readable = ring.readable();
        ring.batches.range(readable.saturating_sub(self.limit)..readable).cloned().collect()
    }

    /// Looks up batches for a reader that has everything before `next` and knows generations up to `generation`.
    ///
    /// Appends up to `most` batches to `into`. If there is nothing to return, `waker` is woken when the head changes.
    pub(crate) fn look(
        &self,
        (next, generation): (u64, u64),
        most: usize,
        into: &mut VecDeque<Arc<ObservationBatch<E>>>,
        (place, waker): (&mut WakerSlot, Option<&Waker>),
    ) -> NextBatches {
        let mut ring = lock(&self.ring);
        let head = ring.head;
        if next >= head.next_seq {
            let waits = waker.filter(|_| head.generation <= generation && head.closed.is_none());
            let old = waits.and_then(|waker| ring.waiting.wait(place, waker));
            drop(ring);
            drop_waker(old);
            return NextBatches::Nothing(head);
        }
        match ring.run_from(next) {
            Ok((skip, run)) => {
                into.extend(ring.batches.range(skip..).take(run.min(most)).cloned());
                NextBatches::Batches
            }
            Err(oldest) => NextBatches::Lagged { oldest },
        }
    }

    /// Removes a reader's waker.
    pub(crate) fn leave(&self, place: &mut WakerSlot) {
        if place.is_taken() {
            let waker = lock(&self.ring).waiting.leave(place);
            drop_waker(waker);
        }
    }

    /// The batches from `next` up to but without `end`, and how many of them are no longer there. Neither if `next`
    /// is at or after `end`.
    pub(crate) fn between(&self, next: u64, end: u64) -> (Vec<Arc<ObservationBatch<E>>>, u64) {
        let ring = lock(&self.ring);
        if next >= end {
            return (Vec::new(), 0);
        }
        let wanted = |batch: &&Arc<ObservationBatch<E>>| (next..end).contains(&batch.seq);
        let found: Vec<_> = ring.batches.iter().filter(wanted).cloned().collect();
        let missed = end - next - found.len() as u64;
        (found, missed)
    }

    /// Refuses a cursor that no batch of this runtime can continue.
    pub(crate) fn check(&self, cursor: Cursor) -> Result<(), CursorError> {
        if cursor.instance != self.instance {
            return Err(CursorError::Foreign);
        }
        let published = {
            let ring = lock(&self.ring);
            if cursor.generation > ring.generation {
                return Err(CursorError::Future { seq: cursor.seq, published: ring.next_seq });
            }
            ring.next_seq
        };
        let is_earlier = cursor.generation < self.first.generation;
        // After the recorded point, the batches of an earlier process differ from those of this one.
        let published = if is_earlier { self.first.seq } else { published };
        if cursor.seq > published {
            return Err(CursorError::Future { seq: cursor.seq, published });
        }
        // A generation of this process has no batch of an earlier process.
        if !is_earlier && !self.continues && cursor.seq < self.first.seq {
            return Err(CursorError::Foreign);
        }
        Ok(())
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    fn batch(seq: u64) -> Arc<ObservationBatch<&'static str>> {
        Arc::new(ObservationBatch {
            generation: 2,
            seq,
            cycle: 3,
            observed_at: Instant::now(),
            system_time: SystemTime::now(),
            source_count: 1,
            events: vec!["found"],
            began: Instant::now(),
            fresh: true,
        })
    }

    #[test]
    fn a_batch_is_read_once_it_is_announced() {
        let history = History::new(Instance(7), 4, First::default());
        (0..3).for_each(|seq| history.push(batch(seq)).unwrap());
        let cursor = Cursor { instance: Instance(7), generation: 2, seq: 2 };
        history.announce(cursor, &mut Announced::default());
        let mut read = VecDeque::new();
        history.look((1, 2), 9, &mut read, (&mut WakerSlot::default(), None));
        assert_eq!(read.iter().map(|batch| batch.seq).collect::<Vec<_>>(), [1]);
    }

    /// The numbers 0 and 2 to 6 have no batch.
    #[test]
    fn what_was_lost_is_passed_over_and_forgotten_with_what_was_before_it() {
        let history = History::new(Instance(7), 2, First::default());
        let announce = |seq| {
            let cursor = Cursor { instance: Instance(7), generation: 2, seq };
            history.announce(cursor, &mut Announced::default());
        };
        let lost = || lock(&history.ring).lost;
        let read = |next| {
            let mut read = VecDeque::new();
            match history.look((next, 2), 9, &mut read, (&mut WakerSlot::default(), None)) {
                NextBatches::Batches => read.iter().map(|batch| batch.seq).collect(),
                NextBatches::Lagged { oldest } => vec![0, oldest],
                NextBatches::Nothing(_) => vec![],
            }
        };
        history.lost(1);
        assert_eq!(lost(), 0, "there is nothing before it");
        history.push(batch(1)).unwrap();
        announce(2);
        history.lost(5);
        history.push(batch(7)).unwrap();
        announce(8);
        history.push(batch(8)).unwrap();
        announce(8);
        assert_eq!((lost(), history.kept().len()), (5, 2));
        assert_eq!([read(1), read(2), read(7), read(8)], [vec![1], vec![0, 7], vec![7], vec![]]);
        announce(9);
        assert_eq!(lost(), 0, "batch 1 has made room");
        assert_eq!([read(1), read(7)], [vec![0, 7], vec![7, 8]]);
        history.close(StopReason::Dropped);
        history.lost(3);
        assert_eq!(history.head().next_seq, 9, "nothing comes after the end");
    }

    #[test]
    fn what_is_announced_after_the_end_does_not_undo_it() {
        let history = History::new(Instance(7), 4, First::default());
        history.push(batch(0)).unwrap();
        history.close(StopReason::Dropped);
        let cursor = Cursor { instance: Instance(7), generation: 2, seq: 1 };
        history.announce(cursor, &mut Announced::default());
        assert_eq!(history.head().closed, Some(StopReason::Dropped));
    }

    #[test]
    fn a_cursor_of_another_runtime_or_from_the_future_is_refused() {
        let history = History::new(Instance(7), 4, First { seq: 5, ..First::default() });
        history.push(batch(5)).unwrap();
        let cases = [
            ((7, 1, 5), Ok(())),
            ((7, 2, 6), Ok(())),
            ((7, 1, 7), Err(CursorError::Future { seq: 7, published: 6 })),
            ((7, 3, 6), Err(CursorError::Future { seq: 6, published: 6 })),
            ((8, 1, 5), Err(CursorError::Foreign)),
            ((8, 9, 9), Err(CursorError::Foreign)),
            // Of the earlier process: up to the recorded point, and beyond it.
            ((7, 0, 0), Ok(())),
            ((7, 0, 5), Ok(())),
            ((7, 0, 6), Err(CursorError::Future { seq: 6, published: 5 })),
            // Of no process.
            ((7, 1, 4), Err(CursorError::Foreign)),
        ];
        for ((instance, generation, seq), expected) in cases {
            let instance = Instance(instance);
            let cursor = Cursor { instance, generation, seq };
            assert_eq!(history.check(cursor), expected, "{cursor:?}");
        }
    }
}
