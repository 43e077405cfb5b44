//! A World whose nodes give the answers that a test sets, on the paused clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use cucumber::{given, then, when};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use watchkeeper::group::ObservationGroup;
use watchkeeper::per_source::PerSourceSnapshot;
use watchkeeper::source::{SharedSources, source_fn};
use watchkeeper::{
    DynError, ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, Observer, PerSource,
    async_trait,
};
use watchkeeper_cucumber::{Observed, Observers, StepError};

const INTERVAL: Duration = Duration::from_millis(100);

/// The observers that all scenarios share.
pub(crate) static SUITE: LazyLock<ObservationGroup> = LazyLock::new(ObservationGroup::new);
/// The nodes of the suite's observer.
pub(crate) static SHARED: LazyLock<Nodes> = LazyLock::new(Nodes::default);
/// The stage of the scenarios that wait for each other.
static STAGE: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

type Cluster = PerSource<Nodes, Value>;

#[derive(Clone, Debug)]
enum Answer {
    Leader(String),
    Json(Value),
    Refused,
    Never,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Nodes(Arc<Mutex<BTreeMap<String, Answer>>>);

#[derive(Debug, Default, cucumber::World)]
pub(crate) struct World {
    observers: Observers,
    nodes: Nodes,
    pub(crate) handles: Vec<ObservationHandle<Cluster>>,
}

impl Observed for World {
    fn observers(&mut self) -> &mut Observers {
        &mut self.observers
    }
}

impl Nodes {
    fn set(&self, node: &str, answer: Answer) {
        self.0.lock().unwrap().insert(node.to_owned(), answer);
    }

    fn sources(&self) -> Vec<ObservedSource<Nodes>> {
        self.0.lock().unwrap().keys().map(|name| ObservedSource::new(name, self.clone())).collect()
    }

    async fn ask(node: ObservedSource<Nodes>) -> Result<Value, DynError> {
        let answer = node.source.0.lock().unwrap().get(&node.name).cloned();
        match answer {
            Some(Answer::Leader(leader)) => Ok(json!({ "leader": leader })),
            Some(Answer::Json(answer)) => Ok(answer),
            Some(Answer::Refused) | None => Err("connection refused".into()),
            Some(Answer::Never) => std::future::pending().await,
        }
    }

    pub(crate) async fn observe(&self) -> ObservationRuntime<Cluster> {
        let nodes = self.clone();
        let provider = source_fn(move || {
            let sources = nodes.sources();
            async move { if sources.is_empty() { Err("there is no node") } else { Ok(sources) } }
        });
        let observer = PerSource::new(Self::ask).stale_after(Duration::from_secs(1));
        let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
        ObservationRuntime::start(provider, observer, config).await.unwrap()
    }
}

pub(crate) fn by_name(snapshot: &PerSourceSnapshot<Value>) -> Value {
    let answer = |source: watchkeeper::per_source::SourceView<'_, Value>| {
        (source.name.to_string(), source.value.map_or(Value::Null, |value| (**value).clone()))
    };
    snapshot.iter().map(answer).collect::<Map<_, _>>().into()
}

#[given(regex = r"^nodes (.+) that name (\w+) leader$")]
fn start(world: &mut World, nodes: String, leader: String) {
    for node in nodes.split(", ") {
        world.nodes.set(node, Answer::Leader(leader.clone()));
    }
}

#[given(regex = r#"^they are observed as "(.*)"$"#)]
async fn observed(world: &mut World, name: String) -> Result<(), StepError> {
    let runtime = world.nodes.observe().await;
    world.handles.push(runtime.handle());
    Ok(world.observers.add_with_json(&name, runtime, by_name)?)
}

#[given(regex = r#"^they are observed as "(.*)" without JSON$"#)]
async fn observed_without_json(world: &mut World, name: String) -> Result<(), StepError> {
    let runtime = world.nodes.observe().await;
    world.handles.push(runtime.handle());
    Ok(world.observers.add(&name, runtime)?)
}

#[given(regex = r#"^they are observed as "(.*)" with the leader that all who answer agree on$"#)]
async fn observed_in_agreement(world: &mut World, name: String) -> Result<(), StepError> {
    let runtime = world.nodes.observe().await;
    world.handles.push(runtime.handle());
    let agreed = |nodes: &PerSourceSnapshot<Value>| {
        let mut named = nodes.answering().map(|(_, answer)| answer["leader"].clone());
        let first = named.next().unwrap_or_default();
        json!({ "leader": if named.all(|leader| leader == first) { first } else { Value::Null } })
    };
    Ok(world.observers.add_with_json(&name, runtime, agreed)?)
}

#[given(regex = r#"^nothing is observed as "(.*)"$"#)]
async fn observed_without_sources(world: &mut World, name: String) -> Result<(), StepError> {
    let observer = PerSource::new(Nodes::ask);
    let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
    let runtime = ObservationRuntime::start(SharedSources::new(Vec::new()), observer, config).await.unwrap();
    Ok(world.observers.add(&name, runtime)?)
}

/// Its sources grow by one in each cycle, up to three; `go` is how its polls end.
struct Polls {
    go: String,
}

#[async_trait]
impl Observer for Polls {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
        match self.go.as_str() {
            "hangs" => std::future::pending().await,
            "fails" => Err("as it is to".into()),
            other => panic!("{other}"),
        }
    }

    fn snapshot(&self, (): &()) {}
}

#[given(regex = r#"^sources that join are observed as "(.*)", whose poll (hangs|fails|panics)$"#)]
async fn observed_by_polls(world: &mut World, name: String, go: String) -> Result<(), StepError> {
    let joined = AtomicU64::new(0);
    let provider = source_fn(move || {
        let joined = 3.min(joined.fetch_add(1, Ordering::Relaxed) + 1);
        let sources = (1..=joined).map(|node| ObservedSource::new(format!("n{node}"), ()));
        let sources: Vec<_> = sources.collect();
        async move { Ok::<_, DynError>(sources) }
    });
    let config = ObservationConfig {
        interval: INTERVAL,
        poll_timeout: Duration::from_secs(2),
        ..ObservationConfig::default()
    };
    let runtime = ObservationRuntime::start(provider, Polls { go }, config).await.unwrap();
    Ok(world.observers.add(&name, runtime)?)
}

#[when("the suite's node refuses")]
fn shared_refuses(_: &mut World) {
    SHARED.set("n1", Answer::Refused);
}

#[when("the suite is shared")]
#[given("the suite is shared")]
fn shared(world: &mut World) {
    world.observers = Observers::sharing(&SUITE);
}

#[given("nothing is observed")]
async fn unobserved(world: &mut World) {
    world.observers.finish().await.unwrap();
}

#[given(regex = r#"^no node of "(.*)" may name (\w+) leader$"#)]
fn forbidden(world: &mut World, observer: String, leader: String) -> Result<(), StepError> {
    let handle = world.observers.handle(&observer)?;
    let named = move |answers: &PerSourceSnapshot<Value>| {
        answers.iter().all(|source| source.value.is_none_or(|value| value["leader"] != *leader))
    };
    let label = "the forbidden node is never named leader";
    let invariant = handle.invariant(label, move |seen| seen.value().is_some_and(&named));
    world.observers.hold(invariant);
    Ok(())
}

#[when(regex = r"^node (\w+) names (\w+) leader$")]
fn names(world: &mut World, node: String, leader: String) {
    world.nodes.set(&node, Answer::Leader(leader));
}

#[when(regex = r"^node (\w+) answers (.+)$")]
fn answers(world: &mut World, node: String, answer: String) {
    world.nodes.set(&node, Answer::Json(serde_json::from_str(&answer).unwrap()));
}

#[given(regex = r"^node (\w+) hangs$")]
#[when(regex = r"^node (\w+) hangs$")]
fn hangs(world: &mut World, node: String) {
    world.nodes.set(&node, Answer::Never);
}

#[given(regex = r"^node (\w+) refuses$")]
#[when(regex = r"^node (\w+) refuses$")]
fn refuses(world: &mut World, node: String) {
    world.nodes.set(&node, Answer::Refused);
}

#[when("all nodes are gone")]
fn gone(world: &mut World) {
    world.nodes.0.lock().unwrap().clear();
}

#[when(regex = r"^the suite's node names (\w+) leader$")]
fn shared_names(_: &mut World, leader: String) {
    SHARED.set("n1", Answer::Leader(leader));
}

#[when("the suite's nodes are gone")]
fn shared_gone(_: &mut World) {
    SHARED.0.lock().unwrap().clear();
}

/// A step that expects a violation.
#[then(regex = r#"^"(.*)" cannot stay fresh, for an invariant is violated$"#)]
async fn expected_violation(world: &mut World, observer: String) {
    let calm = world.observers.handle(&observer).unwrap().stays_fresh().during(Duration::from_secs(3600));
    let ended = world.observers.wait(calm).await;
    assert!(matches!(ended, Err(StepError::Violated(_))), "{ended:?}");
}

#[then(regex = r"^(\d+) and (\d+) are (\d+)$")]
fn adds_up(_: &mut World, first: u64, second: u64, sum: u64) {
    assert_eq!(first + second, sum, "wrong sum");
}

/// A wait of the project itself, which ignores invariants.
#[then(regex = r#"^"(.*)" has seen (\w+) named leader by (\w+)$"#)]
async fn seen(world: &mut World, observer: String, leader: String, node: String) {
    let named = world.observers.handle(&observer).unwrap().eventually("it is named", |seen| {
        let answers = seen.value::<PerSourceSnapshot<Value>>().unwrap();
        answers.answer(&node).is_some_and(|value| value["leader"] == *leader)
    });
    named.or_now().within(Duration::from_secs(5)).await.unwrap();
}

#[then(regex = r"^stage (\d+) is reached$")]
fn reached(_: &mut World, stage: u64) {
    STAGE.send_replace(stage);
}

#[given(regex = r"^another scenario has reached stage (\d+)$")]
#[then(regex = r"^another scenario has reached stage (\d+)$")]
async fn waited(_: &mut World, stage: u64) {
    STAGE.subscribe().wait_for(|reached| *reached >= stage).await.unwrap();
}

/// The clock is paused: waits take no time, and the load of the machine has no effect.
pub(crate) fn on_the_paused_clock<T>(run: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(run)
}

/// Starts the observers that all scenarios share.
pub(crate) async fn start_suite() {
    SHARED.set("n1", Answer::Leader("n1".to_owned()));
    SUITE.add_with_json("shared", SHARED.observe().await, by_name).unwrap();
}
