//! An application in memory: each node is a number.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchkeeper::{ObservationConfig, ObservedSource, Observer};
use watchkeeper_scenario::{
    Application, DeployError, Deployer, DynError, NodeClients, NodeControl, NodeControlError, Problem,
    RunContext, RunningCluster, Scenario, ScenarioBuilder, ScenarioFailure, async_trait,
};

pub struct Numbers;

impl Application for Numbers {
    /// How many nodes.
    type Deployment = usize;
    type NodeClient = Number;
}

#[derive(Clone, Debug, Default)]
pub struct Number(Arc<AtomicU64>);

impl Number {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }
}

/// What happened, in order; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub fn read(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn count(&self, what: &str) -> usize {
        self.read().iter().filter(|noted| *noted == what).count()
    }
}

/// Adds a note when it is dropped.
pub struct Drops(pub Diary, pub &'static str);

impl Drop for Drops {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}

/// Panics when it is dropped.
#[derive(Debug)]
pub struct Sharp(pub &'static str);

impl Drop for Sharp {
    fn drop(&mut self) {
        panic!("drop {}", self.0);
    }
}

/// How a deployment, or its end, proceeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goes {
    #[default]
    Well,
    Fails,
    Panics,
    Hangs,
    /// Blocks its thread for so many milliseconds, then succeeds.
    Blocks(u64),
    /// Blocks its thread for so many milliseconds, then fails.
    BlocksAndFails(u64),
    /// Hangs, and holds a value that panics when it is dropped.
    HangsSharply,
}

impl Goes {
    async fn go(self, step: &str) -> Result<(), DeployError> {
        match self {
            Self::Well => Ok(()),
            Self::Fails => Err(DeployError::Failed {
                deployer: "memory".to_owned(),
                step: step.to_owned(),
                source: "no room".into(),
            }),
            Self::Panics => panic!("{step} panics"),
            Self::Hangs => pending().await,
            Self::Blocks(millis) => {
                std::thread::sleep(Duration::from_millis(millis));
                Ok(())
            }
            Self::BlocksAndFails(millis) => {
                std::thread::sleep(Duration::from_millis(millis));
                Box::pin(Self::Fails.go(step)).await
            }
            Self::HangsSharply => {
                let _held = Sharp("of the future");
                pending().await
            }
        }
    }
}

/// Nodes called `n1`, `n2` and so on, each with its number: 1, 2 and so on.
#[derive(Clone, Debug)]
pub struct Memory {
    pub diary: Diary,
    /// How many lines each node has logged.
    pub log_lines: usize,
    pub up: Goes,
    pub down: Goes,
}

impl Default for Memory {
    fn default() -> Self {
        Self { diary: Diary::default(), log_lines: 50, up: Goes::Well, down: Goes::Well }
    }
}

#[async_trait]
impl Deployer<Numbers> for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn deploy(&self, nodes: &usize) -> Result<Box<dyn RunningCluster<Numbers>>, DeployError> {
        self.up.go("start the nodes").await?;
        let clients = NodeClients::new();
        for node in 1..=*nodes {
            let number = Number::default();
            number.set(node as u64);
            clients.insert(&format!("n{node}"), number);
        }
        self.diary.note("up");
        let dropped = Drops(self.diary.clone(), "cluster dropped");
        Ok(Box::new(MemoryCluster { clients, nodes: *nodes, memory: self.clone(), _dropped: dropped }))
    }
}

struct MemoryCluster {
    clients: NodeClients<Number>,
    nodes: usize,
    memory: Memory,
    _dropped: Drops,
}

#[async_trait]
impl RunningCluster<Numbers> for MemoryCluster {
    fn node_clients(&self) -> NodeClients<Number> {
        self.clients.clone()
    }

    fn node_control(&self) -> Arc<dyn NodeControl> {
        Arc::new(MemoryControl { clients: self.clients.clone(), nodes: self.nodes })
    }

    async fn log(&self, node: &str) -> Option<String> {
        Some(
            (1..=self.memory.log_lines)
                .map(|line| format!("{node} says {line}"))
                .collect::<Vec<_>>()
                .join("\n"),
        )
    }

    async fn shut_down(&self) -> Result<(), DeployError> {
        self.memory.diary.note("down");
        self.memory.down.go("stop the nodes").await
    }
}

/// Can stop and start nodes. A node that is started again has another client.
struct MemoryControl {
    clients: NodeClients<Number>,
    nodes: usize,
}

impl MemoryControl {
    fn check(&self, node: &str) -> Result<(), NodeControlError> {
        if self.nodes().iter().any(|known| known == node) { Ok(()) } else { Err(self.unknown(node)) }
    }
}

#[async_trait]
impl NodeControl for MemoryControl {
    fn deployer(&self) -> &'static str {
        "memory"
    }

    fn nodes(&self) -> Vec<String> {
        (1..=self.nodes).map(|node| format!("n{node}")).collect()
    }

    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        self.check(node)?;
        match self.clients.get(node) {
            Some(_) => Ok(()),
            None => Err(NodeControlError::NotReady {
                node: node.to_owned(),
                within,
                last: "it is down".to_owned(),
            }),
        }
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        self.check(node)?;
        self.clients.insert(node, Number::default());
        Ok(())
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        self.check(node)?;
        self.clients.remove(node);
        Ok(())
    }
}

/// Sees the numbers of all nodes; an event is a number that changed.
pub struct Watcher {
    /// Notes "observer dropped" when the runtime drops it.
    _dropped: Drops,
}

impl Watcher {
    pub fn new(diary: &Diary) -> Self {
        Self { _dropped: Drops(diary.clone(), "observer dropped") }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Became(pub String, pub u64);

#[async_trait]
impl Observer for Watcher {
    type Source = Number;
    type State = BTreeMap<String, u64>;
    type Snapshot = BTreeMap<String, u64>;
    type Event = Became;

    async fn init(&self, _: &[ObservedSource<Number>]) -> Result<Self::State, DynError> {
        Ok(BTreeMap::new())
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<Number>],
        state: &mut Self::State,
    ) -> Result<Vec<Became>, DynError> {
        let seen: BTreeMap<_, _> =
            sources.iter().map(|node| (node.name.clone(), node.source.get())).collect();
        let changed = seen.iter().filter(|&(name, value)| state.get(name) != Some(value));
        let events = changed.map(|(name, value)| Became(name.clone(), *value)).collect();
        *state = seen;
        Ok(events)
    }

    fn snapshot(&self, state: &Self::State) -> Self::Snapshot {
        state.clone()
    }
}

/// An interval of 100 ms.
pub fn often() -> ObservationConfig {
    ObservationConfig { interval: Duration::from_millis(100), ..Default::default() }
}

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Two nodes and nothing else.
pub fn scenario() -> ScenarioBuilder<Numbers> {
    Scenario::builder("numbers", 2)
}

/// Two nodes, observed as "numbers".
pub fn observed(memory: &Memory) -> ScenarioBuilder<Numbers> {
    let diary = memory.diary.clone();
    scenario().with_observer("numbers", move |_: &RunContext<Numbers>| Watcher::new(&diary), often())
}

/// A part of a scenario that succeeds at once.
pub async fn nothing(_: RunContext<Numbers>) -> Result<(), DynError> {
    Ok(())
}

/// The recorded failures, one line each: phase, subject and problem.
pub fn recorded(failure: &ScenarioFailure) -> Vec<String> {
    let line = |failure: &watchkeeper_scenario::Failure| {
        let how = match &failure.problem {
            Problem::Error(error) => error.to_string(),
            Problem::Panicked(message) => format!("panicked: {message}"),
            other => format!("{other:?}"),
        };
        format!("{} {}: {how}", failure.phase, failure.subject)
    };
    failure.failures().iter().map(line).collect()
}

/// Polls a future until it ends or panics, then drops it. Returns whether it panicked.
pub async fn panics<T>(future: impl Future<Output = T>) -> bool {
    let mut future = Box::pin(future);
    std::future::poll_fn(|context| {
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(polled) => polled.map(|_| false),
            Err(_) => std::task::Poll::Ready(true),
        }
    })
    .await
}
