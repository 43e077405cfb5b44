//! Pods come and go, and the sources follow; the requests to the server show how.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchkeeper::per_source::{PerSourceSnapshot, SourceEvent};
use watchkeeper::{
    ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, PerSource, SourceProvider,
};

use watchkeeper_deploy::k8s::{K8sError, NodePod, PodSelection, PodSources, Reach};

use crate::SOON;
use crate::app::{Counter, Counting};
use crate::fake::{Asked, Cut, FakeApiServer, FakePod, Key};

const SPACE: &str = "kv";
const LABEL: &str = "counting";
const INTERVAL: Duration = Duration::from_millis(5);

fn follow(server: &FakeApiServer) -> PodSources<Counting> {
    let selection = PodSelection {
        namespace: SPACE.to_owned(),
        labels: format!("app.kubernetes.io/name={LABEL}"),
        cluster: SPACE.to_owned(),
        pod: NodePod::new("node", ["client"]),
        reach: Reach::PodIp,
    };
    PodSources::follow(server.client(), selection, Arc::new(Counting))
}

fn pod<'a>(name: &'a str, addr: &'a str) -> FakePod<'a> {
    FakePod { namespace: SPACE, name, label: LABEL, addr: Some(addr), ready: true, owner: None }
}

fn key(name: &str) -> Key {
    Key::of("pods", SPACE, name)
}

/// An observer of the address of each source.
type Addresses = PerSource<Counter, String>;

async fn observed(provider: PodSources<Counting>) -> ObservationRuntime<Addresses> {
    let probe = |node: ObservedSource<Counter>| async move {
        Ok::<_, watchkeeper::DynError>(node.source.addr().to_owned())
    };
    let config =
        ObservationConfig { interval: INTERVAL, history_limit: 1024, ..ObservationConfig::default() };
    ObservationRuntime::start(provider, PerSource::new(probe), config).await.unwrap()
}

fn addresses(seen: &PerSourceSnapshot<String>) -> BTreeMap<&str, &str> {
    let known = seen.iter().filter_map(|source| Some((&**source.name, source.value?.as_str())));
    known.collect()
}

/// Waits until the observer sees exactly these nodes at these addresses.
async fn seen(handle: &ObservationHandle<Addresses>, expected: &[(&str, &str)]) {
    let expected: BTreeMap<&str, &str> = expected.iter().copied().collect();
    let all = handle.eventually("the nodes are where their pods are", |seen| addresses(seen) == expected);
    all.or_now().within(SOON).await.unwrap();
}

fn short(event: &SourceEvent<String>) -> String {
    let what = match event {
        SourceEvent::Appeared { .. } => "appeared",
        SourceEvent::Vanished { .. } => "vanished",
        _ => "did something else",
    };
    format!("{} {what}", event.source())
}

/// The requests: how many lists, and the version that each watch went on from.
fn lists_and_watches(server: &FakeApiServer) -> (usize, Vec<u64>) {
    let asked = server.asked("pods");
    let lists = asked.iter().filter(|asked| asked.verb == "list").count();
    (lists, asked.iter().filter(|asked| asked.verb == "watch").filter_map(|asked| asked.version).collect())
}

#[tokio::test]
async fn pods_come_and_go_and_are_followed_by_one_list_and_one_watch() {
    let server = FakeApiServer::start().await;
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    server.put_pod(&FakePod { label: "another-app", ..pod("other-0", "10.0.0.9:1") });
    server.put_pod(&FakePod { namespace: "elsewhere", ..pod("counting-0", "10.0.0.8:1") });
    let listed = server.pass_time();
    let runtime = observed(follow(&server)).await;
    let handle = runtime.handle();
    seen(&handle, &[("n1", "10.0.0.1:4000")]).await;
    server.watched_from("pods", listed).await;

    // Joins: a source from when it has an address, ready or not.
    server.put_pod(&FakePod { addr: None, ..pod("counting-1", "") });
    server.put_pod(&FakePod { ready: false, ..pod("counting-2", "10.0.0.3:4000") });
    seen(&handle, &[("n1", "10.0.0.1:4000"), ("n3", "10.0.0.3:4000")]).await;
    server.put_pod(&pod("counting-1", "10.0.0.2:4001"));
    seen(&handle, &[("n1", "10.0.0.1:4000"), ("n2", "10.0.0.2:4001"), ("n3", "10.0.0.3:4000")]).await;

    // Leaves.
    server.remove(&key("counting-2"));
    seen(&handle, &[("n1", "10.0.0.1:4000"), ("n2", "10.0.0.2:4001")]).await;

    for round in 0..20 {
        let addr = format!("10.0.1.{round}:4000");
        server.put_pod(&pod("counting-0", &addr));
        seen(&handle, &[("n1", &addr), ("n2", "10.0.0.2:4001")]).await;
    }
    assert_eq!(lists_and_watches(&server), (1, vec![listed]));
    let _ = runtime.stop().await;
}

#[tokio::test]
async fn a_pod_made_again_under_its_name_is_the_same_source_elsewhere() {
    let server = FakeApiServer::start().await;
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    let sources = follow(&server);
    let client = |sources: &[ObservedSource<Counter>]| sources[0].source.addr().to_owned();
    assert_eq!(client(&sources.sources().await.unwrap()), "10.0.0.1:4000");
    let (clients, first) = (sources.clients(), sources.pods()["n1"].uid.clone());
    let runtime = observed(sources).await;
    let handle = runtime.handle();

    // Two consecutive events: no reader has to see the moment between them.
    server.remove(&key("counting-0"));
    server.put_pod(&pod("counting-0", "10.0.0.7:4000"));
    seen(&handle, &[("n1", "10.0.0.7:4000")]).await;
    assert_eq!(clients.get("n1").unwrap().addr(), "10.0.0.7:4000");
    assert_ne!(server.get(&key("counting-0")).unwrap()["metadata"]["uid"], first);
    let _ = runtime.stop().await;
}

/// They were one source, at the address of the last one, and the end of one was the end of both.
#[tokio::test]
async fn two_sets_under_one_label_are_followed_apart() {
    let of = |set: &'static str, name, addr| FakePod { owner: Some(("StatefulSet", set)), ..pod(name, addr) };
    let server = FakeApiServer::start().await;
    server.put_pod(&of("kv", "kv-0", "10.0.0.1:4000"));
    let runtime = observed(follow(&server)).await;
    let handle = runtime.handle();
    seen(&handle, &[("n1", "10.0.0.1:4000")]).await;
    server.put_pod(&of("another", "another-0", "10.0.1.1:4000"));
    server.put_pod(&of("kv", "kv-1", "10.0.0.2:4000"));
    let both = [("another-0", "10.0.1.1:4000"), ("n1", "10.0.0.1:4000"), ("n2", "10.0.0.2:4000")];
    seen(&handle, &both).await;

    // A new list finds them by the same names, though the other set is the first in it.
    server.watched_from("pods", 1).await;
    server.compact();
    server.pass_time();
    server.refuse("watch", "pods", 410, "Expired", "the fake remembers nothing");
    server.cut(Cut::Close).await;
    server.when("a new list", |server| lists_and_watches(server).0 == 2).await;
    server.refuse_nothing();
    seen(&handle, &both).await;

    server.remove(&key("another-0"));
    seen(&handle, &[("n1", "10.0.0.1:4000"), ("n2", "10.0.0.2:4000")]).await;
    server.put_pod(&of("another", "another-0", "10.0.1.7:4000"));
    server.remove(&key("kv-0"));
    seen(&handle, &[("another-0", "10.0.1.7:4000"), ("n2", "10.0.0.2:4000")]).await;
    let _ = runtime.stop().await;
}

/// The random end of its name was used as the number of a node.
#[tokio::test]
async fn a_pod_of_a_deployment_whose_name_ends_in_a_number_is_no_node_of_a_set() {
    let server = FakeApiServer::start().await;
    let web = FakePod { owner: Some(("ReplicaSet", "kv-7d9f5c")), ..pod("kv-7d9f5c-24567", "10.0.0.9:4000") };
    server.put_pod(&web);
    let runtime = observed(follow(&server)).await;
    seen(&runtime.handle(), &[("kv-7d9f5c-24567", "10.0.0.9:4000")]).await;
    let _ = runtime.stop().await;
}

#[tokio::test]
async fn a_pod_with_the_name_of_a_node_is_left_out_and_named() {
    let server = FakeApiServer::start().await;
    server.put_pod(&pod("kv-0", "10.0.0.1:4000"));
    server.put_pod(&pod("n1", "10.0.0.9:4000"));
    let sources = follow(&server);
    let found = sources.sources().await.unwrap();
    assert_eq!((found.len(), found[0].source.addr()), (1, "10.0.0.1:4000"));
    let problem = sources.problem().unwrap().to_string();
    assert!(problem.contains("the pods kv-0 and n1 are both called n1"), "{problem}");
    server.remove(&key("n1"));
    let runtime = observed(sources).await;
    seen(&runtime.handle(), &[("n1", "10.0.0.1:4000")]).await;
    let _ = runtime.stop().await;
}

/// ```text
/// n1 --------- stays ----------------------->
/// n2 ------ leaves |
/// n3               | joins ----------------->
///      watch  cut, changes forgotten   410, list
/// ```
async fn changes_during_a_gap(by_status: bool) {
    let server = FakeApiServer::start().await;
    if by_status {
        server.refuse_old_watches_by_status();
    }
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    server.put_pod(&pod("counting-1", "10.0.0.2:4000"));
    let runtime = observed(follow(&server)).await;
    let handle = runtime.handle();
    seen(&handle, &[("n1", "10.0.0.1:4000"), ("n2", "10.0.0.2:4000")]).await;
    server.watched_from("pods", 2).await;

    // No watch works while the pods change; then the server forgets the changes.
    server.refuse("watch", "pods", 500, "InternalError", "the fake is out of order");
    server.cut(Cut::Close).await;
    server.when("the watch is refused", |server| lists_and_watches(server).1.len() > 1).await;
    server.remove(&key("counting-1"));
    server.put_pod(&pod("counting-2", "10.0.0.3:4000"));
    server.compact();
    server.refuse_nothing();

    seen(&handle, &[("n1", "10.0.0.1:4000"), ("n3", "10.0.0.3:4000")]).await;
    server.watched_from("pods", 4).await;
    let (lists, watches) = lists_and_watches(&server);
    assert_eq!(lists, 2, "one at the beginning and one after the gap");
    assert!(watches[..watches.len() - 1].iter().all(|version| *version == 2), "{watches:?}");

    // Each source appeared or vanished once, and the one that stayed did not appear again. The history also has what was
    // emitted before a subscription was possible.
    let mut emitted: Vec<String> = handle
        .history()
        .iter()
        .flat_map(|batch| batch.events.iter().map(short).collect::<Vec<_>>())
        .collect();
    emitted.sort();
    assert_eq!(emitted, ["n1 appeared", "n2 appeared", "n2 vanished", "n3 appeared"]);
    let _ = runtime.stop().await;
}

#[tokio::test]
async fn a_watch_that_is_too_old_is_followed_by_one_list() {
    changes_during_a_gap(false).await;
}

#[tokio::test]
async fn a_watch_that_is_refused_as_too_old_is_followed_by_one_list() {
    changes_during_a_gap(true).await;
}

/// Lists are answered, and each watch from where a list ended is too old.
#[tokio::test]
async fn a_server_whose_every_watch_is_too_old_is_not_asked_in_a_tight_loop() {
    let server = FakeApiServer::start().await;
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    server.refuse("watch", "pods", 410, "Expired", "the fake remembers nothing");
    let began = Instant::now();
    let sources = follow(&server);
    assert_eq!(sources.sources().await.unwrap().len(), 1);
    server.when("it is asked three times", |server| lists_and_watches(server).1.len() == 3).await;
    // Two pauses lie between three requests, the second one longer: at least 0.8 s and 1.6 s.
    assert!(began.elapsed() >= Duration::from_millis(2_400), "{:?}", began.elapsed());
    assert_eq!(lists_and_watches(&server).0, 3, "each time after a list");
    assert!(sources.problem().is_none(), "the pods are known");
}

#[tokio::test]
async fn a_watch_goes_on_where_its_connection_broke_off() {
    let server = FakeApiServer::start().await;
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    let runtime = observed(follow(&server)).await;
    let handle = runtime.handle();
    server.watched_from("pods", 1).await;
    server.put_pod(&pod("counting-1", "10.0.0.2:4000"));
    seen(&handle, &[("n1", "10.0.0.1:4000"), ("n2", "10.0.0.2:4000")]).await;

    for (how, last) in [(Cut::Drop, 2), (Cut::Close, 3), (Cut::Drop, 4)] {
        server.cut(how).await;
        // No watch is open now, and this change is not missed.
        let addr = format!("10.0.0.{last}:4001");
        server.put_pod(&pod("counting-0", &addr));
        seen(&handle, &[("n1", &addr), ("n2", "10.0.0.2:4000")]).await;
    }
    let (lists, watches) = lists_and_watches(&server);
    assert_eq!(lists, 1);
    assert_eq!(watches, [1, 2, 3, 4]);
    let _ = runtime.stop().await;
}

#[tokio::test]
async fn a_bookmark_moves_the_place_where_a_watch_goes_on() {
    let server = FakeApiServer::start().await;
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    let runtime = observed(follow(&server)).await;
    let handle = runtime.handle();
    server.watched_from("pods", 1).await;

    for _ in 0..100 {
        server.pass_time();
    }
    let marked = server.bookmark();
    // Everything before the bookmark is forgotten; a watch from there needs no list.
    server.compact();
    server.put_pod(&pod("counting-1", "10.0.0.2:4000"));
    seen(&handle, &[("n1", "10.0.0.1:4000"), ("n2", "10.0.0.2:4000")]).await;
    let marked_again = server.bookmark();
    server.cut(Cut::Close).await;
    server.watched_from("pods", marked_again).await;
    let (lists, watches) = lists_and_watches(&server);
    assert_eq!((lists, watches), (1, vec![1, marked_again]), "the first bookmark was {marked}");
    let _ = runtime.stop().await;
}

#[tokio::test]
async fn a_refused_list_is_a_typed_error_until_it_works() {
    let server = FakeApiServer::start().await;
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    let message = "pods is forbidden: User \"nobody\" cannot list resource \"pods\" in the namespace \"kv\"";
    server.refuse("list", "pods", 403, "Forbidden", message);
    let sources = follow(&server);
    let error = sources.sources().await.unwrap_err();
    assert!(error.to_string().starts_with("cannot list the pods of kv: the account may not"), "{error}");
    assert!(error.to_string().contains("User \"nobody\""), "{error}");
    assert!(matches!(sources.problem().as_deref(), Some(K8sError::Forbidden { .. })));

    server.refuse_nothing();
    let runtime = ObservationRuntime::start_in_background(
        sources,
        PerSource::new(|node: ObservedSource<Counter>| async move {
            Ok::<_, watchkeeper::DynError>(node.source.addr().to_owned())
        }),
        ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() },
    );
    seen(&runtime.unwrap().handle(), &[("n1", "10.0.0.1:4000")]).await;
}

#[tokio::test]
async fn the_last_pods_stay_sources_while_the_server_is_away() {
    let server = FakeApiServer::start().await;
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    let sources = follow(&server);
    assert_eq!(sources.sources().await.unwrap().len(), 1);
    server.watched_from("pods", 1).await;
    let refused = Asked { verb: "watch", kind: "pods".to_owned(), version: Some(1) };
    server.refuse("watch", "pods", 503, "ServiceUnavailable", "the fake is away");
    server.cut(Cut::Drop).await;
    server
        .when("the watch is tried again", |server| {
            server.asked("pods").iter().filter(|asked| **asked == refused).count() > 1
        })
        .await;
    assert_eq!(sources.sources().await.unwrap()[0].source.addr(), "10.0.0.1:4000");
}

#[tokio::test]
async fn the_watch_ends_with_the_sources() {
    let server = FakeApiServer::start().await;
    let sources = follow(&server);
    server.watched_from("pods", 0).await;
    let clients = sources.clients();
    server.put_pod(&pod("counting-0", "10.0.0.1:4000"));
    let runtime = observed(sources).await;
    seen(&runtime.handle(), &[("n1", "10.0.0.1:4000")]).await;
    assert_eq!(server.watches_ended(), 0);
    let _ = runtime.stop().await;
    server.when("the watch ends", |server| server.watches_ended() == 1).await;
    assert_eq!(clients.names(), ["n1"], "what was last known");
}
