//! Three nodes, and how they behave when one is broken.

use std::time::Duration;

use openraft_kv::ClientError;
use openraft_kv::api::Role;
use openraft_kv::deploy::FormError;

use crate::common::{Cluster, agreed_leader, all, formed, options, write};

#[tokio::test]
async fn three_nodes_form_and_replicate() {
    let cluster = formed(options(3)).await;
    let clients = cluster.clients();
    for n in 0..8 {
        write(&clients, &format!("key-{n}"), "value", n).await;
    }
    let states = all(&cluster, "8 keys everywhere", |s| s.kv.len() == 8).await;
    assert!(states.iter().all(|s| s.voters == [1, 2, 3].into()));
    let leaders = states.iter().filter(|s| s.role == Role::Leader).count();
    assert_eq!(leaders, 1);
    let leader = agreed_leader(&clients).await;
    let read = cluster.client(leader).read("key-7").await;
    assert_eq!(read.unwrap().unwrap(), "value");
    // Once more with the same members changes nothing.
    cluster.form().await.unwrap();
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_catches_up() {
    let cluster = formed(options(3)).await;
    write(&cluster.clients(), "before", "1", 1).await;
    let old = agreed_leader(&cluster.clients()).await;
    let term = cluster.client(old).state().await.unwrap().current_term;

    cluster.kill(old).await;
    let left = cluster.clients();
    assert_eq!(left.len(), 2);
    let new = agreed_leader(&left).await;
    assert_ne!(new, old);
    write(&left, "after", "2", 1).await;

    cluster.restart(old).await;
    let states = all(&cluster, "both keys everywhere", |s| s.kv.len() == 2).await;
    assert!(states.iter().all(|s| s.current_term > term));
}

#[tokio::test]
async fn a_paused_leader_times_out_is_replaced_and_follows_when_it_goes_on() {
    let cluster = formed(options(3)).await;
    let old = agreed_leader(&cluster.clients()).await;
    cluster.pause(old).await;

    let paused = cluster.client(old).with_timeout(Duration::from_millis(200));
    let error = paused.state().await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");

    let mut others = cluster.clients();
    assert_eq!(others.len(), 3, "a paused node runs");
    others.retain(|client| client.id() != Some(old));
    let new = agreed_leader(&others).await;
    assert_ne!(new, old);
    write(&others, "meanwhile", "1", 1).await;

    cluster.resume(old).await;
    all(&cluster, "the paused node follows", |s| {
        s.kv.len() == 1 && (s.node_id != old || s.role == Role::Follower)
    })
    .await;
}

#[tokio::test]
async fn without_a_quorum_nothing_is_written_and_the_leader_says_so() {
    let mut options = options(3);
    options.node_flags = ["--request-timeout-ms", "300"].map(str::to_owned).into();
    let cluster = formed(options).await;
    let leader = agreed_leader(&cluster.clients()).await;
    for id in (1..=3).filter(|id| *id != leader) {
        cluster.kill(id).await;
    }
    let alone = cluster.client(leader);
    let refused = |error: &ClientError| match error {
        ClientError::Refused { status, .. } => *status == 503,
        _ => false,
    };
    let error = alone.write("a", "1", 1).await.unwrap_err();
    assert!(refused(&error), "{error:?}");
    let error = alone.read("a").await.unwrap_err();
    assert!(refused(&error), "{error:?}");
}

#[tokio::test]
async fn a_cluster_of_a_node_that_does_not_answer_is_not_formed() {
    let cluster = Cluster::start(options(2)).await;
    cluster.pause(2).await;
    match cluster.form().await.unwrap_err() {
        FormError::Node { node, source: ClientError::TimedOut { .. } } => assert_eq!(node, "n2"),
        other => panic!("{other:?}"),
    }
}
