//! A journal as the upstream of a pipeline's stage.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::{Sleep, sleep};
use watchkeeper::report::error_chain;
use watchkeeper::subscription::Cursor;
use watchkeeper_pipeline::{Item, Upstream};

use crate::error::ReadError;
use crate::journal::Journal;
use crate::reader::{JournalReader, ReadFrom};
use crate::record::{ReadItem, Record};

/// The time after which a failed read is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Journal {
    /// The records of the journal as an upstream, under a name that is unique in the stage. Without a committed position it
    /// begins with the oldest record.
    ///
    /// Its position is a cursor of the journal: it is valid in later processes. Records that cannot be read any more come
    /// as [`Item::Lagged`] with their number. The end of the journal is its end. A read that fails is logged, and tried
    /// again each second.
    #[must_use]
    pub fn upstream(&self, name: impl Into<Arc<str>>) -> Upstream<Record> {
        let journal = self.clone();
        Upstream::log(name, move |cursor| {
            let reader = journal.reader(cursor.map_or(ReadFrom::Oldest, ReadFrom::Cursor))?;
            Ok(Items { journal: journal.clone(), reader, retry: None })
        })
    }
}

/// A reader's items with their positions.
struct Items {
    journal: Journal,
    reader: JournalReader,
    retry: Option<Pin<Box<Sleep>>>,
}

impl Stream for Items {
    type Item = (Item<Record>, Cursor);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(retry) = &mut self.retry {
                ready!(retry.as_mut().poll(context));
                self.retry = None;
            }
            let item = match ready!(Pin::new(&mut self.reader).poll_next(context)) {
                None => return Poll::Ready(None),
                Some(Ok(ReadItem::Record(record))) => Item::Event(record),
                Some(Ok(ReadItem::Gap(gap))) => Item::Lagged { missed: gap.count() },
                Some(Err(error)) => {
                    tracing::error!(error = error_chain(&error), "the journal cannot be read");
                    if matches!(error, ReadError::Aborted) {
                        // That reader has ended, and the journal has not.
                        let from = ReadFrom::Cursor(self.reader.cursor());
                        if let Ok(reader) = self.journal.reader(from) {
                            self.reader = reader;
                        }
                    }
                    self.retry = Some(Box::pin(sleep(RETRY)));
                    continue;
                }
            };
            return Poll::Ready(Some((item, self.reader.cursor())));
        }
    }
}
