//! Publishing the records of a tap, and skipping the ones that the tap has lost.

use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper_fsm::State;

use super::{Feed, FeedError, FeedLoss, works};
use crate::cursor::{Cursor, LAST_RESUMED};
use crate::observer::Observer;
use crate::status::Published;
use crate::tap::Record;
use crate::task::lifetime::Terminate;

impl<O: Observer> Feed<O> {
    /// Publishes a record of a [`Tap`](crate::subscription::Tap) unchanged, to replay a run of this process.
    ///
    /// The first record may be any; `FeedStart::from(&record)` starts the feed right before it. Each later record
    /// must follow the one before, or the gap that [`lost_before`](Self::lost_before) has skipped.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: nothing has changed.
    pub fn record(&mut self, record: &Record<O>) -> Result<(), FeedError> {
        self.check_record(record)?;
        let next = &record.published;
        if let Some(expected) = self.next_record.filter(|expected| *expected != next.number) {
            return Err(FeedError::RecordsMissing { expected, found: next.number });
        }
        if before(record) != self.cursor.seq {
            return Err(FeedError::Foreign);
        }
        self.check_order(record)?;
        let end = match next.state {
            State::Stopped { reason } => Some(reason),
            _ => None,
        };
        if let Some(reason) = end
            && self.shared.read(|status| next.succeeded_since(status).is_none())
        {
            return self.stop(record.at, reason);
        }
        // The record of the end may show a success that was lost.
        let mut next = Published::clone(next);
        // The feed's own log counts failures, and may have begun later than the run.
        next.failures = self.shared.read(|status| status.failures) + u64::from(record.failure.is_some());
        self.next_record = Some(next.number + 1);
        if let Some(snapshot) = &next.snapshot {
            (self.cursor, self.event_count) = (snapshot.cursor, snapshot.event_count);
        }
        self.open_cycle = open_after(record, self.open_cycle);
        self.consecutive_failures = match next.state {
            State::Failed { consecutive, .. } => consecutive,
            _ if record.snapshot.is_some() => 0,
            _ => self.consecutive_failures,
        };
        self.publish(record.at, next, record.batch.clone());
        if let Some(reason) = end {
            self.shared.terminate(reason);
        }
        Ok(())
    }

    /// Skips the records between the last record and this one, which a tap has lost
    /// ([`TapError::Lost`](crate::subscription::TapError::Lost)): see [`lost`](Self::lost). The extent of the loss is
    /// computed from `record`, which is to be published next. If nothing is missing, nothing changes.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: nothing has changed. The record is of another run, or comes before the last one.
    ///
    /// # Examples
    ///
    /// A replay with the losses of its tap:
    ///
    /// ```
    /// # use watchkeeper::Observer;
    /// # use watchkeeper::feed::{Feed, FeedError};
    /// # use watchkeeper::subscription::{Tap, TapError};
    /// # async fn example<O: Observer>(mut tap: Tap<O>, mut feed: Feed<O>) -> Result<(), FeedError> {
    /// loop {
    ///     match tap.recv().await {
    ///         Ok(record) => {
    ///             feed.lost_before(&record)?;
    ///             feed.record(&record)?;
    ///         }
    ///         Err(TapError::Lost { .. }) => {} // the next record says how much
    ///         Err(_) => return Ok(()),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn lost_before(&mut self, record: &Record<O>) -> Result<(), FeedError> {
        self.check_record(record)?;
        self.check_order(record)?;
        let found = record.published.number;
        let expected = self.next_record.unwrap_or(found);
        let events = record.batch.as_ref().map_or(0, |batch| batch.events.len() as u64);
        let event_count = match &record.snapshot {
            Some(snapshot) => snapshot.event_count.saturating_sub(events),
            None => record.event_count,
        };
        let batches = before(record).checked_sub(self.cursor.seq).ok_or(FeedError::Foreign)?;
        let publications =
            found.checked_sub(expected).ok_or(FeedError::RecordsMissing { expected, found })?;
        if publications == 0 {
            return Ok(());
        }
        let events = event_count.saturating_sub(self.event_count);
        self.lost(self.fed.now(), FeedLoss { publications, batches, events })?;
        self.next_record = Some(found);
        Ok(())
    }

    /// Marks a part of the run as missing, up to `at`, and continues after it.
    ///
    /// - Subscriptions return their earlier batches, then [`Lagged`](crate::subscription::RecvError::Lagged) with the
    ///   number of missing batches.
    /// - Taps return [`Lost`](crate::subscription::TapError::Lost) with the number of missing publications, before
    ///   the next record.
    /// - Waits in progress count the missing publications. Later publications may still decide them; otherwise they
    ///   end as [`FellBehind`](crate::wait::Inconclusive::FellBehind).
    /// - A handle keeps its last status.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: nothing has changed. `at` is in the past, the numbers are impossible, or the feed has ended.
    pub fn lost(&mut self, at: Instant, loss: FeedLoss) -> Result<(), FeedError> {
        self.check_time(at)?;
        let FeedLoss { publications, batches, events } = loss;
        if batches > publications || batches > events || (batches == 0 && events > 0) {
            return Err(FeedError::InvalidLoss(loss));
        }
        let number = self.shared.read(|status| status.number);
        let after = [
            ("publications", number.saturating_add(publications)),
            ("seq", self.cursor.seq.saturating_add(batches)),
            ("event_count", self.event_count.saturating_add(events)),
        ];
        if let Some((field, value)) = after.into_iter().find(|(_, value)| *value > LAST_RESUMED) {
            return Err(FeedError::TooLarge { field, value });
        }
        self.cursor.seq += batches;
        self.event_count += events;
        self.shared.history.lost(batches);
        self.shared.lost(publications);
        self.fed.advance(at);
        self.shared.wake(&mut Vec::new());
        Ok(())
    }

    /// Refuses a record of another run, of a past moment, or with changed fields.
    fn check_record(&self, record: &Record<O>) -> Result<(), FeedError> {
        self.check_time(record.at)?;
        if record.cursor.instance != self.cursor.instance {
            return Err(FeedError::Foreign);
        }
        if let Some(field) = altered(record) {
            return Err(FeedError::Altered { field });
        }
        Ok(())
    }

    /// Refuses a record with a lower cycle or generation than the publications by hand or by other records.
    fn check_order(&self, record: &Record<O>) -> Result<(), FeedError> {
        let next = &record.published;
        if next.generation < self.cursor.generation {
            let (generation, newest) = (next.generation, self.cursor.generation);
            return Err(FeedError::GenerationWentBack { generation, newest });
        }
        let newest = self.shared.read(|status| status.cycle);
        let ended = ended(record).filter(|cycle| *cycle < self.open_cycle);
        let first = if works(next.state) { open_after(record, self.open_cycle) } else { newest };
        match ended.or(Some(next.cycle).filter(|cycle| *cycle < first.max(newest))) {
            Some(cycle) => Err(FeedError::CycleWentBack { cycle, newest }),
            None => Ok(()),
        }
    }
}

/// The cycle that ended with this record.
fn ended<O: Observer>(record: &Record<O>) -> Option<u64> {
    let succeeded = record.snapshot.as_ref().map(|snapshot| snapshot.cycle);
    succeeded.or(record.failure.as_ref().map(|failure| failure.cycle))
}

/// The first cycle that has not ended after this record.
fn open_after<O: Observer>(record: &Record<O>, before: u64) -> u64 {
    ended(record).map_or(before, |cycle| cycle + 1)
}

/// The number of the first batch that was not published before this record.
fn before<O: Observer>(record: &Record<O>) -> u64 {
    record.batch.as_ref().map_or(record.cursor.seq, |batch| batch.seq)
}

/// The first public field that differs from the publication.
fn altered<O: Observer>(record: &Record<O>) -> Option<&'static str> {
    let published = &record.published;
    let snapshot = record.snapshot.as_ref();
    let is_same =
        snapshot.is_none_or(|own| published.snapshot.as_ref().is_some_and(|known| Arc::ptr_eq(known, own)));
    let failure = record.failure.as_ref();
    let has_failed =
        failure.is_none_or(|own| published.last_error.as_ref().is_some_and(|known| Arc::ptr_eq(known, own)));
    let newest = published.snapshot.as_ref().map(|snapshot| (snapshot.cursor, snapshot.event_count));
    let batch = record.batch.as_ref().is_none_or(|batch| {
        let after = |cursor: Cursor| batch.seq.checked_add(1) == Some(cursor.seq);
        snapshot.is_some_and(|snapshot| after(snapshot.cursor) && batch.cycle == snapshot.cycle)
    });
    let checks = [
        ("number", record.number == published.number),
        ("snapshot", is_same),
        ("failure", has_failed),
        ("batch", batch),
        ("cursor", newest.is_none_or(|(cursor, _)| cursor == record.cursor)),
        ("event_count", newest.is_none_or(|(_, count)| count == record.event_count)),
    ];
    checks.into_iter().find_map(|(field, is_right)| (!is_right).then_some(field))
}
