//! A page of operations.

use serde::Serialize;
use utoipa::ToSchema;
use watchkeeper_journal::{Cursor, Journal, JournalReader, ReadError, ReadItem};

use crate::filter::Filter;
use crate::live::Item;

/// The most records that are read for a page: with a filter that takes few of them, a page ends before it is full.
const MOST_READ: usize = 50_000;

/// The same in bytes.
const MOST_BYTES_READ: usize = 16 * 1024 * 1024;

/// The most bytes of a page, but for its last operation.
const MOST_BYTES: usize = 1024 * 1024;

/// What a page may take in memory while it is made: with its last operation, twice.
pub(crate) const MEMORY: usize = 4 * MOST_BYTES;

/// How many records are read without a break for other tasks.
const WITHOUT_BREAK: usize = 500;

/// A page of operations, oldest first. It is written as text; this is its schema.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventsPage {
    /// The operations.
    events: Vec<EventsItem>,
    /// Numbers in the page that have no records any more.
    gaps: Vec<EventsGap>,
    /// Where the next page begins: `from` of the next request.
    next: String,
    /// Whether this was all there was. An empty page that is not the end is one whose filter took nothing of what it read.
    at_end: bool,
}

/// One operation of a page.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventsItem {
    /// Its sequence.
    pub sequence: u64,
    /// The position after it.
    pub cursor: String,
    /// The operation as it was recorded.
    #[schema(value_type = Object)]
    pub operation: serde_json::Value,
}

/// Consecutive numbers without records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventsGap {
    /// The first missing number.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many there are.
    pub count: u64,
    /// `retired` by retention, `damaged`, or `missing`: their append has failed, or their segment is gone.
    pub cause: String,
    /// The position after it.
    pub cursor: String,
}

/// A page as text, and how many operations it has.
pub(crate) async fn page(
    journal: &Journal,
    mut reader: JournalReader,
    filter: &Filter,
    limit: usize,
) -> Result<String, ReadError> {
    let identity = journal.oldest();
    let (mut events, mut gaps) = (String::new(), String::new());
    let (mut count, mut bytes_read, mut at_end) = (0, 0, false);
    for read in 1..=MOST_READ {
        let Some(item) = reader.next_existing().await? else {
            at_end = true;
            break;
        };
        if let ReadItem::Record(record) = &item {
            bytes_read += record.body().len();
        }
        if let Some(item) = Item::if_taken(&item, identity, filter) {
            count += usize::from(!item.is_gap);
            let list = if item.is_gap { &mut gaps } else { &mut events };
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(&item.json);
        }
        if count >= limit || events.len() >= MOST_BYTES || bytes_read >= MOST_BYTES_READ {
            break;
        }
        if read.is_multiple_of(WITHOUT_BREAK) {
            tokio::task::yield_now().await;
        }
    }
    let next: Cursor = reader.cursor();
    at_end = at_end || next == journal.cursor();
    Ok(format!(r#"{{"events":[{events}],"gaps":[{gaps}],"next":"{next}","at_end":{at_end}}}"#))
}
