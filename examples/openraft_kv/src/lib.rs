//! A key-value store replicated by Raft: one binary, several processes, real failures.
//!
//! The crate is the subject that Watchkeeper observes. [`node`] is one member: Raft on
//! [openraft], a store on [redb] that survives `SIGKILL`, and an HTTP API. [`client`] talks to
//! that API with typed errors, [`api`] has the types of that API, and [`cluster`] runs several
//! nodes as child processes, which can be killed, paused and restarted.
//! [`deploy`] makes it an application of `watchkeeper_scenario`.
//! [`observer`] watches them, [`failover`] is the scenario that breaks them, and [`demo`] runs it and prints a
//! [`timeline`].
//!
//! Linux only: a node must die with its parent, and only Linux guarantees that.
//!
//! [openraft]: https://docs.rs/openraft/0.9
//! [redb]: https://docs.rs/redb

pub mod api;
pub mod client;
pub mod cluster;
pub mod demo;
pub mod deploy;
mod errors;
pub mod failover;
mod http;
pub mod node;
pub mod observer;
mod sync;
pub mod timeline;

pub use client::{ClientError, NodeClient};
pub use cluster::{ClusterError, ClusterOptions, LocalCluster, Roster};
pub use node::{Node, NodeConfig, NodeError, NodeFlags};
