//! The run of any program: its snapshots and events as JSON, and what `PerSource` knows of its sources.

use serde_json::Value;
use tokio::time::Instant;
use watchkeeper::per_source::PerSourceSnapshot;
use watchkeeper::source::SourceHealth;
use watchkeeper::{DynError, ObservedSource, Observer, PerSource, async_trait};
use watchkeeper_journal::run::{PerSourceFormat, RunClock, RunFormat};

use super::changes::sources;

/// `PerSource` with any values.
type AnySources = PerSource<(), Value>;

/// The observer of a recorded run, which observes nothing itself.
pub(super) struct AnyRun;

/// A recorded snapshot.
pub(super) struct AnySnapshot {
    pub(super) value: Value,
    /// If it is one of `PerSource`: its instants are those of the replay.
    sources: Option<(PerSourceSnapshot<Value>, RunClock)>,
}

/// A recorded event.
pub(super) struct AnyEvent {
    pub(super) value: Value,
    /// Of `PerSource`: when the answer behind it was asked for.
    asked_at: Option<Instant>,
}

impl std::fmt::Debug for AnyEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.value)
    }
}

#[async_trait]
impl Observer for AnyRun {
    type Source = ();
    type State = ();
    type Snapshot = AnySnapshot;
    type Event = AnyEvent;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Err("a recorded run is not observed".into())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<AnyEvent>, DynError> {
        Err("a recorded run is not observed".into())
    }

    fn snapshot(&self, (): &()) -> AnySnapshot {
        AnySnapshot { value: Value::Null, sources: None }
    }

    fn source_health(snapshot: &AnySnapshot, name: &str) -> Option<SourceHealth> {
        let (sources, _) = snapshot.sources.as_ref()?;
        AnySources::source_health(sources, name)
    }

    fn asked_since(snapshot: &AnySnapshot, since: Instant) -> Option<AnySnapshot> {
        let (sources, clock) = snapshot.sources.as_ref()?;
        let sources = AnySources::asked_since(sources, since)?;
        let value = RunFormat::<AnySources>::write_snapshot(&PerSourceFormat, &sources, clock).ok()?;
        Some(AnySnapshot { value, sources: Some((sources, *clock)) })
    }

    fn asked_at(event: &AnyEvent) -> Option<Instant> {
        event.asked_at
    }
}

/// Reads the snapshots and events of any format as JSON.
pub(super) struct AnyFormat;

impl RunFormat<AnyRun> for AnyFormat {
    fn write_snapshot(&self, value: &AnySnapshot, _: &RunClock) -> Result<Value, DynError> {
        Ok(value.value.clone())
    }

    fn read_snapshot(&self, value: Value, clock: &RunClock) -> Result<AnySnapshot, DynError> {
        let read = |value: &Value| {
            RunFormat::<AnySources>::read_snapshot(&PerSourceFormat, value.clone(), clock).ok()
        };
        // What only looks like one is JSON alone.
        let sources = sources(&value).and_then(|_| read(&value)).map(|sources| (sources, *clock));
        Ok(AnySnapshot { value, sources })
    }

    fn write_event(&self, event: &AnyEvent, _: &RunClock) -> Result<Value, DynError> {
        Ok(event.value.clone())
    }

    fn read_event(&self, value: Value, clock: &RunClock) -> Result<AnyEvent, DynError> {
        let is_one = value.get("event").is_some() && value.get("source").is_some();
        let read = || RunFormat::<AnySources>::read_event(&PerSourceFormat, value.clone(), clock).ok();
        let asked_at = is_one.then(read).flatten().map(|event| event.asked_at());
        Ok(AnyEvent { value, asked_at })
    }
}
