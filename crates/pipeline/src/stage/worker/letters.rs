//! Dead letters.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Pending, StageWorker, catch, caught, discard, within};
use crate::handler::Handler;
use crate::stage::caught::AppFailure;
use crate::stage::shared::{DeadLetterView, LetterRefusal, LetterRequest, LetterWork, shown};
use crate::stage::state::{StageFailure, StageFailureKind};
use crate::store::{CommitStore, DeadLetter, DeadLetterChange};

/// The answer of a call, which is sent once its change is committed.
pub(super) struct Reply {
    answer: Result<(), LetterRefusal>,
    caller: oneshot::Sender<Result<(), LetterRefusal>>,
}

impl<T, H, S> StageWorker<T, H, S>
where
    T: Clone + std::fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
    S: CommitStore<T, H::Output>,
{
    /// The item that has failed last becomes a dead letter, with the next commit.
    pub(super) fn bury(&mut self) -> Result<(), StageFailure> {
        let Some(Pending { slot, chunk, next, failed, .. }) = &mut self.pending else { return Ok(()) };
        let Some(item) = chunk.items.get(*next) else { return Ok(()) };
        let (upstream, position) = (&self.slots[*slot].name, chunk.position(*next));
        let (attempts, error) = failed.as_ref().map_or((0, ""), |failed| (failed.attempts, &failed.error));
        let is_removal = |change: &&DeadLetterChange<T>| matches!(change, DeadLetterChange::Removed(_));
        let letters = self.letters.len() - self.changes.iter().filter(is_removal).count();
        if letters >= self.parts.max_dead_letters {
            let kind = StageFailureKind::TooManyDeadLetters { upstream: upstream.clone(), position };
            return Err(StageFailure::new(kind, attempts, error.to_owned()));
        }
        let item = catch(|| item.cloned()).map_err(|panic| {
            let message = format!("the clone of an item for a dead letter {panic}");
            StageFailure::new(StageFailureKind::Read, 1, message)
        })?;
        let letter = DeadLetter {
            id: self.next_letter,
            upstream: upstream.clone(),
            position,
            item,
            error: error.to_owned(),
            attempts,
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
        *failed = None;
        *next += 1;
        Ok(())
    }

    /// The changes are committed.
    pub(super) fn apply_changes(&mut self) {
        for change in std::mem::take(&mut self.changes) {
            match change {
                DeadLetterChange::Put(letter) => self.put_letter(letter),
                DeadLetterChange::Removed(id) => {
                    discard(self.letters.remove(&id), "a dead letter");
                    self.parts.shared.remove_letter(id);
                }
            }
        }
        for Reply { answer, caller } in self.replies.drain(..) {
            // Nobody may wait for it any more.
            let _ = caller.send(answer);
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
        discard(self.letters.insert(letter.id, letter), "a dead letter");
    }

    /// Answers the calls while the stage has given up. What the store refuses is committed after a restart.
    pub(super) async fn answer_all(&mut self) {
        loop {
            self.take_requests().await;
            let waits = !self.replies.is_empty() || !self.parts.requests.is_empty();
            if !waits || self.is_committed() {
                break;
            }
            // A restart must not wait for stages after this one.
            let has_room =
                self.publisher.as_ref().is_none_or(|publisher| publisher.has_room(&self.emitter.outputs));
            let committed = if has_room {
                self.commit().await.map_err(|failure| failure.message.into_string())
            } else {
                Err("the stages after it have no room for what was emitted".to_owned())
            };
            if let Err(message) = committed {
                while let Ok(request) = self.parts.requests.try_recv() {
                    let answer = Err(LetterRefusal::Unknown);
                    self.replies.push(Reply { answer, caller: request.reply });
                }
                for Reply { caller, .. } in self.replies.drain(..) {
                    let _ = caller.send(Err(LetterRefusal::NotCommitted(message.clone())));
                }
                break;
            }
        }
        if let Some(publisher) = &mut self.publisher {
            publisher.publish_progress();
        }
    }

    /// Does what is asked. The change is committed by what follows, with its retries; then the caller gets the answer.
    pub(super) async fn answer(&mut self, request: LetterRequest) {
        let LetterRequest { id, what, reply: caller } = request;
        if caller.is_closed() {
            // The caller was refused, or has given up.
            return;
        }
        let Some(letter) = self.letters.get(&id) else {
            let _ = caller.send(Err(LetterRefusal::Unknown));
            return;
        };
        if what == LetterWork::Discard {
            self.changes.push(DeadLetterChange::Removed(id));
            self.replies.push(Reply { answer: Ok(()), caller });
            return;
        }
        let letter = match catch(|| letter.clone()) {
            Ok(letter) => letter,
            Err(panic) => {
                let _ = caller.send(Err(LetterRefusal::Failed(format!("the clone of its item {panic}"))));
                return;
            }
        };
        match self.replay(&letter).await {
            Ok(()) => {
                self.replayed += 1;
                self.changes.push(DeadLetterChange::Removed(id));
                self.replies.push(Reply { answer: Ok(()), caller });
            }
            Err(error) => {
                let attempts = letter.attempts + 1;
                let failed = DeadLetter { attempts, error: error.clone(), at: SystemTime::now(), ..letter };
                self.changes.push(DeadLetterChange::Put(failed));
                self.replies.push(Reply { answer: Err(LetterRefusal::Failed(error)), caller });
            }
        }
    }

    async fn replay(&mut self, letter: &DeadLetter<T>) -> Result<(), String> {
        self.make_handler().map_err(|failure| failure.message)?;
        let Some(handler) = &mut self.handler else { return Err("there is no handler".to_owned()) };
        self.emitter.upstream = letter.upstream.clone();
        (self.emitter.start, self.emitter.is_numbered) = (letter.position, false);
        self.emitter.begin(0, letter.attempts + 1);
        self.parts.shared.retries.fetch_add(1, Relaxed);
        self.is_replaying = true;
        let began = Instant::now();
        let handled = caught(async {
            within(self.parts.item_timeout, handler.handle(letter.item.as_ref(), &mut self.emitter)).await
        });
        let handled = handled.await;
        self.is_replaying = false;
        self.parts.shared.handled_for(began.elapsed());
        let error = match handled {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => AppFailure::of(error).text,
            Err(panic) => {
                discard(self.handler.take(), "a handler");
                panic
            }
        };
        self.emitter.undo();
        self.parts.shared.errors.fetch_add(1, Relaxed);
        Err(error)
    }
}
