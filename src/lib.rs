//! Watchkeeper is an observation runtime: one explicit loop in place of the poll-and-sleep loops
//! that every project writes around a distributed system.
//!
//! An app gives a [`SourceProvider`] (what is there to look at) and an [`Observer`] (how to look,
//! and what to remember). An [`ObservationRuntime`] refreshes, polls, and publishes what it knows
//! through a cloneable [`ObservationHandle`]: the state of its machine, the latest snapshot, every
//! batch of events, failures, and how fresh it all is. Tests and services wait on that.
//!
//! App code may fail, hang and panic: each is a failure that is told, and the next cycle runs. That
//! needs unwinding, so `panic = "abort"` is not supported.
//!
#![doc = include_str!("../docs/first_observer.md")]
//!
//! # From there
//!
//! Most need [`PerSource`] alone: one async function that probes one source. Tests wait on the handle
//! ([`eventually`](ObservationHandle::eventually) and its like); [`ObservationGroup`] holds many runtimes. The
//! feature `json` shows reports, and the snapshots and events of erased handles, as JSON. How a group becomes metrics is
//! [`examples/metrics.rs`](https://github.com/watchkeeper/watchkeeper/blob/main/examples/metrics.rs): 30 lines to copy.
//!
//! What is logged, at which level and with which fields, is listed with [`ObservationRuntime`](ObservationRuntime#logs).
//!
//! The tokio runtime that an observation was started on must be driven for as long as something is expected of it; what
//! is awaited of it may be awaited anywhere. See [`ObservationHandle`](ObservationHandle#which-executor-must-run).
//!
//! It builds on Linux, macOS and Windows, and is tested on Linux.
//!
//! See [`PerSource`] and [`ObservationRuntime`] for more observers, [`guides`] for a consumer that must not lose, and `ARCHITECTURE.md` in the repository
//! for how it works inside. `watchkeeper-scenario` and `watchkeeper-cucumber` build on it.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod clock;
mod config;
mod control;
mod cursor;
mod driver;
mod duplicates;
mod error;
mod error_text;
mod explain;
mod failure;
mod feed;
mod freshness;
mod group;
#[cfg(any(doc, doctest))]
pub mod guides;
mod handle;
mod mark;
mod observe;
mod observer;
mod panics;
mod parent;
mod per_source;
mod poll_now;
mod publish;
mod pulse;
mod render;
mod runtime;
mod shield;
mod source;
mod source_health;
mod status;
mod subscription;
mod sync;
mod tap;
mod task;
mod text;
mod time;
mod transactional;
mod until;
mod waiting;
mod waits;
mod watch;

pub mod check;

/// For what a person reads: bounded in bytes, and escaped.
pub mod report {
    pub use crate::error_text::error_chain;
    pub use crate::render::{debug, debug_line};
    pub use crate::text::{names, one_line};
}

pub use async_trait::async_trait;
pub use tokio_util::sync::CancellationToken;
pub use watchkeeper_fsm::{State, StateKind, StopReason};

pub use config::{Backoff, Duplicates, ObservationConfig, Retry};
pub use control::ObservationControl;
pub use cursor::{Cursor, PositionError, PositionProblem, Resume};
pub use error::{ControlError, CursorError, DynError, ObservationRuntimeError, PollNowError};
pub use failure::{Cause, ObservationFailure, ObservationFailureStage};
pub use feed::{Feed, FeedError, FeedFailure, FeedLoss, FeedStart, FeedSuccess};
pub use freshness::Freshness;
#[cfg(feature = "json")]
pub use group::erased::json::{JsonBatch, JsonEvent, JsonSubscription, JsonSubscriptionError};
pub use group::erased::{AnyHandle, AnySnapshot, AnyWait, AnyWaitBuilder};
pub use group::status::GroupStatus;
pub use group::{GroupError, ObservationGroup};
pub use handle::ObservationHandle;
pub use mark::Mark;
pub use observe::observe;
pub use observer::Observer;
pub use per_source::{
    PerSource, PerSourceError, PerSourceSnapshot, PerSourceSnapshotError, PerSourceState, SourceEvent,
    SourceView,
};
pub use publish::history::ObservationBatch;
pub use runtime::ObservationRuntime;
pub use source::{
    BoxedSourceProvider, ObservedSource, SharedSources, SourceFn, SourceProvider, SourceSetError,
    StaticSourceProvider, source_fn,
};
pub use source_health::{ProbeFailure, SourceFacts, SourceHealth};
pub use status::{ObservationSnapshot, ObservationStatus};
pub use subscription::{RecvError, Subscription};
pub use tap::{Record, RecordKind, SourcesChanged, Tap, TapError, TapLimits};
pub use task::lifetime::StopOutcome;
pub use transactional::Transactional;
pub use until::{Until, until};
pub use waits::{
    ByDebug, ByShow, Eventually, Inconclusive, InvalidWait, Invariant, InvariantReport, ObservedEvent,
    Throughout, Unmet, UnmetOutcome, Verdict, Wait, WaitBuilder,
};
pub use watch::{Watch, WatchError};
