//! An app that follows a script, and every kind of wait on it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use watchkeeper::runtime::StateKind;
use watchkeeper::source::SharedSources;
use watchkeeper::wait::Wait;
use watchkeeper::{
    DynError, ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, Observer, async_trait,
};

pub(super) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What happens at a time of the run, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// Polls return an error for this long.
    Fail(u64),
    /// The next poll panics.
    Panic,
    /// The next poll takes this long.
    Slow(u64),
    /// The next init fails.
    NoInit,
    Join(&'static str),
    Leave(&'static str),
    Pause,
    Resume,
    PollNow,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) polls: u64,
    pub(super) names: Vec<String>,
}

pub(super) struct App {
    start: Instant,
    script: Vec<(u64, Act)>,
    used: std::sync::Mutex<Vec<usize>>,
}

impl App {
    pub(super) fn new(start: Instant, script: Vec<(u64, Act)>) -> Self {
        Self { start, script, used: std::sync::Mutex::default() }
    }

    /// What the next call does, once.
    fn due(&self, wanted: impl Fn(Act) -> bool) -> Option<Act> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        let mut used = self.used.lock().unwrap();
        let place = (0..self.script.len()).find(|place| {
            let (at, act) = self.script[*place];
            at <= now && wanted(act) && !used.contains(place)
        })?;
        used.push(place);
        Some(self.script[place].1)
    }
}

#[async_trait]
impl Observer for App {
    type Source = ();
    type State = Seen;
    type Snapshot = Seen;
    type Event = u64;

    async fn init(&self, nodes: &[ObservedSource<()>]) -> Result<Seen, DynError> {
        if self.due(|act| matches!(act, Act::NoInit)).is_some() {
            return Err("no init".into());
        }
        Ok(Seen { polls: 0, names: nodes.iter().map(|node| node.name.clone()).collect() })
    }

    async fn poll(&self, nodes: &[ObservedSource<()>], seen: &mut Seen) -> Result<Vec<u64>, DynError> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap();
        let fails = |(at, act): &(u64, Act)| matches!(act, Act::Fail(long) if *at <= now && now < at + long);
        if self.script.iter().any(fails) {
            return Err("down".into());
        }
        match self.due(|act| matches!(act, Act::Panic | Act::Slow(_))) {
            Some(Act::Slow(long)) => tokio::time::sleep(ms(long)).await,
            Some(_) => panic!("a bug"),
            None => {}
        }
        seen.polls += 1;
        seen.names = nodes.iter().map(|node| node.name.clone()).collect();
        Ok(if seen.polls.is_multiple_of(3) { vec![seen.polls, seen.polls + 1] } else { vec![] })
    }

    fn snapshot(&self, seen: &Seen) -> Seen {
        seen.clone()
    }
}

pub(super) fn config() -> ObservationConfig {
    ObservationConfig {
        interval: ms(500),
        history_limit: 4,
        stale_after: Some(ms(1_500)),
        ..ObservationConfig::default()
    }
}

pub(super) struct Running {
    pub(super) runtime: ObservationRuntime<App>,
    pub(super) sources: SharedSources<()>,
}

pub(super) fn run(start: Instant, script: Vec<(u64, Act)>, config: ObservationConfig) -> Running {
    let sources = SharedSources::new(vec![ObservedSource::new("n1", ()), ObservedSource::new("n2", ())]);
    let app = App::new(start, script);
    let runtime = ObservationRuntime::start_in_background(sources.clone(), app, config).unwrap();
    Running { runtime, sources }
}

impl Running {
    /// What the app does not do by itself.
    pub(super) async fn act(&self, act: Act) {
        let control = self.runtime.control();
        match act {
            Act::Join(name) => drop(self.sources.insert(name, ())),
            Act::Leave(name) => drop(self.sources.remove(name)),
            Act::Pause => control.pause().await.unwrap(),
            Act::Resume => control.resume().await.unwrap(),
            Act::PollNow => drop(control.poll_now().await),
            Act::Fail(_) | Act::Panic | Act::Slow(_) | Act::NoInit => {}
        }
    }
}

pub(super) type Verdict = Pin<Box<dyn Future<Output = String> + Send>>;

fn verdict<T: 'static>(wait: Wait<'static, App, T>, met: fn(&T) -> String) -> Verdict {
    Box::pin(async move {
        match wait.await {
            Ok(value) => format!("met by {}", met(&value)),
            Err(unmet) => format!("{:?}, reason {:?}", unmet.outcome(), unmet.reason()),
        }
    })
}

/// A wait of each kind.
pub(super) fn waits(
    handle: &ObservationHandle<App>,
    or_now: bool,
    window: Duration,
) -> Vec<(String, Verdict)> {
    let mut all = Vec::new();
    let mut add =
        |kind: String, verdict: Verdict| all.push((format!("{kind} for {window:?}, {or_now}"), verdict));
    let snapshot = |snapshot: &Arc<watchkeeper::ObservationSnapshot<Seen>>| {
        format!("cycle {}, polls {}", snapshot.cycle, snapshot.value.polls)
    };
    let status = |status: &watchkeeper::runtime::ObservationStatus<App>| format!("cycle {}", status.cycle);
    macro_rules! start {
        ($wait:expr) => {
            if or_now { $wait.or_now() } else { $wait }
        };
    }
    let polls = |seen: &Seen| seen.polls % 7 == 5;
    add("eventually".into(), verdict(start!(handle.eventually("polls", polls)).within(window), snapshot));
    add("never".into(), verdict(start!(handle.never("polls", polls)).during(window), snapshot));
    let few = |seen: &Seen| seen.polls < 12;
    add("always".into(), verdict(start!(handle.always("few", few)).during(window), snapshot));
    let names = |seen: &Seen| Some(seen.names.len());
    add(
        "stable".into(),
        verdict(start!(handle.stable_for("as many", ms(1_100), names)).within(window), snapshot),
    );
    let event = start!(handle.event("9", |event: &u64| *event == 9)).within(window);
    add("event".into(), verdict(event, |met| format!("cycle {}, number {}", met.batch.cycle, met.index)));
    for state in [StateKind::Failed, StateKind::Starting, StateKind::Polling, StateKind::Stopped] {
        add(format!("reaches {state}"), verdict(start!(handle.reaches(state)).within(window), status));
    }
    add("stays fresh".into(), verdict(start!(handle.stays_fresh()).during(window), status));
    add("becomes stale".into(), verdict(start!(handle.becomes_stale()).within(window), status));
    for name in ["n1", "n2", "n3"] {
        add(format!("vanished {name}"), verdict(start!(handle.source_vanished(name)).within(window), status));
    }
    let set = handle.source_set("two", |names| names.len() == 2);
    add("set".into(), verdict(start!(set).within(window), status));
    all
}
