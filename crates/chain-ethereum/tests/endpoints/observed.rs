//! The observer on such endpoints: only the bad source fails.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use tokio::net::TcpListener;
use watchkeeper::source::SharedSources;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource};
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Agreement, ChainConfig, ChainObserver, ChainSource, ChainView, Start};
use watchkeeper_chain_ethereum::EthereumClient;

use crate::fake::{FakeNode, branch, chain, client, forged, hash};

/// The text of a node's failure, or its agreement.
fn trouble(view: &ChainView, name: &str) -> String {
    let Some(node) = view.node(name) else { return "not seen yet".to_owned() };
    let failure = node.health.facts.last_failure.as_ref().map(ToString::to_string);
    let error = node.error.as_ref().map(ChainError::to_string);
    match &node.agreement {
        Agreement::OtherChain(found) => format!("another chain: {}", found.id),
        agreement => failure.or(error).unwrap_or_else(|| format!("none: {agreement:?}")),
    }
}

#[tokio::test]
async fn bad_endpoints_fail_alone_and_the_good_one_is_followed() {
    let good_branch = branch(0, 8);
    let wrong_parent = {
        let mut lies = good_branch.clone();
        lies.push(forged(&branch(0, 9)[9], "parentHash", good_branch[3]["hash"].clone()));
        lies
    };
    let wrong_height = {
        let mut lies = good_branch.clone();
        lies.push(forged(&branch(0, 9)[9], "number", "0x63"));
        lies
    };
    let gone = {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        listener.local_addr().unwrap()
    };
    let good = FakeNode::answering(chain("0x1", good_branch.clone())).await;
    let fakes = [
        ("hangs", FakeNode::serving(|_, _| None).await, "gave no answer within 200ms"),
        (
            "limits",
            FakeNode::serving(|_, _| Some(StatusCode::TOO_MANY_REQUESTS.into_response())).await,
            "limits the rate",
        ),
        ("babbles", FakeNode::serving(|_, _| Some("{".into_response())).await, "what cannot be read"),
        ("is empty", FakeNode::answering(chain("0x1", vec![])).await, "its chain is empty"),
        ("wrong parent", FakeNode::answering(chain("0x1", wrong_parent)).await, "what cannot be true"),
        ("wrong height", FakeNode::answering(chain("0x1", wrong_height)).await, "what cannot be true"),
        ("other id", FakeNode::answering(chain("0x5", branch(0, 20))).await, "another chain: 5"),
        ("other genesis", FakeNode::answering(chain("0x1", branch(1, 20))).await, "another chain: 1"),
    ];
    let mut expected: BTreeMap<&str, &str> = fakes.iter().map(|(name, _, says)| (*name, *says)).collect();
    expected.insert("is down", "Connection refused");

    let source = |name: &str, client: EthereumClient| {
        ObservedSource::new(name, ChainSource::local(client.with_timeout(Duration::from_millis(200))))
    };
    let mut sources: Vec<_> = fakes.iter().map(|(name, fake, _)| source(name, fake.client())).collect();
    sources.push(source("is down", client(gone)));
    // On a busy machine the good endpoint may be slow.
    let patient = good.client().with_timeout(Duration::from_mins(1));
    sources.push(ObservedSource::new("good", ChainSource::local(patient)));

    let interval = Duration::from_millis(50);
    let config = ChainConfig {
        start: Start::Genesis,
        chain: Some(good.client().identity().await.unwrap()),
        ..ChainConfig::every(interval)
    };
    let timing = ObservationConfig { interval, ..Default::default() };
    let runtime = ObservationRuntime::start(SharedSources::new(sources), ChainObserver::new(config), timing)
        .await
        .unwrap();
    let tip = hash(&good_branch[8]);
    let settled = |view: &ChainView| {
        view.tip.is_some_and(|header| header.hash == tip)
            && expected.iter().all(|(name, says)| trouble(view, name).contains(says))
    };
    let wait = runtime.handle().eventually("the good node is followed and the others have failed", settled);
    let shown = wait
        .or_now()
        .show(|view| {
            let troubles = expected.keys().map(|name| format!("{name}: {}", trouble(view, name)));
            format!("tip {:?}; {:#?}", view.tip, troubles.collect::<Vec<_>>())
        })
        .within(Duration::from_mins(1))
        .await;
    let view = shown.unwrap_or_else(|failure| panic!("{failure}")).value.clone();
    assert_eq!(view.node("good").unwrap().health.facts.failures, 0);
    assert_eq!(view.node("good").unwrap().agreement, Agreement::Behind(0));
}
