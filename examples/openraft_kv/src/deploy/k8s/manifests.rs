//! The manifests: embedded, checked, and made ready for one deployment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, Namespace, Pod, Service, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use watchkeeper_scenario::DeployError;

use super::pod::{CONTAINER, PORT};
use crate::deploy::Deployment;

const NAMESPACE: (&str, &str) = ("namespace.yaml", include_str!("../../../deploy/k8s/namespace.yaml"));
const SERVICE: (&str, &str) = ("service.yaml", include_str!("../../../deploy/k8s/service.yaml"));
const STATEFUL_SET: (&str, &str) = ("statefulset.yaml", include_str!("../../../deploy/k8s/statefulset.yaml"));

/// The objects that make a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    pub(super) namespace: Namespace,
    pub(super) service: Service,
    pub(super) stateful_set: StatefulSet,
}

impl Manifests {
    /// Those of `examples/openraft_kv/deploy/k8s`, which are part of the program.
    ///
    /// # Errors
    ///
    /// [`DeployError::InvalidManifest`]: the program was built with a mistake in them.
    pub fn embedded() -> Result<Self, DeployError> {
        let directory = Path::new("examples/openraft_kv/deploy/k8s");
        Self::parse(directory, |(file, text)| Ok((directory.join(file), text.to_owned())))
    }

    /// Those of another directory: `namespace.yaml`, `service.yaml` and `statefulset.yaml`.
    ///
    /// # Errors
    ///
    /// [`DeployError::InvalidManifest`]: a file is missing, or has a mistake; says where.
    pub fn from_directory(directory: &Path) -> Result<Self, DeployError> {
        Self::parse(directory, |(file, _)| {
            let path = directory.join(file);
            match std::fs::read_to_string(&path) {
                Ok(text) => Ok((path, text)),
                Err(error) => Err(invalid(&path, format!("cannot be read ({error}): it must be there"))),
            }
        })
    }

    fn parse(
        directory: &Path,
        text: impl Fn((&str, &str)) -> Result<(PathBuf, String), DeployError>,
    ) -> Result<Self, DeployError> {
        let manifests = Self {
            namespace: text(NAMESPACE).and_then(|(path, text)| typed(&path, &text))?,
            service: text(SERVICE).and_then(|(path, text)| typed(&path, &text))?,
            stateful_set: text(STATEFUL_SET).and_then(|(path, text)| typed(&path, &text))?,
        };
        manifests.check().map_err(|problem| invalid(&directory.join(STATEFUL_SET.0), problem))?;
        Ok(manifests)
    }

    /// Checks what this module relies on, and what Kubernetes would report later or never.
    fn check(&self) -> Result<(), String> {
        let spec = self.stateful_set.spec.as_ref().ok_or("spec is missing: describe the pods there")?;
        if self.stateful_set.metadata.name.is_none() {
            return Err("metadata.name is missing: pods are named after it".to_owned());
        }
        let wanted = spec.selector.match_labels.clone().unwrap_or_default();
        let labels = spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
        let labels = labels.unwrap_or_default();
        let lacks = wanted.iter().find(|(label, value)| labels.get(*label) != Some(value));
        if let Some((label, value)) = lacks {
            return Err(format!(
                "spec.template.metadata.labels lacks `{label}: {value}`, which spec.selector.matchLabels asks for: add it"
            ));
        }
        if wanted.is_empty() {
            return Err("spec.selector.matchLabels is empty: give the labels that find the pods".to_owned());
        }
        let service = self.service.metadata.name.as_deref();
        if spec.service_name.as_deref() != service {
            return Err(format!(
                "spec.serviceName is {:?}, the Service is called {:?}: pods have no names unless they agree",
                spec.service_name.as_deref().unwrap_or_default(),
                service.unwrap_or_default()
            ));
        }
        let container = self.container().ok_or_else(|| {
            format!(
                "spec.template.spec.containers has none called `{CONTAINER}`: that is the one with the node"
            )
        })?;
        let ports = container.ports.as_deref().unwrap_or_default();
        if !ports.iter().any(|port| port.name.as_deref() == Some(PORT)) {
            return Err(format!(
                "the container `{CONTAINER}` has no port called `{PORT}`: name the one where it serves so"
            ));
        }
        Ok(())
    }

    fn container(&self) -> Option<&Container> {
        let containers = &self.stateful_set.spec.as_ref()?.template.spec.as_ref()?.containers;
        containers.iter().find(|container| container.name == CONTAINER)
    }

    /// The label selector of the pods.
    pub(super) fn selector(&self) -> String {
        let labels = self.stateful_set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
        let labels: Vec<String> =
            labels.unwrap_or_default().into_iter().map(|(label, value)| format!("{label}={value}")).collect();
        labels.join(",")
    }

    /// The manifests of one deployment in its own namespace, which has `labels` and is the cluster's
    /// name.
    pub(super) fn of(
        mut self,
        deployment: &Deployment,
        namespace: &str,
        image: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<Self, DeployError> {
        if deployment.nodes == 0 {
            return Err(DeployError::InvalidDeployment("nodes is 0: a cluster has at least 1".to_owned()));
        }
        let replicas = i32::try_from(deployment.nodes).map_err(|_| {
            DeployError::InvalidDeployment(format!("nodes is {}: that is too many", deployment.nodes))
        })?;
        self.namespace.metadata.name = Some(namespace.to_owned());
        self.namespace.metadata.labels.get_or_insert_default().extend(labels.clone());
        self.service.metadata.namespace = Some(namespace.to_owned());
        self.stateful_set.metadata.namespace = Some(namespace.to_owned());
        if let Some(spec) = &mut self.stateful_set.spec {
            spec.replicas = Some(replicas);
            let containers = spec.template.spec.as_mut().map(|spec| spec.containers.as_mut_slice());
            for container in containers.unwrap_or_default() {
                if container.name == CONTAINER {
                    image.clone_into(container.image.get_or_insert_default());
                    let args = container.args.get_or_insert_default();
                    args.push(format!("--cluster={namespace}"));
                    args.extend(deployment.node_flags.iter().cloned());
                }
            }
        }
        Ok(self)
    }

    /// One pod of the `StatefulSet`, called `name`, as a separate manifest with the same containers and
    /// restrictions.
    ///
    /// For engines that run pods and have no `StatefulSet`s, such as Podman. What the cluster adds to a
    /// pod is done here: `$(POD_NAME)` is expanded in arguments, and each claim is an empty directory
    /// with the claim's name, `data-NAME`. The image is `image`, never pulled.
    #[must_use]
    pub fn one_pod(&self, name: &str, image: &str) -> Pod {
        let set = self.stateful_set.spec.clone().unwrap_or_default();
        let mut spec = set.template.spec.unwrap_or_default();
        let claims = set.volume_claim_templates.unwrap_or_default();
        let claims: Vec<String> = claims.into_iter().filter_map(|claim| claim.metadata.name).collect();
        let claimed = |claim: &str| format!("{claim}-{name}");
        spec.volumes.get_or_insert_default().extend(claims.iter().map(|claim| Volume {
            name: claimed(claim),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        }));
        for container in &mut spec.containers {
            container.image = Some(image.to_owned());
            container.image_pull_policy = Some("Never".to_owned());
            for arg in container.args.iter_mut().flatten() {
                *arg = arg.replace("$(POD_NAME)", name);
            }
            for mount in container.volume_mounts.iter_mut().flatten() {
                if claims.contains(&mount.name) {
                    mount.name = claimed(&mount.name);
                }
            }
        }
        let metadata =
            ObjectMeta { name: Some(name.to_owned()), ..set.template.metadata.unwrap_or_default() };
        Pod { metadata, spec: Some(spec), status: None }
    }
}

/// Reads one object, and refuses unknown keys, which Kubernetes would silently ignore.
fn typed<K>(path: &Path, text: &str) -> Result<K, DeployError>
where
    K: Resource + Metadata + Serialize + DeserializeOwned,
{
    // Only the first line, which has the position; an excerpt of the file follows.
    let mistake = |error: serde_saphyr::Error| {
        let error = error.to_string();
        let place = error.lines().next().unwrap_or_default();
        invalid(path, format!("{}; fix that value", place.trim_start_matches("error: ")))
    };
    let written: Value = serde_saphyr::from_str(text).map_err(mistake)?;
    for (key, expected) in [("apiVersion", K::API_VERSION), ("kind", K::KIND)] {
        if written[key] != *expected {
            let problem = format!("{key} is {}, and must be {expected:?}", written[key]);
            return Err(invalid(path, problem));
        }
    }
    let object: K = serde_saphyr::from_str(text).map_err(mistake)?;
    let understood = serde_json::to_value(&object)
        .map_err(|error| invalid(path, format!("cannot be written as JSON: {error}")))?;
    match unknown(&written, &understood) {
        Some(key) => {
            let kind = K::KIND;
            let problem = format!("{kind} has no `{key}`: check its spelling, and how far it is indented");
            Err(invalid(path, problem))
        }
        None => Ok(object),
    }
}

/// The first key of `written` that is not in `understood`.
fn unknown(written: &Value, understood: &Value) -> Option<String> {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => written.iter().find_map(|(key, value)| {
            if value.is_null() {
                return None;
            }
            let Some(kept) = understood.get(key) else { return Some(key.clone()) };
            unknown(value, kept).map(|inner| join(key, &inner))
        }),
        (Value::Array(written), Value::Array(understood)) => {
            let pairs = written.iter().zip(understood).enumerate();
            pairs.into_iter().find_map(|(at, (value, kept))| {
                unknown(value, kept).map(|inner| join(&format!("[{at}]"), &inner))
            })
        }
        _ => None,
    }
}

fn join(outer: &str, inner: &str) -> String {
    let dot = if inner.starts_with('[') { "" } else { "." };
    format!("{outer}{dot}{inner}")
}

fn invalid(path: &Path, problem: impl Into<String>) -> DeployError {
    DeployError::InvalidManifest { path: path.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The embedded manifests, one of them changed.
    fn with(file: &str, from: &str, to: &str) -> Result<Manifests, DeployError> {
        let directory = Path::new("k8s");
        Manifests::parse(directory, |(name, text)| {
            let text = if name == file {
                assert!(text.contains(from), "{file} has no {from:?}");
                text.replacen(from, to, 1)
            } else {
                text.to_owned()
            };
            Ok((directory.join(name), text))
        })
    }

    #[test]
    fn the_embedded_manifests_are_right() {
        let manifests = Manifests::embedded().unwrap();
        assert_eq!(manifests.selector(), "app.kubernetes.io/name=openraft-kv");
    }

    #[test]
    fn the_pods_are_as_restricted_as_they_can_be() {
        let manifests = Manifests::embedded().unwrap();
        let container = serde_json::to_value(manifests.container().unwrap()).unwrap();
        assert_eq!(
            container["securityContext"],
            serde_json::json!({
                "allowPrivilegeEscalation": false, "privileged": false, "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            })
        );
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["path"], "/healthz", "{probe}");
        }
        for (kind, amount) in
            [("requests", "cpu"), ("requests", "memory"), ("limits", "cpu"), ("limits", "memory")]
        {
            assert!(container["resources"][kind][amount].is_string(), "{kind} {amount}");
        }
        let spec = manifests.stateful_set.spec.unwrap().template.spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false));
        let pod = serde_json::to_value(spec.security_context).unwrap();
        assert_eq!(pod["runAsNonRoot"], true);
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
        let service = manifests.service.spec.unwrap();
        assert_eq!(service.cluster_ip.as_deref(), Some("None"));
        assert_eq!(service.publish_not_ready_addresses, Some(true));
    }

    #[test]
    fn a_deployment_is_written_into_them() {
        let deployment = Deployment { nodes: 5, node_flags: vec!["--heartbeat-ms=100".to_owned()] };
        let run = BTreeMap::from([("run".to_owned(), "7".to_owned())]);
        let manifests = Manifests::embedded().unwrap().of(&deployment, "here", "kv:1", &run).unwrap();
        assert_eq!(manifests.namespace.metadata.name.as_deref(), Some("here"));
        assert_eq!(manifests.namespace.metadata.labels.as_ref().unwrap()["run"], "7");
        let container = manifests.container().unwrap();
        assert_eq!(container.image.as_deref(), Some("kv:1"));
        let args = container.args.as_ref().unwrap();
        assert_eq!(args[args.len() - 2..], ["--cluster=here", "--heartbeat-ms=100"]);
        assert_eq!(manifests.stateful_set.spec.as_ref().unwrap().replicas, Some(5));

        let none = Deployment { nodes: 0, ..deployment };
        let error = Manifests::embedded().unwrap().of(&none, "here", "kv:1", &run).unwrap_err();
        assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error}");
    }

    #[test]
    fn a_mistake_is_reported_with_its_file_its_place_and_its_remedy() {
        let cases = [
            ("statefulset.yaml", "replicas: 3", "replicas: three", "k8s/statefulset.yaml: ", "line 11"),
            ("statefulset.yaml", "replicas: 3", "replica: 3", "has no `spec.replica`", "spelling"),
            (
                "statefulset.yaml",
                "readOnlyRootFilesystem",
                "readonlyRootFilesystem",
                "has no `spec.template.spec.containers[0].securityContext.readonlyRootFilesystem`",
                "spelling",
            ),
            (
                "statefulset.yaml",
                "kind: StatefulSet",
                "kind: Deployment",
                "kind is \"Deployment\"",
                "\"StatefulSet\"",
            ),
            (
                "statefulset.yaml",
                "serviceName: openraft-kv",
                "serviceName: kv",
                "spec.serviceName is \"kv\"",
                "agree",
            ),
            (
                "statefulset.yaml",
                "- name: node",
                "- name: main",
                "has none called `node`",
                "the one with the node",
            ),
            ("statefulset.yaml", "- name: http", "- name: web", "no port called `http`", "name the one"),
            (
                "statefulset.yaml",
                "matchLabels:\n      app.kubernetes.io/name: openraft-kv",
                "matchLabels:\n      app: kv",
                "lacks `app: kv`",
                "add it",
            ),
            ("service.yaml", "  ports:", " ports:", "k8s/service.yaml: ", "line"),
            ("service.yaml", "apiVersion: v1", "apiVersion: v2", "apiVersion is \"v2\"", "\"v1\""),
            ("namespace.yaml", "metadata:", "meta:", "Namespace", "spelling"),
        ];
        for (file, from, to, wrong, remedy) in cases {
            let error = with(file, from, to).expect_err(to);
            assert!(matches!(error, DeployError::InvalidManifest { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(wrong) && text.contains(remedy) && text.contains(file), "`{to}`: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }

    #[test]
    fn one_pod_is_the_pod_of_the_set() {
        let manifests = Manifests::embedded().unwrap();
        let pod = manifests.one_pod("openraft-kv-0", "kv:1");
        let spec = pod.spec.unwrap();
        let original = manifests.container().unwrap();
        assert_eq!(spec.containers[0].security_context, original.security_context);
        let args = spec.containers[0].args.as_ref().unwrap();
        assert!(args.contains(&"--id-from-name=openraft-kv-0".to_owned()), "{args:?}");
        assert_eq!(args.len(), original.args.as_ref().unwrap().len());
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Never"));
        let mount = &spec.containers[0].volume_mounts.as_ref().unwrap()[0];
        assert_eq!((mount.name.as_str(), mount.mount_path.as_str()), ("data-openraft-kv-0", "/data"));
        assert_eq!(spec.volumes.unwrap()[0].name, mount.name);
    }
}
