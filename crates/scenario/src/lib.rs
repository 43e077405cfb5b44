//! Observers that ride a test framework's lifecycle.

mod application;
mod builder;
mod clients;
mod closures;
mod context;
mod control;
mod deployer;
mod expectation;
mod extensions;
mod factory;
mod failure;
mod jobs;
mod limits;
mod manual;
mod observers;
mod panics;
mod report;
mod run;
mod scenario;
mod signals;
mod sync;
mod text;
mod timeline;
mod workload;

pub use application::Application;
pub use builder::{BuildError, ScenarioBuilder};
pub use clients::NodeClients;
pub use context::RunContext;
pub use control::{NodeAction, NodeControl, NodeControlError};
pub use deployer::{DeployError, Deployer, RunningCluster};
pub use expectation::Expectation;
pub use extensions::ExtensionError;
pub use factory::{ObservationExtensionFactory, SourceProviderFactory};
pub use failure::{Failure, NodeLog, Problem, ScenarioFailure, Subject};
pub use limits::Limits;
pub use manual::{ExternalError, ManualCluster, ShutDownError};
pub use observers::ObserverError;
pub use report::{Phase, RunReport, WorkloadEnd, WorkloadReport};
pub use scenario::Scenario;
#[cfg(unix)]
pub use signals::ctrl_c;
pub use timeline::{Moment, ObserverTimeline, Seen};
pub use watchkeeper::{DynError, async_trait};
pub use workload::Workload;
