//! The Kubernetes source provider and deployer against a fake of the API server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod deploying;
mod fake;
mod following;
mod kubelet;

use std::path::Path;
use std::time::Duration;

use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider};

/// The limit of every wait.
const SOON: Duration = Duration::from_secs(20);

/// Waits until none of these processes runs.
async fn gone(pids: &[u32]) {
    let interval = Duration::from_millis(20);
    let processes = pids.iter().map(|pid| ObservedSource::new(pid.to_string(), *pid)).collect();
    let probe = |process: ObservedSource<u32>| async move {
        Ok::<_, watchkeeper::DynError>(Path::new(&format!("/proc/{}", process.source)).exists())
    };
    let config = ObservationConfig { interval, ..ObservationConfig::default() };
    let provider = StaticSourceProvider::new(processes);
    let runtime = ObservationRuntime::start(provider, PerSource::new(probe), config).await.unwrap();
    let gone = runtime.handle().eventually("the processes are gone", |seen| {
        seen.iter().all(|process| process.value.is_some_and(|exists| !**exists))
    });
    gone.or_now().within(SOON).await.unwrap();
}
