//! A fake cluster, and a deployer that leads to it.

use std::error::Error;

use tempfile::TempDir;
use watchkeeper::DynError;
use watchkeeper_deploy::k8s::{
    K8sDeployer, K8sError, K8sOptions, K8sProgram, Manifests, NodePod, PodChanges, Reach,
};
use watchkeeper_scenario::{DeployError, Deployer, RunningCluster};

use crate::SOON;
use crate::app::Counting;
use crate::fake::{FakeApiServer, Key};
use crate::kubelet::Kubelet;

pub(crate) const SPACE: &str = "counting-test";
pub(crate) const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/k8s/manifests");

impl K8sProgram<Counting> for Counting {
    fn pod(&self) -> NodePod {
        NodePod::new("node", ["client"])
    }

    fn changes(&self, nodes: &u64, cluster: &str) -> Result<PodChanges, DynError> {
        let arguments = vec![format!("--cluster={cluster}")];
        Ok(PodChanges { arguments, ..PodChanges::replicas(*nodes) })
    }
}

/// A fake cluster, and options that lead to it.
pub(crate) struct Fixture {
    pub(crate) server: FakeApiServer,
    pub(crate) kubelet: Kubelet,
    pub(crate) options: K8sOptions,
    _directory: TempDir,
}

pub(crate) async fn fixture() -> Fixture {
    let server = FakeApiServer::start().await;
    let kubelet = Kubelet::start(&server);
    let directory = TempDir::new().unwrap();
    let options = K8sOptions {
        kubeconfig: Some(server.kubeconfig(directory.path())),
        namespace: Some(SPACE.to_owned()),
        reach: Some(Reach::PodIp),
        ready_within: SOON,
        gone_within: SOON,
        ..K8sOptions::default()
    };
    Fixture { server, kubelet, options, _directory: directory }
}

pub(crate) fn deployer(options: &K8sOptions) -> K8sDeployer<Counting> {
    K8sDeployer::new(Counting, Manifests::from_directory(MANIFESTS).unwrap(), options.clone())
}

impl Fixture {
    pub(crate) async fn deploy(&self, nodes: u64) -> Result<Box<dyn RunningCluster<Counting>>, DeployError> {
        deployer(&self.options).deploy(&nodes).await
    }

    pub(crate) async fn refused(&self) -> DeployError {
        self.deploy(1).await.err().expect("this deployment does not work")
    }

    /// Waits until no object is left and no node runs.
    pub(crate) async fn left_nothing(&self) {
        self.server.when("no object is left", |server| server.keys().is_empty()).await;
        self.kubelet.nothing_runs().await;
    }
}

pub(crate) fn cause(error: &DeployError) -> &K8sError {
    let source = error.source().expect("it has a cause");
    source.downcast_ref().unwrap_or_else(|| panic!("{source:?}"))
}

pub(crate) fn space() -> Key {
    Key::of("namespaces", "", SPACE)
}
