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

/// How many items are handled between two looks at the rest of the world.
const TURN: usize = 32;

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
    /// How often the feed was published to, also with outputs of the store.
    published: u64,
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
        let event = match command {
            StageCommand::Open => self.open().await.map(|()| StageEvent::Opened),
            StageCommand::Run => self.work().await.map(|()| StageEvent::Ended),
            StageCommand::DeadLetter => {
                self.bury();
                self.work().await.map(|()| StageEvent::Ended)
            }
        };
        Ok(Some(event?))
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
            published: 0,
            watch: None,
        }
    }

    /// Ends when there is nothing more to do.
    async fn work(&mut self) -> Result<(), StageFailure> {
        loop {
            if self.pending.is_some() || !self.changes.is_empty() {
                self.handle_pending().await?;
                self.commit(0).await?;
                // What a drain has left of a batch is read again by the next process.
                self.pending = None;
            }
            if let Ok(request) = self.parts.requests.try_recv() {
                self.answer(request).await;
                continue;
            }
            consume_budget().await;
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
        if pending.failed.as_ref().is_some_and(|failed| failed.index == pending.next) {
            self.parts.shared.retries.fetch_add(1, Relaxed);
        }
        if pending.failed.is_some() {
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
        if self.commit_failures > 0 {
            self.parts.shared.retries.fetch_add(1, Relaxed);
        }
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
        let Some(output) = &mut self.output else { return Ok(()) };
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
        let events = std::mem::take(&mut self.emitter.outputs);
        self.emitter.before = 0;
        self.published += 1;
        publish(&mut output.feed, self.published, self.progress, events).map_err(|error| {
            let message = format!("the outputs were not published: {error}");
            StageFailure { kind: StageFailureKind::Open, attempt: 1, message }
        })?;
        let cursor = output.feed.cursor();
        while let Some(Ok(batch)) = output.published.try_recv() {
            output.link.push(cursor, batch);
        }
        *lock(&shared.cursor) = Some(cursor);
        self.apply_changes();
        Ok(())
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
    let mut index = pending.next;
    while let Some(item) = pending.chunk.items.get(index) {
        let attempt = match &pending.failed {
            Some(failed) if failed.index == index => failed.attempts + 1,
            _ => 1,
        };
        emitter.begin(index as u64, attempt);
        let mut has_waited = false;
        {
            let mut call = pin!(handler.handle(item, emitter));
            let call = poll_fn(|context| {
                let polled = call.as_mut().poll(context);
                has_waited |= polled.is_pending();
                polled
            });
            match limit {
                None => call.await?,
                Some(limit) => match tokio::time::timeout(limit, call).await {
                    Ok(handled) => handled?,
                    Err(_) => return Err(format!("took longer than the item_timeout of {limit:?}").into()),
                },
            }
        }
        index += 1;
        pending.next = index;
        if has_waited || index.is_multiple_of(TURN) {
            consume_budget().await;
            if is_draining(stops) {
                break;
            }
        }
    }
    Ok(())
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
