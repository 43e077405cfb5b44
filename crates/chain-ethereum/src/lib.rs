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
