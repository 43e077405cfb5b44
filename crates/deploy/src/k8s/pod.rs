//! What is used of a pod.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use watchkeeper::report::one_line;

/// Bytes shown of what a pod waits for.
const WAITS_FOR: usize = 500;

/// What in a pod is the node.
#[derive(Clone, Debug)]
pub struct NodePod {
    /// The container that runs the node.
    pub container: String,
    /// The names of the ports of that container that are reached; forwarding opens one port of this machine for each.
    pub ports: Vec<String>,
    /// The name of the node with this number, from 1: the ordinal of its pod in the set, plus 1. `n1`, `n2` and so on.
    pub name: fn(u64) -> String,
}

impl NodePod {
    /// The node is this container, serves at these ports, and is called `n` and its number.
    #[must_use]
    pub fn new<P: Into<String>>(container: impl Into<String>, ports: impl IntoIterator<Item = P>) -> Self {
        let ports = ports.into_iter().map(Into::into).collect();
        Self { container: container.into(), ports, name: node_name }
    }
}

/// `n1`, `n2` and so on.
pub(super) fn node_name(number: u64) -> String {
    format!("n{number}")
}

/// A node's pod as the API last reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// The pod's name; the next pod of this node has the same.
    pub name: String,
    /// Its uid, which distinguishes pods of one name.
    pub uid: String,
    /// Where it serves inside the cluster, by the name of the port; none before it has an address, and once it has ended.
    pub ports: BTreeMap<String, SocketAddr>,
    /// Whether its readiness probe succeeds.
    pub ready: bool,
    /// What it waits for, if it is not ready.
    pub waits_for: String,
}

impl PodView {
    pub(super) fn of(pod: &Pod, node: &NodePod) -> Self {
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let condition = status
            .and_then(|status| status.conditions.as_ref())
            .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == "Ready"));
        let ended = matches!(phase, "Succeeded" | "Failed");
        let ip = status.and_then(|status| status.pod_ip.as_deref()).and_then(|ip| ip.parse::<IpAddr>().ok());
        let ports = ip.filter(|_| !ended).map(|ip| ports(pod, node, ip)).unwrap_or_default();
        let no_port = || {
            let NodePod { container, ports: wanted, .. } = node;
            let has_none = ip.is_some() && !ended && ports.is_empty();
            has_none.then(|| format!("its container {container} has no port called {}", wanted.join(", ")))
        };
        let waits_for = trouble(pod, node).or_else(no_port).unwrap_or_else(|| waiting(phase, condition));
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            ready: !ports.is_empty() && condition.is_some_and(|condition| condition.status == "True"),
            ports,
            waits_for: one_line(&waits_for, WAITS_FOR),
        }
    }
}

fn waiting(phase: &str, condition: Option<&PodCondition>) -> String {
    match condition.and_then(|condition| condition.message.as_deref()) {
        Some(message) => format!("{phase}, {message}"),
        None => phase.to_owned(),
    }
}

/// The ports of the node's container that are reached.
fn ports(pod: &Pod, node: &NodePod, ip: IpAddr) -> BTreeMap<String, SocketAddr> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.filter(|of| of.name == node.container).flat_map(|of| of.ports.iter().flatten());
    let reached = ports.filter_map(|port| {
        let name = port.name.as_ref().filter(|name| node.ports.contains(name))?;
        Some((name.clone(), SocketAddr::new(ip, u16::try_from(port.container_port).ok()?)))
    });
    reached.collect()
}

/// Why the container does not run, such as an image that cannot be pulled.
fn trouble(pod: &Pod, node: &NodePod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = statuses.iter().find(|status| status.name == node.container)?.state.as_ref()?;
    let (reason, message) = match (&state.waiting, &state.terminated) {
        (Some(waiting), _) => (waiting.reason.clone(), waiting.message.clone()),
        (_, Some(ended)) => (ended.reason.clone(), ended.message.clone()),
        _ => return None,
    };
    let reason = reason.unwrap_or_else(|| "not running".to_owned());
    Some(message.map_or_else(|| reason.clone(), |message| format!("{reason}: {message}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(status: &serde_json::Value) -> PodView {
        let pod = json!({
            "metadata": { "name": "kv-1", "uid": "u1" },
            "spec": { "containers": [
                { "name": "sidecar", "ports": [{ "name": "http", "containerPort": 1 }] },
                { "name": "node", "ports": [
                    { "name": "debug", "containerPort": 2 }, { "name": "http", "containerPort": 4000 },
                ] },
            ] },
            "status": status,
        });
        PodView::of(&serde_json::from_value(pod).unwrap(), &NodePod::new("node", ["http"]))
    }

    #[test]
    fn a_pod_has_an_address_from_when_it_has_an_ip_until_it_ends() {
        let addr = |status| view(&status).ports.get("http").map(ToString::to_string);
        assert_eq!(addr(json!({ "phase": "Pending" })), None);
        assert_eq!(
            addr(json!({ "phase": "Running", "podIP": "10.1.2.3" })).as_deref(),
            Some("10.1.2.3:4000")
        );
        assert_eq!(
            addr(json!({ "phase": "Running", "podIP": "fd00::7" })).as_deref(),
            Some("[fd00::7]:4000")
        );
        assert_eq!(addr(json!({ "phase": "Failed", "podIP": "10.1.2.3" })), None);
    }

    #[test]
    fn a_pod_is_ready_when_its_condition_says_so() {
        let ready = |condition: &str| {
            view(&json!({
                "phase": "Running", "podIP": "10.1.2.3",
                "conditions": [{ "type": "Initialized", "status": "True" }, { "type": "Ready", "status": condition }],
            }))
            .ready
        };
        assert!(ready("True"));
        assert!(!ready("False"));
        assert!(!view(&json!({ "phase": "Running", "podIP": "10.1.2.3" })).ready);
    }

    #[test]
    fn what_a_pod_waits_for_is_the_nearest_cause() {
        let pulling = json!({ "phase": "Pending", "containerStatuses": [{
            "name": "node", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImagePull", "message": "no such image" } },
        }] });
        assert_eq!(view(&pulling).waits_for, "ErrImagePull: no such image");
        let probing = json!({ "phase": "Running", "conditions": [
            { "type": "Ready", "status": "False", "message": "containers with unready status: [node]" },
        ] });
        assert_eq!(view(&probing).waits_for, "Running, containers with unready status: [node]");
        assert_eq!(view(&json!({})).waits_for, "Pending");
    }
}
