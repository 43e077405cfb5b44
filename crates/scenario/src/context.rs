//! What the parts of a run share.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchkeeper::{ObservationConfig, ObservationControl, ObservationHandle, Observer, SourceProvider};

use crate::extensions::Extensions;
use crate::guarded::{Guarded, Panics};
use crate::in_flight::InFlight;
use crate::observers::Observers;
use crate::subject::Subject;
use crate::sync::lock;
use crate::{
    Application, ExtensionError, NodeClients, NodeControl, NodeControlError, ObserverError, ObserverTimeline,
};

/// What factories, workloads and expectations of one run share; cloneable.
///
/// Observers and extensions belong to the run, not to this: when the run is over they are stopped
/// and dropped, also while a context is still held.
pub struct RunContext<A: Application> {
    shared: Arc<Shared<A>>,
    step: Arc<StepNotes>,
}

/// What the run has to know of the step that a context was made for.
#[derive(Default)]
pub(crate) struct StepNotes {
    /// Whose step it is.
    of: Option<Subject>,
    looks_at_nothing: AtomicBool,
    judged: Mutex<Option<u64>>,
}

impl StepNotes {
    /// Whether the step, a check, looks at nothing.
    pub(crate) fn looks_at_nothing(&self) -> bool {
        self.looks_at_nothing.load(Ordering::Relaxed)
    }

    /// How many snapshots were judged, if that is known.
    pub(crate) fn judged(&self) -> Option<u64> {
        *lock(&self.judged)
    }
}

struct Shared<A: Application> {
    deployment: Arc<Guarded<A::Deployment>>,
    clients: Guarded<NodeClients<A::NodeClient>>,
    control: Guarded<Arc<dyn NodeControl>>,
    observers: Observers,
    extensions: Extensions,
    /// The waits of expectations, each on a task of its own.
    waits: InFlight,
    panics: Panics,
    cancel: CancellationToken,
    began: Instant,
}

impl<A: Application> Clone for RunContext<A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), step: Arc::clone(&self.step) }
    }
}

impl<A: Application> RunContext<A> {
    pub(crate) fn new(
        deployment: Arc<Guarded<A::Deployment>>,
        clients: Guarded<NodeClients<A::NodeClient>>,
        control: Guarded<Arc<dyn NodeControl>>,
        panics: &Panics,
        began: Instant,
    ) -> Self {
        let shared = Shared {
            deployment,
            clients,
            control,
            observers: Observers::new(panics, began),
            extensions: Extensions::new(panics),
            waits: InFlight::default(),
            panics: panics.clone(),
            cancel: CancellationToken::new(),
            began,
        };
        Self { shared: Arc::new(shared), step: Arc::default() }
    }

    /// What was deployed.
    #[must_use]
    pub fn deployment(&self) -> &A::Deployment {
        &self.shared.deployment
    }

    /// The nodes as they can be reached now; a [`SourceProvider`] that follows restarts.
    #[must_use]
    pub fn clients(&self) -> &NodeClients<A::NodeClient> {
        &self.shared.clients
    }

    /// The client of the node called `node`, as it can be reached now.
    ///
    /// # Errors
    ///
    /// [`NodeControlError::UnknownNode`], with the names of those that can be reached.
    pub fn node_client(&self, node: &str) -> Result<A::NodeClient, NodeControlError> {
        let clients = self.clients();
        let unknown = || NodeControlError::UnknownNode { node: node.to_owned(), known: clients.names() };
        clients.get(node).ok_or_else(unknown)
    }

    /// Starts, stops, kills, pauses nodes.
    #[must_use]
    pub fn control(&self) -> &dyn NodeControl {
        &**self.shared.control
    }

    /// Starts an observer, which is then found under `name` and stopped before the nodes go down.
    ///
    /// Several of one type are distinguished by name. The timeline of a report shows its events and
    /// its last snapshot by `Debug`.
    ///
    /// # Errors
    ///
    /// [`ObserverError`]: the name is empty or taken, it did not start, or the run is over. Nothing
    /// is left running then.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, by a time-out or with the workload that awaits it, the start is cut off. A
    /// task goes on to stop the observer; the run awaits that before the nodes go down, and its report
    /// names the observer.
    pub async fn observe<O, P>(
        &self,
        name: &str,
        provider: P,
        observer: O,
        config: ObservationConfig,
    ) -> Result<ObservationHandle<O>, ObserverError>
    where
        O: Observer<Snapshot: fmt::Debug, Event: fmt::Debug>,
        P: SourceProvider<O::Source>,
    {
        self.shared.observers.start(name, provider, observer, config, self.step.of.as_ref()).await
    }

    /// The handle of the observer called `name`, if there is one of this type.
    #[must_use]
    pub fn observer<O: Observer>(&self, name: &str) -> Option<ObservationHandle<O>> {
        self.shared.observers.get(name)
    }

    /// The handle of the observer called `name`.
    ///
    /// # Errors
    ///
    /// [`ObserverError`]: none is called so (it lists those there are), or it is of another type.
    pub fn require_observer<O: Observer>(&self, name: &str) -> Result<ObservationHandle<O>, ObserverError> {
        self.shared.observers.require(name)
    }

    /// The control of the observer called `name`, whatever its type.
    ///
    /// # Errors
    ///
    /// [`ObserverError::Unknown`].
    pub fn observer_control(&self, name: &str) -> Result<ObservationControl, ObserverError> {
        self.shared.observers.control(name)
    }

    /// Starts a cycle of the observer called `name` now, or right after the one in flight, waits until that very cycle
    /// has succeeded, and returns its number. Its handle's latest snapshot is then of that cycle, or of a later one.
    ///
    /// # Errors
    ///
    /// [`ObserverError::Unknown`], or [`ObserverError::NotPolled`] with what became of the cycle.
    ///
    /// # Cancel safety
    ///
    /// The cycle runs whether this is awaited to its end or not.
    pub async fn poll_now_and_wait(&self, name: &str) -> Result<u64, ObserverError> {
        self.shared.observers.poll_now_and_wait(name).await
    }

    /// The names of all observers, in the order they were started.
    #[must_use]
    pub fn observer_names(&self) -> Vec<String> {
        self.shared.observers.names()
    }

    /// What each observer has seen up to now.
    #[must_use]
    pub fn timelines(&self) -> Vec<ObserverTimeline> {
        self.shared.observers.timelines()
    }

    /// Adds a value that the other parts of the run find by its type. It is dropped when the
    /// observers have stopped, before the nodes go down.
    ///
    /// # Errors
    ///
    /// [`ExtensionError`]: there is one of this type already, or the run is over.
    pub fn add_extension<T: Send + Sync + 'static>(&self, value: T) -> Result<Arc<T>, ExtensionError> {
        self.shared.extensions.insert(value)
    }

    /// The extension of this type.
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.shared.extensions.get()
    }

    /// The extension of this type.
    ///
    /// # Errors
    ///
    /// [`ExtensionError::Missing`] names the type and lists those there are.
    pub fn require_extension<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ExtensionError> {
        self.shared.extensions.require()
    }

    /// Is cancelled when workloads are to end. A child of the run's token: cancelling it ends
    /// nothing else.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.shared.cancel.child_token()
    }

    /// Resolves when workloads are to end.
    pub async fn cancelled(&self) {
        self.shared.cancel.cancelled().await;
    }

    /// How long the run has lasted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// A context for one step of `subject`, and what is noted there.
    pub(crate) fn for_step(&self, subject: &Subject) -> (Self, Arc<StepNotes>) {
        let notes = Arc::new(StepNotes { of: Some(subject.clone()), ..StepNotes::default() });
        (Self { shared: Arc::clone(&self.shared), step: Arc::clone(&notes) }, notes)
    }

    /// Says that the check of this context looks at nothing, so that no report counts it.
    pub(crate) fn looks_at_nothing(&self) {
        self.step.looks_at_nothing.store(true, Ordering::Relaxed);
    }

    /// Says how many snapshots the step of this context has judged.
    pub(crate) fn has_judged(&self, snapshots: Option<u64>) {
        *lock(&self.step.judged) = snapshots;
    }

    pub(crate) fn panics(&self) -> &Panics {
        &self.shared.panics
    }

    pub(crate) fn waits(&self) -> &InFlight {
        &self.shared.waits
    }

    pub(crate) fn observers(&self) -> &Observers {
        &self.shared.observers
    }

    pub(crate) fn cancel(&self) {
        self.shared.cancel.cancel();
    }

    /// Ends everything that belongs to the run, in order. Needs no tokio context.
    pub(crate) fn release(&self) {
        self.cancel();
        self.shared.observers.release();
        self.shared.extensions.release();
    }
}

impl<A: Application> fmt::Debug for RunContext<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunContext")
            .field("nodes", &self.shared.control.nodes())
            .field("observers", &self.observer_names())
            .finish_non_exhaustive()
    }
}
