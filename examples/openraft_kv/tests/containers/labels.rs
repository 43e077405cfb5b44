//! Nodes are found by the labels of their containers, and followed.

use bollard::query_parameters::RemoveContainerOptions;
use openraft_kv::demo::observe_nodes;
use openraft_kv::deploy::compose::ContainerNodes;
use openraft_kv::deploy::form;
use openraft_kv::observer::Presence;

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

    // Behind the cluster's back, as a person would: its clients follow.
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
async fn nodes_that_come_back_elsewhere_are_followed_by_whoever_knows_the_label() {
    let engine = Engine::alone().await;
    let cluster = deploy().await;
    form(&cluster.node_clients(), SOON).await.unwrap();
    let (label, _) = containers(&engine.docker).await;
    let found = ContainerNodes::new(engine.docker.clone(), &label);
    let runtime = observe_nodes(found.clone(), INTERVAL).await.unwrap();
    let handle = runtime.handle();
    let control = cluster.node_control();
    let addr = |node| found.clients().get(node).unwrap().addr().to_owned();
    let before = [addr("n1"), addr("n2")];

    // The engine gives out the lowest address that is free: started in another order they swap.
    for node in ["n1", "n2"] {
        control.kill(node).await.unwrap();
    }
    let lower = usize::from(before[1] < before[0]);
    for node in [["n2", "n1"], ["n1", "n2"]][lower] {
        control.start(node).await.unwrap();
    }
    handle.eventually("all are back", |c| c.leader.is_some() && c.all(|_| true)).within(SOON).await.unwrap();
    assert_ne!([addr("n1"), addr("n2")], before, "the test is of nodes that have moved");
    assert_eq!(cluster.node_clients().get("n1").unwrap().addr(), addr("n1"), "the cluster's own clients too");
    assert_eq!(cluster.node_clients().get("n2").unwrap().addr(), addr("n2"));

    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
    engine.ends_as_it_began().await;
}
