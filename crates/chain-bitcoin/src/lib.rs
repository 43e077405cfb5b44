//! Bitcoin under the chain observer: real nodes on Bitcoin Core's own consensus library.
//!
//! A [`RegtestNode`] runs in this process, on the regtest chain, with its own data directory. A
//! [`ChainObserver`](watchkeeper_chain::ChainObserver) asks its [`BitcoinClient`]. A [`Miner`] makes
//! blocks and forks, a [`Key`] signs what they contain; what is submitted is checked by the consensus code
//! that checks the real chain.
//!
//! # Examples
//!
//! ```
//! use watchkeeper_chain::adapter::ChainClient;
//! use watchkeeper_chain_bitcoin::{Key, Miner, RegtestNode};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let node = RegtestNode::open(directory.path()).await?;
//! let client = node.client();
//!
//! let genesis = client.head().await?;
//! let mined = Miner::new(&Key::named("miner")).mine(&genesis, &[])?;
//! node.submit(&mined.block).await?;
//! assert_eq!(client.head().await?, mined.header);
//! # Ok(())
//! # }
//! ```

mod client;
mod convert;
mod error;
mod kernel;
mod miner;
mod node;
mod opened;
mod transaction;

pub use client::BitcoinClient;
pub use error::NodeError;
pub use miner::{Coin, Key, MineError, Mined, Miner, Spend, SpendError};
pub use node::RegtestNode;
pub use transaction::{BitcoinTransaction, Input};
