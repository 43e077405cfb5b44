//! `--expect`: a wait that is judged over the record.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use watchkeeper::report::one_line;
use watchkeeper::runtime::{ObservationStatus, StateKind};
use watchkeeper::wait::{ObservedEvent, Unmet, UnmetOutcome};
use watchkeeper::{ObservationHandle, ObservationSnapshot};
use watchkeeper_journal::JournalView;
use watchkeeper_journal::run::Replay;

use super::any_run::{AnyEvent, AnyFormat, AnyRun, AnySnapshot};
use super::condition::{Condition, Test};
use super::pointer;
use crate::cli::outcome::{CommandError, Outcome, printed};
use crate::cli::text;

/// What is expected of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExpectKind {
    /// A snapshot meets the condition, within a window
    Eventually,
    /// Every snapshot of a window meets the condition
    Always,
    /// No snapshot of a window meets it
    Never,
    /// The value at a pointer stays the same for --hold, within a window
    Stable,
    /// An event meets the condition, within a window
    Event,
    /// The run reaches --state, within a window
    Reaches,
    /// The data stays fresh during a window
    Fresh,
    /// The data becomes stale within a window
    Stale,
    /// --source answers, within a window
    SourceFresh,
    /// The answer of --source is stale, within a window
    SourceStale,
    /// --source fails, within a window
    SourceFailing,
    /// --source leaves the set, within a window
    SourceVanished,
}

/// A state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExpectState {
    /// Between two cycles, after a success
    Idle,
    /// Between two cycles, after a failure
    Failed,
    /// Ended
    Stopped,
    /// Reading the source set
    Refreshing,
    /// Polling
    Polling,
}

/// The flags of an expectation.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Expectation")]
pub struct ExpectArgs {
    /// Judge a wait over the record
    #[arg(long = "expect", value_name = "KIND", value_enum, id = "expect",
          conflicts_with_all = ["follow", "last", "from", "to", "only", "grep"])]
    pub kind: Option<ExpectKind>,
    /// Where the value is: a JSON pointer into the snapshot or the event. An entry of a list is also found by its `name`
    /// [default: the whole of it]
    #[arg(long, value_name = "POINTER", requires = "expect")]
    pub at: Option<String>,
    /// The value is this JSON
    #[arg(long, value_name = "JSON", requires = "expect", allow_hyphen_values = true, conflicts_with_all = ["at_least", "at_most", "exists"])]
    pub is: Option<String>,
    /// The value is a number of at least N
    #[arg(
        long,
        value_name = "N",
        requires = "expect",
        allow_negative_numbers = true,
        conflicts_with = "exists"
    )]
    pub at_least: Option<f64>,
    /// The value is a number of at most N
    #[arg(
        long,
        value_name = "N",
        requires = "expect",
        allow_negative_numbers = true,
        conflicts_with = "exists"
    )]
    pub at_most: Option<f64>,
    /// There is a value, even null
    #[arg(long, requires = "expect")]
    pub exists: bool,
    /// The state, for --expect reaches
    #[arg(long, value_enum, value_name = "STATE", requires = "expect")]
    pub state: Option<ExpectState>,
    /// The name of a source
    #[arg(long, value_name = "NAME", requires = "expect")]
    pub source: Option<String>,
    /// For how long the value stays the same, for --expect stable
    #[arg(long, value_name = "TIME", requires = "expect", value_parser = humantime::parse_duration)]
    pub hold: Option<Duration>,
    /// The window of what is to happen, such as 10s
    #[arg(long, value_name = "TIME", requires = "expect", value_parser = humantime::parse_duration)]
    pub within: Option<Duration>,
    /// The window of always, never and fresh
    #[arg(long, value_name = "TIME", requires = "expect", value_parser = humantime::parse_duration, conflicts_with = "within")]
    pub during: Option<Duration>,
    /// Begin the window after this cycle has ended [default: with the record]
    #[arg(long, value_name = "CYCLE", requires = "expect")]
    pub after_cycle: Option<u64>,
}

/// A wait that is not made yet.
pub(super) struct Expectation {
    what: What,
    window: Duration,
    after_cycle: Option<u64>,
}

enum What {
    Eventually(Condition),
    Always(Condition),
    Never(Condition),
    Stable(Condition, Duration),
    Event(Condition),
    Reaches(StateKind),
    Fresh,
    Stale,
    SourceFresh(String),
    SourceStale(String),
    SourceFailing(String),
    SourceVanished(String),
}

fn usage(text: impl Into<String>) -> CommandError {
    CommandError::Usage(text.into())
}

impl ExpectArgs {
    /// What the flags say together; `None` without `--expect`.
    pub(super) fn expectation(&self) -> Result<Option<Expectation>, CommandError> {
        let Some(kind) = self.kind else { return Ok(None) };
        let value = kind.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name());
        let source =
            || self.source.clone().ok_or_else(|| usage(format!("--expect {name} needs --source NAME")));
        let what = match kind {
            ExpectKind::Eventually => What::Eventually(self.condition(name)?),
            ExpectKind::Always => What::Always(self.condition(name)?),
            ExpectKind::Never => What::Never(self.condition(name)?),
            ExpectKind::Event => What::Event(self.condition(name)?),
            ExpectKind::Stable => {
                let hold =
                    self.hold.ok_or_else(|| usage("--expect stable needs --hold, such as --hold 3s"))?;
                What::Stable(self.place(Test::Exists)?, hold)
            }
            ExpectKind::Reaches => {
                let state =
                    self.state.ok_or_else(|| usage("--expect reaches needs --state, such as failed"))?;
                What::Reaches(state.into())
            }
            ExpectKind::Fresh => What::Fresh,
            ExpectKind::Stale => What::Stale,
            ExpectKind::SourceFresh => What::SourceFresh(source()?),
            ExpectKind::SourceStale => What::SourceStale(source()?),
            ExpectKind::SourceFailing => What::SourceFailing(source()?),
            ExpectKind::SourceVanished => What::SourceVanished(source()?),
        };
        let holds = matches!(kind, ExpectKind::Always | ExpectKind::Never | ExpectKind::Fresh);
        let (flag, window) = if holds { ("--during", self.during) } else { ("--within", self.within) };
        let window = window
            .ok_or_else(|| usage(format!("--expect {name} needs its window: {flag}, such as {flag} 10s")))?;
        Ok(Some(Expectation { what, window, after_cycle: self.after_cycle }))
    }

    fn condition(&self, name: &str) -> Result<Condition, CommandError> {
        let test = match (&self.is, self.at_least, self.at_most, self.exists) {
            (Some(text), ..) => Test::Is(serde_json::from_str(text).map_err(|error| {
                let text = one_line(text, 100);
                usage(format!("--is {text} is no JSON ({error}): give a value such as 3, true or '\"text\"'"))
            })?),
            (None, None, None, false) => {
                return Err(usage(format!(
                    "--expect {name} needs a condition: --is JSON, --at-least N, --at-most N or --exists"
                )));
            }
            (None, low, high, false) => Test::Between(low, high),
            (None, _, _, true) => Test::Exists,
        };
        self.place(test)
    }

    fn place(&self, test: Test) -> Result<Condition, CommandError> {
        let pointer = self.at.clone().unwrap_or_default();
        let parts = pointer::parts(&pointer)
            .ok_or_else(|| usage("--at: a JSON pointer begins with a slash, such as /nodes/0/height"))?;
        Ok(Condition::new(pointer, parts, test))
    }
}

impl From<ExpectState> for StateKind {
    fn from(state: ExpectState) -> Self {
        match state {
            ExpectState::Idle => Self::Idle,
            ExpectState::Failed => Self::Failed,
            ExpectState::Stopped => Self::Stopped,
            ExpectState::Refreshing => Self::Refreshing,
            ExpectState::Polling => Self::Polling,
        }
    }
}

/// When a wait was met.
struct Met {
    cycle: u64,
    at: Option<SystemTime>,
}

impl Met {
    fn snapshot(seen: &Arc<ObservationSnapshot<AnySnapshot>>) -> Self {
        Self { cycle: seen.cycle, at: Some(seen.system_time) }
    }

    fn status(status: &ObservationStatus<AnyRun>) -> Self {
        Self { cycle: status.cycle, at: None }
    }

    fn event(event: &ObservedEvent<AnyEvent>) -> Self {
        Self { cycle: event.batch.cycle, at: Some(event.batch.system_time) }
    }
}

/// Replays the record until the wait has its verdict, and prints that.
pub(super) async fn judge(
    view: &JournalView,
    expectation: Expectation,
    is_json: bool,
    out: &mut impl Write,
) -> Result<Outcome, CommandError> {
    let mut replay: Replay<AnyRun, _> = Replay::of(view, AnyFormat)?;
    let handle = replay.handle();
    let missing = match expectation.after_cycle {
        Some(cycle) => pass(&mut replay, &handle, cycle)?,
        None => None,
    };
    let Expectation { what, window, .. } = expectation;
    let (unknown, span) = (what.unknown(), format!("{} {window:?}", what.span()));
    let (label, wait) = wait(&handle, what, window);
    let inconclusive = |reason: &str| {
        let reason = format!("inconclusive ({reason})");
        if is_json {
            let window = window.as_secs_f64();
            json!({ "outcome": "inconclusive", "label": label, "reason": reason, "window_s": window })
                .to_string()
        } else {
            format!("{reason}: {label:?} {span}")
        }
    };
    if let Some(reason) = missing {
        return print(out, &inconclusive(&reason), Outcome::Problems);
    }
    tokio::pin!(wait);
    let verdict = tokio::select! {
        biased;
        verdict = &mut wait => verdict,
        played = replay.play() => {
            played?;
            wait.await
        }
    };
    let (outcome, text) = match verdict {
        verdict if unknown.is_some_and(|unknown| unknown.hides(&verdict)) => {
            (Outcome::Problems, inconclusive("a list was recorded in part, and the value may be in its rest"))
        }
        Ok(met) if is_json => {
            let time = met.at.map(|at| humantime::format_rfc3339_millis(at).to_string());
            (
                Outcome::Fine,
                json!({ "outcome": "met", "label": label, "cycle": met.cycle, "time": time }).to_string(),
            )
        }
        Ok(met) => {
            let time = met.at.map(|at| format!(", at {}", humantime::format_rfc3339_millis(at)));
            (Outcome::Fine, format!("met: {label:?} in cycle {}{}", met.cycle, time.unwrap_or_default()))
        }
        Err(unmet) => {
            let is_invalid = matches!(unmet.outcome(), UnmetOutcome::Invalid(_));
            let outcome = if is_invalid { Outcome::Incomplete } else { Outcome::Problems };
            (outcome, if is_json { unmet.to_json().to_string() } else { unmet.to_string() })
        }
    };
    print(out, &text, outcome)
}

/// Prints a verdict, whose lines any terminal shows as they are.
fn print(out: &mut impl Write, verdict: &str, outcome: Outcome) -> Result<Outcome, CommandError> {
    for line in verdict.trim_end().lines() {
        printed(writeln!(out, "{}", text::json(line)))?;
    }
    printed(out.flush())?;
    Ok(outcome)
}

/// A condition whose value may not be recorded.
struct Unknown {
    condition: Condition,
    /// Of the two verdicts: if it is met, and if not.
    hidden: (bool, bool),
}

impl Unknown {
    /// Whether the verdict may be another one with what is not recorded.
    fn hides(&self, verdict: &Result<Met, Unmet>) -> bool {
        let is_hidden = match verdict {
            Ok(_) => self.hidden.0,
            Err(unmet) => {
                self.hidden.1 && matches!(unmet.outcome(), UnmetOutcome::NotMet | UnmetOutcome::Violated)
            }
        };
        is_hidden && self.condition.is_unknown()
    }
}

impl What {
    fn unknown(&self) -> Option<Unknown> {
        let (condition, hidden) = match self {
            Self::Eventually(condition) | Self::Always(condition) | Self::Event(condition) => {
                (condition, (false, true))
            }
            Self::Never(condition) => (condition, (true, false)),
            Self::Stable(condition, _) => (condition, (true, true)),
            _ => return None,
        };
        Some(Unknown { condition: condition.clone(), hidden })
    }

    /// As the core says it.
    fn span(&self) -> &'static str {
        if matches!(self, Self::Always(_) | Self::Never(_) | Self::Fresh) { "during" } else { "within" }
    }
}

/// Publishes the record up to the end of a cycle. Returns why the record does not say when that was, if it has another cycle there.
fn pass(
    replay: &mut Replay<AnyRun, AnyFormat>,
    handle: &ObservationHandle<AnyRun>,
    cycle: u64,
) -> Result<Option<String>, CommandError> {
    let mut before = None;
    loop {
        let success = handle.latest_snapshot().map(|seen| seen.cycle);
        let failure = handle.last_error().map(|failure| failure.cycle);
        if success == Some(cycle) || failure == Some(cycle) {
            return Ok(None);
        }
        let ended = success.max(failure);
        let at = ended.unwrap_or_else(|| handle.status().cycle);
        if at > cycle {
            return Ok(Some(match before {
                None => format!("the record begins with cycle {at}"),
                Some(before) => {
                    format!("the end of cycle {cycle} is not recorded: cycle {at} follows cycle {before}")
                }
            }));
        }
        before = ended;
        if !replay.step()? {
            let last =
                ended.map_or_else(|| "no cycle has ended".to_owned(), |last| format!("the last is {last}"));
            return Err(usage(format!(
                "--after-cycle {cycle}: the record ends before that cycle does: {last}"
            )));
        }
    }
}

type Judged<'a> = Pin<Box<dyn Future<Output = Result<Met, Unmet>> + 'a>>;

/// The core's own wait, with its label.
fn wait(handle: &ObservationHandle<AnyRun>, what: What, window: Duration) -> (String, Judged<'static>) {
    let show = |seen: &AnySnapshot| -> Value { seen.value.clone() };
    // A wait is boxed with what reads its result.
    macro_rules! within {
        ($label:expr, $wait:expr, $met:path) => {{
            let wait = $wait.show_json(show).within(window);
            ($label, Box::pin(async move { wait.await.map(|met| $met(&met)) }))
        }};
    }
    macro_rules! during {
        ($label:expr, $wait:expr, $met:path) => {{
            let wait = $wait.show_json(show).during(window);
            ($label, Box::pin(async move { wait.await.map(|met| $met(&met)) }))
        }};
    }
    match what {
        What::Eventually(condition) => {
            let label = condition.to_string();
            let wait = handle.eventually(label.clone(), move |seen| condition.judge(&seen.value));
            within!(label, wait, Met::snapshot)
        }
        What::Always(condition) => {
            let label = format!("always: {condition}");
            let wait = handle.always(label.clone(), move |seen| condition.judge(&seen.value));
            during!(label, wait, Met::snapshot)
        }
        What::Never(condition) => {
            let label = format!("never: {condition}");
            let wait = handle.never(label.clone(), move |seen| condition.judge(&seen.value));
            during!(label, wait, Met::snapshot)
        }
        What::Stable(condition, hold) => {
            let place = if condition.pointer.is_empty() { "the value" } else { &condition.pointer };
            let label = format!("{} stays the same for {hold:?}", one_line(place, 100));
            let project = move |seen: &AnySnapshot| condition.find(&seen.value).cloned();
            within!(label, handle.stable_for(label.clone(), hold, project), Met::snapshot)
        }
        What::Event(condition) => {
            let label = format!("an event: {condition}");
            let wait = handle.event(label.clone(), move |event| condition.judge(&event.value));
            within!(label, wait, Met::event)
        }
        What::Reaches(state) => {
            within!(format!("the runtime reaches {state}"), handle.reaches(state), Met::status)
        }
        What::Fresh => during!("the data stays fresh".to_owned(), handle.stays_fresh(), Met::status),
        What::Stale => within!("the data becomes stale".to_owned(), handle.becomes_stale(), Met::status),
        What::SourceFresh(name) => {
            within!(source(&name, "is fresh"), handle.source_fresh(&name), Met::snapshot)
        }
        What::SourceStale(name) => {
            within!(source(&name, "is stale"), handle.source_stale(&name), Met::snapshot)
        }
        What::SourceFailing(name) => {
            within!(source(&name, "is failing"), handle.source_failing(&name), Met::snapshot)
        }
        What::SourceVanished(name) => {
            within!(source(&name, "has vanished"), handle.source_vanished(&name), Met::status)
        }
    }
}

/// As the core calls it.
fn source(name: &str, is: &str) -> String {
    format!("source \"{}\" {is}", one_line(name, 100))
}
