//! Plays the controller of stateful sets and the kubelet on the fake: its pods are nodes that serve on loopback.
//!
//! A container's arguments are those of the manifest. A pod that is made again keeps its volume.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::fake::{FakeApiServer, Key, Shared};
use crate::node::Node;

/// The image that no kubelet finds.
pub(crate) const NO_IMAGE: &str = "registry.invalid/counting:none";
/// The image whose readiness probe never succeeds.
pub(crate) const NEVER_READY: &str = "registry.invalid/counting:unready";

pub(crate) struct Kubelet {
    /// How many nodes run, and how many were ever started.
    nodes: watch::Receiver<(usize, usize)>,
    _task: AbortOnDropHandle<()>,
}

impl Kubelet {
    pub(crate) fn start(server: &FakeApiServer) -> Self {
        server.change(|state| state.has_kubelet = true);
        let shared = server.shared();
        let (publisher, nodes) = watch::channel((0, 0));
        let directory = TempDir::new().unwrap();
        let mut machine = Machine { shared, directory, running: BTreeMap::new(), publisher };
        let task = tokio::spawn(async move {
            let mut changes = machine.shared.changes();
            changes.mark_changed();
            while changes.changed().await.is_ok() {
                machine.reconcile().await;
            }
        });
        Self { nodes, _task: AbortOnDropHandle::new(task) }
    }

    /// How many nodes were ever started.
    pub(crate) fn started(&self) -> usize {
        self.nodes.borrow().1
    }

    /// Waits until no node runs.
    pub(crate) async fn nothing_runs(&self) {
        let mut nodes = self.nodes.clone();
        let none = nodes.wait_for(|(running, _)| *running == 0);
        timeout(crate::SOON, none).await.expect("no node is left in time").unwrap();
    }
}

struct Machine {
    shared: Arc<Shared>,
    directory: TempDir,
    /// By the pod's uid.
    running: BTreeMap<String, (Key, Node)>,
    publisher: watch::Sender<(usize, usize)>,
}

impl Machine {
    async fn reconcile(&mut self) {
        self.make_pods();
        let pods = self.shared.change(|state| state.store.of_kind("pods"));
        let known: Vec<&str> = pods.iter().map(|(_, pod)| uid(pod)).collect();
        let orphans = self.running.keys().filter(|uid| !known.contains(&uid.as_str()));
        for orphan in orphans.cloned().collect::<Vec<_>>() {
            // Deleted without a grace period, or with its namespace.
            self.running.remove(&orphan).unwrap().1.kill().await;
        }
        for (key, pod) in &pods {
            let is_ending = pod["metadata"]["deletionTimestamp"].is_string();
            match (self.running.remove(uid(pod)), is_ending) {
                (Some((key, node)), true) => {
                    node.stop().await;
                    self.shared.change(|state| state.store.remove(&key));
                }
                (Some(running), false) => drop(self.running.insert(uid(pod).to_owned(), running)),
                (None, true) => drop(self.shared.change(|state| state.store.remove(key))),
                (None, false) => self.run(key, pod.clone()).await,
            }
        }
        self.publisher.send_modify(|(running, _)| *running = self.running.len());
    }

    /// Makes the pods that a stateful set wants and that are not there.
    fn make_pods(&self) {
        self.shared.change(|state| {
            if state.held.contains("pods") {
                return;
            }
            for (set, object) in state.store.of_kind("statefulsets") {
                for ordinal in 0..object["spec"]["replicas"].as_u64().unwrap() {
                    let key = Key::of("pods", &set.namespace, &format!("{}-{ordinal}", set.name));
                    if state.store.get(&key).is_none() {
                        let mut pod = object["spec"]["template"].clone();
                        pod["apiVersion"] = json!("v1");
                        pod["kind"] = json!("Pod");
                        pod["status"] = json!({ "phase": "Pending" });
                        pod["metadata"]["ownerReferences"] = json!([{
                            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set.name,
                            "uid": object["metadata"]["uid"], "controller": true,
                        }]);
                        state.store.put(&key, pod);
                    }
                }
            }
        });
    }

    async fn run(&mut self, key: &Key, mut pod: Value) {
        let container = pod["spec"]["containers"][0].clone();
        if container["image"] == NO_IMAGE {
            if pod["status"]["containerStatuses"].is_null() {
                let waiting = json!({ "waiting": { "reason": "ErrImagePull", "message": "no such host" } });
                pod["status"]["containerStatuses"] = json!([{
                    "name": "node", "image": NO_IMAGE, "imageID": "", "ready": false, "restartCount": 0,
                    "state": waiting,
                }]);
                self.shared.change(|state| state.store.update(key, pod));
            }
            return;
        }
        let volume = self.directory.path().join(format!("{}-{}", key.namespace, key.name));
        std::fs::create_dir_all(&volume).unwrap();
        let log = volume.join("log");
        let args = container["args"].as_array().unwrap().iter();
        let args: Vec<String> =
            args.map(|arg| arg.as_str().unwrap().replace("$(POD_NAME)", &key.name)).collect();
        let node = Node::start(&args, volume).await;
        self.publisher.send_modify(|(_, started)| *started += 1);

        pod["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(node.port);
        let ready = if container["image"] == NEVER_READY {
            let message = "containers with unready status: [node]";
            json!({ "type": "Ready", "status": "False", "message": message })
        } else {
            json!({ "type": "Ready", "status": "True" })
        };
        pod["status"] = json!({ "phase": "Running", "podIP": "127.0.0.1", "conditions": [ready] });
        let uid = uid(&pod).to_owned();
        // It may have been deleted meanwhile; its node is an orphan then.
        self.shared.change(|state| {
            state.logs.insert(uid.clone(), log);
            state.store.update(key, pod);
        });
        self.running.insert(uid, (key.clone(), node));
    }
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap()
}
