//! A page of operations.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use watchkeeper_journal::{Cursor, Journal, JournalReader, ReadError, ReadItem};

use crate::filter::Filter;
use crate::live::Item;

/// The most records that are read for a page: with a filter that takes few of them, a page ends before it is full.
const MOST_READ: usize = 50_000;

/// The same in bytes.
const MOST_BYTES_READ: usize = 16 * 1024 * 1024;

/// The most bytes of a page, but for its last operation.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// How many records are read without a break for other tasks.
const WITHOUT_BREAK: usize = 500;

/// A page of operations, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventsPage {
    /// The operations.
    #[schema(value_type = Vec<EventsItem>)]
    pub(crate) events: Vec<Box<RawValue>>,
    /// Numbers in the page that have no records any more.
    #[schema(value_type = Vec<EventsGap>)]
    pub(crate) gaps: Vec<Box<RawValue>>,
    /// Where the next page begins: `from` of the next request.
    pub(crate) next: String,
    /// Whether this was all there was. An empty page that is not the end is one whose filter took nothing of what it read.
    pub(crate) at_end: bool,
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

pub(crate) async fn page(
    journal: &Journal,
    mut reader: JournalReader,
    filter: &Filter,
    limit: usize,
) -> Result<EventsPage, ReadError> {
    let identity = journal.oldest();
    let mut page = EventsPage { events: Vec::new(), gaps: Vec::new(), next: String::new(), at_end: false };
    let (mut bytes, mut bytes_read) = (0, 0);
    for read in 1..=MOST_READ {
        let Some(item) = reader.next_existing().await? else {
            page.at_end = true;
            break;
        };
        if let ReadItem::Record(record) = &item {
            bytes_read += record.body().len();
        }
        if let Some(item) = Item::if_taken(&item, identity, filter) {
            bytes += item.json.len();
            let place = if item.is_gap { &mut page.gaps } else { &mut page.events };
            // It is made of a record, whose text is JSON.
            place.extend(RawValue::from_string(item.json));
        }
        if page.events.len() >= limit || bytes >= MOST_BYTES || bytes_read >= MOST_BYTES_READ {
            break;
        }
        if read.is_multiple_of(WITHOUT_BREAK) {
            tokio::task::yield_now().await;
        }
    }
    let next: Cursor = reader.cursor();
    page.at_end = page.at_end || next == journal.cursor();
    page.next = next.to_string();
    Ok(page)
}
