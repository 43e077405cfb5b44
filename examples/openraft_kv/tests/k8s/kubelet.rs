//! Plays the controller of stateful sets and the kubelet on the fake: its pods are real node processes.
//!
//! A container's arguments are those of the manifest, except for where the node listens and where its
//! data is. A pod that is made again keeps its volume, and its port, as a real one keeps its DNS name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use openraft_kv::api::Ready;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::task::AbortOnDropHandle;

use crate::fake::{FakeApiServer, Key, Shared};

/// The image that no kubelet finds.
pub(crate) const NO_IMAGE: &str = "registry.invalid/openraft_kv:none";

pub(crate) struct Kubelet {
    pids: Arc<Mutex<Vec<u32>>>,
    _task: AbortOnDropHandle<()>,
}

impl Kubelet {
    pub(crate) fn start(server: &FakeApiServer) -> Self {
        server.change(|state| state.has_kubelet = true);
        let shared = server.shared();
        let pids = Arc::<Mutex<Vec<u32>>>::default();
        let directory = TempDir::new().unwrap();
        let mut machine = Machine { shared, directory, running: BTreeMap::new(), pids: pids.clone() };
        let task = tokio::spawn(async move {
            let mut changes = machine.shared.changes();
            changes.mark_changed();
            while changes.changed().await.is_ok() {
                machine.reconcile().await;
            }
        });
        Self { pids, _task: AbortOnDropHandle::new(task) }
    }

    /// Every process that was ever started.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.pids.lock().unwrap().clone()
    }
}

struct Machine {
    shared: Arc<Shared>,
    directory: TempDir,
    /// By the pod's uid.
    running: BTreeMap<String, Container>,
    pids: Arc<Mutex<Vec<u32>>>,
}

struct Container {
    key: Key,
    process: Child,
    /// Kept open, so that printing does not end the node.
    _output: BufReader<ChildStdout>,
}

impl Machine {
    async fn reconcile(&mut self) {
        self.make_pods();
        let pods = self.shared.change(|state| state.store.of_kind("pods"));
        let known: Vec<&str> = pods.iter().map(|(_, pod)| uid(pod)).collect();
        let orphans = self.running.keys().filter(|uid| !known.contains(&uid.as_str()));
        for orphan in orphans.cloned().collect::<Vec<_>>() {
            // Deleted without a grace period, or with its namespace.
            let mut container = self.running.remove(&orphan).unwrap();
            container.process.kill().await.unwrap();
        }
        for (key, pod) in &pods {
            let is_ending = pod["metadata"]["deletionTimestamp"].is_string();
            match (self.running.remove(uid(pod)), is_ending) {
                (Some(mut container), true) => {
                    terminate(&mut container.process).await;
                    self.shared.change(|state| state.store.remove(&container.key));
                }
                (Some(container), false) => drop(self.running.insert(uid(pod).to_owned(), container)),
                (None, true) => drop(self.shared.change(|state| state.store.remove(key))),
                (None, false) => self.run(key, pod.clone()).await,
            }
        }
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
        let mut process = command(&container, &key.name, &volume, &log).spawn().unwrap();
        self.pids.lock().unwrap().push(process.id().unwrap());
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).await.unwrap();
        let ready: Ready = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("{} did not start: {}", key.name, std::fs::read_to_string(&log).unwrap())
        });
        let (ip, port) = ready.listening.rsplit_once(':').unwrap();
        std::fs::write(volume.join("listens"), &ready.listening).unwrap();

        pod["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(port.parse::<u16>().unwrap());
        pod["status"] = json!({
            "phase": "Running", "podIP": ip, "conditions": [{ "type": "Ready", "status": "True" }],
        });
        let uid = uid(&pod).to_owned();
        // It may have been deleted meanwhile; its process is an orphan then.
        self.shared.change(|state| {
            state.logs.insert(uid.clone(), log);
            state.store.update(key, pod);
        });
        self.running.insert(uid, Container { key: key.clone(), process, _output: output });
    }
}

fn uid(pod: &Value) -> &str {
    pod["metadata"]["uid"].as_str().unwrap()
}

fn command(container: &Value, pod: &str, volume: &Path, log: &PathBuf) -> Command {
    assert_eq!(container["command"], json!(["/openraft_kv"]));
    let listens = std::fs::read_to_string(volume.join("listens"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_openraft_kv"));
    for arg in container["args"].as_array().unwrap() {
        let arg = arg.as_str().unwrap().replace("$(POD_NAME)", pod);
        match arg.split_once('=') {
            Some(("--listen", _)) => {
                command.args(["--listen", listens.as_deref().unwrap_or("127.0.0.1:0")]);
            }
            Some(("--data-dir", _)) => {
                command.arg("--data-dir").arg(volume.join("data"));
            }
            Some(("--public-addr", _)) => {}
            _ => {
                command.arg(arg);
            }
        }
    }
    command
        .args(["--exit-with-parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::options().create(true).append(true).open(log).unwrap())
        .kill_on_drop(true);
    command
}

async fn terminate(process: &mut Child) {
    let pid = rustix::process::Pid::from_raw(process.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    process.wait().await.unwrap();
}
