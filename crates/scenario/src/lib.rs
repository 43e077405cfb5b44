//! Observers that ride a test framework's lifecycle: deploy, observe, work, expect, clean up.
//!
//! An [`Application`] names the types of the deployment and of the node clients. A [`Deployer`] returns a
//! [`RunningCluster`] with its [`NodeClients`] and its [`NodeControl`]. A [`Scenario`] starts
//! observers once there are node clients, runs [`Workload`]s, judges [`Expectation`]s, and takes
//! everything down: observers first, then nodes. It returns a [`RunReport`], or a
//! [`ScenarioFailure`] that joins all failures with what the observers saw. A [`ManualCluster`] is for
//! tests that drive nodes by hand.
//!
//! The [`RunContext`] finds observers by name and other values by type. Any wait of `watchkeeper` is an expectation,
//! as is any other future of a `Result` whose error is a [`DynError`]:
//!
//! ```
//! # use std::sync::{Arc, atomic::{AtomicU64, Ordering::SeqCst}};
//! # use std::time::Duration;
//! use watchkeeper::{ObservationConfig, ObservedSource, PerSource};
//! use watchkeeper_scenario::{Application, DynError, RunContext, Scenario, WorkloadEnd};
//! # use watchkeeper_scenario::{DeployError, Deployer, NodeClients, NodeControl, NodeControlError, RunningCluster, async_trait};
//!
//! struct Counters; // each node is a number in memory
//! impl Application for Counters {
//!     type Deployment = usize;
//!     type NodeClient = Arc<AtomicU64>;
//! }
//! # struct Memory;
//! # #[async_trait]
//! # impl Deployer<Counters> for Memory {
//! #     fn name(&self) -> &'static str { "memory" }
//! #     async fn deploy(&self, nodes: &usize) -> Result<Box<dyn RunningCluster<Counters>>, DeployError> {
//! #         let clients = NodeClients::new();
//! #         for node in 1..=*nodes { clients.insert(&format!("n{node}"), Arc::default()); }
//! #         Ok(Box::new(Nodes(clients)))
//! #     }
//! # }
//! # #[derive(Clone)]
//! # struct Nodes(NodeClients<Arc<AtomicU64>>);
//! # #[async_trait]
//! # impl RunningCluster<Counters> for Nodes {
//! #     fn node_clients(&self) -> NodeClients<Arc<AtomicU64>> { self.0.clone() }
//! #     fn node_control(&self) -> Arc<dyn NodeControl> { Arc::new(self.clone()) }
//! #     async fn shut_down(&self) -> Result<(), DeployError> { Ok(()) }
//! # }
//! # #[async_trait]
//! # impl NodeControl for Nodes {
//! #     fn deployer(&self) -> &'static str { "memory" }
//! #     fn nodes(&self) -> Vec<String> { self.0.names() }
//! #     async fn wait_ready(&self, _: &str, _: Duration) -> Result<(), NodeControlError> { Ok(()) }
//! # }
//!
//! type Counts = PerSource<Arc<AtomicU64>, u64>;
//!
//! async fn count(node: ObservedSource<Arc<AtomicU64>>) -> Result<u64, DynError> {
//!     Ok(node.source.load(SeqCst))
//! }
//!
//! async fn both_are_counted(context: RunContext<Counters>) -> Result<(), DynError> {
//!     let counts = context.require_observer::<Counts>("counts")?;
//!     let at_three = |node: Option<&u64>| node == Some(&3);
//!     let agreed = counts.eventually("both are 3", |seen| at_three(seen.answer("n1")) && at_three(seen.answer("n2")));
//!     agreed.within(Duration::from_secs(5)).await?;
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ObservationConfig { interval: Duration::from_millis(100), ..Default::default() };
//! let scenario = Scenario::<Counters>::builder("counting", 2)
//!     .with_observer("counts", |_| Counts::new(count), config)
//!     .workload("count to three", |context| async move {
//!         for node in context.clients().all() {
//!             node.source.fetch_add(3, SeqCst);
//!         }
//!         Ok(())
//!     })
//!     .expect_wait_throughout("both are counted", both_are_counted)
//!     .build()?;
//! let report = scenario.run(&Memory).await?;
//! assert_eq!(report.workloads[0].end, WorkloadEnd::Done);
//! assert_eq!(report.observers[0].sources, ["n1", "n2"]);
//! # Ok(())
//! # }
//! ```
//!
//! See [`Scenario`] for the order of the phases, and [`Limits`] for their time-outs. [`Deployer`] has a whole deployer, written
//! by hand; `watchkeeper-deploy` has deployers for child processes, containers and Kubernetes that need little of an
//! application.

mod any_watched;
mod apart;
mod application;
mod builder;
mod checks;
mod clients;
mod closures;
mod context;
mod control;
mod deployer;
mod end;
mod expectation;
mod extensions;
mod factory;
mod failure;
mod guarded;
mod in_flight;
mod invariant;
mod jobs;
mod limits;
mod load;
mod manual;
mod observers;
mod panics;
mod part;
mod phases;
mod plan;
mod report;
mod run;
mod scenario;
#[cfg(unix)]
mod signals;
mod subject;
mod sync;
mod text;
mod timeline;
mod workload;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use application::Application;
pub use builder::{BuildError, ScenarioBuilder};
pub use clients::NodeClients;
pub use context::RunContext;
pub use control::{NodeAction, NodeControl, NodeControlError};
pub use deployer::{DeployError, Deployer, RunningCluster};
pub use expectation::Expectation;
pub use extensions::ExtensionError;
pub use factory::{ObservationExtensionFactory, SourceProviderFactory};
pub use failure::{Failure, NodeLog, Problem, ScenarioFailure};
pub use limits::Limits;
pub use manual::{ExternalError, ManualCluster, ShutDownError};
pub use observers::ObserverError;
pub use report::{ExpectationEnd, ExpectationReport, Phase, RunReport, WorkloadEnd, WorkloadReport};
pub use scenario::Scenario;
#[cfg(unix)]
pub use signals::ctrl_c;
pub use subject::Subject;
pub use timeline::{Moment, ObserverTimeline, Seen};
pub use watchkeeper::runtime::CancellationToken;
pub use watchkeeper::{DynError, async_trait};
pub use workload::Workload;
