//! Observers over real nodes that are killed, frozen and restarted.

use watchkeeper_scenario::ManualCluster;

use super::cluster::{Names, Processes, asking, quickly};
use super::count;
use crate::common::secs;

#[tokio::test]
async fn an_observer_follows_a_node_that_restarts_on_another_port() {
    let processes = Processes::new();
    let cluster = ManualCluster::<Names>::deploy(&processes, &2).await.unwrap();
    let names = cluster.attach("names", asking(&processes.diary), quickly()).await.unwrap();
    let sends_name = |node: &'static str| {
        names
            .eventually(format!("{node} sends its name"), move |seen| {
                seen.answer(node).is_some_and(|name| name == node)
            })
            .within(secs(10))
    };
    sends_name("n1").await.unwrap();
    cluster.kill("n1").await.unwrap();
    assert_eq!(count(&processes.mark), 1);
    names
        .eventually("n1 fails", |seen| seen.get("n1").is_some_and(|view| view.is_failing()))
        .within(secs(10))
        .await
        .unwrap();
    assert!(cluster.wait_ready("n1", secs(1)).await.is_err());

    cluster.start("n1").await.unwrap();
    cluster.wait_ready("n1", secs(10)).await.unwrap();
    sends_name("n1").await.unwrap();
    cluster.shut_down().await.unwrap();
    processes.assert_ended(3);
}
