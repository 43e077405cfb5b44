//! Waits as expectations.

use std::time::Duration;

use tokio::time::sleep;
use watchkeeper::wait::Unmet;
use watchkeeper_scenario::{DynError, Limits, RunContext};

use crate::common::{Memory, Numbers, Watcher, nothing, observed, recorded, secs};

/// n1 is 5 for a while, then 1 again.
async fn blink(context: RunContext<Numbers>) -> Result<(), DynError> {
    sleep(secs(1)).await;
    let n1 = context.node_client("n1")?;
    n1.set(5);
    sleep(secs(1)).await;
    n1.set(1);
    sleep(secs(1)).await;
    Ok(())
}

async fn five(context: RunContext<Numbers>) -> Result<(), DynError> {
    let numbers = context.require_observer::<Watcher>("numbers")?;
    numbers.eventually("n1 is 5", |seen| seen["n1"] == 5).within(secs(2)).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_wait_throughout_sees_what_a_wait_at_the_end_misses() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("blink", blink)
        .expect_wait_throughout("while it blinked", five)
        .expect_wait("afterwards", five);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(failure.failures().len(), 1, "{failure}");
    let text = failure.failures()[0].to_string();
    assert!(text.starts_with(r#"expectation "afterwards" failed (evaluate, +5.000s)"#), "{text}");
    assert!(text.contains("\n  not met in time") && text.contains("n1 is 5"), "{text}");
}

/// The window counts from `start_capture`, so the wait ends 500 ms before the workload.
#[tokio::test(start_paused = true)]
async fn a_wait_throughout_that_fails_early_ends_the_workloads() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("long", |context| async move {
            context.cancelled().await;
            Ok(())
        })
        .expect_wait_throughout("n1 becomes 5", five);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure).len(), 1);
    let at = failure.failures()[0].at;
    assert!((secs(2)..=secs(3)).contains(&at), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_throughout_that_is_pending_is_awaited() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("raise soon", |context| async move {
            let n1 = context.node_client("n1")?;
            tokio::spawn(async move {
                sleep(Duration::from_millis(1_500)).await;
                n1.set(5);
            });
            Ok(())
        })
        .expect_wait_throughout("n1 becomes 5", five);
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    assert!(report.elapsed >= Duration::from_millis(1_500), "{report}");
}

/// The error of a handle's wait is its report, for any type that the closure returns.
#[tokio::test(start_paused = true)]
async fn an_unmet_wait_can_be_taken_out_of_the_failure() {
    let memory = Memory::default();
    let scenario = observed(&memory).workload("w", nothing).expect_wait("n1 is 5", |context| async move {
        let numbers = context.observer::<Watcher>("numbers").unwrap();
        Ok(numbers.eventually("n1 is 5", |seen| seen["n1"] == 5).within(secs(2)).await?)
    });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    let watchkeeper_scenario::Problem::Error(error) = &failure.failures()[0].problem else {
        panic!("{failure}")
    };
    assert!(error.downcast_ref::<Unmet>().is_some(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_made_in_a_closure_has_begun_when_workloads_start() {
    let memory = Memory::default();
    // The workload changes n1 at once and for one cycle only.
    let scenario = observed(&memory)
        .workload("blink at once", |context| async move {
            let numbers = context.require_observer::<Watcher>("numbers")?;
            let n1 = context.node_client("n1")?;
            n1.set(5);
            numbers.eventually("any cycle", |_| true).within(secs(1)).await?;
            n1.set(1);
            Ok(())
        })
        .expect_wait_throughout("n1 was 5", five);
    scenario.build().unwrap().run(&memory).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_cut_off_by_the_limit_names_the_fix() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .limits(Limits { evaluate: secs(1), ..Limits::default() })
        .workload("nothing", nothing)
        .expect_wait("n1 becomes 5", five);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"evaluate expectation "n1 becomes 5": TimedOut(1s)"#]);
    assert_eq!(
        failure.failures()[0].to_string(),
        "expectation \"n1 becomes 5\" was not done within 1s (evaluate, +1.000s)\n  it was cut off, and its \
         report is lost: give its wait a shorter window, or set a longer Limits::evaluate with ScenarioBuilder::limits"
    );
}
