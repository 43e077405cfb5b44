//! The history that the service has.

use serde_json::value::RawValue;
use watchkeeper_journal::{Journal, ReadFrom, ReadItem};

use super::request::ReviewRequest;
use crate::loops::recent::RecentError;
use crate::operation::Operation;

/// How many of the newest records are searched.
const SEARCHED: u64 = 1_000;

/// How many operations are taken.
const TAKEN: usize = 100;

/// Adds the newest operations of the same `staffer_id` that are recorded: at most 100 of the last 1,000 records. Nothing is added if the
/// request has a history, even an empty one, or if its operation has no `staffer_id`: a source alone is no thread of work.
///
/// # Errors
///
/// The journal cannot be read.
pub async fn add_history(request: &mut ReviewRequest, journal: &Journal) -> Result<(), RecentError> {
    let staffer = Operation::of_text(request.op.get()).map(|operation| operation.staffer);
    let Some(staffer) = staffer.filter(|staffer| !staffer.is_empty() && request.history.is_none()) else {
        return Ok(());
    };
    let mut reader = journal.reader(ReadFrom::Last(SEARCHED))?;
    let mut history = Vec::new();
    // Bounded, even if more is appended meanwhile.
    for _ in 0..SEARCHED {
        let Some(item) = reader.next_existing().await? else { break };
        let ReadItem::Record(record) = item else { continue };
        let is_of_it = Operation::of_record(&record).is_some_and(|operation| operation.staffer == staffer);
        if let Some(body) = is_of_it.then(|| RawValue::from_string(record.body().to_owned()).ok()).flatten() {
            history.push(body);
        }
    }
    history.drain(..history.len().saturating_sub(TAKEN));
    request.history = Some(history);
    Ok(())
}
