//! Invariants over an observer as expectations.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use watchkeeper::wait::{Invariant, Verdict};
use watchkeeper::{DynError, ObservationHandle, Observer, async_trait};

use crate::failure::Subject;
use crate::{Application, Expectation, ObserverError, RunContext};

type Predicate = Box<dyn FnMut(&dyn Any) -> Verdict + Send>;
type Watch = dyn Fn(&str, Predicate) -> Invariant + Send + Sync;

/// An observer of which only the type of its snapshots is asked for.
#[derive(Clone)]
pub(crate) struct AnyWatched {
    snapshot: (TypeId, &'static str),
    watch: Arc<Watch>,
}

impl AnyWatched {
    pub(crate) fn new<O: Observer<Snapshot: fmt::Debug>>(handle: ObservationHandle<O>) -> Self {
        let watch = move |label: &str, mut predicate: Predicate| {
            handle.invariant(label, move |snapshot: &O::Snapshot| predicate(snapshot))
        };
        Self { snapshot: (TypeId::of::<O::Snapshot>(), type_name::<O::Snapshot>()), watch: Arc::new(watch) }
    }

    /// Watches from now on that `predicate` holds, if snapshots are of its type.
    pub(crate) fn watch<S, R>(
        &self,
        observer: &str,
        label: &str,
        mut predicate: impl FnMut(&S) -> R + Send + 'static,
    ) -> Result<Invariant, ObserverError>
    where
        S: 'static,
        R: Into<Verdict>,
    {
        let (id, is) = self.snapshot;
        let other =
            || ObserverError::OtherSnapshot { name: observer.to_owned(), wanted: type_name::<S>(), is };
        if id != TypeId::of::<S>() {
            return Err(other());
        }
        let predicate = move |snapshot: &dyn Any| match snapshot.downcast_ref() {
            Some(snapshot) => predicate(snapshot).into(),
            None => unreachable!("the type was compared"),
        };
        Ok((self.watch)(label, Box::new(predicate)))
    }
}

/// Watched from right before the workloads start to the end of the run.
pub(crate) struct Holding<F, S> {
    pub(crate) name: String,
    pub(crate) observer: String,
    pub(crate) watched: Watched<F>,
    pub(crate) of: PhantomData<fn(S)>,
}

pub(crate) enum Watched<F> {
    NotYet(F),
    Begun(Invariant),
    Over,
}

impl<F, S> Holding<F, S> {
    async fn end<A: Application>(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        let Watched::Begun(invariant) = std::mem::replace(&mut self.watched, Watched::Over) else {
            return Ok(());
        };
        let held = invariant.finish().await?;
        context.has_judged(Some(held.judged));
        Ok(())
    }
}

#[async_trait]
impl<A, F, S, R> Expectation<A> for Holding<F, S>
where
    A: Application,
    F: FnMut(&S) -> R + Send + 'static,
    S: 'static,
    R: Into<Verdict> + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn start_capture(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        let Watched::NotYet(predicate) = std::mem::replace(&mut self.watched, Watched::Over) else {
            return Ok(());
        };
        let guarded = context.panics().guard(Subject::Expectation(self.name.clone()), predicate);
        // Dropped in this order: the nodes do not go down before the predicate is gone.
        let mut whole = (guarded, context.waits().begin(&self.name, None));
        let predicate = move |snapshot: &S| {
            let whole = &mut whole;
            (*whole.0)(snapshot)
        };
        let watched = context.observers().watched(&self.observer)?;
        self.watched = Watched::Begun(watched.watch(&self.observer, &self.name, predicate)?);
        Ok(())
    }

    /// So that one that is violated ends the workloads; the invariant itself looks on, not this.
    async fn check_during_capture(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        context.looks_at_nothing();
        match &self.watched {
            Watched::Begun(invariant) if invariant.violation().is_some() => self.end(context).await,
            _ => Ok(()),
        }
    }

    async fn evaluate(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        self.end(context).await
    }
}
