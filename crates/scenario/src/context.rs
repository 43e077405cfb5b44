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
/// Observers and extensions belong to the run and not to the context: at the end of the run they are stopped
/// and dropped, also while a context is still held.
pub struct RunContext<A: Application> {
    shared: Arc<Shared<A>>,
    step: Arc<StepNotes>,
}

/// What the run needs to know about the step that a context was made for.
#[derive(Default)]
pub(crate) struct StepNotes {
    /// The part that takes the step.
    of: Option<Subject>,
    checks_nothing: AtomicBool,
    judged: Mutex<Option<u64>>,
}

impl StepNotes {
    /// Whether the step is a check that checks nothing.
    pub(crate) fn checks_nothing(&self) -> bool {
        self.checks_nothing.load(Ordering::Relaxed)
    }

    /// How many snapshots were judged, if known.
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
    /// The waits of expectations, each in its own task.
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

    /// The current clients of the nodes; a [`SourceProvider`] that follows restarts.
    #[must_use]
    pub fn clients(&self) -> &NodeClients<A::NodeClient> {
        &self.shared.clients
    }

    /// The current client of the node called `node`.
    ///
    /// # Errors
    ///
    /// [`NodeControlError::UnknownNode`], with the names of the nodes that have a client.
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

    /// Starts an observer under `name`; the run stops it before the nodes go down.
    ///
    /// Observers of one type are distinguished by name. The timeline in a report shows its events and
    /// its last snapshot by `Debug`.
    ///
    /// # Errors
    ///
    /// [`ObserverError`]: the name is empty or taken, the observer did not start, or the run is over. Nothing
    /// is left running then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, by a time-out or with the workload that awaits it, cuts off the start. A
    /// task then stops the observer; the run awaits that before the nodes go down, and its report
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

    /// The handle of the observer called `name`, if there is one and it has this type.
    #[must_use]
    pub fn observer<O: Observer>(&self, name: &str) -> Option<ObservationHandle<O>> {
        self.shared.observers.get(name)
    }

    /// The handle of the observer called `name`.
    ///
    /// # Errors
    ///
    /// [`ObserverError`]: no observer has this name (the error lists the names), or it has another type.
    pub fn require_observer<O: Observer>(&self, name: &str) -> Result<ObservationHandle<O>, ObserverError> {
        self.shared.observers.require(name)
    }

    /// The control of the observer called `name`, of any type.
    ///
    /// # Errors
    ///
    /// [`ObserverError::Unknown`].
    pub fn observer_control(&self, name: &str) -> Result<ObservationControl, ObserverError> {
        self.shared.observers.control(name)
    }

    /// Starts a cycle of the observer called `name` now, or right after the one in flight, waits until this cycle
    /// has succeeded, and returns its number. The latest snapshot of the handle is then from this cycle or a later one.
    ///
    /// # Errors
    ///
    /// [`ObserverError::Unknown`], or [`ObserverError::NotPolled`] with the reason why the cycle did not succeed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not cancel the cycle.
    pub async fn poll_now_and_wait(&self, name: &str) -> Result<u64, ObserverError> {
        self.shared.observers.poll_now_and_wait(name).await
    }

    /// The names of all observers, in the order of their starts.
    #[must_use]
    pub fn observer_names(&self) -> Vec<String> {
        self.shared.observers.names()
    }

    /// What each observer has seen until now.
    #[must_use]
    pub fn timelines(&self) -> Vec<ObserverTimeline> {
        self.shared.observers.timelines()
    }

    /// Adds a value that the other parts of the run find by its type. It is dropped after the
    /// observers have stopped and before the nodes go down.
    ///
    /// # Errors
    ///
    /// [`ExtensionError`]: there already is one of this type, or the run is over.
    pub fn add_extension<T: Send + Sync + 'static>(&self, value: T) -> Result<Arc<T>, ExtensionError> {
        self.shared.extensions.insert(value)
    }

    /// The extension of this type, if there is one.
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.shared.extensions.get()
    }

    /// The extension of this type.
    ///
    /// # Errors
    ///
    /// [`ExtensionError::Missing`] names the type and lists the types there are.
    pub fn require_extension<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ExtensionError> {
        self.shared.extensions.require()
    }

    /// A token that is cancelled when the workloads should end. It is a child of the run's token: cancelling it
    /// ends nothing else.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.shared.cancel.child_token()
    }

    /// Resolves when the workloads should end.
    pub async fn cancelled(&self) {
        self.shared.cancel.cancelled().await;
    }

    /// How long the run has lasted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// A context for one step of `subject`, with its notes.
    pub(crate) fn for_step(&self, subject: &Subject) -> (Self, Arc<StepNotes>) {
        let notes = Arc::new(StepNotes { of: Some(subject.clone()), ..StepNotes::default() });
        (Self { shared: Arc::clone(&self.shared), step: Arc::clone(&notes) }, notes)
    }

    /// Notes that the check of this context checks nothing, so that no report counts it.
    pub(crate) fn checks_nothing(&self) {
        self.step.checks_nothing.store(true, Ordering::Relaxed);
    }

    /// Notes how many snapshots the step of this context has judged.
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
