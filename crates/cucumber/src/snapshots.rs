//! The steps on the value of a snapshot at a JSON pointer.

use serde_json::Value;
use watchkeeper::group::{AnySnapshot, AnyWaitBuilder};
use watchkeeper::report::{names, one_line};
use watchkeeper::wait::Verdict;

use crate::observers::RegisteredObserver;
use crate::shown::{WORDS, json};
use crate::value::Wanted;
use crate::waits::Heard;
use crate::words::StepCaptures;
use crate::{Observers, StepError, pointer};

/// Of the value in a snapshot.
const FOUND: usize = 500;
/// Of the list of sources that are not settled.
const UNHEARD: usize = 200;

pub(crate) async fn becomes(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let (raw, window) = (captures.nth(2), captures.window()?);
    let mut place = SnapshotPlace::of(&captures)?;
    let wanted = Wanted::of(raw);
    let label = format!("the snapshot at {} becomes {}", place.shown(), one_line(raw, WORDS));
    let is_wanted = |found: Option<&Value>| found.is_some_and(|found| wanted.is(found)).into();
    let entry = observers.entry(captures.observer())?;
    let wait =
        entry.begin(entry.handle.eventually(label, |seen| place.judge(seen, is_wanted))).within(window);
    let ended = observers.wait(wait).await.map(drop);
    place.explain(ended, |found| Some(wanted.hint("becomes", raw, found)))
}

/// A value has to be there, and all sources have to be settled: an unknown value is not another value.
pub(crate) async fn is_not(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let (raw, window) = (captures.nth(2), captures.window()?);
    let mut place = SnapshotPlace::of(&captures)?;
    let unwanted = Wanted::of(raw);
    let label = format!("the snapshot at {} is not {}", place.shown(), one_line(raw, WORDS));
    let is_other = |found: Option<&Value>| match found {
        Some(found) if unwanted.is_misspelt(raw, found) => {
            Verdict::GiveUp("as it is written, the step's value can never be there".to_owned())
        }
        found => found.is_some_and(|found| unwanted.differs(found)).into(),
    };
    let entry = observers.entry(captures.observer())?;
    let handle = entry.handle.clone();
    let heard = Heard::new(&handle);
    let judge = |seen: AnySnapshot<'_>| place.judge_heard(&heard, seen, is_other);
    let wait = entry.begin(entry.handle.eventually(label, judge)).within(window);
    let ended = observers.wait(wait).await.map(drop);
    place.explain(ended, |found| {
        Some(match unwanted.hint("is not", raw, found) {
            None if found.is_null() => Some(null_is_unknown()),
            hint => hint,
        })
    })
}

/// A change from the value in the latest snapshot when the step began, or else from the first known value.
pub(crate) async fn changes(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let window = captures.window()?;
    let mut place = SnapshotPlace::of(&captures)?;
    let label = format!("the snapshot at {} changes", place.shown());
    let entry = observers.entry(captures.observer())?;
    let handle = entry.handle.clone();
    let heard = Heard::new(&handle);
    let shown = entry.handle.look(|latest| latest.to_json().unwrap_or_default());
    let shown = shown.as_ref().and_then(|shown| shown.pointer(&place.pointer));
    let mut before = shown.map_or(Wanted::Null, Wanted::from);
    let was_known = before != Wanted::Null;
    let mut has_changed = |found: Option<&Value>| {
        let Some(found) = found else { return false.into() };
        let has_changed = before.has_changed_to(found);
        if !has_changed {
            before.learn(found);
        }
        has_changed.into()
    };
    let judge = |seen: AnySnapshot<'_>| place.judge_heard(&heard, seen, &mut has_changed);
    let wait = entry.begin(entry.handle.eventually(label, judge)).within(window);
    let ended = observers.wait(wait).await.map(drop);
    place.explain(ended, |found| {
        Some(Some(match (found, was_known) {
            (Value::Null, _) => null_is_unknown(),
            (_, true) => "it had this value when the step began".to_owned(),
            (_, false) => "it had this value when it first became known, after the step began".to_owned(),
        }))
    })
}

/// Violated by any other value, by null and by nothing.
pub(crate) async fn stays(observers: &mut Observers, captures: StepCaptures) -> Result<(), StepError> {
    let (raw, window) = (captures.nth(2), captures.window()?);
    let mut place = SnapshotPlace::of(&captures)?;
    let wanted = Wanted::of(raw);
    let label = format!("the snapshot at {} stays {}", place.shown(), one_line(raw, WORDS));
    let is_wanted = |found: Option<&Value>| found.is_some_and(|found| wanted.is(found)).into();
    let entry = observers.entry(captures.observer())?;
    let wait = entry.begin(entry.handle.always(label, |seen| place.judge(seen, is_wanted))).during(window);
    let ended = observers.wait(wait).await.map(drop);
    // If the value is right, the report shows the reason.
    place.explain(ended, |found| (!wanted.is(found)).then(|| wanted.hint("stays", raw, found)))
}

fn null_is_unknown() -> String {
    "null is not another value, since it may mean that nothing is known: if it is an answer, write becomes \"null\""
        .to_owned()
}

/// The place in a snapshot that a step reads, and the last snapshot that it has judged.
struct SnapshotPlace {
    observer: String,
    pointer: String,
    shows_json: bool,
    /// The whole of the last snapshot that was judged.
    last: Option<Value>,
}

impl SnapshotPlace {
    fn of(captures: &StepCaptures) -> Result<Self, StepError> {
        let pointer = captures.text(1);
        pointer::check(&pointer)?;
        Ok(Self { observer: captures.observer().to_owned(), pointer, shows_json: true, last: None })
    }

    fn shown(&self) -> String {
        one_line(&self.pointer, WORDS)
    }

    fn judge(&mut self, snapshot: AnySnapshot<'_>, judge: impl FnOnce(Option<&Value>) -> Verdict) -> Verdict {
        let Some(json) = snapshot.to_json() else {
            self.shows_json = false;
            return Verdict::GiveUp("there is no JSON to look into".to_owned());
        };
        let verdict = judge(json.pointer(&self.pointer));
        self.last = Some(json);
        verdict
    }

    /// Judges only snapshots of all sources: a snapshot of some of them may look changed.
    fn judge_heard(
        &mut self,
        heard: &Heard<'_>,
        snapshot: AnySnapshot<'_>,
        judge: impl FnOnce(Option<&Value>) -> Verdict,
    ) -> Verdict {
        let unheard = heard.unheard(snapshot);
        if unheard.is_empty() {
            return self.judge(snapshot, judge);
        }
        let unheard = names(unheard.iter().map(|name| &**name), UNHEARD);
        Verdict::NotYet(format!("not all sources have answered or failed since the step began: {unheard}"))
    }

    /// Adds to an unmet wait what is at the pointer, if `hint` returns that the value was wrong.
    fn explain(
        self,
        ended: Result<(), StepError>,
        hint: impl FnOnce(&Value) -> Option<Option<String>>,
    ) -> Result<(), StepError> {
        let Self { observer, pointer, shows_json, last } = self;
        if !shows_json {
            return Err(StepError::NoJson { observer });
        }
        let (Err(StepError::Unmet(report)), Some(last)) = (&ended, last) else { return ended };
        let report = report.clone();
        Err(match last.pointer(&pointer) {
            Some(found) => match hint(found) {
                Some(hint) => StepError::OtherValue { found: json(found, FOUND), hint, pointer, report },
                None => StepError::Unmet(report),
            },
            None => StepError::NoSuchPath { nearest: pointer::nearest(&last, &pointer), pointer, report },
        })
    }
}

impl RegisteredObserver {
    /// Only probes after the step count, or, while the observer is paused, after the poll that the scenario has
    /// requested.
    pub(crate) fn begin<'a, K>(&self, wait: AnyWaitBuilder<'a, K>) -> AnyWaitBuilder<'a, K> {
        match self.polled {
            Some(mark) if self.handle.status().paused => wait.after(mark),
            _ => wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use tokio::time::sleep;
    use watchkeeper::{
        DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
    };

    use super::*;

    /// A second source that takes longer to answer than a cycle, as it did before the step.
    #[tokio::test(start_paused = true)]
    async fn a_snapshot_of_some_of_the_sources_is_no_change() {
        let ms = Duration::from_millis;
        let sources = [("n1", ms(1)), ("n2", ms(300))].map(|(name, takes)| ObservedSource::new(name, takes));
        let probe = |source: ObservedSource<Duration>| async move {
            sleep(source.source).await;
            Ok::<_, DynError>(1)
        };
        let observer = PerSource::new(probe).stale_after(Duration::from_secs(5));
        let config = ObservationConfig { interval: ms(200), ..ObservationConfig::default() };
        let sources = StaticSourceProvider::new(sources.into());
        let runtime = ObservationRuntime::start(sources, observer, config).await.unwrap();
        let both = runtime.handle();
        let mut observers = Observers::new();
        observers.add_with_json("s", runtime, |seen| json!(seen.answering().count())).unwrap();
        both.eventually("both answer", |seen| seen.answering().count() == 2)
            .within(Duration::from_secs(5))
            .await
            .unwrap();
        let is_other = is_not(&mut observers, StepCaptures::from(["s", "", "2", "3 s"])).await.unwrap_err();
        assert!(is_other.to_string().starts_with("2 is at \"\"\nnot met in time: "), "{is_other}");
        let changed = changes(&mut observers, StepCaptures::from(["s", "", "3 s"])).await.unwrap_err();
        let found = "2 is at \"\"; it had this value when the step began\nnot met in time: ";
        assert!(changed.to_string().starts_with(found), "{changed}");
        stays(&mut observers, StepCaptures::from(["s", "", "2", "3 s"])).await.unwrap();
        observers.finish().await.unwrap();
    }
}
