//! What ends the workloads early, and what is recorded then.

use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;
use watchkeeper_scenario::{DynError, Expectation, RunContext, WorkloadEnd, async_trait};

use crate::common::{Memory, Numbers, nothing, observed, recorded, scenario, secs};

/// Breaks at this check, and would hold at the end.
struct BreaksAt {
    name: &'static str,
    check: u32,
    checks: u32,
}

impl BreaksAt {
    fn check(name: &'static str, check: u32) -> Self {
        Self { name, check, checks: 0 }
    }
}

#[async_trait]
impl Expectation<Numbers> for BreaksAt {
    fn name(&self) -> &str {
        self.name
    }

    async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.checks += 1;
        if self.checks == self.check { Err(format!("broken at check {}", self.check).into()) } else { Ok(()) }
    }

    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        if self.checks >= self.check { Err("it was called again".into()) } else { Ok(()) }
    }
}

async fn until_cancelled(context: RunContext<Numbers>) -> Result<(), DynError> {
    context.cancelled().await;
    Ok(())
}

/// Both checks that fail at the same time are recorded, and the other two expectations are still judged.
#[tokio::test(start_paused = true)]
async fn a_broken_check_ends_the_workloads_and_all_failures_are_joined() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("long", until_cancelled)
        .with_expectation(BreaksAt::check("a", 3))
        .with_expectation(BreaksAt::check("b", 3))
        .with_expectation(BreaksAt::check("c", 4))
        .expect_wait("d", |_| async { Err::<(), _>("not held".into()) })
        .cooldown(secs(100));
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [
            r#"workloads expectation "a": broken at check 3"#,
            r#"workloads expectation "b": broken at check 3"#,
            r#"evaluate expectation "d": not held"#,
        ]
    );
    assert_eq!(failure.failures()[0].at, secs(3));
    assert_eq!(failure.report().elapsed, secs(3), "no cooldown");
    assert_eq!(failure.report().workloads[0].end, WorkloadEnd::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_failed_workload_ends_the_others() {
    let memory = Memory::default();
    let scenario = scenario()
        .workload("long", until_cancelled)
        .workload("short", |_| async {
            sleep(Duration::from_millis(1_300)).await;
            Err("lost it".into())
        })
        .expect_wait("also judged", |_| async { Err::<(), _>("not held".into()) });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [r#"workloads workload "short": lost it"#, r#"evaluate expectation "also judged": not held"#]
    );
    assert_eq!(failure.report().elapsed, Duration::from_millis(1_300));
    let ends: Vec<_> = failure.report().workloads.iter().map(|one| (one.name.as_str(), one.end)).collect();
    assert_eq!(ends, [("short", WorkloadEnd::Failed), ("long", WorkloadEnd::Cancelled)]);
}

#[tokio::test(start_paused = true)]
async fn checks_and_endless_workloads_continue_in_the_cooldown() {
    let memory = Memory::default();
    let scenario = scenario()
        .workload("quick", nothing)
        .endless_workload("load", until_cancelled)
        .with_expectation(BreaksAt::check("late", 3)) // the first is when "quick" has ended
        .cooldown(secs(100));
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"cooldown expectation "late": broken at check 3"#]);
    assert_eq!(failure.report().elapsed, secs(2));
    assert_eq!(failure.report().workloads[1].took, secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_a_failure() {
    struct Hangs;
    #[async_trait]
    impl Expectation<Numbers> for Hangs {
        fn name(&self) -> &'static str {
            "hangs"
        }
        async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            pending().await
        }
        async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            Err("it was called again".into())
        }
    }
    let memory = Memory::default();
    let scenario = scenario().workload("long", until_cancelled).with_expectation(Hangs);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"workloads expectation "hangs": TimedOut(10s)"#]);
    assert_eq!(failure.report().elapsed, secs(11));
}
