//! The loop of a stage: read, handle, commit.

mod letters;
mod open;
mod publisher;
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
use tokio::task::yield_now;
use tokio::time::Instant;
use watchkeeper::DynError;
use watchkeeper::supervise::{StateWatch, WeakSupervised, Worker};

use super::caught::{AppFailure, Discarded, catch, caught, discard};
use super::machine::{StageCommand, StageEvent, StageMachine};
use super::shared::{LetterRequest, StageShared};
use super::state::{StageFailure, StageFailureKind, StageState, StageStatus};
use crate::handler::{Emitter, Handler};
use crate::link::Link;
use crate::position::StagePosition;
use crate::store::{CommitStore, DeadLetter, DeadLetterChange, NewOutputs, StageName};
use crate::upstream::{Chunk, Reader, Upstream};

use letters::Reply;
use publisher::Publisher;
use reading::Next;

/// How many batches are read, or items of a batch handled, before other tasks have a turn and the state is read again.
const BATCHES: usize = 32;
const ITEMS: usize = 256;

pub(crate) type Factory<H> = Box<dyn FnMut() -> H + Send>;

/// What a builder gives its worker.
pub(crate) struct Parts<T, H: Handler<T>, S> {
    pub(crate) name: StageName,
    pub(crate) factory: Discarded<Factory<H>>,
    pub(crate) store: Discarded<S>,
    pub(crate) upstreams: Vec<(Upstream<T>, Option<Source>)>,
    pub(crate) forgotten: Vec<Arc<str>>,
    pub(crate) item_timeout: Option<Duration>,
    pub(crate) capacity: usize,
    pub(crate) max_dead_letters: usize,
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
    /// Calls that wait for the next commit.
    replies: Vec<Reply>,
    /// Items of `replies`.
    replayed: u64,
    /// A replay is in flight, or was cancelled.
    is_replaying: bool,
    commit_failures: u64,
    publisher: Option<Publisher<H::Output>>,
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

/// The failures of the next item.
struct FailedItem {
    attempts: u64,
    error: String,
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
            StageCommand::Letters => {
                self.answer_all().await;
                return Ok(None);
            }
            StageCommand::Run => self.work().await,
            StageCommand::DeadLetter => {
                self.take_requests().await;
                match self.bury() {
                    Ok(()) => self.work().await,
                    Err(failure) => Err(failure),
                }
            }
        };
        if let Some(publisher) = &mut self.publisher {
            publisher.publish_progress();
        }
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
            replies: Vec::new(),
            replayed: 0,
            is_replaying: false,
            commit_failures: 0,
            publisher: None,
            since_look: 0,
            watch: None,
        }
    }

    /// Ends when there is nothing more to do.
    async fn work(&mut self) -> Result<(), StageFailure> {
        loop {
            self.take_requests().await;
            while self.pending.is_some() || !self.changes.is_empty() {
                self.handle_pending().await?;
                self.commit().await?;
                if self.pending.as_ref().is_some_and(|pending| pending.next == pending.chunk.items.len()) {
                    self.pending = None;
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

    /// Whether everything that was handled is committed.
    fn is_committed(&self) -> bool {
        let is_behind = self.pending.as_ref().is_some_and(|pending| pending.next > pending.committed);
        !is_behind && self.changes.is_empty() && self.commit_failures == 0
    }

    /// Does what was asked for meanwhile, up to the first that is to be committed.
    async fn take_requests(&mut self) {
        while self.is_committed()
            && let Ok(request) = self.parts.requests.try_recv()
        {
            self.answer(request).await;
        }
    }

    fn begin(&mut self, slot: usize, chunk: Chunk<T>) {
        let done = chunk.done;
        self.pending = Some(Pending { slot, chunk, next: done, committed: done, failed: None });
    }

    fn is_draining(&self) -> bool {
        is_draining(self.watch.as_ref())
    }

    /// Handles the items that were read, to the end or to the first that fails; while the stage drains, to one that took
    /// a while. After a failure everything before it is committed.
    async fn handle_pending(&mut self) -> Result<(), StageFailure> {
        if self.pending.is_none() {
            return Ok(());
        }
        self.make_handler()?;
        let (Some(pending), Some(handler), Some(publisher)) =
            (&mut self.pending, &mut self.handler, &mut self.publisher)
        else {
            return Ok(());
        };
        if pending.failed.is_some() {
            self.parts.shared.retries.fetch_add(1, Relaxed);
        }
        // A replay may have used it meanwhile.
        (self.emitter.start, self.emitter.is_numbered) = (pending.chunk.start, pending.chunk.is_numbered);
        let name = &self.slots[pending.slot].name;
        if self.emitter.upstream != *name {
            self.emitter.upstream = Arc::clone(name);
        }
        let limit = self.parts.item_timeout;
        let began = Instant::now();
        let watch = self.watch.as_ref();
        let handled =
            caught(handle_items(handler, pending, &mut self.emitter, publisher, limit, watch)).await;
        self.parts.shared.handled_for(began.elapsed());
        let error = match handled {
            Ok(Ok(Paused(has_waited))) => {
                if has_waited {
                    self.since_look = BATCHES;
                }
                return Ok(());
            }
            Ok(Err(error)) => AppFailure::of(error),
            Err(panic) => {
                discard(self.handler.take(), "a handler");
                panic.into()
            }
        };
        self.emitter.undo();
        self.parts.shared.errors.fetch_add(1, Relaxed);
        let attempts = pending.failed.as_ref().map_or(0, |failed| failed.attempts) + 1;
        pending.failed = Some(FailedItem { attempts, error: error.text.clone() });
        let kind = StageFailureKind::Item {
            upstream: Arc::clone(&self.slots[pending.slot].name),
            position: pending.chunk.position(pending.next),
        };
        let failure = StageFailure::new(kind, attempts, error);
        if attempts == 1 {
            tracing::warn!(stage = &*self.parts.name.stage, %failure, "an item has failed");
        }
        if pending.next > pending.committed || !self.changes.is_empty() {
            self.commit().await?;
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
                return Err(StageFailure::new(StageFailureKind::Open, 1, message));
            }
        }
        Ok(())
    }

    /// Commits what is handled, publishes it, and lets the stages before drop it.
    async fn commit(&mut self) -> Result<(), StageFailure> {
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        // Before a gap the position may be within a batch that is lost: it stays until the gap is handled.
        if let Some(pending) = self.pending.as_ref().filter(|pending| pending.next > pending.committed) {
            self.position.set(&self.slots[pending.slot].name, pending.chunk.position(pending.next));
        }
        if self.commit_failures > 0 {
            self.parts.shared.retries.fetch_add(1, Relaxed);
        }
        let (cursor, consumed) = publisher.room_for(&self.emitter.outputs).await;
        let outputs = NewOutputs { cursor, batch: &self.emitter.outputs, consumed };
        let committed = caught(self.parts.store.commit(&self.position, outputs, &self.changes)).await;
        let refused = match committed {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(AppFailure::of(error)),
            Err(panic) => Some(format!("the store {panic}").into()),
        };
        if let Some(failure) = refused {
            self.commit_failures += 1;
            self.parts.shared.errors.fetch_add(1, Relaxed);
            let attempt = self.commit_failures;
            if attempt == 1 {
                tracing::warn!(stage = &*self.parts.name.stage, error = failure.text, "a commit has failed");
            }
            return Err(StageFailure::new(StageFailureKind::Commit, attempt, failure));
        }
        self.commit_failures = 0;
        self.committed()
    }

    /// The commit has succeeded.
    fn committed(&mut self) -> Result<(), StageFailure> {
        let mut items = std::mem::take(&mut self.replayed);
        if let Some(pending) = &mut self.pending {
            items += (pending.next - pending.committed) as u64;
            pending.committed = pending.next;
            let position = pending.chunk.position(pending.next);
            self.slots[pending.slot].reader.committed(position);
        }
        if !self.changes.is_empty() {
            self.apply_changes();
        }
        let outputs = std::mem::take(&mut self.emitter.outputs);
        self.emitter.before = 0;
        let Some(publisher) = &mut self.publisher else { return Ok(()) };
        publisher.committed(items, outputs, &self.parts.shared)?;
        // Once the outputs are with the stages after it: the lag of one of both shows them.
        if let Some(pending) = &self.pending {
            let position = pending.chunk.position(pending.next);
            self.parts.shared.committed(pending.slot, position.number());
        }
        Ok(())
    }
}

impl<T, H: Handler<T>, S> Drop for StageWorker<T, H, S> {
    /// Panics of app code in destructors end here, one by one.
    fn drop(&mut self) {
        discard(self.handler.take(), "a handler");
        discard(self.pending.take(), "items");
        self.slots.drain(..).for_each(|slot| discard(slot, "the reader of an upstream"));
        self.parts.upstreams.drain(..).for_each(|upstream| discard(upstream, "an upstream"));
        self.changes.drain(..).for_each(|change| discard(change, "a dead letter"));
        for letter in std::mem::take(&mut self.letters).into_values() {
            discard(letter, "a dead letter");
        }
        self.emitter.outputs.drain(..).for_each(|output| discard(output, "an output"));
    }
}

fn is_draining(watch: Option<&StateWatch<StageStatus>>) -> bool {
    watch.is_some_and(|watch| watch.state().state == StageState::Draining)
}

/// Whether the handler had to wait for something.
struct Paused(bool);

/// Handles items from `pending.next` on.
async fn handle_items<T, H: Handler<T>>(
    handler: &mut H,
    pending: &mut Pending<T>,
    emitter: &mut Emitter<H::Output>,
    publisher: &mut Publisher<H::Output>,
    limit: Option<Duration>,
    watch: Option<&StateWatch<StageStatus>>,
) -> Result<Paused, DynError> {
    let mut paused = Paused(false);
    let Pending { chunk, next, failed, .. } = pending;
    let mut attempt = failed.as_ref().map_or(0, |failed| failed.attempts) + 1;
    while let Some(item) = chunk.items.get(*next) {
        emitter.begin(*next as u64, attempt);
        // The call is dropped before the item counts as handled.
        let has_waited = {
            let mut call = pin!(handler.handle(item, emitter));
            // Most handlers are ready at once.
            match poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
                Poll::Ready(handled) => {
                    handled?;
                    false
                }
                Poll::Pending => {
                    publisher.publish_progress();
                    within(limit, call).await?;
                    true
                }
            }
        };
        *next += 1;
        if attempt > 1 {
            (*failed, attempt) = (None, 1);
        }
        paused.0 |= has_waited;
        if has_waited && is_draining(watch) {
            break;
        }
        if next.is_multiple_of(ITEMS) {
            yield_now().await;
        }
    }
    Ok(paused)
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
