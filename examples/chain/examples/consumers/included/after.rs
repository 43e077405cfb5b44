//! "Wait until a transaction is included this deep", with the projection.

use std::time::Duration;

use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservationRuntimeError};
use watchkeeper::{ObservedSource, StaticSourceProvider};
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::projection::Projected;
use watchkeeper_chain::projection::inclusion::{InclusionWaits, Inclusions, Status, TransactionFollower};
use watchkeeper_chain::{ChainConfig, ChainObserver, ChainSource, Hash, Header};

pub(crate) type Watched<C> =
    ObservationRuntime<Projected<ChainObserver<C>, Inclusions<<C as ChainClient>::Transaction>>>;

/// Starts to observe a node; returns also the follower of transactions.
pub(crate) async fn watch<C: ChainClient>(
    node: C,
    interval: Duration,
) -> Result<(Watched<C>, TransactionFollower), ObservationRuntimeError> {
    let inclusions = Inclusions::new();
    let follower = inclusions.follower();
    let nodes = StaticSourceProvider::new(vec![ObservedSource::new("node", ChainSource::local(node))]);
    let observer = Projected::new(ChainObserver::new(ChainConfig::every(interval)), inclusions);
    let timing = ObservationConfig { interval, ..Default::default() };
    Ok((ObservationRuntime::start(nodes, observer, timing).await?, follower))
}

/// The block that includes the transaction, and how deep.
pub(crate) async fn included<C: ChainClient>(
    (watched, follower): &(Watched<C>, TransactionFollower),
    transaction: Hash,
    depth: u64,
    within: Duration,
) -> Result<Option<(Header, u64)>, DynError> {
    follower.follow_hash(transaction)?;
    let seen = watched.handle().included(transaction, depth).within(within).await?;
    Ok(match seen.value.view.status(transaction) {
        Some(Status::Included { block, depth }) => Some((block, depth)),
        _ => None,
    })
}
