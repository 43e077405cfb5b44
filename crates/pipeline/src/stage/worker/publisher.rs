//! What a stage emits, for readers and for the stages after it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use watchkeeper::feed::{Feed, FeedError};
use watchkeeper::subscription::{Cursor, Subscription};

use crate::link::Link;
use crate::output::{StageOutput, StageProgress, close, publish};
use crate::stage::shared::StageShared;
use crate::stage::state::{StageFailure, StageFailureKind};

/// After how many commits without outputs the progress is published while there is always more to do.
const COMMITS: u64 = 64;

/// Its drop is the end for all readers.
pub(super) struct Publisher<O: Send + Sync + 'static> {
    feed: Feed<StageOutput<O>>,
    /// Reads what the feed has published, for the link.
    published: Subscription<O>,
    link: Arc<Link<O>>,
    progress: StageProgress,
    /// The number of the next publication.
    next: u64,
    /// The number of commits that readers see.
    seen_commits: u64,
}

impl<O: Send + Sync + 'static> Publisher<O> {
    /// Publishes the batches that were not consumed, and opens the link.
    pub(super) fn open(
        feed: Feed<StageOutput<O>>,
        link: Arc<Link<O>>,
        kept: Vec<Vec<O>>,
    ) -> Result<Self, FeedError> {
        let published = feed.handle().subscribe();
        let progress = StageProgress::default();
        let mut publisher = Self { feed, published, link, progress, next: 0, seen_commits: 0 };
        let mut batches = Vec::with_capacity(kept.len());
        for outputs in kept {
            publisher.publish(outputs)?;
            while let Some(Ok(batch)) = publisher.published.try_recv() {
                batches.push(batch);
            }
        }
        publisher.link.open(publisher.feed.cursor(), batches);
        Ok(publisher)
    }

    pub(super) fn has_room(&self, outputs: &[O]) -> bool {
        outputs.is_empty() || !self.link.has_consumers() || self.link.has_room()
    }

    /// Waits until the stages that read this one have room for the outputs. Returns the position before them, and the
    /// number of the first batch that must be kept.
    pub(super) async fn room_for(&mut self, outputs: &[O]) -> (Cursor, u64) {
        let cursor = self.feed.cursor();
        let has_outputs = !outputs.is_empty();
        if !self.link.has_consumers() {
            return (cursor, cursor.seq() + u64::from(has_outputs));
        }
        if !self.has_room(outputs) {
            self.publish_progress();
            poll_fn(|context| self.link.poll_room(context)).await;
        }
        (cursor, self.link.consumed())
    }

    /// Counts a commit, and publishes it if it has outputs.
    pub(super) fn committed(
        &mut self,
        items: u64,
        outputs: Vec<O>,
        shared: &StageShared,
    ) -> Result<(), StageFailure> {
        self.progress.items += items;
        self.progress.outputs += outputs.len() as u64;
        self.progress.commits += 1;
        shared.items.store(self.progress.items, Relaxed);
        shared.outputs.store(self.progress.outputs, Relaxed);
        shared.commits.store(self.progress.commits, Relaxed);
        if outputs.is_empty() {
            if self.progress.commits - self.seen_commits >= COMMITS {
                self.publish_progress();
            }
            return Ok(());
        }
        self.publish(outputs).map_err(|error| {
            let message = format!("the outputs were not published: {error}");
            StageFailure::new(StageFailureKind::Open, 1, message)
        })?;
        while let Some(Ok(batch)) = self.published.try_recv() {
            self.link.push(self.feed.cursor(), batch);
        }
        Ok(())
    }

    /// Publishes commits that had no outputs.
    pub(super) fn publish_progress(&mut self) {
        if self.seen_commits == self.progress.commits {
            return;
        }
        if let Err(error) = self.publish(Vec::new()) {
            tracing::error!(%error, "the progress of a stage was not published");
        }
    }

    fn publish(&mut self, outputs: Vec<O>) -> Result<(), FeedError> {
        self.seen_commits = self.progress.commits;
        self.next += 1;
        publish(&mut self.feed, self.next, self.progress, outputs)
    }
}

impl<O: Send + Sync + 'static> Drop for Publisher<O> {
    fn drop(&mut self) {
        self.link.close();
        close(&mut self.feed);
    }
}
