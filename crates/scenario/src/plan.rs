//! The plan of a run.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::guarded::{Guarded, Panics};
use crate::part::Part;
use crate::{Application, ExtensionError, Limits, RunContext};

/// Adds an extension to a run.
pub(crate) type AddExtension<A> = Box<dyn FnOnce(&RunContext<A>) -> Result<(), ExtensionError> + Send>;

/// The parts and settings of a run; the run takes the parts out. Each value of the app has its own guard.
pub(crate) struct Plan<A: Application> {
    pub(crate) name: String,
    /// `None` after the run.
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
