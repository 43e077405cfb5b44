//! The app under observation: a script sets in advance what each of its calls does.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::source::{SourceFacts, SourceHealth};
use watchkeeper::{DynError, ObservedSource, Observer, SourceProvider, async_trait};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Call {
    Sources,
    Init,
    Poll,
    Snapshot,
}

/// What one call does, after this many milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    pub(crate) after: u64,
    pub(crate) end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Succeeds; a poll returns this many events.
    Ok(u64),
    Error,
    Panic,
    /// Never returns, and can be cancelled.
    Hang,
    /// The same, but cancelling it panics.
    HangBadly,
}

/// Names of sources.
pub(crate) type Set = &'static [&'static str];

/// What the next calls do. The app has one, and the model an equal one.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// By call. When there is nothing left, calls succeed.
    acts: [VecDeque<Act>; 4],
    /// How many events a poll returns that no script was written for.
    pub(crate) usual_events: u64,
    pub(crate) set: Set,
    pub(crate) calls: [u64; 4],
}

impl Script {
    pub(crate) fn new(usual_events: u64) -> Self {
        Self { acts: Default::default(), usual_events, set: &["a"], calls: [0; 4] }
    }

    pub(crate) fn then(&mut self, call: Call, act: Act) {
        self.acts[call as usize].push_back(act);
    }

    pub(crate) fn next(&mut self, call: Call) -> Act {
        self.calls[call as usize] += 1;
        let usual = Act { after: 0, end: End::Ok(self.usual_events) };
        self.acts[call as usize].pop_front().unwrap_or(usual)
    }
}

/// The observer's state. A poll that does not succeed has changed it half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) begun: u64,
    pub(crate) done: u64,
    /// When its sources answered last.
    pub(crate) answered: Option<Instant>,
}

/// The age in milliseconds from which on the answer of a source is stale.
pub(crate) const SOURCE_STALE_AFTER: u64 = 100;

impl Memory {
    /// A poll has succeeded. Not in each of them do the sources answer.
    pub(crate) fn polled(&mut self, now: Instant) {
        self.done += 1;
        if self.done % 3 != 1 {
            self.answered = Some(now);
        }
    }

    /// Whether the source's last probe has failed.
    pub(crate) fn is_failing(self, name: &str) -> bool {
        (self.done + name.bytes().map(u64::from).sum::<u64>()).is_multiple_of(3)
    }

    /// The events that a poll finds, each one different.
    pub(crate) fn events(self, count: u64) -> Vec<u64> {
        (0..count).map(|index| 100 * self.begun + index).collect()
    }
}

/// A memory that is counted while it lives.
pub(crate) struct Counted {
    memory: Memory,
    names: Vec<String>,
    alive: Arc<AtomicU64>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) memory: Memory,
    pub(crate) names: Vec<String>,
}

/// Provider and observer in one; clones share everything.
#[derive(Clone)]
pub(crate) struct App {
    script: Arc<Mutex<Script>>,
    interruptible: bool,
    states: Arc<AtomicU64>,
}

impl App {
    pub(crate) fn new(script: Script, interruptible: bool) -> Self {
        Self { script: Arc::new(Mutex::new(script)), interruptible, states: Arc::default() }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// How many states of the observer there are.
    pub(crate) fn states(&self) -> u64 {
        self.states.load(Ordering::Relaxed)
    }

    /// How many clones there are.
    pub(crate) fn clones(&self) -> usize {
        Arc::strong_count(&self.script)
    }

    async fn act(&self, Act { after, end }: Act) -> Result<u64, DynError> {
        let _panics_when_dropped = (end == End::HangBadly).then(|| Bad);
        if after > 0 {
            sleep(Duration::from_millis(after)).await;
        }
        match end {
            End::Ok(events) => Ok(events),
            End::Error => Err("scripted error".into()),
            End::Panic => panic!("scripted panic"),
            End::Hang | End::HangBadly => pending().await,
        }
    }
}

struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("scripted panic in a destructor");
    }
}

#[async_trait]
impl SourceProvider<()> for App {
    async fn sources(&self) -> Result<Vec<ObservedSource<()>>, DynError> {
        let act = self.script().next(Call::Sources);
        self.act(act).await?;
        Ok(self.script().set.iter().map(|name| ObservedSource::new(*name, ())).collect())
    }
}

#[async_trait]
impl Observer for App {
    type Source = ();
    type State = Counted;
    type Snapshot = View;
    type Event = u64;

    async fn init(&self, sources: &[ObservedSource<()>]) -> Result<Counted, DynError> {
        let act = self.script().next(Call::Init);
        self.act(act).await?;
        self.states.fetch_add(1, Ordering::Relaxed);
        Ok(Counted { memory: Memory::default(), names: names(sources), alive: Arc::clone(&self.states) })
    }

    async fn poll(&self, sources: &[ObservedSource<()>], state: &mut Counted) -> Result<Vec<u64>, DynError> {
        let act = self.script().next(Call::Poll);
        state.memory.begun += 1;
        let events = self.act(act).await?;
        state.memory.polled(Instant::now());
        state.names = names(sources);
        Ok(state.memory.events(events))
    }

    fn snapshot(&self, state: &Counted) -> View {
        let act = self.script().next(Call::Snapshot);
        assert!(act.end != End::Panic, "scripted panic");
        View { memory: state.memory, names: state.names.clone() }
    }

    fn poll_is_cancel_safe(&self) -> bool {
        self.interruptible
    }

    fn source_health(view: &View, name: &str) -> Option<SourceHealth> {
        view.names.iter().find(|known| *known == name)?;
        let mut facts = SourceFacts::default();
        facts.last_success = view.memory.answered;
        facts.consecutive_failures = u64::from(view.memory.is_failing(name));
        Some(SourceHealth::new(facts, Duration::from_millis(SOURCE_STALE_AFTER)))
    }

    fn asked_since(view: &View, since: Instant) -> Option<View> {
        let answered = view.memory.answered.filter(|answered| *answered < since);
        answered.map(|_| View { memory: Memory { answered: None, ..view.memory }, names: view.names.clone() })
    }
}

fn names(sources: &[ObservedSource<()>]) -> Vec<String> {
    sources.iter().map(|source| source.name.clone()).collect()
}
