//! The steps that check and wait.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::group::{AnyHandle, AnySnapshot};
use watchkeeper::report::one_line;
use watchkeeper::runtime::{State, StopReason};
use watchkeeper::source::SourceHealth;
use watchkeeper::wait::{Unmet, UnmetOutcome};

use crate::basis::{healths_in, healths_of};
use crate::words::{Condition, StepCaptures, condition, count, state};
use crate::{Observers, StepError};

pub(crate) fn is_running(observers: &mut Observers, captures: &StepCaptures) -> Result<(), StepError> {
    observers.check()?;
    let status = observers.entry(captures.observer())?.handle.status();
    let how = match status.state {
        State::Stopped { reason: StopReason::Requested } => "stopped: start another one".to_owned(),
        State::Stopped { reason } => format!("stopped ({reason}): start another one"),
        _ if status.paused => "paused: resume it".to_owned(),
        _ => return Ok(()),
    };
    Err(StepError::NotRunning { observer: captures.observer().to_owned(), how })
}

pub(crate) async fn is_fresh(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let window = captures.window()?;
    let handle = observers.handle(captures.observer())?;
    let heard = Heard::new(&handle);
    let fresh = |snapshot: AnySnapshot<'_>| match heard.known(snapshot) {
        KnownSources::NoSources => false,
        KnownSources::Nothing => true,
        KnownSources::Sources(sources) => is_answered(&sources, heard.time_of(snapshot)),
    };
    let wait = handle.eventually("the data is fresh", fresh).or_now().within(window);
    match observers.wait(wait).await {
        Err(StepError::Unmet(report)) => {
            Err(unanswered(captures.observer(), &heard, Some(&report)).unwrap_or(StepError::Unmet(report)))
        }
        ended => ended.map(drop),
    }
}

/// What a step knows about the sources of an observer. It may judge a snapshot late, when there is another source set.
pub(crate) struct Heard<'a> {
    handle: &'a AnyHandle,
    began: Instant,
    /// The names of all source sets since the step began.
    names: Mutex<BTreeSet<Arc<str>>>,
}

/// What an observer knows about its sources.
enum KnownSources {
    /// It has none.
    NoSources,
    /// It keeps no health by source.
    Nothing,
    Sources(Vec<(Arc<str>, SourceHealth)>),
}

impl<'a> Heard<'a> {
    pub(crate) fn new(handle: &'a AnyHandle) -> Self {
        let names = handle.status().source_names.iter().cloned().collect();
        Self { handle, began: Instant::now(), names: Mutex::new(names) }
    }

    /// The time at which a snapshot is judged: when it was published, or when the step began if that was later.
    fn time_of(&self, snapshot: AnySnapshot<'_>) -> Instant {
        snapshot.observed_at().max(self.began)
    }

    /// What a snapshot knows about its sources.
    fn known(&self, snapshot: AnySnapshot<'_>) -> KnownSources {
        if snapshot.source_count() == 0 {
            return KnownSources::NoSources;
        }
        known(healths_in(&self.names(), snapshot))
    }

    /// The sources that are not settled: since the step began they have neither answered, nor failed, nor been silent
    /// for as long as a cycle waits. None if the observer keeps no health by source. `since` shows only probes after
    /// the step.
    pub(crate) fn unheard(&self, since: AnySnapshot<'_>) -> Vec<Arc<str>> {
        let KnownSources::Sources(mut sources) = self.known(since) else { return Vec::new() };
        let at = self.time_of(since);
        sources.retain(|(name, health)| {
            let is_silent = |begun: Instant| {
                at.saturating_duration_since(begun.max(self.began)) >= self.patience(name, health)
            };
            health.facts.last_success.is_none()
                && !health.is_failing()
                && !health.facts.in_flight_since.is_some_and(is_silent)
        });
        sources.into_iter().map(|(name, _)| name).collect()
    }

    /// How long a source may take, by the duration of its last answer, also one before the step.
    fn patience(&self, name: &Arc<str>, health: &SourceHealth) -> Duration {
        let known = healths_of(self.handle, std::slice::from_ref(name));
        let elapsed = known.iter().find_map(|(_, health)| health.facts.last_elapsed).unwrap_or_default();
        health.collect_for.max(elapsed.saturating_mul(2))
    }

    /// What is known now.
    fn known_now(&self) -> KnownSources {
        if self.handle.status().source_names.is_empty() {
            return KnownSources::NoSources;
        }
        known(healths_of(self.handle, &self.names()))
    }

    /// All names until now. A snapshot has no health for sources of another set.
    fn names(&self) -> Vec<Arc<str>> {
        let now = self.handle.status().source_names;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.extend(now.iter().cloned());
        names.iter().cloned().collect()
    }
}

fn known(healths: Vec<(Arc<str>, SourceHealth)>) -> KnownSources {
    if healths.is_empty() { KnownSources::Nothing } else { KnownSources::Sources(healths) }
}

fn is_answered(sources: &[(Arc<str>, SourceHealth)], at: Instant) -> bool {
    sources.iter().any(|(_, health)| health.is_answering(at))
}

/// Whether the data of a source is still fresh, or no source has ever answered.
fn may_be_fresh(sources: &[(Arc<str>, SourceHealth)], at: Instant) -> bool {
    let mut answered = sources.iter().filter(|(_, health)| health.facts.last_success.is_some()).peekable();
    answered.peek().is_none() || answered.any(|(_, health)| health.freshness(at).is_fresh())
}

/// Why an observer is not fresh although its loop runs: it has no sources, or none answers.
fn unanswered(observer: &str, heard: &Heard<'_>, report: Option<&Unmet>) -> Option<StepError> {
    /// Sources that are explained.
    const EXPLAINED: usize = 3;
    let (observer, report) = (observer.to_owned(), report.cloned());
    let sources = match heard.known_now() {
        KnownSources::NoSources => return Some(StepError::NoSources { observer, report }),
        KnownSources::Sources(sources) if !is_answered(&sources, Instant::now()) => sources,
        KnownSources::Nothing | KnownSources::Sources(_) => return None,
    };
    let explain = |(name, _): &(Arc<str>, SourceHealth)| one_line(&heard.handle.why_stale(name), 300);
    let mut why = sources.iter().take(EXPLAINED).map(explain).collect::<Vec<_>>().join("; ");
    if sources.len() > EXPLAINED {
        let _ = write!(why, "; and {} more", sources.len() - EXPLAINED);
    }
    let has_answered = sources.iter().any(|(_, health)| health.facts.last_success.is_some());
    Some(if has_answered {
        StepError::NotAnswering { observer, why, report }
    } else {
        StepError::NeverAnswered { observer, why, report }
    })
}

/// The loop has to run, and the data of a source has to be fresh.
pub(crate) async fn stays_fresh(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let window = captures.window()?;
    let handle = observers.handle(captures.observer())?;
    let heard = Heard::new(&handle);
    let fresh = |snapshot: AnySnapshot<'_>| match heard.known(snapshot) {
        KnownSources::NoSources => false,
        KnownSources::Nothing => true,
        KnownSources::Sources(sources) => may_be_fresh(&sources, heard.time_of(snapshot)),
    };
    let runs = handle.stays_fresh().during(window);
    let answers = handle.always("the data of a source stays fresh", fresh).or_now().during(window);
    let is_silent = AtomicBool::new(false);
    match observers.wait(both(runs, answers, &is_silent)).await {
        Err(StepError::Unmet(report)) if is_silent.load(Ordering::Relaxed) => {
            Err(unanswered(captures.observer(), &heard, Some(&report)).unwrap_or(StepError::Unmet(report)))
        }
        Err(error) => Err(error),
        Ok(()) => unanswered(captures.observer(), &heard, None).map_or(Ok(()), Err),
    }
}

/// Waits for `runs`, and fails early if `heard` is violated. If `heard` is inconclusive, only `runs` counts.
async fn both<T, U>(
    runs: impl Future<Output = Result<T, Unmet>>,
    heard: impl Future<Output = Result<U, Unmet>>,
    is_silent: &AtomicBool,
) -> Result<(), Unmet> {
    let (mut runs, mut heard) = (pin!(runs), pin!(heard));
    let mut has_ended = false;
    poll_fn(|context| {
        if let Poll::Ready(ended) = runs.as_mut().poll(context) {
            return Poll::Ready(ended.map(drop));
        }
        if !has_ended && let Poll::Ready(ended) = heard.as_mut().poll(context) {
            has_ended = true;
            if let Err(unmet) = ended
                && unmet.outcome() == UnmetOutcome::Violated
            {
                is_silent.store(true, Ordering::Relaxed);
                return Poll::Ready(Err(unmet));
            }
        }
        Poll::Pending
    })
    .await
}

pub(crate) async fn becomes_stale(
    observers: &mut Observers,
    captures: StepCaptures,
) -> Result<(), StepError> {
    let window = captures.window()?;
    let wait = observers.handle(captures.observer())?.becomes_stale().within(window);
    observers.wait(wait).await.map(drop)
}

pub(crate) async fn reaches(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let (state, window) = (state(captures.nth(1))?, captures.window()?);
    let wait = observers.handle(captures.observer())?.reaches(state).or_now().within(window);
    observers.wait(wait).await.map(drop)
}

pub(crate) async fn has_sources(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let (count, window) = (count(captures.nth(1), "sources", 0)?, captures.window()?);
    let entry = observers.entry(captures.observer())?;
    let sources = move |names: &[Arc<str>]| match u64::try_from(names.len()) {
        Ok(found) if found == count => Ok(()),
        _ => Err(format!("there are {}", names.len())),
    };
    let label = format!("there are {count} sources");
    let wait = entry.begin(entry.handle.source_set(label, sources)).within(window);
    observers.wait(wait).await.map(drop)
}

pub(crate) async fn source_is(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let (source, condition, window) = (captures.text(1), condition(captures.nth(2))?, captures.window()?);
    let entry = observers.entry(captures.observer())?;
    let handle = entry.handle.clone();
    let wait = match condition {
        Condition::Fresh => handle.source_fresh(&source),
        Condition::Stale => handle.source_stale(&source),
        Condition::Failing => handle.source_failing(&source),
    };
    let wait = entry.begin(wait).within(window);
    match observers.wait(wait).await {
        Err(StepError::Unmet(report)) => {
            let known = handle.status().source_names;
            if known.iter().any(|known| **known == *source) {
                return Err(StepError::Unmet(report));
            }
            Err(StepError::UnknownSource {
                observer: captures.observer().to_owned(),
                name: source,
                known: known.to_vec(),
                report,
            })
        }
        ended => ended.map(drop),
    }
}

pub(crate) fn has_recorded_no_failure(
    observers: &mut Observers,
    captures: &StepCaptures,
) -> Result<(), StepError> {
    observers.check()?;
    let entry = observers.entry(captures.observer())?;
    let mut failures = entry.handle.failures();
    failures.retain(|failure| entry.is_ours(failure.observed_at));
    if failures.is_empty() {
        return Ok(());
    }
    Err(StepError::HasFailed { observer: captures.observer().to_owned(), failures })
}

pub(crate) async fn has_seen_events(
    observers: &mut Observers,
    captures: StepCaptures,
) -> Result<(), StepError> {
    let (least, window) = (count(captures.nth(1), "events", 1)?, captures.window()?);
    let entry = observers.entry(captures.observer())?;
    let (handle, before) = (entry.handle.clone(), entry.events_before());
    let seen = move |snapshot: AnySnapshot<'_>| snapshot.event_count().saturating_sub(before);
    let label = format!("at least {least} events were seen since the scenario began");
    let wait = handle.eventually(label, |snapshot| seen(snapshot) >= least).or_now().within(window);
    match observers.wait(wait).await {
        Err(StepError::Unmet(report)) => {
            // Events before a pause count, also if nothing was judged in the window.
            let seen = handle.look(seen).unwrap_or_default();
            Err(StepError::TooFewEvents { observer: captures.observer().to_owned(), seen, report })
        }
        ended => ended.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use tokio::time::{advance, sleep};
    use watchkeeper::{
        DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, SourceProvider,
        async_trait,
    };

    use super::*;

    /// A set of sources by name, and whether each answers.
    #[derive(Clone, Default)]
    struct Sources(Arc<Mutex<Vec<(&'static str, bool)>>>);

    #[async_trait]
    impl SourceProvider<bool> for Sources {
        async fn sources(&self) -> Result<Vec<ObservedSource<bool>>, DynError> {
            let set = self.0.lock().unwrap();
            Ok(set.iter().map(|(name, answers)| ObservedSource::new(*name, *answers)).collect())
        }
    }

    impl Sources {
        fn set(&self, set: &[(&'static str, bool)]) {
            *self.0.lock().unwrap() = set.to_vec();
        }
    }

    /// An observer called `s`, polled each 200 ms. Answers are stale after 1 s, the loop after an hour.
    async fn observed(set: &[(&'static str, bool)]) -> (Observers, Sources) {
        let sources = Sources::default();
        sources.set(set);
        let probe = |source: ObservedSource<bool>| async move {
            if source.source { Ok(1) } else { Err(DynError::from("it refuses")) }
        };
        let observer = PerSource::new(probe).stale_after(Duration::from_secs(1));
        let config = ObservationConfig {
            interval: Duration::from_millis(200),
            stale_after: Some(Duration::from_secs(3600)),
            ..ObservationConfig::default()
        };
        let runtime = ObservationRuntime::start(sources.clone(), observer, config).await.unwrap();
        let mut observers = Observers::new();
        observers.add("s", runtime).unwrap();
        (observers, sources)
    }

    fn words(window: &str) -> StepCaptures {
        StepCaptures::from(["s", window])
    }

    fn poll<T>(step: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Poll<T> {
        step.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_is_judged_late_is_judged_by_its_own_time() {
        let (mut observers, _sources) = observed(&[("n1", true)]).await;
        let mut step = Box::pin(stays_fresh(&mut observers, words("1 minute")));
        assert!(poll(&mut step).is_pending());
        // The step is not polled for a while.
        sleep(Duration::from_secs(10)).await;
        let late = poll(&mut step);
        assert!(late.is_pending(), "{late:?}");
        step.await.unwrap();
        observers.finish().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_from_before_the_step_is_judged_by_the_time_when_it_began() {
        for (age, is) in [(500, true), (2_000, false)] {
            let (mut observers, _sources) = observed(&[("n1", true)]).await;
            observers.control("s").unwrap().pause().await.unwrap();
            advance(Duration::from_millis(age)).await;
            let fresh = is_fresh(&mut observers, words("10 ms")).await;
            assert_eq!(fresh.is_ok(), is, "{fresh:?}");
            observers.finish().await.unwrap();
        }
    }

    /// Its sources are renamed or removed before the step judges the snapshots.
    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_is_judged_late_is_judged_by_its_own_sources() {
        let both: &[_] = &[("n1", true), ("n2", false)];
        for (before, after, holds) in
            [(&[("n1", false)][..], &[("n3", true)][..], false), (both, &[("n2", false), ("n3", true)], true)]
        {
            let (mut observers, sources) = observed(&[("n1", true), ("n2", true)]).await;
            let mut step = Box::pin(stays_fresh(&mut observers, words("20 s")));
            assert!(poll(&mut step).is_pending());
            sources.set(before);
            sleep(Duration::from_secs(3)).await;
            sources.set(after);
            sleep(Duration::from_secs(3)).await;
            let ended = step.await;
            assert_eq!(ended.is_ok(), holds, "{before:?}: {ended:?}");
            observers.finish().await.unwrap();
        }
    }
}
