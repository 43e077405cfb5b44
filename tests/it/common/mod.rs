//! A scripted app: a test sets in advance what each call does.

pub mod listener;
pub mod stateless;
pub mod threads;

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::ObservationStatus;
use watchkeeper::source::Duplicates;
use watchkeeper::subscription::Resume;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, SourceProvider, async_trait,
};

/// What one call of the app does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Succeeds; a poll returns these events.
    Ok(Vec<u64>),
    /// Succeeds after a while.
    Slow(Duration),
    Err(&'static str),
    /// Fails with the error that this makes.
    Fail(fn() -> DynError),
    Panic(&'static str),
    /// Does the other act after a while.
    After(Duration, Box<Act>),
    /// Never returns, and can be cancelled.
    Hang,
    /// Blocks its thread until the gate is opened, then does the other act. Cannot be cancelled.
    Held(threads::Gate, Box<Act>),
}

impl Act {
    pub fn slow(millis: u64) -> Self {
        Self::Slow(Duration::from_millis(millis))
    }

    /// The same act, after `millis`.
    pub fn after(self, millis: u64) -> Self {
        Self::After(Duration::from_millis(millis), Box::new(self))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Sources,
    Init,
    Poll,
    Snapshot,
}

#[derive(Default)]
struct Script {
    sources: VecDeque<Act>,
    init: VecDeque<Act>,
    poll: VecDeque<Act>,
    snapshot: VecDeque<Act>,
    set: Vec<&'static str>,
    called: Vec<(Call, Instant)>,
    interruptible: bool,
}

/// Provider and observer in one; clones share the script.
///
/// A call without a script succeeds; a poll then returns no events. The state counts the polls that
/// returned `Ok` in this generation.
#[derive(Clone, Default)]
pub struct App {
    script: Arc<Mutex<Script>>,
    running: Arc<AtomicUsize>,
}

/// One call that has begun and has neither returned nor been dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What the app shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Polls of this generation that succeeded.
    pub polls: u64,
    /// The sources of the last call.
    pub sources: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Count {
    polls: u64,
    sources: Vec<String>,
}

impl App {
    /// With one source, "a".
    pub fn new() -> Self {
        let app = Self::default();
        app.set(&["a"]);
        app
    }

    /// Sets what the next calls of this kind do, one act a call.
    pub fn then(&self, call: Call, acts: impl IntoIterator<Item = Act>) -> &Self {
        let mut script = self.script.lock().unwrap();
        match call {
            Call::Sources => script.sources.extend(acts),
            Call::Init => script.init.extend(acts),
            Call::Poll => script.poll.extend(acts),
            Call::Snapshot => script.snapshot.extend(acts),
        }
        drop(script);
        self
    }

    /// The source set from now on.
    pub fn set(&self, names: &[&'static str]) {
        self.script.lock().unwrap().set = names.to_vec();
    }

    pub fn interruptible(self) -> Self {
        self.script.lock().unwrap().interruptible = true;
        self
    }

    /// How often it was called.
    pub fn calls(&self, call: Call) -> usize {
        self.script.lock().unwrap().called.iter().filter(|called| called.0 == call).count()
    }

    /// When it was called, in milliseconds since `start`.
    pub fn times(&self, call: Call, start: Instant) -> Vec<u128> {
        let script = self.script.lock().unwrap();
        let times = script.called.iter().filter(|called| called.0 == call);
        times.map(|(_, at)| (*at - start).as_millis()).collect()
    }

    /// How many of its calls have neither returned nor been dropped.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub async fn start(&self, config: ObservationConfig) -> ObservationRuntime<Self> {
        ObservationRuntime::start(self.clone(), self.clone(), config).await.unwrap()
    }

    fn next(&self, call: Call) -> Act {
        let mut script = self.script.lock().unwrap();
        script.called.push((call, Instant::now()));
        let queue = match call {
            Call::Sources => &mut script.sources,
            Call::Init => &mut script.init,
            Call::Poll => &mut script.poll,
            Call::Snapshot => &mut script.snapshot,
        };
        queue.pop_front().unwrap_or(Act::Ok(Vec::new()))
    }

    async fn act(&self, call: Call) -> Result<Vec<u64>, DynError> {
        let _running = Running::begin(&self.running);
        let mut act = self.next(call);
        if let Act::Held(gate, then) = act {
            gate.pass();
            act = *then;
        }
        while let Act::After(time, then) = act {
            tokio::time::sleep(time).await;
            act = *then;
        }
        match act {
            Act::Ok(events) => Ok(events),
            Act::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(Vec::new())
            }
            Act::Err(message) => Err(message.into()),
            Act::Fail(error) => Err(error()),
            Act::Panic(message) => panic!("{message}"),
            Act::Hang => pending().await,
            Act::After(..) | Act::Held(..) => unreachable!("unrolled above"),
        }
    }
}

#[async_trait]
impl SourceProvider<()> for App {
    async fn sources(&self) -> Result<Vec<ObservedSource<()>>, DynError> {
        self.act(Call::Sources).await?;
        let script = self.script.lock().unwrap();
        Ok(script.set.iter().map(|name| ObservedSource::new(*name, ())).collect())
    }
}

#[async_trait]
impl Observer for App {
    type Source = ();
    type State = Count;
    type Snapshot = View;
    type Event = u64;

    async fn init(&self, sources: &[ObservedSource<()>]) -> Result<Count, DynError> {
        self.act(Call::Init).await?;
        Ok(Count { polls: 0, sources: names(sources) })
    }

    async fn poll(&self, sources: &[ObservedSource<()>], state: &mut Count) -> Result<Vec<u64>, DynError> {
        let events = self.act(Call::Poll).await?;
        state.polls += 1;
        state.sources = names(sources);
        Ok(events)
    }

    fn snapshot(&self, state: &Count) -> View {
        if let Act::Panic(message) = self.next(Call::Snapshot) {
            panic!("{message}");
        }
        View { polls: state.polls, sources: state.sources.clone() }
    }

    fn poll_is_cancel_safe(&self) -> bool {
        self.script.lock().unwrap().interruptible
    }
}

fn names(sources: &[ObservedSource<()>]) -> Vec<String> {
    sources.iter().map(|source| source.name.clone()).collect()
}

/// As [`each_second`]; a set in which two sources share a name fails its cycle.
pub fn refusing_duplicates() -> ObservationConfig {
    ObservationConfig { duplicates: Duplicates::Refuse, ..each_second() }
}

/// Ticks each second; time-outs of 10 s each; everything else by default.
pub fn each_second() -> ObservationConfig {
    ObservationConfig {
        interval: Duration::from_secs(1),
        init_timeout: Duration::from_secs(10),
        ..ObservationConfig::default()
    }
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Lets the paused clock run until `millis` after `start`.
///
/// Everything that is due before has then happened. Tests stop between the instants that matter.
pub async fn at(start: Instant, millis: u64) {
    tokio::time::sleep_until(start + ms(millis)).await;
}

/// Waits for a status that meets the condition. One that does not come within 100 s will never come.
pub async fn status_when<O: Observer>(
    runtime: &ObservationRuntime<O>,
    condition: impl FnMut(&ObservationStatus<O>) -> bool,
) -> ObservationStatus<O> {
    let mut watch = runtime.handle().watch();
    tokio::time::timeout(Duration::from_secs(100), watch.wait_for(condition)).await.unwrap().unwrap()
}

/// The record of an earlier process: one cycle without events, in this generation.
pub fn resume_after(generation: u64) -> Resume {
    format!("0f8e1a2b3c4d5e6f708192a3b4c5d6e7.{generation}.0.0.0").parse().unwrap()
}
