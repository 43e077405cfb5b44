//! The manifests: read, checked, and made ready for one deployment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, EnvVar, Namespace, Pod, Service, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use watchkeeper_scenario::DeployError;

use super::pod::NodePod;
use super::program::PodChanges;

const NAMESPACE: &str = "namespace.yaml";
const SERVICE: &str = "service.yaml";
const STATEFUL_SET: &str = "statefulset.yaml";
/// The most pods of a deployment.
const MOST: i32 = 10_000;

/// The objects that make a cluster: a namespace, a headless Service and a `StatefulSet`.
///
/// They are typed, and a key that Kubernetes would silently ignore is an error with its place.
///
/// # Examples
///
/// ```
/// use watchkeeper_deploy::k8s::Manifests;
///
/// let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  label: {}\n";
/// let error = Manifests::from_texts("deploy/k8s", [namespace, "", ""]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "deploy/k8s/namespace.yaml: Namespace has no `metadata.label`: check its spelling, and how far it is indented",
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    /// The file of the set, for messages.
    path: PathBuf,
    pub(super) namespace: Namespace,
    pub(super) service: Service,
    pub(super) stateful_set: StatefulSet,
}

impl Manifests {
    /// Those of a directory: `namespace.yaml`, `service.yaml` and `statefulset.yaml`.
    ///
    /// # Errors
    ///
    /// [`DeployError::InvalidManifest`]: a file is missing, or has a mistake; says where.
    pub fn from_directory(directory: impl AsRef<Path>) -> Result<Self, DeployError> {
        let directory = directory.as_ref();
        let read = |file: &str| {
            let path = directory.join(file);
            std::fs::read_to_string(&path)
                .map_err(|error| invalid(&path, format!("cannot be read ({error}): it must be there")))
        };
        let (namespace, service, set) = (read(NAMESPACE)?, read(SERVICE)?, read(STATEFUL_SET)?);
        Self::parse(directory, [&namespace, &service, &set])
    }

    /// Those that are part of the program: the texts of `namespace.yaml`, `service.yaml` and `statefulset.yaml`.
    /// Messages name them as files of `directory`.
    ///
    /// # Errors
    ///
    /// [`DeployError::InvalidManifest`]: a text has a mistake; says where.
    pub fn from_texts(directory: impl AsRef<Path>, texts: [&str; 3]) -> Result<Self, DeployError> {
        Self::parse(directory.as_ref(), texts)
    }

    /// Without a type parameter: compiled once, here, and not again in the program of each user.
    fn parse(directory: &Path, [namespace, service, set]: [&str; 3]) -> Result<Self, DeployError> {
        let manifests = Self {
            path: directory.join(STATEFUL_SET),
            namespace: typed(&directory.join(NAMESPACE), namespace)?,
            service: typed(&directory.join(SERVICE), service)?,
            stateful_set: typed(&directory.join(STATEFUL_SET), set)?,
        };
        manifests.check().map_err(|problem| invalid(&manifests.path, problem))?;
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
        Ok(())
    }

    /// Checks that the node's container is there, with the ports that are reached.
    fn check_pod(&self, pod: &NodePod) -> Result<(), String> {
        let NodePod { container: name, ports: wanted, .. } = pod;
        if wanted.is_empty() {
            return Err("the application names no port of its container: a node is reached by one".to_owned());
        }
        let container = self.container(name).ok_or_else(|| {
            format!("spec.template.spec.containers has none called `{name}`: that is the one with the node")
        })?;
        let ports = container.ports.as_deref().unwrap_or_default();
        let is_there = |wanted: &&String| ports.iter().any(|port| port.name.as_ref() == Some(*wanted));
        match wanted.iter().find(|wanted| !is_there(wanted)) {
            None => Ok(()),
            Some(port) => Err(format!(
                "the container `{name}` has no port called `{port}`: name the one where it serves so"
            )),
        }
    }

    fn container(&self, name: &str) -> Option<&Container> {
        let containers = &self.stateful_set.spec.as_ref()?.template.spec.as_ref()?.containers;
        containers.iter().find(|container| container.name == name)
    }

    /// The label selector of the pods.
    pub(super) fn selector(&self) -> String {
        let labels = self.stateful_set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone());
        let labels: Vec<String> =
            labels.unwrap_or_default().into_iter().map(|(label, value)| format!("{label}={value}")).collect();
        labels.join(",")
    }

    /// The manifests of one deployment in its own namespace, which has `labels`.
    pub(super) fn of(
        mut self,
        changes: PodChanges,
        pod: &NodePod,
        namespace: &str,
        image: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Result<Self, DeployError> {
        self.check_pod(pod).map_err(|problem| invalid(&self.path, problem))?;
        let PodChanges { replicas, arguments, environment } = changes;
        let replicas = match i32::try_from(replicas) {
            Ok(replicas @ 1..=MOST) => Ok(replicas),
            _ => Err(format!("it has {replicas} nodes: a cluster has 1 to {MOST}")),
        };
        let replicas = replicas.map_err(DeployError::InvalidDeployment)?;
        self.namespace.metadata.name = Some(namespace.to_owned());
        self.namespace.metadata.labels.get_or_insert_default().extend(labels.clone());
        self.service.metadata.namespace = Some(namespace.to_owned());
        self.stateful_set.metadata.namespace = Some(namespace.to_owned());
        if let Some(spec) = &mut self.stateful_set.spec {
            spec.replicas = Some(replicas);
            let containers = spec.template.spec.as_mut().map(|spec| spec.containers.as_mut_slice());
            let containers = containers.unwrap_or_default();
            if let Some(node) = containers.iter_mut().find(|container| container.name == pod.container) {
                if let Some(image) = image {
                    node.image = Some(image.to_owned());
                }
                node.args.get_or_insert_default().extend(arguments);
                let env = node.env.get_or_insert_default();
                env.retain(|known| environment.iter().all(|(name, _)| *name != known.name));
                let set = |(name, value)| EnvVar { name, value: Some(value), value_from: None };
                env.extend(environment.into_iter().map(set));
            }
        }
        Ok(self)
    }

    /// One pod of the `StatefulSet`, called `name`, as a separate manifest with the same containers and
    /// restrictions.
    ///
    /// For engines that run pods and have no `StatefulSet`s, such as Podman. What the cluster adds to a
    /// pod is done here: `$(POD_NAME)` is expanded in arguments, and each claim is an empty directory
    /// with the claim's name, `data-NAME`. The image of `container` is `image`, never pulled.
    #[must_use]
    pub fn one_pod(&self, name: &str, container: &str, image: &str) -> Pod {
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
        let node = container;
        for container in &mut spec.containers {
            if container.name == node {
                container.image = Some(image.to_owned());
                container.image_pull_policy = Some("Never".to_owned());
            }
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

    const TEXTS: [(&str, &str); 3] = [
        (NAMESPACE, include_str!("../../tests/k8s/manifests/namespace.yaml")),
        (SERVICE, include_str!("../../tests/k8s/manifests/service.yaml")),
        (STATEFUL_SET, include_str!("../../tests/k8s/manifests/statefulset.yaml")),
    ];

    fn manifests() -> Manifests {
        Manifests::from_texts("k8s", TEXTS.map(|(_, text)| text)).unwrap()
    }

    fn node() -> NodePod {
        NodePod::new("node", ["client"])
    }

    fn of(changes: PodChanges, image: Option<&str>) -> Result<Manifests, DeployError> {
        let run = BTreeMap::from([("run".to_owned(), "7".to_owned())]);
        manifests().of(changes, &node(), "here", image, &run)
    }

    /// The manifests of a deployment, one of them changed.
    fn with(file: &str, from: &str, to: &str) -> Result<Manifests, DeployError> {
        let texts = TEXTS.map(|(name, text)| {
            assert!(name != file || text.contains(from), "{file} has no {from:?}");
            if name == file { text.replacen(from, to, 1) } else { text.to_owned() }
        });
        let changed = Manifests::from_texts("k8s", texts.each_ref().map(String::as_str))?;
        changed.of(PodChanges::replicas(1), &node(), "here", None, &BTreeMap::new())
    }

    #[test]
    fn a_deployment_is_written_into_them() {
        assert_eq!(manifests().selector(), "app.kubernetes.io/name=counting");
        let environment =
            [("PACE", "fast"), ("MORE", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let arguments = vec!["--cluster=here".to_owned()];
        let changes = PodChanges { arguments, environment: environment.into(), ..PodChanges::replicas(5) };
        let changed = of(changes, Some("counting:2")).unwrap();
        assert_eq!(changed.namespace.metadata.name.as_deref(), Some("here"));
        assert_eq!(changed.namespace.metadata.labels.as_ref().unwrap()["run"], "7");
        let container = changed.container("node").unwrap();
        assert_eq!(container.image.as_deref(), Some("counting:2"));
        assert_eq!(container.args.as_ref().unwrap(), &["--name=$(POD_NAME)", "--cluster=here"]);
        let env = container.env.iter().flatten().map(|env| (env.name.as_str(), env.value.as_deref()));
        let expected = [("POD_NAME", None), ("PACE", Some("fast")), ("MORE", Some("1"))];
        assert_eq!(env.collect::<Vec<_>>(), expected);
        assert_eq!(changed.stateful_set.spec.as_ref().unwrap().replicas, Some(5));

        let as_written = of(PodChanges::replicas(1), None).unwrap();
        let original = manifests();
        let image = |of: &Manifests| of.container("node").unwrap().image.clone();
        assert_eq!(image(&as_written), image(&original));
        for (nodes, words) in
            [(0, "0 nodes: a cluster has 1 to 10000"), (10_001, "10001 nodes"), (1 << 32, "nodes")]
        {
            let error = of(PodChanges::replicas(nodes), None).unwrap_err();
            assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
        let nowhere = NodePod::new("node", [""; 0]);
        let error = manifests().of(PodChanges::replicas(1), &nowhere, "here", None, &BTreeMap::new());
        assert!(error.unwrap_err().to_string().contains("names no port"));
    }

    #[test]
    fn a_mistake_is_reported_with_its_file_its_place_and_its_remedy() {
        let cases = [
            ("statefulset.yaml", "replicas: 3", "replicas: three", "k8s/statefulset.yaml: ", "line 8"),
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
                "serviceName: counting",
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
            ("statefulset.yaml", "- name: client", "- name: web", "no port called `client`", "name the one"),
            (
                "statefulset.yaml",
                "matchLabels:\n      app.kubernetes.io/name: counting",
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
        let manifests = manifests();
        let pod = manifests.one_pod("counting-0", "node", "kv:1");
        let spec = pod.spec.unwrap();
        let original = manifests.container("node").unwrap();
        assert_eq!(spec.containers[0].security_context, original.security_context);
        let args = spec.containers[0].args.as_ref().unwrap();
        assert_eq!(args, &["--name=counting-0"]);
        assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("Never"));
        let mount = &spec.containers[0].volume_mounts.as_ref().unwrap()[0];
        assert_eq!((mount.name.as_str(), mount.mount_path.as_str()), ("data-counting-0", "/data"));
        assert_eq!(spec.volumes.unwrap()[0].name, mount.name);
    }
}
