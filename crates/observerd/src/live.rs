//! What was recorded, to any number of readers: each record is read once, and not once for each reader.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
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

/// Consecutive items that were recorded.
#[derive(Debug)]
pub(crate) struct Part {
    /// The number of the first item.
    pub(crate) first: u64,
    /// The position after the last one.
    pub(crate) after: Cursor,
    read: Vec<ReadItem>,
    /// Made by the first reader that wants it: where nobody reads, nothing is parsed.
    rendered: OnceLock<Rendered>,
}

/// The items as a reader of a stream gets them.
#[derive(Debug)]
pub(crate) struct Rendered {
    /// The items.
    pub(crate) items: Vec<Item>,
    /// All of them as the text of a stream.
    pub(crate) text: Bytes,
}

impl Part {
    pub(crate) fn rendered(&self) -> &Rendered {
        self.rendered.get_or_init(|| {
            let items: Vec<_> = self.read.iter().map(|item| Item::of(item, self.after)).collect();
            let mut text = String::with_capacity(items.iter().map(|item| item.json.len() + 128).sum());
            for item in &items {
                item.write(&mut text);
            }
            Rendered { items, text: Bytes::from(text) }
        })
    }
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
}

impl Drop for Live {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

async fn follow(journal: Journal, parts: broadcast::Sender<Arc<Part>>) {
    let Ok(mut reader) = journal.reader(ReadFrom::End) else { return };
    loop {
        match reader.recv().await {
            // An error says that nobody reads.
            Ok(Some(first)) => drop(parts.send(Arc::new(part(&mut reader, first).await))),
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

async fn part(reader: &mut JournalReader, first: ReadItem) -> Part {
    let number = match &first {
        ReadItem::Record(record) => record.number(),
        ReadItem::Gap(gap) => gap.first,
    };
    let mut bytes = 0;
    let mut read = vec![first];
    while bytes < PART {
        // What was read is published; an error comes again with the next read.
        let Ok(Some(item)) = reader.next_existing().await else { break };
        if let ReadItem::Record(record) = &item {
            bytes += record.body().len();
        }
        read.push(item);
    }
    Part { first: number, after: reader.cursor(), read, rendered: OnceLock::new() }
}
