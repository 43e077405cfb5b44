//! A cluster that a test drives by hand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use watchkeeper::runtime::{CancellationToken, StopOutcome};
use watchkeeper::{
    DynError, ObservationConfig, ObservationControl, ObservationHandle, ObservedSource, Observer,
    SourceProvider, async_trait,
};

use crate::clients::ExternalClients;
use crate::failure::UNBLOCK;
use crate::guarded::{Guarded, Panics};
use crate::observers::Observers;
use crate::panics::catch;
use crate::subject::Subject;
use crate::text::{bounded, listed, quoted, with_causes};
use crate::{
    Application, DeployError, Deployer, Limits, NodeClients, NodeControl, NodeControlError, ObserverError,
    ObserverTimeline, RunningCluster,
};
use watchkeeper::report::debug_as_text;

/// A cluster that a test drives by hand: no phases, no plan.
///
/// Observers are attached and detached at any time. [`shut_down`](Self::shut_down) stops and awaits the observers,
/// also those whose start was cut off, and then takes the nodes down. Dropping the cluster does the same without
/// waiting and needs no tokio context.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use watchkeeper::{ObservationConfig, Observer};
/// # use watchkeeper_scenario::{Application, Deployer, DynError, ManualCluster};
/// # async fn example<A: Application, O>(
/// #     deployer: impl Deployer<A>, deployment: A::Deployment, outside: A::NodeClient, raft: O,
/// # ) -> Result<(), DynError>
/// # where O: Observer<Source = A::NodeClient, Snapshot = Option<String>, Event: std::fmt::Debug> {
/// let cluster = ManualCluster::<A>::deploy(&deployer, &deployment).await?;
/// let raft = cluster.attach("raft", raft, ObservationConfig::default()).await?;
/// cluster.add_external("witness", outside)?;
/// cluster.kill("n1").await?;
/// raft.eventually("n1 leads no more", |leader| leader.as_deref() != Some("n1"))
///     .within(Duration::from_secs(10))
///     .await?;
/// cluster.start("n1").await?;
/// cluster.wait_ready("n1", Duration::from_secs(10)).await?;
/// cluster.shut_down().await?;
/// # Ok(())
/// # }
/// ```
pub struct ManualCluster<A: Application> {
    observers: Observers,
    control: Guarded<Arc<dyn NodeControl>>,
    sources: ClusterSources<A::NodeClient>,
    /// `None` after `shut_down`.
    cluster: Option<Guarded<Box<dyn RunningCluster<A>>>>,
    panics: Panics,
}

/// The nodes, and the endpoints that the test added.
struct ClusterSources<C> {
    nodes: NodeClients<C>,
    external: ExternalClients<C>,
}

/// Why an external endpoint was not added.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExternalError {
    /// A node or another endpoint has this name.
    #[error("there is a source called {} already; the sources are: {}", quoted(name), listed(known))]
    DuplicateName {
        /// The name.
        name: String,
        /// The names of all sources.
        known: Vec<String>,
    },
    /// The name is empty.
    #[error("an external endpoint needs a name: it may not be empty")]
    EmptyName,
}

/// Why a manual cluster was not shut down cleanly.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ShutDownError {
    /// Not all nodes went down.
    #[error("the cluster did not go down: end what is left by hand")]
    Cluster {
        /// Why.
        source: DeployError,
    },
    /// The cluster panicked while it was shut down or dropped.
    #[error("the cluster panicked while it went down: end what is left by hand; {}", bounded(message))]
    Panicked {
        /// The message of the panic.
        message: String,
    },
    /// The nodes are down, but code of these observers blocks its thread.
    #[error("observers block their threads and were left running: {}; {UNBLOCK}", listed(observers))]
    Observers {
        /// Their names.
        observers: Vec<String>,
    },
}

debug_as_text!(ExternalError);
debug_as_text!(ShutDownError);

impl<A: Application> ManualCluster<A> {
    /// Brings a cluster up.
    ///
    /// # Errors
    ///
    /// [`DeployError`]. If the deployer panics, also in a destructor, it is [`DeployError::Panicked`], and the nodes are
    /// taken down.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing running.
    pub async fn deploy(
        deployer: &(impl Deployer<A> + ?Sized),
        deployment: &A::Deployment,
    ) -> Result<Self, DeployError> {
        Self::deploy_until(deployer, deployment, None).await
    }

    /// Brings a cluster up whose observers stop when `parent` is cancelled.
    ///
    /// Cancelling `parent` during the deployment ends it. After that it stops all observers, and no other can be
    /// attached. The nodes go down as usual, by [`shut_down`](Self::shut_down) or when the cluster is dropped.
    ///
    /// # Errors
    ///
    /// As [`deploy`](Self::deploy); [`DeployError::Cancelled`] if the parent was cancelled before the cluster was up.
    ///
    /// # Cancel safety
    ///
    /// As [`deploy`](Self::deploy).
    pub async fn deploy_with_parent(
        deployer: &(impl Deployer<A> + ?Sized),
        deployment: &A::Deployment,
        parent: CancellationToken,
    ) -> Result<Self, DeployError> {
        Self::deploy_until(deployer, deployment, Some(parent)).await
    }

    async fn deploy_until(
        deployer: &(impl Deployer<A> + ?Sized),
        deployment: &A::Deployment,
        parent: Option<CancellationToken>,
    ) -> Result<Self, DeployError> {
        let began = Instant::now();
        let panics = Panics::default();
        let unnamed = |message| DeployError::Panicked {
            deployer: "unnamed".to_owned(),
            message: format!("it was asked for its name: {message}"),
        };
        let name = catch(|| deployer.name().to_owned()).map_err(unnamed)?;
        let subject = Subject::Deployer(name.clone());
        let panicked = |message| DeployError::Panicked { deployer: name.clone(), message };
        let deploying = panics.caught(subject.clone(), async { deployer.deploy(deployment).await });
        let deployed = match &parent {
            Some(parent) => parent.run_until_cancelled(deploying).await,
            None => Some(deploying.await),
        };
        let Some(deployed) = deployed else {
            return Err(match panics.take().into_iter().next() {
                Some(panic) => panicked(panic.message),
                None => DeployError::Cancelled { deployer: name },
            });
        };
        let cluster = panics.guard(subject.clone(), deployed.map_err(panicked)??);
        let of_the_cluster = || {
            let nodes = cluster.node_clients();
            nodes.collect(&panics, &subject);
            (nodes, panics.guard(subject.clone(), cluster.node_control()))
        };
        let parts = catch(of_the_cluster);
        let in_a_destructor = panics.take().into_iter().next().map(|panic| panic.message);
        let (nodes, control) = match (parts, in_a_destructor) {
            (Ok(parts), None) => parts,
            (Err(message), _) | (Ok(_), Some(message)) => {
                take_down(&panics, cluster).await;
                return Err(panicked(message));
            }
        };
        let mut observers = Observers::new(&panics, began);
        if let Some(parent) = parent {
            observers.stopped_by(parent);
        }
        Ok(Self {
            observers,
            control,
            sources: ClusterSources { external: nodes.external(), nodes },
            cluster: Some(cluster),
            panics,
        })
    }

    /// The current clients of the nodes, without the external endpoints.
    #[must_use]
    pub fn node_clients(&self) -> &NodeClients<A::NodeClient> {
        &self.sources.nodes
    }

    /// The current client of the node or external endpoint called `name`.
    ///
    /// # Errors
    ///
    /// [`NodeControlError::UnknownNode`], with the names of all sources.
    pub fn node_client(&self, name: &str) -> Result<A::NodeClient, NodeControlError> {
        let client = self.sources.nodes.get(name).or_else(|| self.sources.external.get(name));
        client.ok_or_else(|| NodeControlError::UnknownNode {
            node: name.to_owned(),
            known: self.sources.names(),
        })
    }

    /// Adds an endpoint that the deployer does not run.
    ///
    /// From their next cycle on, it is a source of all observers that were attached by [`attach`](Self::attach), except
    /// while a node that joined later has the same name.
    ///
    /// # Errors
    ///
    /// [`ExternalError`]: the name is empty or taken.
    pub fn add_external(&self, name: &str, client: A::NodeClient) -> Result<(), ExternalError> {
        if name.is_empty() {
            return Err(ExternalError::EmptyName);
        }
        let added = self.sources.external.add(name, client, self.control.nodes());
        added.map_err(|known| ExternalError::DuplicateName { name: name.to_owned(), known })
    }

    /// Removes an external endpoint and returns its client.
    #[allow(clippy::must_use_candidate, reason = "removing is the point; the client is a courtesy")]
    pub fn remove_external(&self, name: &str) -> Option<A::NodeClient> {
        self.sources.external.remove(name)
    }

    /// Starts an observer over all nodes and external endpoints; it follows restarts.
    ///
    /// # Errors
    ///
    /// [`ObserverError`]: the name is empty or taken, or the observer did not start.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, for example by a time-out, cuts off the start and frees the name. A task then stops the
    /// observer; [`shut_down`](Self::shut_down) awaits that before the nodes go down.
    pub async fn attach<O>(
        &self,
        name: &str,
        observer: O,
        config: ObservationConfig,
    ) -> Result<ObservationHandle<O>, ObserverError>
    where
        O: Observer<Source = A::NodeClient, Snapshot: fmt::Debug, Event: fmt::Debug>,
    {
        self.attach_over(name, self.sources.clone(), observer, config).await
    }

    /// Starts an observer over its own sources.
    ///
    /// # Errors
    ///
    /// As [`attach`](Self::attach).
    pub async fn attach_over<O, P>(
        &self,
        name: &str,
        sources: P,
        observer: O,
        config: ObservationConfig,
    ) -> Result<ObservationHandle<O>, ObserverError>
    where
        O: Observer<Snapshot: fmt::Debug, Event: fmt::Debug>,
        P: SourceProvider<O::Source>,
    {
        self.observers.start(name, sources, observer, config, None).await
    }

    /// Stops the observer called `name` and returns how its stop ended. After that the name is free; handles
    /// still show the last state.
    ///
    /// # Errors
    ///
    /// [`ObserverError::Unknown`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while it waits, the observer continues to stop and keeps its name.
    /// [`shut_down`](Self::shut_down), or a second call of this, awaits the stop.
    pub async fn detach(&self, name: &str) -> Result<StopOutcome, ObserverError> {
        self.observers.detach(name).await
    }

    /// The handle of the observer called `name`.
    ///
    /// # Errors
    ///
    /// [`ObserverError`]: no observer has this name, or it has another type.
    pub fn observer<O: Observer>(&self, name: &str) -> Result<ObservationHandle<O>, ObserverError> {
        self.observers.require(name)
    }

    /// The control of the observer called `name`, of any type.
    ///
    /// # Errors
    ///
    /// [`ObserverError::Unknown`].
    pub fn observer_control(&self, name: &str) -> Result<ObservationControl, ObserverError> {
        self.observers.control(name)
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
        self.observers.poll_now_and_wait(name).await
    }

    /// What each observer has seen until now, for a report.
    #[must_use]
    pub fn timelines(&self) -> Vec<ObserverTimeline> {
        self.observers.timelines()
    }

    /// All actions on nodes. The most frequent are also methods of the cluster.
    #[must_use]
    pub fn control(&self) -> &dyn NodeControl {
        &**self.control
    }

    /// Waits until `node` serves.
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    pub async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        self.control.wait_ready(node, within).await
    }

    /// Starts a node that is down.
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    pub async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        self.control.start(node).await
    }

    /// Asks a node to end, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    pub async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        self.control.stop(node).await
    }

    /// Stops a node, then starts it.
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    pub async fn restart(&self, node: &str) -> Result<(), NodeControlError> {
        self.control.restart(node).await
    }

    /// Ends a node without a clean shutdown.
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    pub async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        self.control.kill(node).await
    }

    /// Freezes a node.
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    pub async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        self.control.pause(node).await
    }

    /// Continues a frozen node.
    ///
    /// # Errors
    ///
    /// [`NodeControlError`].
    pub async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        self.control.resume(node).await
    }

    /// Stops and awaits the observers, also those whose start was cut off, and takes the nodes down.
    ///
    /// # Errors
    ///
    /// [`ShutDownError`] names what is left.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the cluster, which ends the rest without waiting.
    pub async fn shut_down(mut self) -> Result<(), ShutDownError> {
        let left = self.observers.stop_all(None).await;
        let observers: Vec<_> = left.into_iter().map(|(name, _)| name).collect();
        if !observers.is_empty() {
            tracing::warn!("observers block their threads and are left running: {}", listed(&observers));
        }
        // Panics of other destructors are logged; the cluster did not cause them.
        self.panics.take();
        if let Some(cluster) = self.cluster.take() {
            let panicked = |message| ShutDownError::Panicked { message };
            // Dropping this half-way drops the future and then the cluster.
            let ending = self.panics.caught(cluster.subject().clone(), async { cluster.shut_down().await });
            ending.await.map_err(panicked)?.map_err(|source| ShutDownError::Cluster { source })?;
            drop(cluster);
            if let Some(panic) = self.panics.take().into_iter().next() {
                return Err(panicked(panic.message));
            }
        }
        if observers.is_empty() { Ok(()) } else { Err(ShutDownError::Observers { observers }) }
    }
}

/// Takes down a cluster whose deployment failed. What is left is logged.
async fn take_down<A: Application>(panics: &Panics, cluster: Guarded<Box<dyn RunningCluster<A>>>) {
    let limit = Limits::default().cleanup;
    let down = panics.caught(cluster.subject().clone(), async { cluster.shut_down().await });
    let left = match timeout(limit, down).await {
        Ok(Ok(Ok(()))) => return,
        Ok(Ok(Err(error))) => with_causes(&error),
        Ok(Err(panic)) => panic,
        Err(_) => format!("its shut_down did not end within {limit:?}"),
    };
    tracing::error!(
        "{} did not take its nodes down: end what is left by hand; {}",
        cluster.subject(),
        bounded(&left)
    );
}

impl<A: Application> Drop for ManualCluster<A> {
    fn drop(&mut self) {
        self.observers.release();
        drop(self.cluster.take());
    }
}

impl<A: Application> fmt::Debug for ManualCluster<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualCluster")
            .field("nodes", &self.control.nodes())
            .field("external", &self.sources.external.names())
            .field("observers", &self.observers.names())
            .finish_non_exhaustive()
    }
}

impl<C> Clone for ClusterSources<C> {
    fn clone(&self) -> Self {
        Self { nodes: self.nodes.clone(), external: self.external.clone() }
    }
}

impl<C: Clone> ClusterSources<C> {
    fn all(&self) -> Vec<ObservedSource<C>> {
        self.external.with_nodes()
    }

    fn names(&self) -> Vec<String> {
        self.all().into_iter().map(|source| source.name).collect()
    }
}

#[async_trait]
impl<C: Clone + Send + Sync + 'static> SourceProvider<C> for ClusterSources<C> {
    async fn sources(&self) -> Result<Vec<ObservedSource<C>>, DynError> {
        Ok(self.all())
    }

    fn revision(&self) -> Option<u64> {
        Some(self.external.revision())
    }
}
