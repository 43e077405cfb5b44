//! Reading records.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::ReusableBoxFuture;
use watchkeeper::subscription::Cursor;

use crate::error::{ReadError, ReadFromError};
use crate::record::ReadItem;
use crate::scan::Scan;
use crate::segment::Frontier;

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record.
    Oldest,
    /// The next record to be appended.
    End,
    /// A position of this journal: [`Record::cursor`](crate::Record::cursor), [`Record::after`](crate::Record::after) or [`Journal::cursor`](crate::Journal::cursor).
    Cursor(Cursor),
    /// The record of this number; a gap if it is not there any more.
    Number(u64),
    /// The newest records, at most this many.
    Last(u64),
}

impl ReadFrom {
    pub(crate) fn number(self, identity: Cursor, frontier: &Frontier) -> Result<u64, ReadFromError> {
        let published = frontier.next;
        match self {
            Self::Oldest => Ok(frontier.oldest()),
            Self::End => Ok(published),
            Self::Cursor(cursor) if cursor.at(0) != identity => Err(ReadFromError::Foreign),
            Self::Cursor(cursor) if cursor.seq() > published => {
                Err(ReadFromError::Future { number: cursor.seq(), next: published })
            }
            Self::Cursor(cursor) => Ok(cursor.seq()),
            Self::Number(number) if number > published => {
                Err(ReadFromError::Future { number, next: published })
            }
            Self::Number(number) => Ok(number),
            Self::Last(count) => Ok(published.saturating_sub(count).max(frontier.oldest())),
        }
    }
}

/// Reads a journal of this process in order, and follows it: every record once, or the gap that has it.
///
/// It returns records only after their append was answered. It is a [`Stream`], which ends when the journal is closed and
/// everything was read. Each reader reads the files by itself; blocking work runs on tokio's blocking threads, which
/// needs a tokio runtime.
///
/// # Examples
///
/// ```
/// use watchkeeper_journal::{Entry, Journal, JournalConfig, ReadFrom, ReadItem};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = Journal::in_memory(JournalConfig::default())?;
/// let mut reader = journal.reader(ReadFrom::Oldest)?;
/// journal.append(Entry::from_text(r#"{"op":"put"}"#)?).await?;
/// let Some(ReadItem::Record(record)) = reader.recv().await? else { panic!("no record") };
/// assert_eq!((record.number(), record.body()), (0, r#"{"op":"put"}"#));
/// journal.close().await?;
/// assert!(reader.recv().await?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct JournalReader {
    identity: Cursor,
    /// `None` while a thread has it.
    scan: Option<Scan>,
    filling: Option<JoinHandle<Filled>>,
    changes: watch::Receiver<Frontier>,
    changed: Option<ReusableBoxFuture<'static, (watch::Receiver<Frontier>, bool)>>,
    items: VecDeque<ReadItem>,
    next: u64,
    is_memory: bool,
    /// The journal is closed, and this was its last frontier.
    is_last: bool,
    /// The stream has said that it was aborted.
    is_aborted: bool,
}

type Filled = (Scan, VecDeque<ReadItem>, Result<(), ReadError>);

impl JournalReader {
    pub(crate) fn new(scan: Scan, changes: watch::Receiver<Frontier>, is_memory: bool) -> Self {
        Self {
            identity: scan.identity,
            next: scan.expected(),
            scan: Some(scan),
            filling: None,
            changes,
            changed: None,
            items: VecDeque::new(),
            is_memory,
            is_last: false,
            is_aborted: false,
        }
    }

    /// The position after everything that was returned so far.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.identity.at(self.next)
    }

    /// Waits for the next item; `None` after the last one of a closed journal.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; the next call tries it again, unless it is [`Aborted`](ReadError::Aborted).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call takes nothing.
    pub async fn recv(&mut self) -> Result<Option<ReadItem>, ReadError> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The next item of what is appended already; `None` if there is no further one now.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn next_existing(&mut self) -> Result<Option<ReadItem>, ReadError> {
        if self.next >= self.changes.borrow().next {
            return Ok(None);
        }
        self.recv().await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<ReadItem>, ReadError>> {
        loop {
            if let Some(item) = self.items.pop_front() {
                self.next = match &item {
                    ReadItem::Record(record) => record.number() + 1,
                    ReadItem::Gap(gap) => gap.last + 1,
                };
                return Poll::Ready(Ok(Some(item)));
            }
            if let Some(filling) = &mut self.filling {
                let filled = ready!(Pin::new(filling).poll(context));
                self.filling = None;
                let Ok(filled) = filled else { return Poll::Ready(Err(ReadError::Aborted)) };
                self.filled(filled)?;
            } else if let Some(waiting) = &mut self.changed {
                let (changes, is_open) = ready!(waiting.poll(context));
                self.changed = None;
                self.changes = changes;
                self.is_last = !is_open;
                self.begin()?;
            } else if self.is_last && self.scan.is_some() {
                return Poll::Ready(Ok(None));
            } else {
                self.begin()?;
            }
        }
    }

    /// Reads up to the present frontier.
    fn begin(&mut self) -> Result<(), ReadError> {
        let Some(mut scan) = self.scan.take() else { return Err(ReadError::Aborted) };
        scan.frontier = self.changes.borrow_and_update().clone();
        let fill = move || {
            let (mut scan, mut items) = (scan, VecDeque::new());
            let result = scan.fill(&mut items);
            (scan, items, result)
        };
        if self.is_memory {
            return self.filled(fill());
        }
        self.filling = Some(spawn_blocking(fill));
        Ok(())
    }

    fn filled(&mut self, (scan, items, result): Filled) -> Result<(), ReadError> {
        self.scan = Some(scan);
        self.items = items;
        result?;
        if self.items.is_empty() && !self.is_last {
            let mut changes = self.changes.clone();
            self.changed = Some(ReusableBoxFuture::new(async move {
                let is_open = changes.changed().await.is_ok();
                (changes, is_open)
            }));
        }
        Ok(())
    }
}

impl Stream for JournalReader {
    type Item = Result<ReadItem, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.poll(context)).transpose();
        if matches!(item, Some(Err(ReadError::Aborted))) && std::mem::replace(&mut self.is_aborted, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(item)
    }
}

impl fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalReader").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}
