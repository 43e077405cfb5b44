//! A key-value store replicated by Raft: one binary, several processes, real failures.
//!
//! The crate is the subject that Watchkeeper observes. [`node`] is one member: Raft on
//! [openraft], a store on [redb] that survives `SIGKILL`, and an HTTP API. [`client`] talks to
//! that API with typed errors, and [`api`] has the types of that API.
//! [`deploy`] makes it an application of `watchkeeper_scenario`, which `watchkeeper_deploy` starts as child processes, in
//! containers and on Kubernetes.
//! [`observer`] watches them, [`failover`] is the scenario that breaks them, and [`demo`] runs it and prints a
//! [`timeline`].
//!
//! Linux only, as are the deployers.
//!
//! [openraft]: https://docs.rs/openraft/0.9
//! [redb]: https://docs.rs/redb

pub mod api;
pub mod client;
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
pub use node::{Node, NodeConfig, NodeError, NodeFlags};
