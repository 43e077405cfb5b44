//! Chains under observation: forks, finality, wallets, inclusion, on the small surface of Watchkeeper.
//!
//! There are three layers; none uses the one above. [`adapter`]s send requests to nodes. The observer keeps one graph
//! of headers from all nodes and emits what changed. Projections derive the views that apps need. Facts are kept, views
//! are derived for a tip. A block is identified by its hash, never by its height, and unknown is not false.
//!
//! # Examples
//!
//! Print the blocks of an Ethereum node as they come, and the balance of an account five blocks later. A snapshot of
//! [`Projected`](projection::Projected) is a [`View`](projection::View): `chain` is the observer's, `view` the
//! projection's.
//!
//! ```no_run
//! use std::time::Duration;
//! use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider};
//! use watchkeeper_chain::adapter::ChainClient;
//! use watchkeeper_chain::adapter::ethereum::{Address, EthereumClient};
//! use watchkeeper_chain::projection::Projected;
//! use watchkeeper_chain::projection::feed::{BlockFeed, BlockStep};
//! use watchkeeper_chain::projection::wallet::{Account, AccountWallet, NewWallet, Wallets};
//! use watchkeeper_chain::{ChainConfig, ChainObserver, ChainSource, Start};
//!
//! # async fn follow(account: Address) -> Result<(), DynError> {
//! let client = EthereumClient::new("http://127.0.0.1:8545".parse()?)?;
//! let head = client.head().await?;
//!
//! // What the account has where the observation begins; `from` is the first block that matters.
//! let opening = AccountWallet::with(client.balance(account, &head).await?.saturating_to());
//! let wallets = Wallets::new(Account::new(3));
//! let from = head.height + 1;
//! wallets.requests().add(NewWallet { name: "w".into(), addresses: vec![account], from, opening })?;
//!
//! // One interval for both.
//! let interval = Duration::from_secs(1);
//! let config = ChainConfig { start: Start::Known(vec![head]), ..ChainConfig::every(interval) };
//! let nodes = StaticSourceProvider::new(vec![ObservedSource::new("n1", ChainSource::local(client))]);
//! let timing = ObservationConfig { interval, ..Default::default() };
//! let observer = Projected::new(ChainObserver::new(config), wallets);
//! let runtime = ObservationRuntime::start(nodes, observer, timing).await?;
//! let handle = runtime.handle();
//!
//! let mut feed = BlockFeed::new(&handle);
//! tokio::spawn(async move {
//!     loop {
//!         match feed.next().await {
//!             Ok(BlockStep::Connected(block)) => println!("+ {}", block.header.height),
//!             Ok(BlockStep::Disconnected(header)) => println!("- {}", header.height),
//!             Err(end) => return println!("{end}"),
//!         }
//!     }
//! });
//! let goal = head.height + 5;
//! let seen = handle
//!     .eventually("five blocks more", move |seen| seen.chain.tip.is_some_and(|tip| tip.height >= goal))
//!     .within(Duration::from_secs(120))
//!     .await?;
//! println!("{}", seen.value.view.balance("w")?.total);
//! # Ok(())
//! # }
//! ```

pub mod adapter;
mod block;
mod event;
mod graph;
mod observer;
pub mod projection;

pub use block::{Block, Detail, Hash, Header, Height, ParseHashError, Transaction, Work};
pub use event::ChainEvent;
pub use graph::{Branch, Graph, InsertError, Inserted, OnBranch, Path, PruneError};
pub use observer::{
    Agreement, ChainConfig, ChainConfigError, ChainObserver, ChainSource, ChainState, ChainView, Group,
    NodeView, NodeWaits, Progress, ShowsChain, Start,
};
