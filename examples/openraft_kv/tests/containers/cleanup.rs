//! Nothing is left, however a cluster ends.

use openraft_kv::deploy::Deployment;
use openraft_kv::deploy::compose::compose_deployer;
use tokio::runtime;
use watchkeeper_scenario::{DeployError, Deployer};

use crate::common::{Engine, deploy};

#[tokio::test]
async fn a_cluster_that_is_dropped_goes_down_by_itself() {
    let engine = Engine::alone().await;
    let cluster = deploy().await;
    engine.eventually("three containers are up", |labelled| labelled[0] >= 3).await;
    drop(cluster);
    engine.comes_to_end_as_it_began().await;
}

/// Drops a deployment while its containers are being made.
async fn drop_half_way(engine: &Engine) {
    let deployer = compose_deployer();
    let deployment = Deployment::default();
    tokio::select! {
        _ = deployer.deploy(&deployment) => panic!("it is dropped before it is up"),
        () = engine.eventually("the network is there", |labelled| labelled[1] >= 1) => {}
    }
}

#[tokio::test]
async fn a_deployment_that_is_dropped_half_way_leaves_nothing() {
    let engine = Engine::alone().await;
    drop_half_way(&engine).await;
    engine.comes_to_end_as_it_began().await;
}

/// As when Ctrl-C ends a program during its deployment.
#[test]
fn a_runtime_that_ends_during_a_deployment_leaves_nothing() {
    let observing = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let engine = observing.block_on(Engine::alone());
    let deploying = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    deploying.block_on(drop_half_way(&engine));
    drop(deploying);
    observing.block_on(engine.comes_to_end_as_it_began());
}

#[tokio::test]
async fn nodes_that_end_at_once_fail_the_deployment_with_the_end_of_their_log() {
    let engine = Engine::alone().await;
    let node_flags = ["--election-min-ms", "it's no number"].map(str::to_owned).to_vec();
    let deployment = Deployment { node_flags, ..Deployment::default() };
    let deployed = compose_deployer().deploy(&deployment).await;
    let Err(DeployError::Failed { step, source, .. }) = deployed else {
        panic!("nodes of that kind cannot run")
    };
    assert_eq!(step, "wait for its nodes");
    let reason = source.to_string();
    assert!(reason.starts_with("n1 has ended; the end of its log: "), "{reason}");
    assert!(reason.contains("--election-min-ms"), "the flag went through as one word: {reason}");
    engine.ends_as_it_began().await;
}
