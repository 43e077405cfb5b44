//! The loop of a stage: read, handle, commit.

mod letters;
mod open;
mod reading;

use std::any::Any;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::consume_budget;
use tokio::time::Instant;
use watchkeeper::DynError;
use watchkeeper::feed::Feed;
use watchkeeper::supervise::{StateWatch, WeakSupervised, Worker};

use super::caught::{catch, caught, discard, text_of};
use super::machine::{StageCommand, StageEvent, StageMachine};
use super::shared::{LetterRequest, StageShared};
use super::state::{StageFailure, StageFailureKind, StageState, StageStatus};
use crate::handler::{Emitter, Handler};
use crate::link::{Link, lock};
use crate::output::{StageOutput, StageProgress, close, publish};
use crate::position::StagePosition;
use crate::store::{CommitStore, DeadLetter, DeadLetterChange, NewOutputs, StageName};
use crate::upstream::{Chunk, Reader, Upstream};
use watchkeeper::subscription::Subscription;

use reading::Next;

/// How many items are handled, and how many batches read, between two looks at the rest of the world.
const TURN: usize = 32;
/// After how many commits without outputs the progress is published while there is always more to do.
const PROGRESS: u64 = 64;

pub(crate) type Factory<H> = Box<dyn FnMut() -> H + Send>;

/// What a builder gives its worker.
pub(crate) struct Parts<T, H: Handler<T>, S> {
    pub(crate) name: StageName,
    pub(crate) factory: Factory<H>,
    pub(crate) store: S,
    pub(crate) upstreams: Vec<(Upstream<T>, Option<Source>)>,
    pub(crate) forgotten: Vec<Arc<str>>,
    pub(crate) item_timeout: Option<Duration>,
    pub(crate) capacity: usize,
    pub(crate) link: Arc<Link<H::Output>>,
    pub(crate) shared: Arc<StageShared>,
    pub(crate) requests: mpsc::Receiver<LetterRequest>,
    /// The handle of the outputs, once it is open.
    pub(crate) handle: Arc<OnceLock<Box<dyn Any + Send + Sync>>>,
}

/// The output of the stage that an upstream reads, and the number of the consumer there.
pub(crate) type Source = (Arc<dyn Any + Send + Sync>, usize);

pub(crate) struct StageWorker<T, H: Handler<T>, S> {
    parts: Parts<T, H, S>,
    handler: Option<H>,
    slots: Vec<Slot<T>>,
    /// The upstream that is read next.
    turn: usize,
    position: StagePosition,
    pending: Option<Pending<T>>,
    emitter: Emitter<H::Output>,
    changes: Vec<DeadLetterChange<T>>,
    letters: BTreeMap<u64, DeadLetter<T>>,
    next_letter: u64,
    commit_failures: u64,
    output: Option<Output<H::Output>>,
    progress: StageProgress,
    /// The number of commits that readers see.
    published_commits: u64,
    /// How many batches were read since the last look at the state.
    since_look: usize,
    watch: Option<StateWatch<StageStatus>>,
}

/// The reader of one upstream.
struct Slot<T> {
    name: Arc<str>,
    reader: Box<dyn Reader<T>>,
    is_stage: bool,
    is_over: bool,
}

/// What was read and is not committed as a whole.
struct Pending<T> {
    slot: usize,
    chunk: Chunk<T>,
    /// The first item that is not handled.
    next: usize,
    /// The first item that is not committed.
    committed: usize,
    failed: Option<FailedItem>,
}

/// The item that has failed last.
struct FailedItem {
    index: usize,
    attempts: u64,
    error: String,
}

/// What the stage emits. Its drop is the end for all readers.
struct Output<O: Send + Sync + 'static> {
    feed: Feed<StageOutput<O>>,
    /// Reads what the feed has published, for the link.
    published: Subscription<O>,
    link: Arc<Link<O>>,
}

impl<O: Send + Sync + 'static> Drop for Output<O> {
    fn drop(&mut self) {
        self.link.close();
        close(&mut self.feed);
    }
}

impl<T, H, S> Worker<StageMachine> for StageWorker<T, H, S>
where
    T: Clone + std::fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
    S: CommitStore<T, H::Output>,
{
    fn attach(&mut self, machine: WeakSupervised<StageMachine>) {
        self.watch = machine.upgrade().map(|machine| machine.watch());
    }

    async fn run(&mut self, command: StageCommand) -> Result<Option<StageEvent>, DynError> {
        let done = match command {
            StageCommand::Open => return Ok(Some(self.open().await.map(|()| StageEvent::Opened)?)),
            StageCommand::Run => self.work().await,
            StageCommand::DeadLetter => {
                self.bury();
                self.work().await
            }
        };
        self.publish_progress();
        done?;
        Ok(Some(StageEvent::Ended))
    }
}

impl<T, H, S> StageWorker<T, H, S>
where
    T: Clone + std::fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
    S: CommitStore<T, H::Output>,
{
    pub(crate) fn new(parts: Parts<T, H, S>) -> Self {
        let none = crate::position::UpstreamPosition::Count(0);
        Self {
            parts,
            handler: None,
            slots: Vec::new(),
            turn: 0,
            position: StagePosition::default(),
            pending: None,
            emitter: Emitter::new("", none),
            changes: Vec::new(),
            letters: BTreeMap::new(),
            next_letter: 0,
            commit_failures: 0,
            output: None,
            progress: StageProgress::default(),
            published_commits: 0,
            since_look: 0,
            watch: None,
        }
    }

    /// Ends when there is nothing more to do.
    async fn work(&mut self) -> Result<(), StageFailure> {
        loop {
            if self.pending.is_some() || !self.changes.is_empty() {
                self.handle_pending().await?;
                self.commit(0).await?;
                if self.pending.take().is_some_and(|pending| pending.next < pending.chunk.items.len()) {
                    // A drain has stopped it: the rest comes again in the next process, and nothing is read after it.
                    self.since_look = TURN;
                }
            }
            match self.next().await? {
                Next::Chunk(slot, chunk) => self.begin(slot, chunk),
                Next::Request(request) => self.answer(request).await,
                Next::Draining => {}
                Next::Over => return Ok(()),
            }
        }
    }

    fn begin(&mut self, slot: usize, chunk: Chunk<T>) {
        let name = &self.slots[slot].name;
        if self.emitter.upstream != *name {
            self.emitter.upstream = Arc::clone(name);
        }
        self.emitter.start = chunk.start;
        let done = chunk.done;
        self.pending = Some(Pending { slot, chunk, next: done, committed: done, failed: None });
    }

    fn is_draining(&self) -> bool {
        is_draining(self.watch.as_ref())
    }

    /// Handles the items that were read, to the end, to the first that fails, or to the present one if the stage drains
    /// and reads no stage. After a failure everything before it is committed.
    async fn handle_pending(&mut self) -> Result<(), StageFailure> {
        if self.pending.is_none() {
            return Ok(());
        }
        self.make_handler()?;
        let (Some(pending), Some(handler)) = (&mut self.pending, &mut self.handler) else {
            return Ok(());
        };
        if pending.failed.is_some() {
            self.parts.shared.retries.fetch_add(1, Relaxed);
            // Another request may have used it meanwhile.
            self.emitter.start = pending.chunk.start;
            self.emitter.upstream = Arc::clone(&self.slots[pending.slot].name);
        }
        let stops = if self.slots[pending.slot].is_stage { None } else { self.watch.as_ref() };
        let limit = self.parts.item_timeout;
        let began = Instant::now();
        let handled = caught(handle_items(handler, pending, &mut self.emitter, limit, stops)).await;
        self.parts.shared.handled_for(began.elapsed());
        let error = match handled {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => text_of(error),
            Err(panic) => {
                discard(self.handler.take(), "a handler");
                panic
            }
        };
        self.emitter.undo();
        self.parts.shared.errors.fetch_add(1, Relaxed);
        let attempts = match &pending.failed {
            Some(failed) if failed.index == pending.next => failed.attempts + 1,
            _ => 1,
        };
        pending.failed = Some(FailedItem { index: pending.next, attempts, error: error.clone() });
        let kind = StageFailureKind::Item {
            upstream: Arc::clone(&self.slots[pending.slot].name),
            position: pending.chunk.position(pending.next),
        };
        let failure = StageFailure { kind, attempt: attempts, message: error };
        if attempts == 1 {
            tracing::warn!(stage = &*self.parts.name.stage, %failure, "an item has failed");
        }
        if pending.next > pending.committed || !self.changes.is_empty() {
            self.commit(0).await?;
        }
        Err(failure)
    }

    /// Makes a handler if there is none.
    fn make_handler(&mut self) -> Result<(), StageFailure> {
        if self.handler.is_some() {
            return Ok(());
        }
        match catch(|| (self.parts.factory)()) {
            Ok(handler) => self.handler = Some(handler),
            Err(panic) => {
                let message = format!("the factory of the handler {panic}");
                return Err(StageFailure { kind: StageFailureKind::Open, attempt: 1, message });
            }
        }
        Ok(())
    }

    /// Commits what is handled, publishes it, and lets the stages before drop it. `replayed` items are not of the
    /// upstreams.
    async fn commit(&mut self, replayed: u64) -> Result<(), StageFailure> {
        let Some(output) = &mut self.output else { return Ok(()) };
        if let Some(pending) = &self.pending {
            self.position.set(&self.slots[pending.slot].name, pending.chunk.position(pending.next));
        }
        let (cursor, emitted) = (output.feed.cursor(), self.emitter.outputs.len() as u64);
        let is_read = output.link.has_consumers();
        if emitted > 0 && is_read {
            poll_fn(|context| output.link.poll_room(context)).await;
        }
        let consumed = if is_read { output.link.consumed() } else { cursor.seq() + u64::from(emitted > 0) };
        let outputs = NewOutputs { cursor, batch: &self.emitter.outputs, consumed };
        let committed = caught(self.parts.store.commit(&self.position, outputs, &self.changes)).await;
        let refused = match committed {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(text_of(error)),
            Err(panic) => Some(format!("the store {panic}")),
        };
        if let Some(message) = refused {
            self.commit_failures += 1;
            self.parts.shared.errors.fetch_add(1, Relaxed);
            let attempt = self.commit_failures;
            return Err(StageFailure { kind: StageFailureKind::Commit, attempt, message });
        }
        self.commit_failures = 0;
        self.published(replayed, emitted)
    }

    /// The commit has succeeded.
    fn published(&mut self, replayed: u64, emitted: u64) -> Result<(), StageFailure> {
        let shared = &self.parts.shared;
        let mut items = replayed;
        if let Some(pending) = &mut self.pending {
            items += (pending.next - pending.committed) as u64;
            pending.committed = pending.next;
            let position = pending.chunk.position(pending.next);
            self.slots[pending.slot].reader.committed(position);
            shared.committed(pending.slot, position.number());
        }
        self.progress.items += items;
        self.progress.outputs += emitted;
        self.progress.commits += 1;
        shared.items.store(self.progress.items, Relaxed);
        shared.outputs.store(self.progress.outputs, Relaxed);
        shared.commits.store(self.progress.commits, Relaxed);
        if !self.changes.is_empty() {
            self.apply_changes();
        }
        if emitted == 0 {
            if self.progress.commits - self.published_commits >= PROGRESS {
                self.publish_progress();
            }
            return Ok(());
        }
        let Some(output) = &mut self.output else { return Ok(()) };
        let events = std::mem::take(&mut self.emitter.outputs);
        self.emitter.before = 0;
        self.published_commits = self.progress.commits;
        publish(&mut output.feed, self.progress.commits, self.progress, events).map_err(|error| {
            let message = format!("the outputs were not published: {error}");
            StageFailure { kind: StageFailureKind::Open, attempt: 1, message }
        })?;
        let cursor = output.feed.cursor();
        while let Some(Ok(batch)) = output.published.try_recv() {
            output.link.push(cursor, batch);
        }
        *lock(&self.parts.shared.cursor) = Some(cursor);
        Ok(())
    }

    /// Publishes commits that had no outputs.
    fn publish_progress(&mut self) {
        let Some(output) = &mut self.output else { return };
        if self.published_commits == self.progress.commits {
            return;
        }
        self.published_commits = self.progress.commits;
        if let Err(error) = publish(&mut output.feed, self.progress.commits, self.progress, Vec::new()) {
            tracing::error!(stage = &*self.parts.name.stage, %error, "the progress was not published");
        }
    }
}

fn is_draining(watch: Option<&StateWatch<StageStatus>>) -> bool {
    watch.is_some_and(|watch| watch.state().state == StageState::Draining)
}

/// Handles items from `pending.next` on. `stops` is a watch of the state, if a drain ends it between two items.
async fn handle_items<T, H: Handler<T>>(
    handler: &mut H,
    pending: &mut Pending<T>,
    emitter: &mut Emitter<H::Output>,
    limit: Option<Duration>,
    stops: Option<&StateWatch<StageStatus>>,
) -> Result<(), DynError> {
    let Pending { chunk, next, failed, .. } = pending;
    let mut attempt = match failed {
        Some(failed) if failed.index == *next => failed.attempts + 1,
        _ => 1,
    };
    while let Some(item) = chunk.items.get(*next) {
        emitter.begin(*next as u64, attempt);
        let mut call = pin!(handler.handle(item, emitter));
        // Most handlers are ready at once.
        let has_waited = match poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
            Poll::Ready(handled) => {
                handled?;
                false
            }
            Poll::Pending => {
                within(limit, call).await?;
                true
            }
        };
        (*next, attempt) = (*next + 1, 1);
        if has_waited || next.is_multiple_of(TURN) {
            consume_budget().await;
            if is_draining(stops) {
                break;
            }
        }
    }
    Ok(())
}

/// The end of a handler's call, within the limit.
async fn within(
    limit: Option<Duration>,
    call: impl Future<Output = Result<(), DynError>>,
) -> Result<(), DynError> {
    match limit {
        None => call.await,
        Some(limit) => match tokio::time::timeout(limit, call).await {
            Ok(handled) => handled,
            Err(_) => Err(format!("took longer than the item_timeout of {limit:?}").into()),
        },
    }
}

/// Ends when the stage drains.
async fn draining(watch: &mut Option<StateWatch<StageStatus>>) {
    while !is_draining(watch.as_ref()) {
        let changed = match watch {
            Some(watch) => watch.changed().await.is_ok(),
            None => false,
        };
        if !changed {
            std::future::pending::<()>().await;
        }
    }
}

/// One look at what a future is ready with.
async fn once<R>(mut poll: impl FnMut(&mut std::task::Context<'_>) -> Poll<R>) -> Option<R> {
    poll_fn(|context| {
        Poll::Ready(match poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}
