//! The store on Kubernetes: `deploy/k8s`, and the flags for it, which exist without the feature `k8s`.

use std::path::PathBuf;

/// The flags of a command that deploys on Kubernetes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct K8sFlags {
    /// Image of the nodes, one that the Kubernetes cluster can get [default: `localhost/openraft_kv:latest`]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Kubeconfig of the Kubernetes cluster [default: that of kubectl]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// How pods are reached [default: pod-ip inside a pod, port-forward elsewhere]
    #[arg(long, value_name = "HOW", value_parser = [POD_IP, PORT_FORWARD])]
    pub reach: Option<String>,
}

const POD_IP: &str = "pod-ip";
const PORT_FORWARD: &str = "port-forward";

#[cfg(feature = "k8s")]
mod deployer {
    use watchkeeper::DynError;
    use watchkeeper_deploy::k8s::{
        K8sDeployer, K8sOptions, K8sProgram, Manifests, NodePod, PodChanges, Reach,
    };
    use watchkeeper_scenario::DeployError;

    use super::{K8sFlags, POD_IP};
    use crate::deploy::{CLIENT_PORT, Deployment, RaftKv};

    /// Starts the store on Kubernetes, by this package's `deploy/k8s`.
    ///
    /// # Errors
    ///
    /// [`DeployError::InvalidManifest`]: the program was built with a mistake in the manifests.
    pub fn k8s_deployer(options: K8sOptions) -> Result<K8sDeployer<RaftKv>, DeployError> {
        Ok(K8sDeployer::new(RaftKv, manifests()?, options))
    }

    /// The files of `deploy/k8s`, which are part of the program.
    ///
    /// # Errors
    ///
    /// [`DeployError::InvalidManifest`]: the program was built with a mistake in them.
    pub fn manifests() -> Result<Manifests, DeployError> {
        let texts = [
            include_str!("../../deploy/k8s/namespace.yaml"),
            include_str!("../../deploy/k8s/service.yaml"),
            include_str!("../../deploy/k8s/statefulset.yaml"),
        ];
        Manifests::from_texts("examples/openraft_kv/deploy/k8s", texts)
    }

    impl K8sProgram<RaftKv> for RaftKv {
        fn pod(&self) -> NodePod {
            NodePod::new("node", [CLIENT_PORT])
        }

        fn changes(&self, deployment: &Deployment, cluster: &str) -> Result<PodChanges, DynError> {
            let mut arguments = vec![format!("--cluster={cluster}")];
            arguments.extend(deployment.node_flags.iter().cloned());
            Ok(PodChanges { arguments, ..PodChanges::replicas(deployment.nodes) })
        }
    }

    impl From<K8sFlags> for K8sOptions {
        fn from(flags: K8sFlags) -> Self {
            let K8sFlags { image, kubeconfig, context, reach } = flags;
            let reach = reach.map(|reach| if reach == POD_IP { Reach::PodIp } else { Reach::PortForward });
            Self { image, kubeconfig, context, reach, ..Self::default() }
        }
    }

    #[cfg(test)]
    mod tests {
        use serde_json::json;

        use super::*;

        #[test]
        fn the_pods_are_as_restricted_as_they_can_be() {
            let pod = serde_json::to_value(manifests().unwrap().one_pod("kv-0", "node", "kv:1")).unwrap();
            let container = &pod["spec"]["containers"][0];
            assert_eq!(
                container["securityContext"],
                json!({
                    "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true,
                    "capabilities": { "drop": ["ALL"] },
                })
            );
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                assert_eq!(container[probe]["httpGet"], json!({ "path": "/healthz", "port": CLIENT_PORT }));
            }
            for (kind, amount) in
                [("requests", "cpu"), ("requests", "memory"), ("limits", "cpu"), ("limits", "memory")]
            {
                assert!(container["resources"][kind][amount].is_string(), "{kind} {amount}");
            }
            assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
            assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
            assert_eq!(pod["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        }

        #[test]
        fn a_deployment_is_replicas_and_flags() {
            let deployment = Deployment { nodes: 5, node_flags: vec!["--heartbeat-ms=100".to_owned()] };
            let changes = RaftKv.changes(&deployment, "here").unwrap();
            assert_eq!(changes.replicas, 5);
            assert_eq!(changes.arguments, ["--cluster=here", "--heartbeat-ms=100"]);
        }
    }
}

#[cfg(feature = "k8s")]
pub use deployer::{k8s_deployer, manifests};
