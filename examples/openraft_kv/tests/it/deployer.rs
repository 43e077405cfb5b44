//! The local deployer: what can be done to a node by name, and what is left behind.

use std::time::Duration;

use openraft_kv::ClientError;
use openraft_kv::api::Role;
use openraft_kv::deploy::{Deployment, FormError, LocalDeployer, RaftKv, form};
use openraft_kv::observer::Presence;
use watchkeeper_scenario::{
    DeployError, Deployer, NodeAction, NodeClients, NodeControlError, RunningCluster,
};

use crate::common::{PROGRAM, SOON};

async fn deploy(nodes: u64) -> Box<dyn RunningCluster<RaftKv>> {
    let deployment = Deployment { nodes, ..Deployment::default() };
    LocalDeployer::with_program(PROGRAM).deploy(&deployment).await.unwrap()
}

#[tokio::test]
async fn a_node_is_killed_restarted_paused_and_resumed_by_name() {
    let cluster = deploy(3).await;
    let (clients, control) = (cluster.node_clients(), cluster.node_control());
    assert_eq!(control.nodes(), ["n1", "n2", "n3"]);
    form(&clients, SOON).await.unwrap();
    let runtime = openraft_kv::demo::observe_nodes(clients.clone(), Duration::from_millis(20)).await.unwrap();
    let handle = runtime.handle();
    let up = handle.eventually("all are up", |c| c.all(|node| node.role != Role::Learner));
    up.or_now().within(SOON).await.unwrap();

    control.kill("n2").await.unwrap();
    handle
        .eventually("n2 is lost", |c| matches!(c.nodes["n2"].presence, Presence::Failing(_)))
        .within(SOON)
        .await
        .unwrap();
    let not_ready = control.wait_ready("n2", Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(&not_ready, NodeControlError::NotReady { node, .. } if node == "n2"), "{not_ready}");
    assert!(not_ready.to_string().contains("was not ready within 200ms"), "{not_ready}");

    control.start("n2").await.unwrap();
    control.wait_ready("n2", SOON).await.unwrap();
    handle.eventually("n2 is back", |c| c.all(|_| true)).within(SOON).await.unwrap();

    control.pause("n3").await.unwrap();
    handle
        .eventually("n3 is lost", |c| c.nodes["n3"].presence != Presence::Present)
        .within(SOON)
        .await
        .unwrap();
    control.resume("n3").await.unwrap();
    handle.eventually("n3 is back", |c| c.all(|_| true)).within(SOON).await.unwrap();

    control.restart("n1").await.unwrap();
    handle.eventually("n1 is back", |c| c.all(|_| true)).within(SOON).await.unwrap();
    assert!(cluster.log("n1").await.unwrap().contains("node"), "a log is kept over a restart");
    assert_eq!(cluster.log("n9").await, None);

    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_done_says_so() {
    let cluster = deploy(1).await;
    let control = cluster.node_control();
    let unknown = control.kill("n7").await.unwrap_err();
    assert_eq!(unknown.to_string(), r#"no node is called "n7"; the nodes are: n1"#);
    let unsupported = control.isolate("n1").await.unwrap_err();
    assert_eq!(
        unsupported.to_string(),
        "the local deployer cannot isolate n1: use a deployer that can",
        "a partition takes a network of its own"
    );
    control.kill("n1").await.unwrap();
    let twice = control.kill("n1").await.unwrap_err();
    assert!(matches!(&twice, NodeControlError::Failed { action: NodeAction::Kill, .. }), "{twice}");

    cluster.shut_down().await.unwrap();
    cluster.shut_down().await.unwrap();
    let late = control.start("n1").await.unwrap_err();
    assert!(std::error::Error::source(&late).unwrap().to_string().contains("was shut down"), "{late}");

    let none = Deployment { nodes: 0, ..Deployment::default() };
    let refused = LocalDeployer::with_program(PROGRAM).deploy(&none).await.err().unwrap();
    assert!(matches!(refused, DeployError::InvalidDeployment(_)), "{refused}");
    let nowhere = LocalDeployer::with_program("/nowhere/openraft_kv").deploy(&Deployment::default()).await;
    assert!(matches!(nowhere.err(), Some(DeployError::Failed { .. })));
    assert!(matches!(form(&NodeClients::new(), SOON).await, Err(FormError::NoNodes)));
}

#[tokio::test]
async fn nothing_is_left_behind() {
    for shut_down in [true, false] {
        let cluster = deploy(2).await;
        let control = cluster.node_control();
        let clients = cluster.node_clients();
        control.pause("n1").await.unwrap();
        if shut_down {
            cluster.shut_down().await.unwrap();
        } else {
            drop(cluster);
        }
        for node in clients.all() {
            // A socket goes with its process, paused or not.
            let gone = node.source.health().await.unwrap_err();
            assert!(matches!(gone, ClientError::Unreachable { .. }), "{}: {gone}", node.name);
        }
    }
}
