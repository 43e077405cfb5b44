//! The format of `PerSource`, whose snapshots and events have instants.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use watchkeeper::per_source::{PerSourceSnapshot, SourceEvent};
use watchkeeper::source::{ProbeFailure, SourceFacts};
use watchkeeper::{DynError, PerSource};

use super::format::{RunClock, RunFormat, nanos};
use super::record::RunCause;

/// The format of a [`PerSource`] whose values have serde's traits. Waits on sources have the verdicts of the run: all that
/// is known of each source is recorded with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerSourceFormat;

#[derive(Serialize, Deserialize)]
struct SnapshotText {
    taken_at: i64,
    stale_after_ns: u64,
    collect_for_ns: u64,
    sources: Vec<SourceText>,
}

#[derive(Serialize, Deserialize)]
struct SourceText {
    name: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_flight_since: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    answers: u64,
    failures: u64,
    consecutive_failures: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_failure: Option<FailureText>,
}

#[derive(Serialize, Deserialize)]
struct AnswerText {
    value: Value,
    asked_at: i64,
    took_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct FailureText {
    at: i64,
    took_ns: u64,
    cause: RunCause,
    message: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum EventText {
    Appeared { source: Arc<str>, value: Value, asked_at: i64 },
    Changed { source: Arc<str>, old: Value, new: Value, asked_at: i64 },
    Failed { source: Arc<str>, failure: FailureText },
    Recovered { source: Arc<str>, failures: u64, asked_at: i64 },
    Replaced { source: Arc<str>, last: Option<Value>, asked_at: i64 },
    Vanished { source: Arc<str>, last: Option<Value>, asked_at: i64 },
}

fn write_failure(failure: &ProbeFailure, clock: &RunClock) -> FailureText {
    FailureText {
        at: clock.nanos(failure.at),
        took_ns: nanos(failure.elapsed),
        cause: failure.cause.into(),
        message: failure.message.clone(),
    }
}

fn read_failure(text: FailureText, clock: &RunClock) -> Arc<ProbeFailure> {
    let at = clock.instant(text.at);
    let began = at.checked_sub(Duration::from_nanos(text.took_ns)).unwrap_or(at);
    Arc::new(ProbeFailure::new(began, at, text.cause.into(), text.message))
}

fn read_value<V: DeserializeOwned>(value: Value) -> Result<Arc<V>, DynError> {
    Ok(Arc::new(serde_json::from_value(value)?))
}

impl<S, V> RunFormat<PerSource<S, V>> for PerSourceFormat
where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn write_snapshot(&self, value: &PerSourceSnapshot<V>, clock: &RunClock) -> Result<Value, DynError> {
        let mut sources = Vec::with_capacity(value.len());
        for source in value.iter() {
            let facts = source.facts;
            let asked = facts.last_success.zip(facts.last_elapsed);
            let answer = match source.value.zip(asked) {
                Some((value, (began, took))) => Some(AnswerText {
                    value: serde_json::to_value(&**value)?,
                    asked_at: clock.nanos(began),
                    took_ns: nanos(took),
                    changed_at: facts.changed_at.map(|at| clock.nanos(at)),
                }),
                None => None,
            };
            sources.push(SourceText {
                name: Arc::clone(source.name),
                answer,
                in_flight_since: facts.in_flight_since.map(|at| clock.nanos(at)),
                since: facts.since.map(|at| clock.nanos(at)),
                answers: facts.answers,
                failures: facts.failures,
                consecutive_failures: facts.consecutive_failures,
                last_failure: facts.last_failure.as_ref().map(|failure| write_failure(failure, clock)),
            });
        }
        Ok(serde_json::to_value(SnapshotText {
            taken_at: clock.nanos(value.taken_at()),
            stale_after_ns: nanos(value.stale_after()),
            collect_for_ns: nanos(value.collect_for()),
            sources,
        })?)
    }

    fn read_snapshot(&self, value: Value, clock: &RunClock) -> Result<PerSourceSnapshot<V>, DynError> {
        let text: SnapshotText = serde_json::from_value(value)?;
        let mut sources = Vec::with_capacity(text.sources.len());
        for source in text.sources {
            let mut facts = SourceFacts::default();
            facts.in_flight_since = source.in_flight_since.map(|at| clock.instant(at));
            facts.since = source.since.map(|at| clock.instant(at));
            facts.answers = source.answers;
            facts.failures = source.failures;
            facts.consecutive_failures = source.consecutive_failures;
            facts.last_failure = source.last_failure.map(|failure| read_failure(failure, clock));
            let mut value = None;
            if let Some(answer) = source.answer {
                facts.last_success = Some(clock.instant(answer.asked_at));
                facts.last_elapsed = Some(Duration::from_nanos(answer.took_ns));
                facts.changed_at = answer.changed_at.map(|at| clock.instant(at));
                value = Some(read_value(answer.value)?);
            }
            sources.push((source.name, value, facts));
        }
        let stale_after = Duration::from_nanos(text.stale_after_ns);
        let collect_for = Duration::from_nanos(text.collect_for_ns);
        Ok(PerSourceSnapshot::new(clock.instant(text.taken_at), stale_after, collect_for, sources)?)
    }

    fn write_event(&self, event: &SourceEvent<V>, clock: &RunClock) -> Result<Value, DynError> {
        let source = Arc::clone(event.source());
        let asked_at = clock.nanos(event.asked_at());
        let write = |value: &Arc<V>| serde_json::to_value(&**value);
        let text = match event {
            SourceEvent::Appeared { value, .. } => {
                EventText::Appeared { source, value: write(value)?, asked_at }
            }
            SourceEvent::Changed { old, new, .. } => {
                EventText::Changed { source, old: write(old)?, new: write(new)?, asked_at }
            }
            SourceEvent::Failed { failure, .. } => {
                EventText::Failed { source, failure: write_failure(failure, clock) }
            }
            SourceEvent::Recovered { failures, .. } => {
                EventText::Recovered { source, failures: *failures, asked_at }
            }
            SourceEvent::Replaced { last, .. } => {
                EventText::Replaced { source, last: last.as_ref().map(write).transpose()?, asked_at }
            }
            SourceEvent::Vanished { last, .. } => {
                EventText::Vanished { source, last: last.as_ref().map(write).transpose()?, asked_at }
            }
            _ => return Err("this event is newer than its format".into()),
        };
        Ok(serde_json::to_value(text)?)
    }

    fn read_event(&self, event: Value, clock: &RunClock) -> Result<SourceEvent<V>, DynError> {
        let at = |asked_at| clock.instant(asked_at);
        Ok(match serde_json::from_value(event)? {
            EventText::Appeared { source, value, asked_at } => {
                SourceEvent::Appeared { source, value: read_value(value)?, asked_at: at(asked_at) }
            }
            EventText::Changed { source, old, new, asked_at } => {
                let (old, new) = (read_value(old)?, read_value(new)?);
                SourceEvent::Changed { source, old, new, asked_at: at(asked_at) }
            }
            EventText::Failed { source, failure } => {
                SourceEvent::Failed { source, failure: read_failure(failure, clock) }
            }
            EventText::Recovered { source, failures, asked_at } => {
                SourceEvent::Recovered { source, failures, asked_at: at(asked_at) }
            }
            EventText::Replaced { source, last, asked_at } => {
                let last = last.map(read_value).transpose()?;
                SourceEvent::Replaced { source, last, asked_at: at(asked_at) }
            }
            EventText::Vanished { source, last, asked_at } => {
                let last = last.map(read_value).transpose()?;
                SourceEvent::Vanished { source, last, asked_at: at(asked_at) }
            }
        })
    }
}
