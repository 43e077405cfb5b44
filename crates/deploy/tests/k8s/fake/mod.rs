//! A fake of the Kubernetes API server: no cluster, loopback only.
//!
//! It implements the part of the real protocol that the client under test uses: list and watch with resource
//! versions, bookmarks, 410 Gone and connections that drop; get, create, server-side apply and delete
//! with preconditions; logs and port forwarding. The tests, or the
//! [`Kubelet`](crate::kubelet::Kubelet), play the controllers and change objects through it.

mod forward;
mod routes;
mod store;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch as signal;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use store::{Key, Store};
pub(crate) use watch::Cut;

/// A request to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A verb as in a role: list, watch, get, create, patch, delete.
    pub(crate) verb: &'static str,
    /// The kind, such as `pods`.
    pub(crate) kind: String,
    /// The version that a watch goes on from.
    pub(crate) version: Option<u64>,
}

/// An answer that is given to every request of one verb and kind, in place of the real one.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    verb: &'static str,
    kind: &'static str,
    status: Value,
    code: u16,
}

pub(crate) struct FakeApiServer {
    shared: Arc<Shared>,
    addr: String,
    _serving: AbortOnDropHandle<()>,
}

/// What the requests share.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Counts everything that happens.
    changes: signal::Sender<u64>,
    /// Ends watches: how often, and how the last time.
    cuts: signal::Sender<(u64, Cut)>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) store: Store,
    asked: Vec<Asked>,
    refusals: Vec<Refusal>,
    watches_ended: u64,
    /// Refuse a watch that is too old with status 410, not with an event.
    gone_by_status: bool,
    /// Pods end when their container has ended, and not with their deletion.
    pub(crate) has_kubelet: bool,
    /// Kinds that are held: no pod is made, namespaces go on terminating.
    pub(crate) held: BTreeSet<&'static str>,
    /// By the pod's uid.
    pub(crate) logs: BTreeMap<String, PathBuf>,
}

impl FakeApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changes: signal::Sender::new(0),
            cuts: signal::Sender::new((0, Cut::Close)),
        });
        let router = routes::router(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, addr, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    pub(crate) fn client(&self) -> Client {
        Client::try_from(Config::new(self.addr.parse().unwrap())).unwrap()
    }

    /// Writes a kubeconfig that leads here.
    pub(crate) fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let path = directory.join("kubeconfig");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{ "name": "fake", "cluster": { "server": self.addr } }],
            "users": [{ "name": "nobody", "user": {} }],
            "contexts": [{ "name": "fake", "context": { "cluster": "fake", "user": "nobody" } }],
        });
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.shared.change(change)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        self.change(|state| state.store.get(key).cloned())
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.change(|state| state.store.keys())
    }

    /// Adds a pod that runs and is ready, or changes the one of that name.
    pub(crate) fn put_pod(&self, pod: &FakePod<'_>) {
        let key = Key::of("pods", pod.namespace, pod.name);
        let object = pod.object();
        self.change(|state| state.store.put(&key, object));
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.change(|state| state.store.remove(key));
    }

    pub(crate) fn remove_namespace(&self, name: &str) {
        self.change(|state| state.store.remove_namespace(name));
    }

    /// Something else in the cluster changes: the version grows.
    pub(crate) fn pass_time(&self) -> u64 {
        self.change(|state| state.store.next_version())
    }

    /// Sends the current version to every watch.
    pub(crate) fn bookmark(&self) -> u64 {
        self.change(|state| state.store.bookmark())
    }

    /// Forgets every change until now: a watch from before has to list.
    pub(crate) fn compact(&self) {
        self.change(|state| state.store.compact());
    }

    pub(crate) fn refuse_old_watches_by_status(&self) {
        self.change(|state| state.gone_by_status = true);
    }

    /// Ends the open watch on pods, and returns when it sends nothing more.
    pub(crate) async fn cut(&self, how: Cut) {
        let before = self.watches_ended();
        self.shared.cuts.send_modify(|(times, last)| (*times, *last) = (*times + 1, how));
        self.when("a watch ends", |server| server.watches_ended() > before).await;
    }

    pub(crate) fn watches_ended(&self) -> u64 {
        self.change(|state| state.watches_ended)
    }

    /// Refuses `verb` on `kind` from now on.
    pub(crate) fn refuse(
        &self,
        verb: &'static str,
        kind: &'static str,
        code: u16,
        reason: &str,
        message: &str,
    ) {
        let status = routes::status(code, reason, message);
        self.change(|state| state.refusals.push(Refusal { verb, kind, status, code }));
    }

    pub(crate) fn refuse_nothing(&self) {
        self.change(|state| state.refusals.clear());
    }

    /// The requests for objects of this kind, in order.
    pub(crate) fn asked(&self, kind: &str) -> Vec<Asked> {
        self.change(|state| state.asked.iter().filter(|asked| asked.kind == kind).cloned().collect())
    }

    /// Waits until `condition` holds.
    pub(crate) async fn when(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let mut changes = self.shared.changes.subscribe();
        let met = async {
            while !condition(self) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(crate::SOON, met).await.unwrap_or_else(|_| panic!("not met in time: {what}"));
    }

    /// Waits for a watch on `kind` that goes on from `version`.
    pub(crate) async fn watched_from(&self, kind: &str, version: u64) {
        let what = format!("a watch of {kind} from {version}");
        let wanted = Asked { verb: "watch", kind: kind.to_owned(), version: Some(version) };
        self.when(&what, |server| server.asked(kind).contains(&wanted)).await;
    }
}

impl State {
    /// What others wait for.
    fn progress(&self) -> (u64, usize, u64, usize) {
        (self.store.version(), self.asked.len(), self.watches_ended, self.held.len())
    }
}

impl Shared {
    /// `change` must not call back into the server.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let before = state.progress();
        let result = change(&mut state);
        let moved = before != state.progress();
        drop(state);
        if moved {
            self.changes.send_modify(|count| *count += 1);
        }
        result
    }

    pub(crate) fn changes(&self) -> signal::Receiver<u64> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// A pod as a test makes it.
pub(crate) struct FakePod<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) label: &'a str,
    /// `ip:port`; none before it is scheduled.
    pub(crate) addr: Option<&'a str>,
    pub(crate) ready: bool,
    /// Kind and name of what made it, if anything did.
    pub(crate) owner: Option<(&'a str, &'a str)>,
}

impl FakePod<'_> {
    fn object(&self) -> Value {
        let (ip, port) = self.addr.map_or((None, 4000), |addr| {
            let (ip, port) = addr.rsplit_once(':').unwrap();
            (Some(ip), port.parse::<u16>().unwrap())
        });
        let ready = if self.ready { "True" } else { "False" };
        let owner = self.owner.map(|(kind, name)| {
            json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": name, "controller": true })
        });
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "labels": { "app.kubernetes.io/name": self.label },
                "ownerReferences": owner.into_iter().collect::<Vec<_>>(),
            },
            "spec": { "containers": [
                { "name": "node", "ports": [{ "name": "client", "containerPort": port }] },
            ] },
            "status": {
                "phase": if ip.is_some() { "Running" } else { "Pending" },
                "podIP": ip,
                "conditions": [{ "type": "Ready", "status": ready }],
            },
        })
    }
}
