//! Reading the batches of a run from a cursor, across processes.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use watchkeeper::Observer;
use watchkeeper::report::debug_as_text;
use watchkeeper::runtime::StopReason;
use watchkeeper::subscription::{Cursor, CursorError};

use super::format::{RunClock, RunFormat};
use super::record::RunRecord;
use super::{RunError, RunJournal};
use crate::error::ReadError;
use crate::reader::{JournalReader, ReadFrom};
use crate::record::{ReadItem, Record};
use crate::scan::ScanSource;

/// The recorded events of one cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunBatch<E> {
    /// The position after the batch.
    pub cursor: Cursor,
    /// The generation of the observer's state that found the events.
    pub generation: u64,
    /// The batch's number in the run.
    pub seq: u64,
    /// The cycle that found the events.
    pub cycle: u64,
    /// The wall time of its publication.
    pub system_time: SystemTime,
    /// The events.
    pub events: Vec<E>,
}

/// Returned by a [`RunSubscription`] instead of a batch.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RunRecvError {
    /// Batches are not in the journal any more, or were not recorded. The next call continues after them.
    #[error("{missed} batches are not in the journal: keep more segments, and watch the recording's health")]
    Lagged {
        /// The exact number of missing batches.
        missed: u64,
        /// The position at which the subscription continues.
        resume: Cursor,
    },
    /// The observer's state was built again, also by another process, and later batches start over.
    #[error(
        "the observer's state was rebuilt as generation {generation}: start over from the latest snapshot"
    )]
    Rebuilt {
        /// The new generation.
        generation: u64,
    },
    /// The runtime has ended, and all its recorded batches were read.
    #[error("the recorded run has ended ({0}): record another one, and subscribe to that")]
    Closed(StopReason),
    /// The journal was closed before the run's end was recorded.
    #[error("the journal is closed: open it again, and subscribe from the last cursor")]
    JournalClosed,
    /// A record cannot be read. The next call tries it again, or continues after it.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Why a subscription cannot begin.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RunSubscriptionError {
    /// The cursor is of another run, or from after the last recorded batch.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// The journal cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
}

debug_as_text!(RunRecvError, RunSubscriptionError);

type Next<E> = Result<RunBatch<E>, RunRecvError>;

/// The batches of a run from a cursor on: from the journal, then as they are recorded, without a gap in between.
///
/// It returns only what is recorded as durably as the journal's level promises. A cursor that it has returned is therefore
/// valid after any crash. It behaves as a [`Subscription`](watchkeeper::subscription::Subscription), and reads one journal
/// at its own pace: nothing is lost but what retention removes. Where that has removed the end of a generation, `Rebuilt`
/// comes first and `Lagged` after it, and a position between the two is valid here alone: a runtime may refuse it.
pub struct RunSubscription<O: Observer, F> {
    reader: JournalReader,
    format: Arc<F>,
    clock: RunClock,
    /// The position after everything that was returned.
    cursor: Cursor,
    /// What was read, each with the position after it.
    ready: VecDeque<(Cursor, Next<O::Event>)>,
    closed: Option<StopReason>,
    /// A stop that is the end unless something follows it.
    stopped: Option<StopReason>,
    recordings: watch::Receiver<u64>,
}

impl<O: Observer, F: RunFormat<O>> RunJournal<O, F> {
    /// The batches after a cursor of this run, also one of an earlier process.
    ///
    /// # Errors
    ///
    /// [`RunSubscriptionError`]. A cursor whose next batches are not kept any more is no error:
    /// [`Lagged`](RunRecvError::Lagged) has their exact number.
    pub async fn subscribe_from(
        &self,
        cursor: Cursor,
    ) -> Result<RunSubscription<O, F>, RunSubscriptionError> {
        let source = self.journal.scan_source();
        let Some((last_number, last)) = self.last_record().await? else {
            return Err(CursorError::Foreign.into());
        };
        let newest = last.cursor.0;
        if newest.instance() != cursor.instance() {
            return Err(CursorError::Foreign.into());
        }
        let future = |published| CursorError::Future { seq: cursor.seq(), published };
        if cursor.seq() > newest.seq() || cursor.generation() > newest.generation() {
            return Err(future(newest.seq()).into());
        }
        let find = move || {
            let ended = end_of_generation(&source, cursor)?;
            let first = first_where(&source, |record| {
                let at = record.cursor.0;
                let is_after = (at.seq(), at.generation()) > (cursor.seq(), cursor.generation());
                of_instance(record, cursor.instance()) && is_after
            })?;
            Ok::<_, RunError>((ended, first))
        };
        let found = spawn_blocking(find).await.map_err(|_| RunError::Read(ReadError::Aborted))?;
        let (ended, first) = found?;
        if let Some(published) = ended.filter(|published| cursor.seq() > *published) {
            // It is of batches that were published and not recorded before a crash.
            return Err(future(published).into());
        }
        let reader = self.journal.reader(ReadFrom::Number(first)).map_err(CursorError::from)?;
        Ok(RunSubscription {
            reader,
            format: Arc::clone(&self.format),
            clock: RunClock::new(Instant::now()),
            cursor,
            ready: VecDeque::new(),
            closed: None,
            stopped: last.stop().filter(|_| first > last_number),
            recordings: self.recordings.subscribe(),
        })
    }
}

impl<O: Observer, F: RunFormat<O>> RunSubscription<O, F> {
    /// The position after everything that was returned so far.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Waits for the next recorded batch.
    ///
    /// # Errors
    ///
    /// [`RunRecvError`]. `Lagged` and `Rebuilt` are returned once each; `Closed` is the end. A run whose process was killed
    /// has none: the call waits for the next process, or for the journal's end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call takes no batch.
    pub async fn recv(&mut self) -> Result<RunBatch<O::Event>, RunRecvError> {
        loop {
            if let Some(reason) = self.closed {
                return Err(RunRecvError::Closed(reason));
            }
            if let Some((cursor, item)) = self.ready.pop_front() {
                self.cursor = cursor;
                return item;
            }
            let item = match self.stopped {
                // Another process may have continued the run, or this one continues it.
                Some(reason) => match self.next_or_end().await.map_err(RunError::from)? {
                    None => {
                        self.closed = Some(reason);
                        continue;
                    }
                    item => item,
                },
                None => self.reader.recv().await.map_err(RunError::from)?,
            };
            match item {
                None => return Err(RunRecvError::JournalClosed),
                // The records have numbers of their own.
                Some(ReadItem::Gap(_)) => {}
                Some(ReadItem::Record(record)) => self.read(&record)?,
            }
        }
    }

    /// The next item; `None` if there is none, and nothing is being recorded.
    async fn next_or_end(&mut self) -> Result<Option<ReadItem>, ReadError> {
        loop {
            let is_over = *self.recordings.borrow_and_update() == 0;
            if let Some(item) = self.reader.next_existing().await? {
                return Ok(Some(item));
            }
            if is_over {
                return Ok(None);
            }
            let ready = {
                let (recv, changed) = (pin!(self.reader.recv()), pin!(self.recordings.changed()));
                first_of(recv, changed).await
            };
            match ready {
                First::Left(item) => return item,
                First::Right(Ok(())) => {}
                // The run's journal is dropped: nothing records any more.
                First::Right(Err(_)) => return self.reader.next_existing().await,
            }
        }
    }

    fn read(&mut self, record: &Record) -> Result<(), RunError> {
        let number = record.number();
        let record = RunRecord::read(record)?;
        self.stopped = record.stop();
        let after = record.cursor.0;
        let success = record.success.filter(|success| !success.events.is_empty());
        let before = after.at(after.seq() - u64::from(success.is_some()));
        if before.seq() < self.cursor.seq() || after.instance() != self.cursor.instance() {
            return Ok(());
        }
        let generation = after.generation();
        let mut cursor = self.cursor;
        if generation > cursor.generation() {
            cursor = after.at(cursor.seq());
            self.ready.push_back((cursor, Err(RunRecvError::Rebuilt { generation })));
        }
        let missed = before.seq() - cursor.seq();
        if missed > 0 {
            let resume = cursor.at(before.seq());
            self.ready.push_back((resume, Err(RunRecvError::Lagged { missed, resume })));
        }
        if let Some(success) = success {
            let read = |event| self.format.read_event(event, &self.clock);
            let events = success.events.into_iter().map(read).collect::<Result<_, _>>();
            let batch = events.map(|events| RunBatch {
                cursor: after,
                generation: success.generation,
                seq: before.seq(),
                cycle: success.cycle,
                system_time: record.time.0,
                events,
            });
            let item = batch.map_err(|source| RunError::Format { number, what: "event", source }.into());
            self.ready.push_back((after, item));
        }
        Ok(())
    }
}

impl<O: Observer, F> fmt::Debug for RunSubscription<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunSubscription").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// What was ready first.
enum First<L, R> {
    Left(L),
    Right(R),
}

async fn first_of<L, R>(
    mut left: Pin<&mut impl Future<Output = L>>,
    mut right: Pin<&mut impl Future<Output = R>>,
) -> First<L, R> {
    poll_fn(|context| match left.as_mut().poll(context) {
        Poll::Ready(left) => Poll::Ready(First::Left(left)),
        Poll::Pending => right.as_mut().poll(context).map(First::Right),
    })
    .await
}

/// The number after the last batch of the cursor's generation, if a later one has begun and the record of it is kept.
fn end_of_generation(source: &ScanSource, cursor: Cursor) -> Result<Option<u64>, RunError> {
    let is_later = |record: &RunRecord| {
        of_instance(record, cursor.instance()) && record.cursor.0.generation() > cursor.generation()
    };
    let later = first_where(source, is_later)?;
    let Some(last) = later.checked_sub(1) else { return Ok(None) };
    let Some(record) = source.first_record(last)?.filter(|record| record.number() == last) else {
        return Ok(None);
    };
    let record = RunRecord::read(&record)?;
    let is_its =
        of_instance(&record, cursor.instance()) && record.cursor.0.generation() == cursor.generation();
    Ok(Some(record.cursor.0.seq()).filter(|_| is_its && later < source.frontier.next))
}

pub(super) fn of_instance(record: &RunRecord, instance: u128) -> bool {
    record.cursor.0.instance() == instance
}

/// The number of the first record for which `is_there`, which is true for all later ones too.
pub(super) fn first_where(
    source: &ScanSource,
    is_there: impl Fn(&RunRecord) -> bool,
) -> Result<u64, RunError> {
    let (mut from, mut to) = (source.frontier.oldest(), source.frontier.next);
    while from < to {
        let middle = from + (to - from) / 2;
        match source.first_record(middle)? {
            Some(record) if record.number() < to && !is_there(&RunRecord::read(&record)?) => {
                from = record.number() + 1;
            }
            _ => to = middle,
        }
    }
    Ok(from)
}
