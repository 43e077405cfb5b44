//! What every handler works on.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::accept::ConnectionCounts;
use super::auth::Access;
use super::bodies::Bodies;
use super::metrics::Metrics;
use super::streams::Streams;
use crate::config::LimitsConfig;
use crate::live::Live;
use crate::loops::Loops;
use crate::store::Store;

/// The service as its handlers see it.
pub(crate) struct App {
    /// Where operations go.
    pub store: Store,
    /// What was recorded, to streams.
    pub(crate) live: Live,
    /// The loops.
    pub loops: Loops,
    /// What bounds work and memory.
    pub limits: LimitsConfig,
    /// Slots of streams.
    pub(crate) streams: Streams,
    /// Memory of bodies.
    pub(crate) bodies: Bodies,
    /// Memory of answers: as much as of bodies.
    pub(crate) answers: Bodies,
    /// Large batches that are parsed.
    pub(crate) parsing: Arc<Semaphore>,
    /// Connections.
    pub(crate) connections: Arc<ConnectionCounts>,
    /// What `/metrics` shows.
    pub(crate) metrics: Metrics,
    /// Who may call.
    pub(crate) access: Arc<Access>,
    /// Cancelled when the service stops: it is not ready, and streams end.
    pub(crate) stop: CancellationToken,
    /// When the service was started.
    pub(crate) started: Instant,
}
