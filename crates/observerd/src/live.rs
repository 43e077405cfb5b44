//! What was recorded, to any number of readers: each record is read once, and not once for each reader.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::{self, WeakSender};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use watchkeeper_journal::{
    Cursor, Gap, GapCause, Journal, JournalReader, ReadError, ReadFrom, ReadFromError, ReadItem, Record,
};

use crate::filter::Filter;
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
            ReadItem::Record(record) => Self::of_record(record, Operation::of_record(record)),
            ReadItem::Gap(gap) => Self::of_gap(gap, identity.at(gap.last + 1)),
        }
    }

    /// The same, if the filter takes it. The operation is read only if the filter needs it. Gaps are always taken.
    pub(crate) fn if_taken(item: &ReadItem, identity: Cursor, filter: &Filter) -> Option<Self> {
        let ReadItem::Record(record) = item else { return Some(Self::of(item, identity)) };
        if filter.is_open() {
            return Some(Self::of_record(record, None));
        }
        let operation = Operation::of_record(record);
        filter.takes(operation.as_ref()).then(|| Self::of_record(record, operation))
    }

    fn of_record(record: &Record, operation: Option<Operation>) -> Self {
        let (number, after) = (record.number(), record.after());
        let body = record.body();
        let json = format!(r#"{{"sequence":{number},"cursor":"{after}","operation":{body}}}"#);
        Self { operation, is_gap: false, number, json, after }
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
    /// The follower has the one that keeps the channel open: streams end with it.
    parts: WeakSender<Arc<Part>>,
    next: Arc<AtomicU64>,
    follower: JoinHandle<()>,
}

impl Live {
    /// Follows from the end on, in a task that ends with the journal or with this value.
    ///
    /// # Errors
    ///
    /// The journal has no end: it was never open.
    pub(crate) fn follow(journal: &Journal) -> Result<Self, ReadFromError> {
        // Before it returns: a stream that begins now must get what comes from now on.
        let reader = journal.reader(ReadFrom::End)?;
        let next = Arc::new(AtomicU64::new(reader.cursor().seq()));
        let (sender, _) = broadcast::channel(PARTS);
        let parts = sender.downgrade();
        let follower = Follower { journal: journal.clone(), reader, parts: sender, next: Arc::clone(&next) };
        Ok(Self { parts, next, follower: tokio::spawn(follower.run()) })
    }

    /// What comes from now on. It is closed if the follower has ended.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Part>> {
        match self.parts.upgrade() {
            Some(parts) => parts.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    /// The number of the next record that streams get.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

struct Follower {
    journal: Journal,
    reader: JournalReader,
    parts: broadcast::Sender<Arc<Part>>,
    next: Arc<AtomicU64>,
}

impl Follower {
    async fn run(mut self) {
        loop {
            match self.reader.recv().await {
                Ok(Some(first)) => {
                    let (part, is_full) = part(&mut self.reader, first).await;
                    self.next.store(part.after.seq(), Ordering::Relaxed);
                    // An error says that nobody reads.
                    let _ = self.parts.send(Arc::new(part));
                    if !is_full {
                        sleep(COALESCE).await;
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(%error, "what was recorded cannot be read");
                    sleep(AFTER_ERROR).await;
                    if matches!(error, ReadError::Aborted) {
                        let Ok(reader) = self.journal.reader(ReadFrom::Cursor(self.reader.cursor())) else {
                            return;
                        };
                        self.reader = reader;
                    }
                }
            }
        }
    }
}

/// What there is now, and whether there may be more.
async fn part(reader: &mut JournalReader, first: ReadItem) -> (Part, bool) {
    let number = match &first {
        ReadItem::Record(record) => record.number(),
        ReadItem::Gap(gap) => gap.first,
    };
    let (mut bytes, mut read) = (0, vec![first]);
    while bytes < PART {
        // What was read is published; an error comes again with the next read.
        let Ok(Some(item)) = reader.next_existing().await else { break };
        bytes += match &item {
            ReadItem::Record(record) => record.body().len() + 128,
            ReadItem::Gap(_) => 128,
        };
        read.push(item);
    }
    let is_full = bytes >= PART;
    (Part { first: number, after: reader.cursor(), read, rendered: OnceLock::new() }, is_full)
}
