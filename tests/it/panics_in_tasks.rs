//! A panic in a task that app code spawned and awaits is not lost: the failure says it.

use watchkeeper::runtime::Cause;
use watchkeeper::{
    DynError, ObservationFailureStage, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};

use crate::common::{each_second, ms};

/// Looks in a task of its own.
struct Delegates {
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Task,
    Blocking,
    /// The panic goes on in the task that waits.
    Resumed,
}

#[async_trait]
impl Observer for Delegates {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
        match self.how {
            How::Task => tokio::spawn(async { panic!("inside a task") }).await?,
            How::Blocking => tokio::task::spawn_blocking(|| panic!("inside a task")).await?,
            How::Resumed => match tokio::spawn(async { panic!("inside a task") }).await {
                Ok(()) => {}
                Err(ended) => std::panic::resume_unwind(ended.into_panic()),
            },
        }
        Ok(vec![])
    }

    fn snapshot(&self, (): &()) {}
}

#[tokio::test(start_paused = true)]
async fn it_is_the_failure_of_that_cycle() {
    for (how, cause) in
        [(How::Task, Cause::Error), (How::Blocking, Cause::Error), (How::Resumed, Cause::Panicked)]
    {
        let sources = StaticSourceProvider::new(vec![]);
        let runtime = ObservationRuntime::start(sources, Delegates { how }, each_second()).await.unwrap();
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
