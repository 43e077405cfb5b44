//! Watchkeeper is an observation runtime: one explicit loop in place of the poll-and-sleep loops around distributed
//! systems.
//!
//! A [`SourceProvider`] returns the sources, an [`Observer`] polls them and keeps a state. An [`ObservationRuntime`]
//! runs both and publishes through a cloneable [`ObservationHandle`]: its state, the latest snapshot, batches of
//! events, failures, and freshness. Tests and services [`wait`] on that. Most need [`observe`] and [`PerSource`]
//! alone:
//!
//! ```
//! use std::time::Duration;
//! use watchkeeper::{DynError, ObservedSource, observe};
//!
//! async fn height(node: ObservedSource<u64>) -> Result<u64, DynError> {
//!     Ok(node.source) // ask the node here
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), DynError> {
//! let runtime = observe(Duration::from_secs(1), [("n1", 7), ("n2", 8)], height).await?;
//! let high = runtime.handle().all_sources("all are at 7", |height| *height >= 7);
//! let snapshot = high.within(Duration::from_secs(10)).await?;
//! assert_eq!(snapshot.value.answer("n2"), Some(&8));
//! # Ok(())
//! # }
//! ```
//!
//! Each part has an example of under 80 lines that runs, in
//! [`examples/`](https://github.com/watchkeeper/watchkeeper/tree/main/examples): begin with `per_source.rs` and `waits.rs`.
//!
//! Errors, time-outs and panics of app code are recorded as failures, and the next cycle runs; that needs unwinding, so
//! `panic = "abort"` is not supported. The feature `json` shows reports, snapshots and events as JSON.
#![doc = include_str!("../docs/first_observer.md")]

pub mod check;
mod clock;
mod config;
mod control;
mod cursor;
mod driver;
mod error;
mod explain;
pub mod feed;
pub mod group;
#[cfg(any(doc, doctest))]
pub mod guides;
mod handle;
mod mark;
mod observer;
mod panics;
mod parent;
pub mod per_source;
mod publish;
mod pulse;
pub mod report;
pub mod runtime;
mod shield;
pub mod source;
mod status;
pub mod subscription;
pub mod supervise;
mod sync;
mod tap;
mod task;
mod text;
mod time;
pub mod wait;
mod waiting;
mod watch;

pub use async_trait::async_trait;
pub use config::ObservationConfig;
pub use control::ObservationControl;
pub use error::{DynError, ObservationFailure, ObservationFailureStage, ObservationRuntimeError};
pub use handle::ObservationHandle;
pub use observer::Observer;
pub use per_source::{PerSource, observe::observe};
pub use publish::history::ObservationBatch;
pub use runtime::ObservationRuntime;
pub use source::{BoxedSourceProvider, ObservedSource, SourceProvider, StaticSourceProvider};
pub use status::ObservationSnapshot;
pub use wait::until::until;
