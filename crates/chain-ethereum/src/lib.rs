//! Ethereum, and chains that speak its JSON-RPC.
//!
//! [`EthereumClient`] asks a node over HTTP and checks its answers; it also returns logs of contracts. [`NewHeads`]
//! listens to a node over WebSocket, only to start the next poll sooner. [`EthereumTransaction`] has what accounts gain
//! and lose, fees included, so that balances follow from blocks. With the feature `anvil` the module
//! `anvil` starts real nodes on this machine; it is for Linux.
//!
//! # Examples
//!
//! Following a node once every 10 s, and whenever it announces a new head:
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use tokio::sync::Notify;
//! use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource};
//! use watchkeeper::source::SharedSources;
//! use watchkeeper_chain_ethereum::{EthereumClient, NewHeads};
//! use watchkeeper_chain::{ChainConfig, ChainObserver, ChainSource};
//!
//! # async fn follow() -> Result<(), DynError> {
//! let wake = Arc::new(Notify::new());
//! let _heads = NewHeads::follow("ws://127.0.0.1:8545".parse()?, Arc::clone(&wake))?;
//! let client = EthereumClient::new("http://127.0.0.1:8545".parse()?)?;
//! let sources = SharedSources::new(vec![ObservedSource::new("n1", ChainSource::local(client))]);
//! let interval = Duration::from_secs(10);
//! let observer = ChainObserver::new(ChainConfig::every(interval));
//! let config = ObservationConfig { interval, wake: Some(wake), ..Default::default() };
//! let runtime = ObservationRuntime::start(sources, observer, config).await?;
//! let mut batches = runtime.handle().subscribe();
//! loop {
//!     println!("{:?}", batches.recv().await?.events);
//! }
//! # }
//! ```
//!
//! Print the blocks of an Ethereum node as they come, and the balance of an account five blocks later. A snapshot of
//! [`Projected`](watchkeeper_chain::projection::Projected) is a [`View`](watchkeeper_chain::projection::View): `chain` is
//! the observer's, `view` the projection's.
//!
//! ```no_run
//! use std::time::Duration;
//! use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider};
//! use watchkeeper_chain::adapter::ChainClient;
//! use watchkeeper_chain_ethereum::{Address, EthereumClient};
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

#[cfg(feature = "anvil")]
pub mod anvil;
mod balance;
mod batch_size;
mod blocks;
mod classify;
mod client;
mod endpoint;
mod failure;
mod heads;
mod http;
mod logs;
mod message;
mod pace;
mod receipts;
mod rpc;
mod stated_range;
mod tls;
mod transaction;
mod wire;

pub use alloy::primitives::{Address, AddressError, U256};
pub use alloy::rpc::types::TransactionRequest;

pub use client::EthereumClient;
pub use endpoint::{Endpoint, EndpointError};
pub use heads::{HeadsLost, HeadsState, HeadsStates, NewHeads};
pub use transaction::EthereumTransaction;
