//! Dead letters.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use super::{Pending, StageWorker, caught, discard, text_of};
use crate::handler::Handler;
use crate::stage::shared::{DeadLetterView, LetterRefusal, LetterRequest, LetterWork, shown};
use crate::store::{CommitStore, DeadLetter, DeadLetterChange};

impl<T, H, S> StageWorker<T, H, S>
where
    T: Clone + std::fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
    S: CommitStore<T, H::Output>,
{
    /// The item that has failed last becomes a dead letter, with the next commit.
    pub(super) fn bury(&mut self) {
        let Some(Pending { slot, chunk, next, failed, .. }) = &mut self.pending else { return };
        let (Some(failed), Some(item)) = (failed.take(), chunk.items.get(*next)) else { return };
        let letter = DeadLetter {
            id: self.next_letter,
            upstream: self.slots[*slot].name.clone(),
            position: chunk.position(*next),
            item: item.cloned(),
            error: failed.error,
            attempts: failed.attempts,
            at: SystemTime::now(),
        };
        tracing::warn!(
            stage = &*self.parts.name.stage,
            id = letter.id,
            upstream = &*letter.upstream,
            position = %letter.position,
            error = letter.error,
            "an item is a dead letter"
        );
        self.next_letter += 1;
        self.changes.push(DeadLetterChange::Put(letter));
        *next += 1;
    }

    /// The changes are committed.
    pub(super) fn apply_changes(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            match change {
                DeadLetterChange::Put(letter) => self.put_letter(letter),
                DeadLetterChange::Removed(id) => {
                    self.letters.remove(&id);
                    self.parts.shared.remove_letter(id);
                }
            }
        }
    }

    pub(super) fn put_letter(&mut self, letter: DeadLetter<T>) {
        self.parts.shared.put_letter(DeadLetterView {
            id: letter.id,
            upstream: letter.upstream.clone(),
            position: letter.position,
            item: shown(&letter.item),
            error: letter.error.clone(),
            attempts: letter.attempts,
            at: letter.at,
        });
        self.next_letter = self.next_letter.max(letter.id + 1);
        self.letters.insert(letter.id, letter);
    }

    pub(super) async fn answer(&mut self, request: LetterRequest) {
        let LetterRequest { id, what, reply } = request;
        // It was refused while the stage handled nothing, or nobody waits for it.
        if reply.is_closed() {
            return;
        }
        let done = match self.letters.get(&id).cloned() {
            None => Err(LetterRefusal::Unknown),
            Some(_) if what == LetterWork::Discard => self.commit_change(DeadLetterChange::Removed(id), 0).await,
            Some(letter) => self.replay(letter).await,
        };
        // Nobody may wait for it any more.
        let _ = reply.send(done);
    }

    async fn replay(&mut self, mut letter: DeadLetter<T>) -> Result<(), LetterRefusal> {
        self.make_handler().map_err(|failure| LetterRefusal::Failed(failure.message))?;
        let Some(handler) = &mut self.handler else { return Err(LetterRefusal::Unknown) };
        self.emitter.upstream = letter.upstream.clone();
        self.emitter.start = letter.position;
        self.emitter.begin(0, letter.attempts + 1);
        self.parts.shared.retries.fetch_add(1, Relaxed);
        let handled = caught(async {
            let call = handler.handle(letter.item.as_ref(), &mut self.emitter);
            match self.parts.item_timeout {
                None => call.await,
                Some(limit) => tokio::time::timeout(limit, call)
                    .await
                    .unwrap_or_else(|_| Err(format!("took longer than the item_timeout of {limit:?}").into())),
            }
        });
        let error = match handled.await {
            Ok(Ok(())) => return self.commit_change(DeadLetterChange::Removed(letter.id), 1).await,
            Ok(Err(error)) => text_of(error),
            Err(panic) => {
                discard(self.handler.take(), "a handler");
                panic
            }
        };
        self.emitter.undo();
        self.parts.shared.errors.fetch_add(1, Relaxed);
        letter.attempts += 1;
        letter.error.clone_from(&error);
        letter.at = SystemTime::now();
        self.commit_change(DeadLetterChange::Put(letter), 0).await?;
        Err(LetterRefusal::Failed(error))
    }

    /// Commits a change without any item of the upstreams. What is refused is undone.
    async fn commit_change(&mut self, change: DeadLetterChange<T>, items: u64) -> Result<(), LetterRefusal> {
        self.changes.push(change);
        let committed = self.commit(items).await;
        committed.map_err(|failure| {
            self.changes.clear();
            self.emitter.outputs.clear();
            self.emitter.before = 0;
            // The stage's own commits count from 1.
            self.commit_failures = 0;
            LetterRefusal::NotCommitted(failure.message)
        })
    }
}
