//! The pods of the Kubernetes manifests, run by Podman, without a cluster.
//!
//! Three pods of the manifests become a Raft cluster, and one is killed. That the
//! pods start, serve and write shows that the image, the arguments and the volume fit each other;
//! `/proc` shows that the security context holds.

#![allow(clippy::unwrap_used, reason = "tests")]

mod podman;

use std::fs;
use std::time::Duration;

use openraft_kv::NodeClient;
use openraft_kv::demo::observe_nodes;
use openraft_kv::deploy::compose::build_static;
use openraft_kv::deploy::form;
use openraft_kv::deploy::k8s::manifests;
use openraft_kv::failover::write;
use watchkeeper_scenario::NodeClients;

use crate::podman::{Podman, ip_of};

const SOON: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(50);

#[test]
fn the_pods_of_the_manifests_run_restricted_and_fail_over() {
    let building = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let podman = Podman::start(&building.block_on(build_static()).unwrap());
    let manifests = manifests().unwrap();
    let pods: Vec<String> = (0..3).map(|ordinal| format!("openraft-kv-{ordinal}")).collect();
    for pod in &pods {
        let manifest = serde_json::to_value(manifests.one_pod(pod, "node", podman::IMAGE)).unwrap();
        podman.play(pod, manifest, &pods);
    }
    podman.inside(form_and_fail_over(&podman, &pods));
    podman.stop();
}

async fn form_and_fail_over(podman: &Podman, pods: &[String]) {
    let clients = NodeClients::new();
    for (id, pod) in (1..).zip(pods) {
        clients.insert(&format!("n{id}"), NodeClient::new(format!("{}:4000", ip_of(pod))));
    }
    let runtime = observe_nodes(clients.clone(), INTERVAL).await.unwrap();
    let handle = runtime.handle();
    let serving = handle.eventually("every pod serves", |cluster| cluster.all(|_| true));
    serving.or_now().within(SOON).await.unwrap();
    for (id, (pod, node)) in (1..).zip(pods.iter().zip(clients.all())) {
        let state = node.source.state().await.unwrap();
        assert_eq!((state.node_id, state.public_addr), (id, format!("{pod}.openraft-kv:4000")));
    }
    form(&clients, SOON).await.unwrap();
    let agreed = handle.eventually("a leader is agreed on", |cluster| cluster.leader.is_some());
    let first = agreed.or_now().within(SOON).await.unwrap().value.leader.unwrap();
    write(&handle, ("key", "value", 1)).await.unwrap();
    for pod in pods {
        is_restricted(podman, pod);
    }

    let place = usize::try_from(first.node_id).unwrap() - 1;
    podman.kill(&pods[place]);
    let other = handle.eventually("another leader", |cluster| {
        cluster.leader.is_some_and(|leader| leader.node_id != first.node_id)
    });
    other.or_now().within(SOON).await.unwrap();
    write(&handle, ("key", "another value", 2)).await.unwrap();
    let _ = runtime.stop().await;
}

/// What the kernel reports of the container's process, and Podman of its limits.
fn is_restricted(podman: &Podman, pod: &str) {
    let process = format!("/proc/{}", podman.inspect(pod, "{{.State.Pid}}"));
    let status = fs::read_to_string(format!("{process}/status")).unwrap();
    let field = |name: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name}: {status}")).split_whitespace().collect()
    };
    assert_eq!(field("Uid"), ["10001"; 4]);
    assert_eq!(field("Gid"), ["10001"; 4]);
    assert_eq!(field("NoNewPrivs"), ["1"], "no privilege is gained");
    assert_eq!(field("Seccomp"), ["2"], "system calls are filtered");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    // Root's own rights do not help against a read-only mount.
    let written = fs::write(format!("{process}/root/file"), "");
    let refusal = written.expect_err("the root is read-only").raw_os_error();
    assert_eq!(refusal, Some(rustix::io::Errno::ROFS.raw_os_error()));
    assert!(fs::metadata(format!("{process}/root/data/node")).unwrap().is_dir(), "the volume is written");
    assert_eq!(podman.inspect(pod, "{{.HostConfig.Memory}}"), (256 << 20).to_string());
    assert_eq!(podman.inspect(pod, "{{.HostConfig.NanoCpus}}"), 1_000_000_000.to_string());
}
