//! A panic in a task that app code spawned and awaits is not lost: the failure contains its message.

use watchkeeper::runtime::Cause;
use watchkeeper::{DynError, ObservationFailureStage, ObservationRuntime, StaticSourceProvider};

use crate::common::stateless::stateless;
use crate::common::{each_second, ms};

/// How the poll delegates to a task that panics.
#[derive(Clone, Copy, Debug)]
enum How {
    Task,
    Blocking,
    /// The panic goes on in the task that waits.
    Resumed,
}

async fn delegate(how: How) -> Result<(), DynError> {
    match how {
        How::Task => tokio::spawn(async { panic!("inside a task") }).await?,
        How::Blocking => tokio::task::spawn_blocking(|| panic!("inside a task")).await?,
        How::Resumed => match tokio::spawn(async { panic!("inside a task") }).await {
            Ok(()) => {}
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        },
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn it_is_the_failure_of_that_cycle() {
    for (how, cause) in
        [(How::Task, Cause::Error), (How::Blocking, Cause::Error), (How::Resumed, Cause::Panicked)]
    {
        let sources = StaticSourceProvider::<()>::new(vec![]);
        let runtime = ObservationRuntime::start(sources, stateless(move || delegate(how)), each_second())
            .await
            .unwrap();
        let handle = runtime.handle();
        let failed = handle.reaches(watchkeeper::runtime::StateKind::Failed).within(ms(5_000)).await.unwrap();
        let failure = failed.last_error.unwrap();
        assert_eq!(
            (failure.cycle, failure.stage, failure.cause),
            (1, ObservationFailureStage::Poll, cause),
            "{how:?}"
        );
        assert!(failure.message.contains("inside a task"), "{how:?}: {failure}");
    }
}
