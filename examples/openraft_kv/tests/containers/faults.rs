//! A cluster in containers that is broken on purpose, as its observers see it.

use openraft_kv::deploy::Deployment;
use openraft_kv::deploy::compose::compose_deployer;
use openraft_kv::failover::{Failover, failover, write};
use openraft_kv::observer::Presence;
use openraft_kv::timeline::{Style, Timeline};
use watchkeeper_deploy::compose::bollard::query_parameters::{
    InspectContainerOptions, RestartContainerOptions,
};

use crate::common::{Engine, INTERVAL, SOON, containers, name, observed, others, presence};
use crate::contract::{self, State};

/// The scenario that runs on every deployer: here also with a leader that is cut off.
#[tokio::test]
async fn the_failover_scenario_holds() {
    let engine = Engine::alone().await;
    let settings =
        Failover { interval: INTERVAL, all: true, keep: None, timeline: Timeline::new(Style::Plain) };
    let scenario = failover(Deployment::default(), settings).unwrap();
    let report = scenario.run(&compose_deployer()).await.unwrap();
    assert_eq!(report.deployer, "compose");
    engine.ends_as_it_began().await;
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_comes_back_with_its_data() {
    let engine = Engine::alone().await;
    let (cluster, runtime, first) = observed().await;
    let handle = runtime.handle();
    let control = cluster.node_control();
    assert_eq!(control.nodes(), ["n1", "n2", "n3"]);
    write(&handle, ("before", "value", 1)).await.unwrap();

    control.kill(&name(first)).await.unwrap();
    let elected = handle
        .eventually("another leader", |c| c.leader.is_some_and(|leader| leader.node_id != first))
        .within(SOON)
        .await
        .unwrap();
    // Its address is gone, so that nothing refuses: it fails, or it has not answered since.
    assert_ne!(*presence(&elected.value, first), Presence::Present);
    write(&handle, ("after", "value", 1)).await.unwrap();
    let log = cluster.log(&name(first)).await.expect("a dead node's log is kept");
    assert!(log.contains(r#""listening":"#) && log.contains("serving"), "{log}");

    control.start(&name(first)).await.unwrap();
    control.wait_ready(&name(first), SOON).await.unwrap();
    handle.eventually("all hold both keys", |c| c.all(|node| node.kv.len() == 2)).within(SOON).await.unwrap();

    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
    cluster.shut_down().await.expect("a second time there is nothing to do");
    engine.ends_as_it_began().await;
}

#[tokio::test]
async fn a_paused_node_turns_stale_while_the_others_stay_fresh() {
    let engine = Engine::alone().await;
    let (cluster, runtime, leader) = observed().await;
    let handle = runtime.handle();
    let control = cluster.node_control();
    let paused = others(leader).next().unwrap();
    control.pause(&name(paused)).await.unwrap();
    handle
        .eventually("the paused node is stale", |c| *presence(c, paused) == Presence::Stale)
        .within(SOON)
        .await
        .unwrap();
    assert!(handle.freshness().is_fresh(), "the runtime goes on");

    control.resume(&name(paused)).await.unwrap();
    handle.eventually("all are back", |c| c.all(|_| true)).within(SOON).await.unwrap();

    // A node that is paused goes down like any other.
    control.pause(&name(paused)).await.unwrap();
    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
    engine.ends_as_it_began().await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_turns_stale_and_the_rest_elect_another() {
    let engine = Engine::alone().await;
    let (cluster, runtime, cut) = observed().await;
    let handle = runtime.handle();
    let control = cluster.node_control();
    let before = handle.mark();
    control.isolate(&name(cut)).await.unwrap();
    control.isolate(&name(cut)).await.expect("a cut that is there already");
    handle
        .eventually("the cut node is stale", |c| *presence(c, cut) == Presence::Stale)
        .after(before)
        .within(SOON)
        .await
        .unwrap();
    let elected = handle
        .eventually("the rest agree on another leader", |c| {
            c.leader.is_some_and(|leader| leader.node_id != cut)
        })
        .or_now()
        .within(SOON)
        .await
        .unwrap();
    assert_ne!(*presence(&elected.value, cut), Presence::Present, "its answers do not count");
    write(&handle, ("while", "cut", 1)).await.unwrap();

    control.rejoin(&name(cut)).await.unwrap();
    handle
        .eventually("the healed node follows the others", |c| {
            c.all(|node| {
                node.kv.contains_key("while") && node.current_leader == c.leader.map(|leader| leader.node_id)
            })
        })
        .within(SOON)
        .await
        .unwrap();
    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
    engine.ends_as_it_began().await;
}

/// The restarted node had a network without the cut, and nothing reported that.
#[tokio::test]
async fn a_node_that_is_cut_off_stays_so_when_it_restarts() {
    let engine = Engine::alone().await;
    let cluster = crate::common::deploy().await;
    let control = cluster.node_control();
    let (_, ids) = containers(&engine.docker).await;
    let short = std::time::Duration::from_secs(2);
    control.isolate("n2").await.unwrap();
    control.restart("n2").await.unwrap();
    let cut = control.wait_ready("n2", short).await.unwrap_err().to_string();
    assert!(cut.contains("its container is running"), "{cut}");

    // Not through the cluster: it is cut off when the engine's event comes.
    engine.docker.restart_container(&ids["n2"], None::<RestartContainerOptions>).await.unwrap();
    let cut_again = async { while control.wait_ready("n2", short).await.is_ok() {} };
    tokio::time::timeout(SOON, cut_again).await.expect("it is cut off again");
    control.rejoin("n2").await.unwrap();
    control.wait_ready("n2", SOON).await.unwrap();
    cluster.shut_down().await.unwrap();
    engine.ends_as_it_began().await;
}

#[tokio::test]
async fn each_action_answers_as_the_contract_says() {
    let engine = Engine::alone().await;
    let cluster = crate::common::deploy().await;
    let control = cluster.node_control();
    let (_, ids) = containers(&engine.docker).await;
    let is = async |state| {
        let inspected = engine.docker.inspect_container(&ids["n1"], None::<InspectContainerOptions>).await;
        let seen = inspected.unwrap().state.unwrap();
        state
            == match (seen.running, seen.paused) {
                (Some(true), Some(true)) => State::Paused,
                (Some(true), _) => State::Runs,
                _ => State::Down,
            }
    };
    contract::holds(&*control, "n1", is).await;
    control.wait_ready("n1", SOON).await.expect("no stop is carried out later");
    cluster.shut_down().await.unwrap();
    contract::holds_after_the_end(&*control, "n1").await;
    engine.ends_as_it_began().await;
}

#[tokio::test]
async fn an_impossible_action_is_an_error_with_its_reason() {
    let engine = Engine::alone().await;
    let cluster = crate::common::deploy().await;
    let control = cluster.node_control();
    let unknown = control.kill("n9").await.unwrap_err().to_string();
    assert_eq!(unknown, r#"no node is called "n9"; the nodes are: n1, n2, n3"#);
    let unknown = control.wait_ready("n9", SOON).await.unwrap_err().to_string();
    assert!(unknown.contains("n1, n2, n3"), "{unknown}");

    control.stop("n2").await.unwrap();
    let down = control.isolate("n2").await.unwrap_err();
    let reason = std::error::Error::source(&down).unwrap().to_string();
    assert_eq!(
        (down.to_string().as_str(), reason.as_str()),
        ("could not isolate n2", "it does not run: start it first")
    );
    let down = control.wait_ready("n2", std::time::Duration::from_millis(300)).await.unwrap_err().to_string();
    assert!(down.starts_with("n2 was not ready within 300ms: its container is exited; "), "{down}");

    cluster.shut_down().await.unwrap();
    engine.ends_as_it_began().await;
}
