//! The loops that run: their starts, their freshness, the records of their runs, and their stop.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use watchkeeper::group::{GroupError, GroupStatus, ObservationGroup};
use watchkeeper::report::{debug_as_text, error_chain, one_line};
use watchkeeper::{
    ObservationConfig, ObservationHandle, ObservationRuntime, ObservationRuntimeError, Observer,
};
use watchkeeper_journal::run::{Recording, RunError, RunJournal, SerdeFormat};
use watchkeeper_journal::{Durability, Journal, JournalConfig};

use super::errors::{self, ErrorAnalysis};
use super::escalation::{Escalation, EscalationError};
use super::health::LoopHealth;
use super::playbooks::{self, Consolidation};
use super::tail::{self, CorrectionsTail};
use crate::config::ObserverdConfig;
use crate::outgoing::{Connector, OutgoingError, OutgoingFilter};
use crate::store::Store;

/// The size of a segment of a run, and how many are kept.
const RUN_SEGMENTS: (u64, u64) = (8 * 1024 * 1024, 4);

/// The loops that run.
pub struct Loops {
    group: ObservationGroup,
    errors: ObservationHandle<ErrorAnalysis>,
    playbooks: ObservationHandle<Consolidation>,
    corrections: Option<ObservationHandle<CorrectionsTail>>,
    escalation: Option<Arc<Escalation>>,
    /// What the analysis finds, to the escalation.
    sighting: Mutex<Option<JoinHandle<()>>>,
    runs: Mutex<Vec<RecordedRun>>,
}

/// The record of a run, and its journal.
struct RecordedRun {
    recording: Recording,
    journal: Journal,
}

impl Loops {
    /// Starts the loops that the settings ask for, in the background. `directory` is the data directory.
    ///
    /// # Errors
    ///
    /// [`LoopsError`]; nothing is left running.
    pub async fn start(
        store: &Store,
        config: &ObserverdConfig,
        directory: Option<&Path>,
        parent: &CancellationToken,
    ) -> Result<Self, LoopsError> {
        let connector = Connector::new(OutgoingFilter::new(&config.outgoing.allow)?);
        let escalation =
            Escalation::start(&config.escalation, connector, directory, parent.clone())?.map(Arc::new);
        let recorder = Recorder { directory: directory.filter(|_| config.record_loops) };
        let (group, mut runs) = (ObservationGroup::with_parent(parent.clone()), Vec::new());

        let (run, observation) = recorder.open(errors::observation(&config.errors)).await;
        let runtime = errors::start(store, &config.errors, observation.clone())?;
        let errors = runtime.handle();
        runs.extend(record(run, &runtime, &observation));
        add(&group, runtime)?;

        let (run, observation) = recorder.open(playbooks::observation(&config.playbooks)).await;
        let runtime = playbooks::start(store, &config.playbooks, observation.clone())?;
        let playbooks = runtime.handle();
        runs.extend(record(run, &runtime, &observation));
        add(&group, runtime)?;

        let mut corrections = None;
        if let Some(observation) = tail::observation(&config.corrections) {
            let (run, observation) = recorder.open(observation).await;
            let runtime = tail::start(store, &config.corrections, directory, observation.clone())?;
            corrections = Some(runtime.handle());
            runs.extend(record(run, &runtime, &observation));
            add(&group, runtime)?;
        }
        let sighting = escalation.clone().map(|escalation| tokio::spawn(sight(errors.clone(), escalation)));
        let (sighting, runs) = (Mutex::new(sighting), Mutex::new(runs));
        Ok(Self { group, errors, playbooks, corrections, escalation, sighting, runs })
    }

    /// The runtimes.
    #[must_use]
    pub fn group(&self) -> &ObservationGroup {
        &self.group
    }

    /// The analysis of errors.
    #[must_use]
    pub fn errors(&self) -> &ObservationHandle<ErrorAnalysis> {
        &self.errors
    }

    /// The consolidation of playbooks.
    #[must_use]
    pub fn playbooks(&self) -> &ObservationHandle<Consolidation> {
        &self.playbooks
    }

    /// What a person should know of the file of corrections, though its loop works.
    pub(crate) fn corrections_warnings(&self) -> Vec<String> {
        let report = self.corrections.as_ref().and_then(ObservationHandle::latest_snapshot);
        report.map(|report| report.value.warnings()).unwrap_or_default()
    }

    /// The escalation, if there is a webhook.
    #[must_use]
    pub fn escalation(&self) -> Option<&Escalation> {
        self.escalation.as_deref()
    }

    /// The freshness of each.
    pub(crate) fn health(&self) -> Vec<LoopHealth> {
        let of = |status: GroupStatus| LoopHealth {
            name: status.name.to_string(),
            state: status.state.to_string(),
            fresh: status.freshness.is_fresh(),
            age_seconds: status.freshness.age().map(|age| age.as_secs_f64()),
            cycle: status.cycle,
            last_error: status.last_error.map(|failure| one_line(&failure.message, 300)),
        };
        self.group.statuses().into_iter().map(of).collect()
    }

    /// Stops all of them, and closes the records of their runs.
    ///
    /// A second call does nothing.
    pub async fn stop(&self) {
        self.group.stop_all().await;
        let sighting = lock(&self.sighting).take();
        if let Some(sighting) = sighting {
            // It ends with the analysis.
            let _ = sighting.await;
        }
        if let Some(escalation) = &self.escalation {
            escalation.stop().await;
        }
        let runs = std::mem::take(&mut *lock(&self.runs));
        for RecordedRun { recording, journal } in runs {
            let health = recording.finished().await;
            if let Err(error) = journal.close().await {
                tracing::warn!(%error, lost = health.lost, "the record of a loop's run is not complete");
            }
        }
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        if let Some(sighting) = lock(&self.sighting).take() {
            sighting.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn add<O: Observer<Snapshot: Serialize>>(
    group: &ObservationGroup,
    runtime: ObservationRuntime<O>,
) -> Result<(), GroupError> {
    let name = runtime.handle().name().cloned().ok_or(GroupError::Unnamed)?;
    group.add_with_json(&name, runtime, |snapshot| serde_json::to_value(snapshot).unwrap_or_default())
}

/// Passes on what each cycle of the analysis has found.
async fn sight(handle: ObservationHandle<ErrorAnalysis>, escalation: Arc<Escalation>) {
    let mut watch = handle.watch();
    loop {
        if let Some(snapshot) = handle.latest_snapshot() {
            escalation.sighted(&snapshot.value.clusters);
        }
        if watch.changed().await.is_err() {
            return;
        }
    }
}

/// Opens the records of runs.
struct Recorder<'a> {
    directory: Option<&'a Path>,
}

impl Recorder<'_> {
    /// The journal of the run, and the observation that continues it. A run that cannot be recorded stops nothing.
    async fn open<O: Observer>(
        &self,
        observation: ObservationConfig,
    ) -> (Option<RunJournal<O, SerdeFormat>>, ObservationConfig)
    where
        SerdeFormat: watchkeeper_journal::run::RunFormat<O>,
    {
        let (Some(directory), Some(name)) = (self.directory, observation.name.clone()) else {
            return (None, observation);
        };
        let (segment_bytes, segments) = RUN_SEGMENTS;
        let config = JournalConfig {
            durability: Durability::Buffered,
            segment_bytes,
            segments,
            reserve: 0,
            ..JournalConfig::default()
        };
        let opened = async {
            let run = RunJournal::open(directory, &name, config, SerdeFormat).await?;
            let resume = run.resume().await?;
            Ok::<_, RunError>((run, resume))
        };
        match opened.await {
            Ok((run, resume)) => (Some(run), ObservationConfig { resume, ..observation }),
            Err(error) => {
                tracing::warn!(run = name, error = error_chain(&error), "a loop's run is not recorded");
                (None, observation)
            }
        }
    }
}

fn record<O>(
    run: Option<RunJournal<O, SerdeFormat>>,
    runtime: &ObservationRuntime<O>,
    observation: &ObservationConfig,
) -> Option<RecordedRun>
where
    O: Observer<Snapshot: Serialize + DeserializeOwned, Event: Serialize + DeserializeOwned>,
{
    let run = run?;
    match run.record(&runtime.handle(), observation) {
        Ok(recording) => Some(RecordedRun { recording, journal: run.journal().clone() }),
        Err(error) => {
            tracing::warn!(run = %run.name(), error = error_chain(&error), "a loop's run is not recorded");
            None
        }
    }
}

/// Why the loops do not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum LoopsError {
    /// A setting of a loop is wrong.
    #[error(transparent)]
    Runtime(#[from] ObservationRuntimeError),
    /// Two loops have one name.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// An entry of `outgoing.allow` is wrong.
    #[error(transparent)]
    Outgoing(#[from] OutgoingError),
    /// A setting of the escalation is wrong, or what was posted cannot be read.
    #[error(transparent)]
    Escalation(#[from] EscalationError),
}

debug_as_text!(LoopsError);
