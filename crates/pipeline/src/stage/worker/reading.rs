//! What the loop does next.

use std::future::poll_fn;
use std::task::{Context, Poll};

use tokio::task::yield_now;

use super::{BATCHES, Slot, StageWorker, catch, draining, once};
use crate::handler::Handler;
use crate::stage::shared::LetterRequest;
use crate::stage::state::{StageFailure, StageFailureKind};
use crate::store::CommitStore;
use crate::upstream::Chunk;

pub(super) enum Next<T> {
    /// Of this upstream.
    Chunk(usize, Chunk<T>),
    Request(LetterRequest),
    /// The stage drains from now on.
    Draining,
    /// All upstreams have ended.
    Over,
}

impl<T, H, S> StageWorker<T, H, S>
where
    T: Clone + std::fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
    S: CommitStore<T, H::Output>,
{
    /// Waits for items, a request or a drain.
    pub(super) async fn next(&mut self) -> Result<Next<T>, StageFailure> {
        // Mostly there is something: then nothing else is asked for some turns.
        self.since_look += 1;
        if self.since_look <= BATCHES && !self.is_draining() {
            let Self { slots, turn, .. } = self;
            if let Some(found) = once(|context| poll_upstreams(slots, turn, false, context)).await
                && let Some((slot, chunk)) = found?
            {
                return Ok(Next::Chunk(slot, chunk));
            }
        }
        self.since_look = 0;
        yield_now().await;
        if let Ok(request) = self.parts.requests.try_recv() {
            return Ok(Next::Request(request));
        }
        let is_draining = self.is_draining();
        let Self { slots, turn, .. } = self;
        let ready = once(|context| poll_upstreams(slots, turn, is_draining, context)).await;
        let found = if let Some(found) = ready {
            found
        } else {
            if let Some(publisher) = &mut self.publisher {
                publisher.publish_progress();
            }
            let Self { slots, turn, parts, watch, .. } = self;
            tokio::select! {
                biased;
                () = draining(watch), if !is_draining => return Ok(Next::Draining),
                Some(request) = parts.requests.recv() => return Ok(Next::Request(request)),
                found = poll_fn(|context| poll_upstreams(slots, turn, is_draining, context)) => found,
            }
        };
        Ok(match found? {
            Some((slot, chunk)) => Next::Chunk(slot, chunk),
            None => Next::Over,
        })
    }
}

type Found<T> = Result<Option<(usize, Chunk<T>)>, StageFailure>;

/// Reads the upstreams in turn. While the stage drains, only other stages are read.
fn poll_upstreams<T>(
    slots: &mut [Slot<T>],
    turn: &mut usize,
    is_draining: bool,
    context: &mut Context<'_>,
) -> Poll<Found<T>> {
    let count = slots.len();
    let mut is_over = true;
    for nth in 0..count {
        let place = (*turn + nth) % count;
        let slot = &mut slots[place];
        if slot.is_over || (is_draining && !slot.is_stage) {
            continue;
        }
        match catch(|| slot.reader.poll_chunk(context)) {
            Ok(Poll::Ready(Some(chunk))) => {
                *turn = place + 1;
                return Poll::Ready(Ok(Some((place, chunk))));
            }
            Ok(Poll::Ready(None)) => slot.is_over = true,
            Ok(Poll::Pending) => is_over = false,
            Err(panic) => {
                let message = format!("{} {panic}", watchkeeper::report::one_line(&slot.name, 100));
                let failure = StageFailure::new(StageFailureKind::Read, 1, message);
                return Poll::Ready(Err(failure));
            }
        }
    }
    if is_over { Poll::Ready(Ok(None)) } else { Poll::Pending }
}
