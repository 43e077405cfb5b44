//! What was recorded, to any number of readers: each record is read once, and not once for each reader.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use watchkeeper_journal::{Cursor, Gap, GapCause, Journal, JournalReader, ReadError, ReadFrom, ReadItem};

use crate::operation::Operation;

/// After a part is published, what comes within this time is one part: at many readers, each costs a write.
const COALESCE: Duration = Duration::from_millis(20);

/// The most bytes of a part, but for its last record.
const PART: usize = 64 * 1024;

/// How many parts a reader may be behind before it reads the journal by itself.
const PARTS: usize = 64;

/// How long the follower waits after an error of the disk.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Consecutive items as a reader of the stream gets them.
#[derive(Debug)]
pub(crate) struct Part {
    /// The number of the first item.
    pub(crate) first: u64,
    /// The position after the last one.
    pub(crate) after: Cursor,
    /// The items.
    pub(crate) items: Vec<Item>,
    /// All of them as the text of a stream.
    pub(crate) text: Bytes,
}

/// A record or a gap.
#[derive(Debug)]
pub(crate) struct Item {
    /// What filters look at: `None` for a gap, and for a record that is no operation.
    pub(crate) operation: Option<Operation>,
    pub(crate) is_gap: bool,
    /// Its number; of a gap, the last one.
    pub(crate) number: u64,
    pub(crate) after: Cursor,
    /// The JSON object, on one line.
    pub(crate) json: String,
}

impl Item {
    pub(crate) fn of(item: &ReadItem, identity: Cursor) -> Self {
        match item {
            ReadItem::Record(record) => {
                let (number, after) = (record.number(), record.after());
                let body = record.body();
                let json = format!(r#"{{"sequence":{number},"cursor":"{after}","operation":{body}}}"#);
                Self { operation: Operation::of_record(record), is_gap: false, number, after, json }
            }
            ReadItem::Gap(gap) => Self::of_gap(gap, identity.at(gap.last + 1)),
        }
    }

    fn of_gap(gap: &Gap, after: Cursor) -> Self {
        let cause = match gap.cause {
            GapCause::Retired => "retired",
            GapCause::Damaged { .. } => "damaged",
            _ => "missing",
        };
        let (first, last, count) = (gap.first, gap.last, gap.count());
        let gap = format!(
            r#"{{"first":{first},"last":{last},"count":{count},"cause":"{cause}","cursor":"{after}"}}"#
        );
        Self { operation: None, is_gap: true, number: last, after, json: gap }
    }

    /// The item as an event of a stream. Its id is the position after it.
    pub(crate) fn write(&self, text: &mut String) {
        let name = if self.is_gap { "gap" } else { "operation" };
        // Writing to a string does not fail.
        let _ = write!(text, "id: {}\nevent: {name}\ndata: {}\n\n", self.after, self.json);
    }
}

/// Follows the journal, and publishes what it reads.
#[derive(Debug)]
pub(crate) struct Live {
    parts: broadcast::Sender<Arc<Part>>,
    follower: JoinHandle<()>,
}

impl Live {
    /// Follows from the end on, in a task that ends with the journal or with this value.
    pub(crate) fn follow(journal: &Journal) -> Self {
        let (parts, _) = broadcast::channel(PARTS);
        let follower = tokio::spawn(follow(journal.clone(), parts.clone()));
        Self { parts, follower }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Part>> {
        self.parts.subscribe()
    }

    pub(crate) fn readers(&self) -> usize {
        self.parts.receiver_count()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

async fn follow(journal: Journal, parts: broadcast::Sender<Arc<Part>>) {
    let identity = journal.oldest();
    let Ok(mut reader) = journal.reader(ReadFrom::End) else { return };
    loop {
        match reader.recv().await {
            Ok(Some(first)) => match part(&mut reader, first, identity).await {
                // Without readers there is no error worth a line.
                Ok(part) => drop(parts.send(Arc::new(part))),
                Err(error) => wait_after(&error).await,
            },
            Ok(None) | Err(ReadError::Aborted) => return,
            Err(error) => wait_after(&error).await,
        }
        sleep(COALESCE).await;
    }
}

async fn wait_after(error: &ReadError) {
    tracing::error!(%error, "what was recorded cannot be read");
    sleep(AFTER_ERROR).await;
}

async fn part(reader: &mut JournalReader, first: ReadItem, identity: Cursor) -> Result<Part, ReadError> {
    let number = match &first {
        ReadItem::Record(record) => record.number(),
        ReadItem::Gap(gap) => gap.first,
    };
    let first = Item::of(&first, identity);
    let (mut after, mut bytes) = (first.after, first.json.len());
    let mut items = vec![first];
    while bytes < PART {
        let item = match reader.next_existing().await {
            Ok(Some(item)) => Item::of(&item, identity),
            Ok(None) => break,
            // What was read is published; the error comes again with the next read.
            Err(_) => break,
        };
        bytes += item.json.len();
        after = item.after;
        items.push(item);
    }
    let mut text = String::with_capacity(bytes + items.len() * 128);
    for item in &items {
        item.write(&mut text);
    }
    Ok(Part { first: number, after, items, text: Bytes::from(text) })
}
