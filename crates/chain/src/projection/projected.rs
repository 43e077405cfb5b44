//! A projection beside the observer whose events it folds.

use tokio::time::Instant;
use watchkeeper::source::SourceHealth;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};

use super::Projection;
use crate::{ChainEvent, ChainView, ShowsChain};

/// An observer of a chain together with a projection of its events.
///
/// Both advance in the same cycle, so that the projection knows every block of the branch above the one where the
/// observation began. The snapshot of the observer's cycle 0 must show nothing that is not emitted yet, as with
/// [`ChainObserver`](crate::ChainObserver). When the observer's state is rebuilt, the projection starts again in its
/// initial state.
#[derive(Debug)]
pub struct Projected<O, P> {
    observer: O,
    initial: P,
}

/// A chain and a view of it at the same moment.
#[derive(Clone, Debug)]
pub struct View<S, V> {
    /// The snapshot of the chain's observer.
    pub chain: S,
    /// What the projection shows.
    pub view: V,
}

impl<S: ShowsChain, V> ShowsChain for View<S, V> {
    fn chain(&self) -> &ChainView {
        self.chain.chain()
    }
}

impl<O, P> Projected<O, P> {
    /// Folds the events of `observer` into `projection`.
    pub fn new(observer: O, projection: P) -> Self {
        Self { observer, initial: projection }
    }
}

#[async_trait]
impl<T, O, P> Observer for Projected<O, P>
where
    T: Send + Sync + 'static,
    O: Observer<Event = ChainEvent<T>>,
    P: Projection<T>,
{
    type Source = O::Source;
    type State = (O::State, P);
    type Snapshot = View<O::Snapshot, P::View>;
    type Event = ChainEvent<T>;

    fn configured(&mut self, config: &ObservationConfig) {
        self.observer.configured(config);
    }

    async fn init(&self, sources: &[ObservedSource<O::Source>]) -> Result<Self::State, DynError> {
        Ok((self.observer.init(sources).await?, self.initial.clone()))
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<O::Source>],
        (chain, projection): &mut Self::State,
    ) -> Result<Vec<ChainEvent<T>>, DynError> {
        let events = self.observer.poll(sources, chain).await?;
        // No await from here on: all returned events are applied.
        for event in &events {
            projection.apply(event);
        }
        projection.settle();
        Ok(events)
    }

    fn snapshot(&self, (chain, projection): &Self::State) -> Self::Snapshot {
        View { chain: self.observer.snapshot(chain), view: projection.view() }
    }

    fn poll_is_cancel_safe(&self) -> bool {
        self.observer.poll_is_cancel_safe()
    }

    fn source_health(snapshot: &Self::Snapshot, name: &str) -> Option<SourceHealth> {
        O::source_health(&snapshot.chain, name)
    }

    /// Only the chain's snapshot is filtered. The projection's view follows from events, and stays.
    fn asked_since(snapshot: &Self::Snapshot, since: Instant) -> Option<Self::Snapshot> {
        let chain = O::asked_since(&snapshot.chain, since)?;
        Some(View { chain, view: snapshot.view.clone() })
    }

    fn asked_at(event: &ChainEvent<T>) -> Option<Instant> {
        O::asked_at(event)
    }

    fn weight(snapshot: &Self::Snapshot, events: &[ChainEvent<T>]) -> usize {
        O::weight(&snapshot.chain, events).saturating_add(size_of_val(&snapshot.view))
    }
}
