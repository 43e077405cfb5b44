//! The follower alone, with events of the API as input.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::{Client, Config};
use serde_json::json;
use watcher::Event;

use super::super::Reach;
use super::*;
use crate::app::Counting;

const SOON: Duration = Duration::from_secs(20);

fn pod(name: &str, uid: &str, ip: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": { "name": name, "uid": uid },
        "spec": { "containers": [{ "name": "node", "ports": [{ "name": "client", "containerPort": 4000 }] }] },
        "status": { "phase": "Running", "podIP": ip, "conditions": [{ "type": "Ready", "status": "True" }] },
    }))
    .unwrap()
}

/// A follower that can open ports while `works`.
fn follower(works: &Arc<AtomicBool>) -> (Follower<Counting>, watch::Receiver<Seen>) {
    // Nothing is sent there.
    let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let works = Arc::clone(works);
    let opener = Opener::listening(Api::namespaced(client, "kv"), move || {
        if works.load(Ordering::Relaxed) {
            std::net::TcpListener::bind("127.0.0.1:0")
        } else {
            Err(io::Error::other("too many open files"))
        }
    });
    let (publisher, seen) = watch::channel(Seen::default());
    let selection = PodSelection {
        namespace: "kv".to_owned(),
        labels: String::new(),
        cluster: "kv".to_owned(),
        pod: NodePod::new("node", ["client"]),
        reach: Reach::PortForward,
    };
    let names = Names::new(selection.pod.name);
    let follower =
        Follower::new(opener, &selection, Arc::new(Counting), NodeClients::new(), names, publisher);
    (follower, seen)
}

async fn refuses(addr: &str) -> bool {
    tokio::net::TcpStream::connect(addr).await.is_err()
}

/// The previous pod's client stayed, at a closed port, until the next event of a pod.
#[tokio::test]
async fn a_forward_that_cannot_be_opened_leaves_no_dead_client_and_is_tried_again() {
    let works = Arc::new(AtomicBool::new(true));
    let (mut follower, seen) = follower(&works);
    follower.apply(Event::Apply(pod("kv-0", "u1", "10.0.0.1"))).await;
    let clients = follower.clients.clone();
    let first = clients.get("n1").unwrap().addr().to_owned();
    assert!(!refuses(&first).await);
    assert!(follower.retry.at.is_none());

    works.store(false, Ordering::Relaxed);
    follower.apply(Event::Apply(pod("kv-0", "u2", "10.0.0.2"))).await;
    assert!(clients.get("n1").is_none(), "nothing answers at the port of the pod before");
    assert!(refuses(&first).await);
    let problem = seen.borrow().problem.clone().unwrap();
    assert!(matches!(*problem, K8sError::Forward { .. }), "{problem}");
    assert!(!seen.borrow().serves("n1") && seen.borrow().waits_for("n1").contains("ulimit"));

    // It is tried again without an event.
    works.store(true, Ordering::Relaxed);
    tokio::time::timeout(SOON, follower.retry.due()).await.unwrap();
    follower.publish().await;
    assert!(!refuses(clients.get("n1").unwrap().addr()).await);
    assert!(seen.borrow().problem.is_none() && seen.borrow().serves("n1"));
    assert!(follower.retry.at.is_none());
}

/// Other pods go on being followed.
#[tokio::test]
async fn a_pod_without_a_client_says_why_and_is_no_source() {
    let (mut follower, seen) = follower(&Arc::new(AtomicBool::new(true)));
    follower.pod.ports.push("peer".to_owned());
    let mut peer_alone = pod("kv-0", "u1", "10.0.0.1");
    let containers = &mut peer_alone.spec.as_mut().unwrap().containers;
    containers[0].ports.as_mut().unwrap()[0].name = Some("peer".to_owned());
    follower.apply(Event::Apply(peer_alone)).await;
    follower.apply(Event::Apply(pod("kv-1", "u2", "10.0.0.2"))).await;
    assert_eq!(follower.clients.names(), ["n2"]);
    let waits_for = seen.borrow().waits_for("n1");
    assert!(!seen.borrow().serves("n1") && waits_for.contains("no port called client"), "{waits_for}");
    assert!(waits_for.starts_with("no client can be made of the node n1 at {\"peer\""), "{waits_for}");
    assert!(follower.retry.at.is_some(), "it is tried again");
}

/// The end of the old pod may come after the new one of its name, and the names of two sets differ.
#[tokio::test]
async fn the_end_of_one_pod_removes_no_other() {
    let works = Arc::new(AtomicBool::new(true));
    let (mut follower, _seen) = follower(&works);
    for (name, uid) in [("kv-0", "u1"), ("another-0", "u2"), ("kv-0", "u3")] {
        follower.apply(Event::Apply(pod(name, uid, "10.0.0.1"))).await;
    }
    let clients = follower.clients.clone();
    assert_eq!(clients.names(), ["another-0", "n1"]);
    let addr = clients.get("n1").unwrap().addr().to_owned();
    follower.apply(Event::Delete(pod("kv-0", "u1", "10.0.0.1"))).await;
    assert_eq!(clients.get("n1").unwrap().addr(), addr);
    follower.apply(Event::Delete(pod("another-0", "u2", "10.0.0.1"))).await;
    assert_eq!(clients.names(), ["n1"]);
    follower.apply(Event::Delete(pod("kv-0", "u3", "10.0.0.1"))).await;
    assert!(clients.names().is_empty() && refuses(&addr).await);
}

#[test]
fn ports_that_cannot_be_had_are_tried_again_ever_more_seldom() {
    let mut retry = Retry::default();
    let pauses = [(); 7].map(|()| {
        retry.plan(true);
        retry.pause().as_millis()
    });
    assert_eq!(pauses, [200, 400, 800, 1600, 3200, 5000, 5000]);
    retry.failed = u32::MAX - 1;
    retry.plan(true);
    retry.plan(true);
    assert_eq!(retry.pause(), LAST_RETRY);
    retry.plan(false);
    assert!(retry.at.is_none());
    retry.plan(true);
    assert_eq!(retry.pause(), FIRST_RETRY);
}
