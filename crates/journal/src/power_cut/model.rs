//! What must be in the journal after what has happened, and the check that it is.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use watchkeeper::subscription::Cursor;

use super::disk::Disk;
use crate::config::Durability;
use crate::entry::Entry;
use crate::medium::Medium;
use crate::record::{ReadItem, Record};
use crate::scan::Scan;
use crate::segment::Frontier;
use crate::writer::{Request, Written};

/// What is known of an operation that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It may be there or not.
    Unknown,
    /// It is there unless the process ends.
    InMemory,
    /// It is there unless the power is cut.
    Buffered,
    /// It is there unless retention removes it.
    Durable,
    /// It was not there, and never comes back.
    Gone,
}

struct Operation {
    entry: Entry,
    fate: Fate,
    /// Its number, once it was answered or read.
    number: Option<u64>,
}

#[derive(Default)]
pub(super) struct Model {
    operations: Vec<Operation>,
    batches: Vec<Range<usize>>,
    identity: Option<Cursor>,
    /// Every number is below that was answered or read, and that nothing has taken back.
    next: u64,
    /// The next number at the last opening: a reader may have a cursor of it.
    opened: u64,
}

#[derive(Deserialize)]
struct Body {
    op: usize,
}

/// What a violated rule says.
pub(super) type Checked = Result<(), String>;

fn ensure(holds: bool, rule: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(rule()) }
}

impl Model {
    /// The next operation, with so much text.
    fn entry(&mut self, text: usize) -> Entry {
        let op = self.operations.len();
        let body = format!("{{\"op\":{op},\"text\":\"{}\"}}", &"x".repeat(text));
        let mut entry = Entry::from_text(body).unwrap();
        if op.is_multiple_of(5) {
            entry = entry.with_key(&format!("key {op}")).unwrap();
        }
        self.operations.push(Operation { entry: entry.clone(), fate: Fate::Unknown, number: None });
        entry
    }

    /// A call that appends operations of these lengths.
    pub(super) fn submit(&mut self, texts: &[usize], is_batch: bool, at: tokio::time::Instant) -> Request {
        let start = self.operations.len();
        let entries = texts.iter().map(|text| self.entry(*text)).collect();
        if is_batch {
            self.batches.push(start..self.operations.len());
        }
        Request { entries, is_batch, at }
    }

    /// The answers to the calls whose first operation is `op`.
    pub(super) fn answered(&mut self, mut op: usize, requests: &[Request], answers: Vec<Written>) -> Checked {
        ensure(answers.len() == requests.len(), || "not each call was answered".to_owned())?;
        for (request, answer) in requests.iter().zip(answers) {
            let operations = op..op + request.entries.len();
            op = operations.end;
            let Ok((first, level)) = answer else { continue };
            ensure(first >= self.next, || {
                format!("number {first} was answered again: {} is the next", self.next)
            })?;
            self.next = first + request.entries.len() as u64;
            let fate = match level {
                Durability::Memory => Fate::InMemory,
                Durability::Buffered => {
                    // What waited in memory was written first.
                    self.written();
                    Fate::Buffered
                }
                Durability::Group | Durability::Always => Fate::Durable,
            };
            for (operation, number) in self.operations[operations].iter_mut().zip(first..) {
                (operation.fate, operation.number) = (fate, Some(number));
            }
        }
        Ok(())
    }

    /// What waited in memory was written.
    pub(super) fn written(&mut self) {
        self.replace(&[Fate::InMemory], Fate::Buffered);
    }

    fn replace(&mut self, old: &[Fate], new: Fate) {
        self.operations
            .iter_mut()
            .filter(|operation| old.contains(&operation.fate))
            .for_each(|operation| operation.fate = new);
    }

    /// Numbers of what may be lost are used again.
    fn lost(&mut self, fates: &[Fate]) {
        self.replace(fates, Fate::Unknown);
        let kept = self.operations.iter().filter(|operation| operation.fate != Fate::Unknown);
        self.next = kept.filter_map(|operation| operation.number).max().map_or(0, |number| number + 1);
    }

    pub(super) fn count(&self) -> usize {
        self.operations.len()
    }

    pub(super) fn in_memory(&self) -> u64 {
        self.operations.iter().filter(|operation| operation.fate == Fate::InMemory).count() as u64
    }

    pub(super) fn closed(&mut self) {
        self.replace(&[Fate::InMemory, Fate::Buffered], Fate::Durable);
    }

    pub(super) fn killed(&mut self) {
        self.lost(&[Fate::InMemory]);
    }

    pub(super) fn power_cut(&mut self) {
        self.lost(&[Fate::InMemory, Fate::Buffered]);
    }

    /// Checks what was recovered. What is there now stays.
    pub(super) fn opened(
        &mut self,
        medium: &Arc<dyn Medium>,
        disk: &Disk,
        identity: Cursor,
        frontier: &Frontier,
    ) -> Checked {
        let known = *self.identity.get_or_insert(identity);
        ensure(known == identity, || "the journal has another identity".to_owned())?;
        let found = self.read(medium, identity, frontier)?;
        self.settle(&found, disk.retired())?;
        let least = self.next.max(self.opened);
        ensure(frontier.next >= least, || {
            format!("the next number is {}, and {least} was it before", frontier.next)
        })?;
        self.opened = frontier.next;
        let plain = plain(disk);
        let ours: Vec<usize> = found.iter().map(|(op, _)| *op).collect();
        ensure(plain == ours, || format!("a plain reader sees the operations {plain:?}, and ours {ours:?}"))?;
        self.next = self.next.max(found.last().map_or(0, |(_, number)| number + 1));
        Ok(())
    }

    /// Checks what readers of the running process see: all that was answered, and nothing else.
    pub(super) fn running(&self, medium: &Arc<dyn Medium>, disk: &Disk, frontier: &Frontier) -> Checked {
        let identity = self.identity.ok_or("not opened")?;
        let mut found = self.read(medium, identity, frontier)?;
        // A power cut may have brought back what retention had removed.
        let oldest = frontier.oldest().max(disk.retired());
        found.retain(|(_, number)| *number >= oldest);
        let expected: Vec<(usize, u64)> = self
            .operations
            .iter()
            .enumerate()
            .filter(|(_, operation)| matches!(operation.fate, Fate::Durable | Fate::Buffered))
            .filter_map(|(op, operation)| Some((op, operation.number.filter(|number| *number >= oldest)?)))
            .collect();
        ensure(found == expected, || format!("a reader sees {found:?} in place of {expected:?}"))
    }

    /// Reads everything: operations with their numbers.
    fn read(
        &self,
        medium: &Arc<dyn Medium>,
        identity: Cursor,
        frontier: &Frontier,
    ) -> Result<Vec<(usize, u64)>, String> {
        let mut scan = Scan::new(Arc::clone(medium), identity, frontier.clone(), 0);
        let (mut due, mut found) = (0, Vec::new());
        while let Some(item) = scan.next().map_err(|error| format!("cannot read: {error:?}"))? {
            let (first, after) = match &item {
                ReadItem::Record(record) => (record.number(), record.number() + 1),
                ReadItem::Gap(gap) => (gap.first, gap.last + 1),
            };
            ensure(first == due && after > due, || format!("number {due} is due, and {first} is read"))?;
            due = after;
            if let ReadItem::Record(record) = item {
                let op = self.known(&record)?;
                let before = found.last().map(|(op, _)| *op);
                ensure(before < Some(op), || format!("operation {op} is read after {before:?}"))?;
                found.push((op, record.number()));
            }
        }
        ensure(due == frontier.next, || {
            format!("the reader ends before {due}, and the next is {}", frontier.next)
        })?;
        Ok(found)
    }

    /// The operation that a record is, unchanged.
    fn known(&self, record: &Record) -> Result<usize, String> {
        let wrong = || format!("a record that nobody has submitted: {}", record.body());
        let Body { op } = record.parse().map_err(|_| wrong())?;
        let operation = self.operations.get(op).ok_or_else(wrong)?;
        let key = operation.entry.key.as_ref().map(|key| serde_json::from_str(key).unwrap());
        ensure(operation.entry.body() == record.body() && key == record.key(), wrong)?;
        let number = record.number();
        ensure(operation.number.is_none_or(|known| known == number), || {
            format!("operation {op} has number {number}, and {:?} was answered", operation.number)
        })?;
        let count = record.batch().map(|batch| batch.count);
        let batch = self.batches.iter().find(|batch| batch.contains(&op));
        ensure(count == batch.map(|batch| batch.len() as u64), || {
            format!("operation {op} of another batch")
        })?;
        Ok(op)
    }

    /// Compares what was read after an opening with what is known, and knows more.
    fn settle(&mut self, found: &[(usize, u64)], retired: u64) -> Checked {
        let mut rest = found.iter().peekable();
        for (op, operation) in self.operations.iter_mut().enumerate() {
            let number = rest.next_if(|(found, _)| *found == op).map(|(_, number)| *number);
            let fate = operation.fate;
            if number.is_some() {
                ensure(fate != Fate::Gone, || format!("operation {op} was gone, and is back"))?;
                (operation.fate, operation.number) = (Fate::Durable, number);
            } else {
                let is_promised = matches!(fate, Fate::Durable | Fate::Buffered);
                let is_retired = operation.number.is_some_and(|number| number < retired);
                ensure(!is_promised || is_retired, || {
                    format!("operation {op}, number {:?}, was promised and is missing", operation.number)
                })?;
                operation.fate = Fate::Gone;
                operation.number = operation.number.filter(|_| is_promised);
            }
        }
        for batch in &self.batches {
            let there =
                self.operations[batch.clone()].iter().filter(|operation| operation.fate == Fate::Durable);
            let there = there.count();
            ensure(there == 0 || there == batch.len(), || {
                format!("of the batch of the operations {batch:?}, {there} are there")
            })?;
        }
        Ok(())
    }
}

/// What a reader of JSON lines sees that knows nothing of journals.
fn plain(disk: &Disk) -> Vec<usize> {
    let segments = disk.segments();
    let lines = segments.iter().flat_map(|segment| segment.split(|byte| *byte == b'\n'));
    lines.filter_map(|line| serde_json::from_slice::<Body>(line).ok()).map(|body| body.op).collect()
}
