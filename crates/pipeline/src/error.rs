//! Why a pipeline does not start.

use std::sync::Arc;
use std::time::Duration;

use watchkeeper::ObservationRuntimeError;
use watchkeeper::report::{debug_as_text, names, one_line};
use watchkeeper::supervise::SuperviseError;

use crate::stage::state::{StageFailure, StageState};

/// Byte limit of a list of names.
const NAMES: usize = 400;
/// Byte limit of a name.
const NAME: usize = 100;

pub(crate) fn name(text: &str) -> String {
    one_line(text, NAME)
}

fn list(texts: &[Arc<str>]) -> String {
    names(texts.iter().map(|text| &**text), NAMES)
}

pub(crate) fn because(failure: Option<&StageFailure>) -> String {
    failure.map_or_else(String::new, |failure| format!(": {failure}"))
}

/// Why a pipeline does not start. Nothing runs then.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// The name of the pipeline, a stage or an upstream is empty or too long.
    #[error("{what} has a name of {length} bytes: a name has 1 to 256")]
    Name {
        /// Whose name.
        what: &'static str,
        /// Its length.
        length: usize,
    },
    /// There is no stage.
    #[error("the pipeline has no stage: add one with PipelineBuilder::stage")]
    NoStages,
    /// Two stages share a name.
    #[error("two stages are called {}: give each a name of its own", name(.stage))]
    TwoStages {
        /// The name.
        stage: Arc<str>,
    },
    /// A stage reads nothing.
    #[error("stage {} has no upstream: give it one with StageBuilder::from", name(.stage))]
    NoUpstream {
        /// The stage.
        stage: Arc<str>,
    },
    /// Two upstreams of a stage share a name.
    #[error(
        "stage {} has two upstreams called {}: give each a name of its own, their positions are stored by it",
        name(.stage), name(.upstream)
    )]
    TwoUpstreams {
        /// The stage.
        stage: Arc<str>,
        /// The name.
        upstream: Arc<str>,
    },
    /// A stage reads a stage that is not there.
    #[error("stage {} reads stage {}, which is not in the pipeline; there are: {}", name(.stage), name(.upstream), list(.stages))]
    UnknownStage {
        /// The stage.
        stage: Arc<str>,
        /// What it reads.
        upstream: Arc<str>,
        /// The stages there are.
        stages: Vec<Arc<str>>,
    },
    /// A stage reads outputs of another type than they have.
    #[error(
        "stage {} reads {} from stage {}, whose outputs are {found}: convert them with Upstream::map",
        name(.stage), one_line(.wanted, NAMES), name(.upstream), found = one_line(.found, NAMES)
    )]
    OutputType {
        /// The stage.
        stage: Arc<str>,
        /// What it reads.
        upstream: Arc<str>,
        /// The type that it reads.
        wanted: &'static str,
        /// The type of the outputs.
        found: &'static str,
    },
    /// Stages read each other.
    #[error("the stages {} read each other in a circle: items go one way, remove one of these upstreams", list(.stages))]
    Cycle {
        /// The circle: each stage reads the one before it, the first reads the last.
        stages: Vec<Arc<str>>,
    },
    /// A setting is out of range.
    #[error("{}: {problem}", .stage.as_ref().map_or_else(|| "the pipeline".to_owned(), |stage| format!("stage {}", name(stage))))]
    Setting {
        /// The stage; `None` for a setting of the pipeline.
        stage: Option<Arc<str>>,
        /// What is wrong.
        problem: SettingProblem,
    },
    /// A stage has not started: its store is torn or of another stage, its position is not one of its upstream, or its
    /// handler could not be made. [`StageFailure::cause`] has the error itself, such as a
    /// [`FileStoreError`](crate::store::FileStoreError) or an [`UpstreamError`](crate::UpstreamError).
    #[error("stage {} is {state}{}", name(.stage), because(.failure.as_deref()))]
    NotStarted {
        /// The stage.
        stage: Arc<str>,
        /// Its state.
        state: StageState,
        /// Why.
        failure: Option<Arc<StageFailure>>,
    },
    /// A stop came before all stages had started.
    #[error("the pipeline was stopped before its stages had started: build it again")]
    Stopped,
    /// The metrics are not observed.
    #[error("PipelineBuilder::metrics: {0}")]
    Metrics(ObservationRuntimeError),
    /// A machine was not spawned.
    #[error("the tasks of the pipeline were not spawned")]
    Spawn(#[source] SuperviseError),
}

/// A setting that is out of range.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingProblem {
    /// A field of the backoff.
    #[error(
        "Backoff::{field} is {value}: `first` must be more than zero, `max` at least `first` and at most 24 h, `jitter` \
         between 0 and 1"
    )]
    Backoff {
        /// The field.
        field: &'static str,
        /// What was set.
        value: String,
    },
    /// The capacity is zero.
    #[error("capacity is 0: there must be room for at least one batch")]
    Capacity,
    /// A duration is zero or over 24 h.
    #[error("{setting} is {duration:?}: it must be more than zero and at most 24 h")]
    Duration {
        /// The setting.
        setting: &'static str,
        /// What was set.
        duration: Duration,
    },
    /// A window of failures is zero or over 24 h.
    #[error("the time of the FailureWindow must be more than zero and at most 24 h")]
    FailureWindow,
}

/// The outputs of a stage were asked for as another type.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the outputs of stage {} are {}, not {}: ask for them as that type",
    name(.stage), one_line(.found, NAMES), one_line(.wanted, NAMES)
)]
pub struct OutputError {
    /// The stage.
    pub stage: Arc<str>,
    /// The type that was asked for.
    pub wanted: &'static str,
    /// The type of its outputs.
    pub found: &'static str,
}

/// There is no stage of a name.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("the pipeline has no stage {}; there are: {}", name(.stage), list(.stages))]
pub struct NoSuchStage {
    /// The name.
    pub stage: Arc<str>,
    /// The stages there are.
    pub stages: Vec<Arc<str>>,
}

debug_as_text!(PipelineError, SettingProblem, OutputError, NoSuchStage);
