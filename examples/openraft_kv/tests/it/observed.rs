//! What the observation shows of a cluster that is broken on purpose.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft_kv::api::Member;
use openraft_kv::observer::{ClusterEvent, ClusterView, Presence, RaftObserver};
use watchkeeper::subscription::{RecvError, Subscription};
use watchkeeper::{ObservationHandle, ObservationRuntime};

use crate::common::{Cluster, SOON, formed, options};

const INTERVAL: Duration = Duration::from_millis(50);

/// A formed cluster of three under observation, a leader agreed on.
async fn observed() -> (Cluster, ObservationRuntime<RaftObserver>, u64) {
    let cluster = formed(options(3)).await;
    let runtime = cluster.observe(INTERVAL).await;
    let leader = leader(&runtime.handle()).await;
    (cluster, runtime, leader)
}

async fn leader(handle: &ObservationHandle<RaftObserver>) -> u64 {
    let agreed = handle.eventually("a leader is agreed on", |c| c.leader.is_some()).or_now().within(SOON);
    agreed.await.unwrap().value.leader.unwrap().node_id
}

fn presence(cluster: &ClusterView, id: u64) -> &Presence {
    &cluster.nodes[format!("n{id}").as_str()].presence
}

fn others(id: u64) -> impl Iterator<Item = u64> {
    (1..=3).filter(move |other| *other != id)
}

/// All events up to the first that is `last`.
async fn events_until(
    subscription: &mut Subscription<ClusterEvent>,
    mut last: impl FnMut(&ClusterEvent) -> bool,
) -> Vec<ClusterEvent> {
    let mut events = Vec::new();
    let read = async {
        loop {
            let batch = subscription.recv().await?;
            events.extend(batch.events.iter().cloned());
            if batch.events.iter().any(&mut last) {
                return Ok::<_, RecvError>(());
            }
        }
    };
    tokio::time::timeout(SOON, read).await.expect("the last event is emitted in time").unwrap();
    events
}

#[tokio::test]
async fn another_leader_is_agreed_on_when_the_first_is_killed() {
    let (cluster, runtime, first) = observed().await;
    let handle = runtime.handle();
    let mut events = handle.subscribe();
    cluster.kill(first).await;

    let taken_over = handle
        .eventually("another leader", |c| c.leader.is_some_and(|leader| leader.node_id != first))
        .within(SOON)
        .await
        .unwrap();
    assert!(matches!(presence(&taken_over.value, first), Presence::Failing(_)));

    let elected = |event: &ClusterEvent| matches!(event, ClusterEvent::LeaderChanged { to: Some(to), .. } if to.node_id != first);
    let emitted = events_until(&mut events, elected).await;
    let place = |wanted: &dyn Fn(&ClusterEvent) -> bool| {
        emitted.iter().position(wanted).unwrap_or_else(|| panic!("{emitted:#?}"))
    };
    let lost = place(
        &|event| matches!(event, ClusterEvent::NodeLost { node, .. } if **node == *format!("n{first}")),
    );
    let none = place(&|event| matches!(event, ClusterEvent::LeaderChanged { to: None, .. }));
    let term = place(&|event| matches!(event, ClusterEvent::TermAdvanced { from, .. } if *from > 0));
    assert!(lost < none && none < term && term < emitted.iter().position(elected).unwrap(), "{emitted:?}");
}

/// The events of the first poll are emitted by the second, when the node is dead.
#[tokio::test]
async fn what_the_first_poll_found_is_emitted_although_it_has_changed() {
    let cluster = formed(options(3)).await;
    let runtime = cluster.observe(Duration::from_secs(60)).await;
    let mut events = runtime.handle().subscribe();
    cluster.kill(1).await;
    runtime.control().poll_now().await.unwrap();
    let is_lost =
        |event: &ClusterEvent| matches!(event, ClusterEvent::NodeLost { node, .. } if **node == *"n1");
    let emitted = events_until(&mut events, is_lost).await;
    let seen = |event: &ClusterEvent| matches!(event, ClusterEvent::NodeSeen { node, .. } if **node == *"n1");
    assert!(emitted.iter().position(seen) < emitted.iter().position(is_lost), "{emitted:?}");
    assert!(emitted.iter().any(seen), "{emitted:?}");
}

#[tokio::test]
async fn a_dead_follower_does_not_affect_the_leader() {
    let (cluster, runtime, leader) = observed().await;
    let handle = runtime.handle();
    let follower = others(leader).next().unwrap();
    cluster.kill(follower).await;
    let lost = handle
        .eventually("the follower is lost, and a leader leads", |c| {
            matches!(presence(c, follower), Presence::Failing(_)) && c.leader.is_some()
        })
        .within(SOON)
        .await
        .unwrap();
    assert_eq!(lost.value.leader.map(|leader| leader.node_id), Some(leader));

    let client = cluster.client(leader);
    client.write("key", "value", 1).await.unwrap();
    let written = handle.mark();
    handle
        .eventually("the two that are left hold the key", |c| {
            c.present().filter(|(_, node)| node.kv.contains_key("key")).count() == 2
        })
        .after(written)
        .within(SOON)
        .await
        .unwrap();
    assert!(handle.failures().is_empty(), "a dead node is no failed cycle");
}

#[tokio::test]
async fn a_node_that_hangs_turns_stale_while_the_others_stay_fresh() {
    let (cluster, runtime, leader) = observed().await;
    let handle = runtime.handle();
    let hung = others(leader).next().unwrap();
    cluster.pause(hung).await;
    let stale = handle
        .eventually("the paused node is stale", |c| {
            // Checked on every publication: none of the others is lost meanwhile.
            let is_lost = |id| matches!(presence(c, id), Presence::Failing(_) | Presence::Stale);
            assert!(!others(hung).any(is_lost), "{c:?}");
            *presence(c, hung) == Presence::Stale && c.leader.is_some()
        })
        .within(SOON)
        .await
        .unwrap();
    assert_eq!(stale.value.leader.map(|leader| leader.node_id), Some(leader));
    assert!(handle.freshness().is_fresh(), "the runtime goes on");
    assert_eq!(handle.status().missed_ticks, 0, "a node that hangs delays no tick");

    cluster.resume(hung).await;
    handle.eventually("it is back", |c| *presence(c, hung) == Presence::Present).within(SOON).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_added_while_running_is_followed() {
    let (cluster, runtime, leader) = observed().await;
    let handle = runtime.handle();
    let mut events = handle.subscribe();
    let added = cluster.start_extra().await;
    let name = format!("n{added}");
    events_until(
        &mut events,
        |event| matches!(event, ClusterEvent::NodeSeen { node, .. } if **node == *name),
    )
    .await;
    assert!(handle.status().source_names.iter().any(|source| **source == *name));

    let client = cluster.client(leader);
    let addr = cluster.client(added).addr().to_owned();
    client.add_learner(&Member { node_id: added, addr }).await.unwrap();
    let four = BTreeSet::from([1, 2, 3, added]);
    client.change_membership(four.clone()).await.unwrap();
    events_until(
        &mut events,
        |event| matches!(event, ClusterEvent::MembershipChanged { to, .. } if *to == four),
    )
    .await;
    handle
        .eventually("all four agree on the voters", |c| {
            c.nodes.len() == 4 && c.all(|node| node.voters == four)
        })
        .within(SOON)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_cluster_that_is_all_down_comes_back_with_its_data() {
    let (cluster, runtime, leader) = observed().await;
    let handle = runtime.handle();
    cluster.client(leader).write("key", "value", 1).await.unwrap();
    for id in 1..=3 {
        cluster.kill(id).await;
    }
    let down =
        handle.eventually("no node is present", |c| c.present().next().is_none()).within(SOON).await.unwrap();
    assert_eq!(down.value.leader, None);
    assert_eq!(down.value.voters, BTreeSet::new(), "no node has answered since the wait was made");
    let known = handle.latest_snapshot().unwrap();
    assert_eq!(known.value.voters, BTreeSet::from([1, 2, 3]), "what was known is not forgotten");

    for id in 1..=3 {
        cluster.restart(id).await;
    }
    handle
        .eventually("all are back with a leader and the key", |c| {
            c.leader.is_some() && c.all(|node| node.kv.get("key").is_some_and(|value| value == "value"))
        })
        .within(SOON)
        .await
        .unwrap();
    assert!(handle.failures().is_empty());
}
