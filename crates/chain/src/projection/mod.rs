//! Views of a chain that are folded from [`ChainEvent`]s.
//!
//! A [`Projection`] is plain code without a clock or a task: events in, view out. [`Projected`] puts one
//! beside an observer of a chain, in the same cycle: its snapshot shows the chain and the view at the same
//! moment, and every wait of the handle works on both. The feeds need no projection: they read a
//! subscription.
//!
//! ```
//! # use std::error::Error;
//! # use std::time::Duration;
//! # use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider};
//! # use watchkeeper_chain::adapter::ChainClient;
//! # use watchkeeper_chain::{ChainConfig, ChainObserver, ChainSource, Hash};
//! use watchkeeper_chain::projection::Projected;
//! use watchkeeper_chain::projection::inclusion::{InclusionWaits, Inclusions};
//! use watchkeeper_chain::projection::wallet::{
//!     Account, AccountTransaction, AccountWallet, NewWallet, Wallets,
//! };
//!
//! # async fn example<C>(client: C, payment: Hash) -> Result<(), Box<dyn Error>>
//! # where C: ChainClient<Transaction: AccountTransaction<Address = String>> {
//! let (inclusion, wallets) = (Inclusions::new(), Wallets::new(Account::new(3)));
//! let (follower, requests) = (inclusion.follower(), wallets.requests());
//! let opening = AccountWallet::with(10_000);
//! requests.add(NewWallet { name: "w".into(), addresses: vec!["0xf39f".to_owned()], from: 1, opening })?;
//!
//! let interval = Duration::from_millis(250);
//! let chain = ChainObserver::new(ChainConfig::every(interval));
//! let nodes = StaticSourceProvider::new(vec![ObservedSource::new("n1", ChainSource::local(client))]);
//! let timing = ObservationConfig { interval, ..Default::default() };
//! let runtime =
//!     ObservationRuntime::start(nodes, Projected::new(chain, (inclusion, wallets)), timing).await?;
//!
//! follower.follow_hash(payment)?;
//! let seen = runtime.handle().included(payment, 3).within(Duration::from_secs(30)).await?;
//! let (_, wallets) = &seen.value.view;
//! println!("w has {}", wallets.balance("w")?.spendable);
//! # Ok(())
//! # }
//! ```
//!
//! Projections keep facts by block hash and derive the state at a tip. They drop blocks below the window that is set
//! with `keep`; a question about a dropped block returns an error.

pub mod checkpoint;
pub mod feed;
pub mod inclusion;
mod projected;
pub mod wallet;
mod window;

use crate::ChainEvent;

pub use projected::{Projected, View};
pub use window::BranchPosition;

/// A view of a chain that is folded from its events.
///
/// Both methods run inside a poll and must not block. A clone starts where the original stands.
pub trait Projection<T>: Clone + Send + Sync + 'static {
    /// What is shown after each cycle; made and cloned in constant time, usually of persistent collections.
    type View: Clone + Send + Sync + 'static;

    /// Takes in one event.
    fn apply(&mut self, event: &ChainEvent<T>);

    /// Applies the requests of other tasks; called once in each cycle, after its events.
    fn settle(&mut self) {}

    /// What is known now.
    fn view(&self) -> Self::View;
}

/// Two projections of one chain, in step.
impl<T, A: Projection<T>, B: Projection<T>> Projection<T> for (A, B) {
    type View = (A::View, B::View);

    fn apply(&mut self, event: &ChainEvent<T>) {
        self.0.apply(event);
        self.1.apply(event);
    }

    fn settle(&mut self) {
        self.0.settle();
        self.1.settle();
    }

    fn view(&self) -> Self::View {
        (self.0.view(), self.1.view())
    }
}
