//! Chains under observation: forks, finality, wallets, inclusion, on the small surface of Watchkeeper.
//!
//! Layers, none knowing the one above: [`adapter`]s talk to nodes; the observer keeps one graph of
//! headers from all of them and says what changed; projections derive what apps ask for. Facts are
//! kept, views are derived for a tip: a block is its hash, never its height, and unknown is not false.

pub mod adapter;
mod block;
mod event;
mod graph;
mod observer;
pub mod projection;

pub use block::{Block, Hash, Header, Height, ParseHashError, Transaction, Work};
pub use event::ChainEvent;
pub use graph::{Branch, Graph, InsertError, Inserted, OnBranch, Path, PruneError};
pub use observer::{
    Agreement, ChainConfig, ChainConfigError, ChainObserver, ChainSource, ChainState, ChainView, Group,
    NodeView, Progress, Start,
};
