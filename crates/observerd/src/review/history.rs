//! The history that the service has.

use std::collections::VecDeque;

use serde_json::value::RawValue;
use watchkeeper_journal::{Journal, ReadFrom, ReadItem};

use super::facts::{input, is_same};
use super::request::ReviewRequest;
use crate::loops::recent::RecentError;
use crate::operation::Operation;

/// How many of the newest records are searched.
const SEARCHED: u64 = 1_000;

/// How many operations are taken: more than the rules read.
const TAKEN: usize = 40;

/// The most bytes of them, but for the newest.
const TAKEN_BYTES: usize = 1024 * 1024;

/// How many records are read without a break for other tasks.
const WITHOUT_BREAK: u64 = 50;

/// Adds the newest operations of the same `staffer_id` that are recorded: at most 40 of the last 1,000 records, and 1 MiB. Nothing is added if the
/// request has a history, even an empty one, or if its operation has no `staffer_id`: a source alone is no thread of work.
///
/// The newest of them that equals the operation is the operation itself, and is left out.
///
/// # Errors
///
/// The journal cannot be read.
pub async fn add_history(request: &mut ReviewRequest, journal: &Journal) -> Result<(), RecentError> {
    let Some(op) = Operation::of_text(request.op.get()) else { return Ok(()) };
    if op.staffer.is_empty() || request.history.is_some() {
        return Ok(());
    }
    let op_input = input(request.op.get());
    let mut reader = journal.reader(ReadFrom::Last(SEARCHED))?;
    // Each with whether it may be the operation itself. One more than are taken.
    let mut history = VecDeque::new();
    // Bounded, even if more is appended meanwhile.
    let mut bytes = 0;
    for read in 1..=SEARCHED {
        if read.is_multiple_of(WITHOUT_BREAK) {
            tokio::task::yield_now().await;
        }
        let Some(item) = reader.next_existing().await? else { break };
        let ReadItem::Record(record) = item else { continue };
        let Some(past) = Operation::of_record(&record).filter(|past| past.staffer == op.staffer) else {
            continue;
        };
        let Ok(body) = RawValue::from_string(record.body().to_owned()) else { continue };
        bytes += body.get().len();
        history.push_back((is_same((&op, op_input), (&past, input(body.get()))), body));
        while history.len() > TAKEN + 1 || (bytes > TAKEN_BYTES && history.len() > 1) {
            bytes -= history.pop_front().map_or(0, |(_, oldest): (bool, Box<RawValue>)| oldest.get().len());
        }
    }
    if let Some(own) = history.iter().rposition(|(is_own, _)| *is_own) {
        history.remove(own);
    }
    let skipped = history.len().saturating_sub(TAKEN);
    request.history = Some(history.into_iter().skip(skipped).map(|(_, body)| body).collect());
    request.is_fetched = true;
    Ok(())
}
