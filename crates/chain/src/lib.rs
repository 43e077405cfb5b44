//! Chains under observation: forks, finality, wallets, inclusion, on the small surface of Watchkeeper.
//!
//! There are three layers; none uses the one above. [`adapter`]s send requests to nodes. The observer keeps one graph
//! of headers from all nodes and emits what changed. Projections derive the views that apps need. Facts are kept, views
//! are derived for a tip. A block is identified by its hash, never by its height, and unknown is not false.
//!
//! # Examples
//!
//! Two nodes in memory: the first makes a block, then the second makes two others above the same parent.
//!
//! ```
//! use std::time::Duration;
//!
//! use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider};
//! use watchkeeper_chain::adapter::{ChainIdentity, MemoryNode};
//! use watchkeeper_chain::{
//!     Block, ChainConfig, ChainEvent, ChainObserver, ChainSource, Hash, Header, Start, Transaction,
//! };
//!
//! #[derive(Clone, Debug, PartialEq)]
//! struct Note(Hash);
//!
//! impl Transaction for Note {
//!     fn id(&self) -> Hash {
//!         self.0
//!     }
//!
//!     fn conflicts(&self) -> Vec<Vec<u8>> {
//!         Vec::new()
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hash = |byte| Hash([byte; 32]);
//! let block = |height: u64, own, parent| {
//!     let header = Header { hash: hash(own), parent: hash(parent), height, work: 1, time: 0 };
//!     Block::<Note>::new(header, Vec::new())
//! };
//! let identity = ChainIdentity { id: "notes".to_owned(), genesis: hash(1) };
//! let nodes = [MemoryNode::new(identity.clone()), MemoryNode::new(identity)];
//! nodes.iter().for_each(|node| node.connect(block(0, 1, 0)));
//! let sources = ["n1", "n2"].into_iter().zip(&nodes);
//! let sources = sources.map(|(name, node)| ObservedSource::new(name, ChainSource::local(node.clone())));
//!
//! let interval = Duration::from_secs(1);
//! let config = ChainConfig { start: Start::Genesis, ..ChainConfig::every(interval) };
//! let timing = ObservationConfig { interval, ..Default::default() };
//! let provider = StaticSourceProvider::new(sources.collect());
//! let runtime = ObservationRuntime::start(provider, ChainObserver::new(config), timing).await?;
//! let mut batches = runtime.handle().subscribe();
//!
//! nodes[0].connect(block(1, 2, 1));
//! let events = batches.recv().await?.events.to_vec();
//! assert!(matches!(&events[..], [ChainEvent::Committed { new }] if new[0].header.hash == hash(2)));
//!
//! nodes[1].connect(block(1, 11, 1));
//! nodes[1].connect(block(2, 12, 11));
//! let events = batches.recv().await?.events.to_vec();
//! let [ChainEvent::Reorged { old, new, ancestor }] = &events[..] else { panic!("{events:?}") };
//! assert_eq!((old[0].hash, new[1].header.hash, ancestor.hash), (hash(2), hash(12), hash(1)));
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
pub use graph::{Branch, Fork, ForkList, Graph, InsertError, Inserted, OnBranch, Path, PruneError};
pub use observer::{
    Agreement, ChainConfig, ChainConfigError, ChainObserver, ChainSource, ChainState, ChainView, Group,
    NodeView, NodeWaits, Progress, ShowsChain, Start,
};
