//! An Ethereum chain with wallets and transactions under observation.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use watchkeeper::{
    ObservationConfig, ObservationHandle, ObservationRuntime, ObservationRuntimeError, ObservedSource,
    StaticSourceProvider,
};
use watchkeeper_chain::projection::inclusion::{InclusionView, Inclusions, TransactionFollower};
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, NewWallet, WalletRequests, Wallets, WalletsView,
};
use watchkeeper_chain::projection::{Projected, View};
use watchkeeper_chain::{ChainConfig, ChainEvent, ChainObserver, ChainSource, ChainView, Height};
use watchkeeper_chain_ethereum::Address;
use watchkeeper_chain_ethereum::{EthereumClient, EthereumTransaction};

/// How deep a payment must be to count as confirmed.
const CONFIRMATIONS: u64 = 2;

/// The least time between two cycles when a new head starts the second one early.
const SMALLEST_GAP: Duration = Duration::from_millis(20);

pub(crate) type Ether = Account<EthereumTransaction>;
pub(crate) type Event = ChainEvent<EthereumTransaction>;
pub(crate) type Seen = View<ChainView, (InclusionView<EthereumTransaction>, WalletsView<Ether>)>;
pub(crate) type Observer =
    Projected<ChainObserver<EthereumClient>, (Inclusions<EthereumTransaction>, Wallets<Ether>)>;

/// The observation, and the requests for transactions and wallets.
pub(crate) struct Watched {
    pub(crate) runtime: ObservationRuntime<Observer>,
    pub(crate) follower: TransactionFollower,
    pub(crate) requests: WalletRequests<Ether>,
}

impl Watched {
    /// Observes these nodes; `wake` starts a cycle early.
    pub(crate) fn start(
        nodes: Vec<ObservedSource<ChainSource<EthereumClient>>>,
        config: ChainConfig,
        wake: Option<Arc<Notify>>,
    ) -> Result<Self, ObservationRuntimeError> {
        Self::resume(nodes, config, wake, no_wallets())
    }

    /// The same with wallets that are known from before.
    pub(crate) fn resume(
        nodes: Vec<ObservedSource<ChainSource<EthereumClient>>>,
        config: ChainConfig,
        wake: Option<Arc<Notify>>,
        wallets: Wallets<Ether>,
    ) -> Result<Self, ObservationRuntimeError> {
        let inclusions = Inclusions::new();
        let (follower, requests) = (inclusions.follower(), wallets.requests());
        let timing = timing(config.interval, wake);
        let observer = Projected::new(ChainObserver::new(config), (inclusions, wallets));
        let runtime =
            ObservationRuntime::start_in_background(StaticSourceProvider::new(nodes), observer, timing)?;
        Ok(Self { runtime, follower, requests })
    }

    pub(crate) fn handle(&self) -> ObservationHandle<Observer> {
        self.runtime.handle()
    }
}

/// Wallets before the first one is added.
pub(crate) fn no_wallets() -> Wallets<Ether> {
    Wallets::new(Account::new(CONFIRMATIONS))
}

/// Wakes may come without end: they cost at most ten cycles an interval.
fn timing(interval: Duration, wake: Option<Arc<Notify>>) -> ObservationConfig {
    let min_gap = SMALLEST_GAP.max(interval / 10);
    ObservationConfig { interval, min_gap, wake, ..ObservationConfig::default() }
}

/// A wallet of one account.
pub(crate) fn wallet(
    name: &str,
    account: Address,
    from: Height,
    balance: Amount,
) -> NewWallet<Address, AccountWallet> {
    NewWallet { name: Arc::from(name), addresses: vec![account], from, opening: AccountWallet::with(balance) }
}

/// Wei as a decimal number of ether.
pub(crate) fn ether(wei: Amount) -> String {
    const ETHER: Amount = 1_000_000_000_000_000_000;
    format!("{}.{:06}", wei / ETHER, wei % ETHER / 1_000_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_heads_cost_at_most_ten_cycles_an_interval() {
        for (interval, gap) in [(12_000, 1_200), (1_000, 100), (250, 25), (50, 20), (1, 20)] {
            let config = timing(Duration::from_millis(interval), None);
            assert_eq!((config.interval.as_millis(), config.min_gap.as_millis()), (interval.into(), gap));
        }
    }
}
