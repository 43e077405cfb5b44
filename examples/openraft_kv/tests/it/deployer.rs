//! The local deployer: actions on a node by name, and what is left.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft_kv::api::Role;
use openraft_kv::deploy::{Deployment, FormError, LocalDeployer, RaftKv, form};
use openraft_kv::observer::Presence;
use openraft_kv::{ClientError, NodeClient};
use tempfile::TempDir;
use watchkeeper_scenario::{
    DeployError, Deployer, NodeAction, NodeClients, NodeControlError, RunningCluster,
};

use crate::common::{PROGRAM, SOON};
use crate::contract::{self, State};

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
async fn an_impossible_action_is_an_error() {
    let cluster = deploy(1).await;
    let control = cluster.node_control();
    let unknown = control.kill("n7").await.unwrap_err();
    assert_eq!(unknown.to_string(), r#"no node is called "n7"; the nodes are: n1"#);
    let unsupported = control.isolate("n1").await.unwrap_err();
    assert_eq!(
        unsupported.to_string(),
        "the local deployer cannot isolate n1: use a deployer that can",
        "a partition needs a separate network"
    );
    for unknown in [control.isolate("n7").await, control.rejoin("n7").await, control.restart("n7").await] {
        assert!(matches!(unknown, Err(NodeControlError::UnknownNode { .. })), "{unknown:?}");
    }
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

/// The program; a node that starts a second time waits for the file `go`.
fn slow_at_its_second_start(directory: &TempDir) -> PathBuf {
    let path = directory.path().join("program");
    let go = directory.path().join("go");
    let script = format!(
        r#"#!/bin/sh
for flag; do [ "$data" = next ] && data=$flag; [ "$flag" = --data-dir ] && data=next; done
if [ -e "$data" ]; then until [ -e '{}' ]; do sleep 0.02; done; fi
exec '{PROGRAM}' "$@"
"#,
        go.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Every action on every node waited for the start, and so did the log.
#[tokio::test]
async fn a_node_that_starts_does_not_delay_actions_on_others() {
    let directory = TempDir::new().unwrap();
    let deployer = LocalDeployer::with_program(slow_at_its_second_start(&directory));
    let cluster = deployer.deploy(&Deployment { nodes: 3, ..Deployment::default() }).await.unwrap();
    let control = cluster.node_control();
    control.kill("n1").await.unwrap();
    let starting = tokio::spawn({
        let control = Arc::clone(&control);
        async move { control.start("n1").await }
    });
    control.pause("n2").await.unwrap();
    control.resume("n2").await.unwrap();
    control.restart("n9").await.unwrap_err();
    control.kill("n3").await.unwrap();
    assert!(cluster.log("n1").await.is_some());
    assert!(!starting.is_finished());

    std::fs::write(directory.path().join("go"), "").unwrap();
    starting.await.unwrap().unwrap();
    control.wait_ready("n1", SOON).await.unwrap();
    control.restart("n3").await.expect("what was killed is restarted as well");
    control.wait_ready("n3", SOON).await.unwrap();
    cluster.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_node_that_starts_does_not_delay_the_end_of_the_cluster() {
    for shut_down in [true, false] {
        let directory = TempDir::new().unwrap();
        let deployer = LocalDeployer::with_program(slow_at_its_second_start(&directory));
        let cluster = deployer.deploy(&Deployment { nodes: 1, ..Deployment::default() }).await.unwrap();
        let control = cluster.node_control();
        control.kill("n1").await.unwrap();
        let starting = control.start("n1");
        tokio::pin!(starting);
        assert!(futures_now(&mut starting).await.is_none());
        if shut_down {
            let (started, down) = tokio::join!(starting, cluster.shut_down());
            down.unwrap();
            let late = started.unwrap_err();
            assert!(
                std::error::Error::source(&late).unwrap().to_string().contains("was shut down"),
                "{late}"
            );
        } else {
            drop(cluster);
            starting.await.unwrap_err();
        }
    }
}

/// The output of a future that is polled once.
async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

/// The signal stayed pending in the paused process, and the resume delivered it.
#[tokio::test]
async fn a_stop_that_failed_is_not_carried_out_by_a_resume() {
    let cluster = deploy(1).await;
    let (control, client) = (cluster.node_control(), cluster.node_clients().get("n1").unwrap());
    control.pause("n1").await.unwrap();
    let paused = control.stop("n1").await.unwrap_err();
    let reason = std::error::Error::source(&paused).unwrap().to_string();
    assert!(reason.contains("paused: resume it first, or kill it"), "{reason}");
    control.restart("n1").await.unwrap_err();
    control.start("n1").await.unwrap_err();
    control.resume("n1").await.unwrap();
    for _ in 0..20 {
        client.health().await.expect("it was not stopped");
    }
    cluster.shut_down().await.unwrap();
}

/// A pooled connection may turn out to be broken; the next request opens a new one.
async fn health(client: &NodeClient) -> Result<(), ClientError> {
    let mut answered = client.health().await;
    if matches!(answered, Err(ClientError::Broken { .. })) {
        answered = client.health().await;
    }
    answered.map(drop)
}

#[tokio::test]
async fn each_action_answers_as_the_contract_says() {
    let cluster = deploy(1).await;
    let (control, client) = (cluster.node_control(), cluster.node_clients().get("n1").unwrap());
    let is = async |state| match state {
        State::Runs => control.wait_ready("n1", SOON).await.is_ok(),
        State::Down => matches!(health(&client).await, Err(ClientError::Unreachable { .. })),
        // It takes connections, and answers nothing.
        State::Paused => {
            let brief = client.clone().with_timeout(Duration::from_millis(100));
            matches!(brief.health().await, Err(ClientError::TimedOut { .. }))
        }
    };
    contract::holds(&*control, "n1", is).await;
    cluster.shut_down().await.unwrap();
    contract::holds_after_the_end(&*control, "n1").await;
}

#[tokio::test]
async fn nothing_is_left() {
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
            // A socket is closed with its process, paused or not.
            let gone = health(&node.source).await.unwrap_err();
            assert!(matches!(gone, ClientError::Unreachable { .. }), "{}: {gone}", node.name);
        }
    }
}
