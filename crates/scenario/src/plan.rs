//! What a run is to do.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::guarded::{Guarded, Panics};
use crate::part::Part;
use crate::{Application, ExtensionError, Limits, RunContext};

/// Adds an extension to a run.
pub(crate) type AddExtension<A> = Box<dyn FnOnce(&RunContext<A>) -> Result<(), ExtensionError> + Send>;

/// What a run is to do; emptied while it is done. Each value of the app is dropped under a guard of its own.
pub(crate) struct Plan<A: Application> {
    pub(crate) name: String,
    /// Taken out when the run is over.
    pub(crate) deployment: Option<Arc<Guarded<A::Deployment>>>,
    pub(crate) limits: Limits,
    pub(crate) run_for: Option<Duration>,
    pub(crate) cooldown: Option<Duration>,
    pub(crate) parent: Option<CancellationToken>,
    pub(crate) extensions: Vec<Guarded<AddExtension<A>>>,
    pub(crate) factories: Vec<Part<A>>,
    pub(crate) workloads: Vec<Part<A>>,
    pub(crate) expectations: Vec<Part<A>>,
    pub(crate) panics: Panics,
}
