//! The start of a stage.

use std::sync::Arc;

use watchkeeper::report::one_line;

use super::publisher::Publisher;
use super::{Slot, StageWorker, caught, discard};
use crate::handler::Handler;
use crate::output::output_feed;
use crate::stage::caught::AppFailure;
use crate::stage::state::{StageFailure, StageFailureKind};
use crate::store::{CommitStore, Stored};
use crate::upstream::{LinkPlace, UpstreamError, UpstreamErrorKind};

fn cannot_open(failure: impl Into<AppFailure>) -> StageFailure {
    StageFailure::new(StageFailureKind::Open, 1, failure)
}

impl<T, H, S> StageWorker<T, H, S>
where
    T: Clone + std::fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
    S: CommitStore<T, H::Output>,
{
    /// Loads the store, opens the upstreams and makes a handler. A later start keeps the first two, and what was read.
    pub(super) async fn open(&mut self) -> Result<(), StageFailure> {
        discard(self.handler.take(), "a handler");
        if let Some(pending) = &mut self.pending {
            pending.failed = None;
        }
        self.commit_failures = 0;
        if std::mem::take(&mut self.is_replaying) {
            self.emitter.undo();
        }
        if self.publisher.is_none() {
            self.load().await?;
        }
        self.make_handler()
    }

    async fn load(&mut self) -> Result<(), StageFailure> {
        let loaded = caught(self.parts.store.load(&self.parts.name)).await;
        let Stored { mut position, cursor, outputs, dead_letters, next_dead_letter } = match loaded {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => return Err(cannot_open(AppFailure::of(error))),
            Err(panic) => return Err(cannot_open(format!("the store {panic}"))),
        };
        let names: Vec<_> =
            self.parts.upstreams.iter().map(|(upstream, _)| Arc::clone(upstream.name())).collect();
        let forgotten = &self.parts.forgotten;
        let is_known = |name: &str| names.iter().any(|known| **known == *name);
        let is_forgotten = |name: &str| !is_known(name) && forgotten.iter().any(|gone| **gone == *name);
        position = position.iter().filter(|(name, _)| !is_forgotten(name)).collect();
        if let Some((name, _)) = position.iter().find(|(name, _)| !is_known(name)) {
            let error = UpstreamError { upstream: name.into(), kind: UpstreamErrorKind::Unknown };
            return Err(cannot_open(AppFailure::of(error.into())));
        }
        let mut slots = Vec::with_capacity(names.len());
        for (place, (upstream, source)) in self.parts.upstreams.iter_mut().enumerate() {
            let name = &names[place];
            let from = position.get(name);
            let source = source.as_ref();
            let link =
                source.map(|(link, consumer)| LinkPlace { link: Arc::clone(link), consumer: *consumer });
            let opened = match caught(async { upstream.open(link, from).await }).await {
                Ok(Ok(reader)) => reader,
                Ok(Err(kind)) => {
                    let error = UpstreamError { upstream: Arc::clone(name), kind };
                    return Err(cannot_open(AppFailure::of(error.into())));
                }
                Err(panic) => return Err(cannot_open(format!("upstream {} {panic}", one_line(name, 100)))),
            };
            self.parts.shared.committed(place, opened.start());
            let is_stage = opened.is_stage();
            slots.push(Slot { name: Arc::clone(name), reader: opened, is_stage, is_over: false });
        }
        let not_published = |error: &dyn std::error::Error| cannot_open(format!("its outputs: {error}"));
        let feed = output_feed(&self.parts.name.stage, self.parts.capacity, cursor);
        let feed = feed.map_err(|error| not_published(&error))?;
        let _ = self.parts.handle.set(Box::new(feed.handle()));
        let publisher = Publisher::open(feed, Arc::clone(&self.parts.link), outputs);
        self.publisher = Some(publisher.map_err(|error| not_published(&error))?);
        self.slots = slots;
        self.position = position;
        self.next_letter = next_dead_letter;
        self.parts.shared.clear_letters();
        for letter in dead_letters {
            self.put_letter(letter);
        }
        Ok(())
    }
}
