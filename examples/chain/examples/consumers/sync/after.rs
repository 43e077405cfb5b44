//! "Is our node in sync with the public chain?", with the observer.

use std::time::Duration;

use watchkeeper::{ObservationConfig, ObservationRuntime, ObservationRuntimeError};
use watchkeeper::{ObservedSource, StaticSourceProvider};
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::{ChainConfig, ChainObserver, ChainSource, Height};

/// Starts to observe our node and the public ones.
pub(crate) async fn watch<C: ChainClient>(
    ours: C,
    public: Vec<C>,
    interval: Duration,
) -> Result<ObservationRuntime<ChainObserver<C>>, ObservationRuntimeError> {
    let mut nodes = vec![ObservedSource::new("ours", ChainSource::local(ours))];
    nodes.extend(
        (1..)
            .zip(public)
            .map(|(nth, peer)| ObservedSource::new(format!("public{nth}"), ChainSource::public(peer))),
    );
    let timing = ObservationConfig { interval, ..Default::default() };
    let observer = ChainObserver::new(ChainConfig::every(interval));
    ObservationRuntime::start(StaticSourceProvider::new(nodes), observer, timing).await
}

/// How many blocks of the public chain's best branch our node lacks; `None` if unknown.
pub(crate) fn behind<C: ChainClient>(watched: &ObservationRuntime<ChainObserver<C>>) -> Option<Height> {
    watched.handle().latest_snapshot()?.value.behind_target("ours")
}
