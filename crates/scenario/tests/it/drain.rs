//! How endless workloads end.

use std::future::pending;

use tokio::time::sleep;
use watchkeeper_scenario::{DynError, Limits, Phase, WorkloadEnd};

use crate::common::{Drops, Memory, nothing, observed, recorded, scenario, secs};

#[tokio::test(start_paused = true)]
async fn an_endless_workload_is_cancelled_and_not_waited_for() {
    let memory = Memory::default();
    let scenario = scenario()
        .workload("ends", |_| async {
            sleep(secs(2)).await;
            Ok(())
        })
        .endless_workload("endless", |context| async move {
            context.cancelled().await;
            sleep(secs(1)).await; // it has to finish something
            Ok(())
        });
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    assert_eq!(report.elapsed, secs(3));
    assert!(report.phases.contains(&(Phase::Drain, secs(1))), "{report}");
    assert_eq!(report.workloads[0].end, WorkloadEnd::Done);
    assert_eq!(report.workloads[1].end, WorkloadEnd::Cancelled);
}

/// Its values are dropped before the observers stop.
#[tokio::test(start_paused = true)]
async fn a_workload_that_ignores_cancellation_is_aborted_at_the_deadline() {
    let memory = Memory::default();
    let diary = memory.diary.clone();
    let scenario =
        observed(&memory).workload("ends", nothing).endless_workload("deaf", move |_| async move {
            let _held = Drops(diary, "workload dropped");
            pending::<Result<(), DynError>>().await
        });
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    assert_eq!(report.elapsed, Limits::default().drain);
    assert_eq!(report.workloads[1].end, WorkloadEnd::Aborted);
    let expected = ["up", "workload dropped", "observer dropped", "down", "cluster dropped"];
    assert_eq!(memory.diary.read(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_error_after_the_cancellation_is_still_an_error() {
    let memory = Memory::default();
    let scenario = scenario().run_for(secs(1)).endless_workload("sore", |context| async move {
        context.cancelled().await;
        Err("a write was lost".into())
    });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"drain workload "sore": a write was lost"#]);
}
