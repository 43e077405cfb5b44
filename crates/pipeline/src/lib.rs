#![doc = include_str!("../README.md")]

mod error;
mod handler;
mod item;
mod link;
mod metrics;
mod output;
mod pipeline;
mod position;
mod stage;
pub mod store;
mod upstream;

pub use error::{NoSuchStage, OutputError, PipelineError, SettingProblem};
pub use handler::{Emitter, Handler, HandlerFn, handler_fn};
pub use item::Item;
pub use metrics::{StageMetrics, StageProbe, StageProbes};
pub use output::{StageOutput, StageProgress};
pub use pipeline::machine::{OnStageFailure, PipelineState, PipelineStatus};
pub use pipeline::{Pipeline, PipelineBuilder, StageOutputError};
pub use position::{StagePosition, UpstreamPosition, UpstreamPositionError};
pub use stage::shared::DeadLetterView;
pub use stage::state::{OnError, StageFailure, StageFailureKind, StageState, StageStatus};
pub use stage::{DeadLetterError, RestartStageError, StageBuilder, StageHandle, stage};
pub use store::{CommitStore, FileStore, MemoryStore};
pub use upstream::{Upstream, UpstreamError, UpstreamErrorKind};
