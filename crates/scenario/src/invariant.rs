//! Invariants over an observer as expectations.

use std::any::type_name;
use std::marker::PhantomData;

use watchkeeper::wait::{Invariant, Verdict};
use watchkeeper::{DynError, async_trait};

use crate::subject::Subject;
use crate::{Application, Expectation, ObserverError, RunContext};

/// An invariant, watched from right before the workloads start until the run ends.
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
        // Dropped in this order: the nodes do not go down before the predicate is dropped.
        let mut whole = (guarded, context.waits().begin(&self.name, None));
        let predicate = move |snapshot: &S| {
            let whole = &mut whole;
            (*whole.0)(snapshot)
        };
        let watched = context.observers().watched(&self.observer)?;
        let invariant = watched.watch(&self.name, predicate).map_err(|is| ObserverError::OtherSnapshot {
            name: self.observer.clone(),
            wanted: type_name::<S>(),
            is,
        })?;
        self.watched = Watched::Begun(invariant);
        Ok(())
    }

    /// Ends the workloads if the invariant is violated. The invariant itself observes; this checks nothing else.
    async fn check_during_capture(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        context.checks_nothing();
        match &self.watched {
            Watched::Begun(invariant) if invariant.violation().is_some() => self.end(context).await,
            _ => Ok(()),
        }
    }

    async fn evaluate(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        self.end(context).await
    }
}
