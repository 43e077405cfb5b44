//! Nodes are found by the labels of their containers, and followed.

use std::sync::Arc;

use openraft_kv::demo::observe_nodes;
use openraft_kv::deploy::{RaftKv, form};
use openraft_kv::observer::Presence;
use watchkeeper_deploy::compose::ContainerNodes;
use watchkeeper_deploy::compose::bollard::models::ContainerCreateBody;
use watchkeeper_deploy::compose::bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions,
};

use crate::common::{Engine, INTERVAL, SOON, containers, deploy, observed, presence};

#[tokio::test]
async fn a_removed_container_leaves_and_a_stopped_one_stays() {
    let engine = Engine::alone().await;
    let (cluster, runtime, _) = observed().await;
    let handle = runtime.handle();
    let control = cluster.node_control();
    control.stop("n2").await.unwrap();
    let stopped = handle
        .eventually("the stopped node fails", |c| matches!(presence(c, 2), Presence::Failing(_)))
        .or_now()
        .within(SOON)
        .await
        .unwrap();
    assert_eq!(stopped.value.nodes.len(), 3);

    // Not through the cluster: its clients follow.
    let (_, ids) = containers(&engine.docker).await;
    let force = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
    engine.docker.remove_container(&ids["n2"], Some(force)).await.unwrap();
    handle.eventually("the removed node has left", |c| c.nodes.len() == 2).within(SOON).await.unwrap();
    assert_eq!(cluster.node_clients().names(), ["n1", "n3"]);
    assert_eq!(control.nodes(), ["n1", "n3"]);

    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
    engine.ends_as_it_began().await;
}

#[tokio::test]
async fn nodes_that_come_back_elsewhere_are_followed_by_their_label() {
    let engine = Engine::alone().await;
    let cluster = deploy().await;
    form(&cluster.node_clients(), SOON).await.unwrap();
    let (label, _) = containers(&engine.docker).await;
    let found = ContainerNodes::new(engine.docker.clone(), &label, Arc::new(RaftKv));
    let runtime = observe_nodes(found.clone(), INTERVAL).await.unwrap();
    let handle = runtime.handle();
    let control = cluster.node_control();
    let addr = |node| found.clients().get(node).unwrap().addr().to_owned();
    let before = [addr("n1"), addr("n2")];

    // The engine assigns the lowest free address: started in another order they swap.
    for node in ["n1", "n2"] {
        control.kill(node).await.unwrap();
    }
    let lower = usize::from(before[1] < before[0]);
    for node in [["n2", "n1"], ["n1", "n2"]][lower] {
        control.start(node).await.unwrap();
    }
    handle.eventually("all are back", |c| c.leader.is_some() && c.all(|_| true)).within(SOON).await.unwrap();
    assert_ne!([addr("n1"), addr("n2")], before, "the nodes have moved");
    assert_eq!(cluster.node_clients().get("n1").unwrap().addr(), addr("n1"), "the cluster's own clients too");
    assert_eq!(cluster.node_clients().get("n2").unwrap().addr(), addr("n2"));

    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
    engine.ends_as_it_began().await;
}

/// Every observer failed from then on: two sources had one name.
#[tokio::test]
async fn two_containers_with_one_label_fail_no_observer_and_are_both_named() {
    let engine = Engine::alone().await;
    let (cluster, runtime, _) = observed().await;
    let handle = runtime.handle();
    let (label, ids) = containers(&engine.docker).await;
    let inspected =
        engine.docker.inspect_container(&ids["n1"], None::<InspectContainerOptions>).await.unwrap();
    let config = inspected.config.unwrap();
    let twin =
        ContainerCreateBody { image: config.image, labels: config.labels, ..ContainerCreateBody::default() };
    let twin = engine.docker.create_container(None::<CreateContainerOptions>, twin).await.unwrap().id;

    let found = ContainerNodes::new(engine.docker.clone(), &label, Arc::new(RaftKv));
    found.refresh().await.unwrap();
    let problem = found.problem().unwrap().to_string();
    assert!(problem.contains(&twin) && problem.contains(&ids["n1"]), "{problem}");
    assert_eq!(found.clients().names(), ["n1", "n2", "n3"]);
    let refused = cluster.node_control().kill("n1").await.unwrap_err();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains(&twin), "{refused}");
    handle.eventually("all are seen", |c| c.all(|_| true)).within(SOON).await.unwrap();

    let force = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
    engine.docker.remove_container(&twin, Some(force)).await.unwrap();
    found.refresh().await.unwrap();
    assert!(found.problem().is_none());
    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
    engine.ends_as_it_began().await;
}
