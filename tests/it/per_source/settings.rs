//! A setting that makes no sense is a typed error that names it.

use std::time::Duration;

use watchkeeper::per_source::PerSourceError;
use watchkeeper::{
    DynError, ObservationRuntime, ObservationRuntimeError, ObservedSource, PerSource, StaticSourceProvider,
};

use super::sources;
use crate::common::each_second;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MORE_THAN_A_DAY: Duration = Duration::from_secs(24 * 3600 + 1);

fn observer() -> PerSource<u32, u32> {
    PerSource::new(|_: ObservedSource<u32>| async { Ok::<_, DynError>(1) })
}

async fn start(observer: PerSource<u32, u32>) -> Result<(), ObservationRuntimeError> {
    let provider = StaticSourceProvider::new(sources(&["a"]));
    let runtime = ObservationRuntime::start(provider, observer, each_second()).await?;
    let _ = runtime.stop().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_duration_is_more_than_zero_and_at_most_a_day() {
    type Set = fn(Duration) -> PerSource<u32, u32>;
    let settings: [(&str, Set); 3] = [
        ("probe_timeout", |value| observer().probe_timeout(value)),
        ("collect_for", |value| observer().collect_for(value)),
        ("stale_after", |value| observer().stale_after(value)),
    ];
    for (setting, set) in settings {
        for value in [Duration::ZERO, MORE_THAN_A_DAY, Duration::MAX] {
            let error = start(set(value)).await.unwrap_err();
            let ObservationRuntimeError::ObserverInit { source } = &error else { panic!("{error:?}") };
            let refused = source.downcast_ref::<PerSourceError>().unwrap();
            assert_eq!(refused, &PerSourceError::InvalidDuration { setting, value });
            let expected =
                format!("PerSource::{setting} is {value:?}: it must be more than zero and at most 24 h");
            assert_eq!(refused.to_string(), expected);
        }
        assert!(start(set(DAY)).await.is_ok(), "{setting} of a day");
    }
}

#[tokio::test(start_paused = true)]
async fn at_least_one_probe_must_be_allowed() {
    let error = start(observer().concurrency(0)).await.unwrap_err();
    let ObservationRuntimeError::ObserverInit { source } = &error else { panic!("{error:?}") };
    assert_eq!(source.downcast_ref(), Some(&PerSourceError::NoConcurrency));
    assert_eq!(source.to_string(), "PerSource::concurrency is 0: at least one probe must be allowed at once");
    assert!(start(observer().concurrency(usize::MAX)).await.is_ok());
}
