//! Ethereum, and chains that speak its JSON-RPC.

pub mod anvil;
mod client;
mod endpoint;
mod heads;
mod http;
mod pace;
mod tls;
mod transaction;
mod wire;

pub use alloy::primitives::{Address, U256};
pub use alloy::rpc::types::TransactionRequest;

pub use client::EthereumClient;
pub use endpoint::{Endpoint, EndpointError};
pub use heads::NewHeads;
pub use transaction::EthereumTransaction;
