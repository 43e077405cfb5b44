//! Each name belongs to one source, in whatever order nodes and endpoints join.

use std::thread;

use watchkeeper_scenario::{ExternalError, ManualCluster};

use crate::common::{Memory, Number, Watcher, often, secs};

/// From then on, every cycle of every observer failed, because two sources had one name.
#[tokio::test(start_paused = true)]
async fn a_node_that_joins_under_the_name_of_an_endpoint_fails_no_observer() {
    let memory = Memory::default();
    let cluster = ManualCluster::deploy(&memory, &2).await.unwrap();
    let numbers = cluster.attach("numbers", Watcher::new(&memory.diary), often()).await.unwrap();
    let (outside, joined) = (Number::default(), Number::default());
    outside.set(77);
    joined.set(3);
    cluster.add_external("n3", outside).unwrap();
    numbers.eventually("the endpoint is seen", |seen| seen["n3"] == 77).within(secs(1)).await.unwrap();

    cluster.node_clients().insert("n3", joined);
    numbers.eventually("the node is seen", |seen| seen["n3"] == 3).within(secs(1)).await.unwrap();
    assert_eq!(cluster.node_client("n3").unwrap().get(), 3);
    assert_eq!(numbers.failures().len(), 0);

    cluster.node_clients().remove("n3");
    numbers.eventually("the endpoint is back", |seen| seen["n3"] == 77).within(secs(1)).await.unwrap();
    assert!(cluster.remove_external("n3").is_some());
    cluster.shut_down().await.unwrap();
}

/// Both were added, and the client of the first was lost.
#[tokio::test]
async fn endpoints_added_at_once_under_one_name_lose_no_client() {
    let memory = Memory::default();
    let cluster = ManualCluster::deploy(&memory, &2).await.unwrap();
    for round in 0..500 {
        let answers = thread::scope(|scope| {
            let adding = [(); 3].map(|()| scope.spawn(|| cluster.add_external("outside", Number::default())));
            adding.map(|adding| adding.join().unwrap())
        });
        let refused =
            answers.iter().filter(|answer| matches!(answer, Err(ExternalError::DuplicateName { .. })));
        assert_eq!(refused.count(), 2, "round {round}: {answers:?}");
        assert!(cluster.remove_external("outside").is_some());
    }
    cluster.shut_down().await.unwrap();
}
