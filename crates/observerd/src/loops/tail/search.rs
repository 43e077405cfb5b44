//! The newest position in a journal.

use tokio::task::yield_now;
use watchkeeper_journal::{Cursor, Journal, ReadError, ReadFrom, ReadFromError, ReadItem};

use super::mark::Position;

/// How many of the newest records are searched first.
const FIRST: u64 = 65_536;

/// The most records that are searched at once.
const MOST: u64 = 1024 * 1024;

/// After how many records others have a turn.
const TURN: u64 = 4_096;

/// The newest position of the records from a cursor on.
pub(super) async fn newest_since(journal: &Journal, from: Cursor) -> Result<Option<Position>, SearchError> {
    newest_of(journal, ReadFrom::Cursor(from), u64::MAX).await
}

/// The newest position of all, searched from the end.
pub(super) async fn newest(journal: &Journal) -> Result<Option<Position>, SearchError> {
    let (mut end, oldest) = (journal.cursor().seq(), journal.oldest().seq());
    let (all, mut some) = (end - oldest.min(end), FIRST);
    while end > oldest {
        let begin = end.saturating_sub(some).max(oldest);
        if let Some(position) = newest_of(journal, ReadFrom::Number(begin), end).await? {
            return Ok(Some(position));
        }
        end = begin;
        some = (some * 4).min(MOST);
        tracing::info!(
            records = all,
            left = end - oldest,
            "searching the journal for the position of the tail"
        );
    }
    Ok(None)
}

async fn newest_of(journal: &Journal, from: ReadFrom, end: u64) -> Result<Option<Position>, SearchError> {
    let mut reader = journal.reader(from)?;
    let mut newest = None;
    while let Some(item) = reader.next_existing().await? {
        let ReadItem::Record(record) = item else { continue };
        if record.number() >= end {
            break;
        }
        if let Some(text) = record.position() {
            if let Ok(position) = text.parse() {
                newest = Some(position);
            } else {
                tracing::warn!(record = record.number(), "a position is of another version");
            }
        }
        if record.number() % TURN == 0 {
            yield_now().await;
        }
    }
    Ok(newest)
}

/// Why the journal was not searched.
#[derive(thiserror::Error)]
pub(super) enum SearchError {
    #[error(transparent)]
    From(#[from] ReadFromError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

watchkeeper::report::debug_as_text!(SearchError);
