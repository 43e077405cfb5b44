//! The deployer for child processes: what the store says of itself.

use std::time::Duration;

use openraft_kv::deploy::{Deployment, FormError, form, local_deployer};
use openraft_kv::observer::Presence;
use watchkeeper_deploy::local::{LocalDeployer, LocalError};
use watchkeeper_scenario::{DeployError, NodeClients, NodeControlError, RunningCluster};

use crate::common::{Cluster, PROGRAM, SOON, options};

#[tokio::test]
async fn a_node_is_killed_started_paused_and_resumed_under_observation() {
    let cluster = Cluster::start(options(3)).await;
    cluster.form().await.unwrap();
    let control = cluster.nodes.node_control();
    let runtime = cluster.observe(Duration::from_millis(20)).await;
    let handle = runtime.handle();
    handle.eventually("all are up", |c| c.all(|_| true)).or_now().within(SOON).await.unwrap();

    cluster.kill(2).await;
    let lost = handle.eventually("n2 is lost", |c| matches!(c.nodes["n2"].presence, Presence::Failing(_)));
    lost.within(SOON).await.unwrap();
    let not_ready = control.wait_ready("n2", Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(&not_ready, NodeControlError::NotReady { node, .. } if node == "n2"), "{not_ready}");
    cluster.restart(2).await;
    control.wait_ready("n2", SOON).await.unwrap();
    handle.eventually("n2 is back", |c| c.all(|_| true)).within(SOON).await.unwrap();

    cluster.pause(3).await;
    let lost = handle.eventually("n3 is lost", |c| c.nodes["n3"].presence != Presence::Present);
    lost.within(SOON).await.unwrap();
    cluster.resume(3).await;
    handle.eventually("n3 is back", |c| c.all(|_| true)).within(SOON).await.unwrap();

    control.restart("n1").await.unwrap();
    handle.eventually("n1 is back", |c| c.all(|_| true)).within(SOON).await.unwrap();
    assert!(cluster.nodes.log("n1").await.unwrap().contains("node"), "a log is kept over a restart");
}

/// The error of a start, and its text.
async fn fails(
    deployer: LocalDeployer<openraft_kv::deploy::RaftKv>,
    deployment: Deployment,
) -> (LocalError, String) {
    match deployer.start(&deployment).await.unwrap_err() {
        DeployError::Failed { source, .. } => {
            let error = source.downcast::<LocalError>().unwrap();
            let text = error.to_string();
            (*error, text)
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_cannot_be_deployed_is_an_error() {
    let (error, text) = fails(
        local_deployer(Some(PROGRAM.into())),
        Deployment { node_flags: vec!["--heartbeat-ms".to_owned(), "0".to_owned()], ..options(3) },
    )
    .await;
    assert!(matches!(error, LocalError::DiedAtStart { .. }), "{text}");
    assert!(text.contains("--heartbeat-ms: 0ns") && text.contains("exit status: 1"), "{text}");

    let (error, text) = fails(local_deployer(Some("echo".into())), options(1)).await;
    assert!(matches!(error, LocalError::DiedAtStart { .. }), "{text}");
    assert!(text.contains("node --id 1"), "its output is shown: {text}");

    let none = local_deployer(Some(PROGRAM.into())).start(&options(0)).await.unwrap_err();
    assert!(matches!(none, DeployError::InvalidDeployment(_)), "{none}");
    assert!(matches!(form(&NodeClients::new(), SOON).await, Err(FormError::NoNodes)));
}

/// The node reports it itself, with the address.
#[tokio::test]
async fn a_port_that_another_program_has_named_is_named_at_the_start() {
    let cluster = Cluster::start(options(1)).await;
    let address = cluster.client(1).addr().to_owned();
    cluster.kill(1).await;
    let taken = std::net::TcpListener::bind(&address).unwrap();
    let error = cluster.nodes.node_control().start("n1").await.unwrap_err();
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains(&format!("cannot listen on {address}")), "{reason}");
    drop(taken);
    cluster.restart(1).await;
    assert_eq!(cluster.client(1).state().await.unwrap().node_id, 1);
}
