//! Each phase has its own time-out.

use std::future::pending;

use watchkeeper_scenario::{
    DynError, Expectation, Limits, ObservationExtensionFactory, RunContext, ScenarioBuilder, Workload,
    async_trait,
};

use crate::common::{Goes, Memory, Numbers, nothing, observed, recorded, scenario, secs};

/// Hangs in one of its steps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hangs {
    Build,
    Init,
    StartCapture,
    Evaluate,
}

impl Hangs {
    async fn reach(self, step: Self) -> Result<(), DynError> {
        if self == step { pending().await } else { Ok(()) }
    }
}

#[async_trait]
impl ObservationExtensionFactory<Numbers> for Hangs {
    fn name(&self) -> &'static str {
        "hangs"
    }
    async fn build(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach(Self::Build).await
    }
}

#[async_trait]
impl Expectation<Numbers> for Hangs {
    fn name(&self) -> &'static str {
        "hangs"
    }
    async fn init(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach(Self::Init).await
    }
    async fn start_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach(Self::StartCapture).await
    }
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.reach(Self::Evaluate).await
    }
}

#[async_trait]
impl Workload<Numbers> for Hangs {
    fn name(&self) -> &'static str {
        "hangs"
    }
    async fn start(&mut self, context: &RunContext<Numbers>) -> Result<(), DynError> {
        context.cancelled().await;
        Ok(())
    }
}

type Add = fn(ScenarioBuilder<Numbers>) -> ScenarioBuilder<Numbers>;

#[tokio::test(start_paused = true)]
async fn a_part_that_hangs_is_reported_with_its_limit_and_everything_is_cleaned_up() {
    let limits = || Limits {
        deploy: secs(1),
        prepare: secs(2),
        start_capture: secs(3),
        workloads: secs(4),
        evaluate: secs(5),
        cleanup: secs(6),
        ..Limits::default()
    };
    let cases: [(Add, u64, &str); 5] = [
        (|it| it.with_factory(Hangs::Build), 2, r#"prepare factory "hangs": TimedOut(2s)"#),
        (|it| it.with_expectation(Hangs::Init), 2, r#"prepare expectation "hangs": TimedOut(2s)"#),
        (
            |it| it.with_expectation(Hangs::StartCapture),
            3,
            r#"start_capture expectation "hangs": TimedOut(3s)"#,
        ),
        (|it| it.with_workload(Hangs::Init), 4, r#"workloads workload "hangs": TimedOut(4s)"#),
        (|it| it.with_expectation(Hangs::Evaluate), 5, r#"evaluate expectation "hangs": TimedOut(5s)"#),
    ];
    for (add, lasts, expected) in cases {
        let memory = Memory::default();
        let builder = add(observed(&memory).workload("w", nothing).limits(limits()));
        let failure = builder.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(recorded(&failure), [expected]);
        let (limit, _) = expected.split_once(' ').unwrap();
        assert!(
            failure.to_string().contains(&format!("Limits::{limit} with ScenarioBuilder::limits")),
            "{failure}"
        );
        assert_eq!(failure.report().elapsed, secs(lasts), "{expected}");
        assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"], "{expected}");
    }
}

/// Failures of the deployer: nothing else runs, and the cluster is dropped.
#[tokio::test(start_paused = true)]
async fn a_deployer_may_fail_panic_and_hang_in_both_directions() {
    let cases = [
        (Goes::Fails, "the memory deployer could not "),
        (Goes::Panics, "panicked: "),
        (Goes::Hangs, "TimedOut("),
    ];
    for (goes, expected) in cases {
        let memory = Memory { up: goes, ..Memory::default() };
        let failure = scenario().workload("w", nothing).build().unwrap().run(&memory).await.unwrap_err();
        let all = recorded(&failure);
        assert_eq!(all.len(), 1);
        assert!(all[0].starts_with(&format!(r#"deploy deployer "memory": {expected}"#)), "{all:?}");
        assert_eq!(memory.diary.read(), [""; 0]);

        let memory = Memory { down: goes, ..Memory::default() };
        let failure =
            observed(&memory).workload("w", nothing).build().unwrap().run(&memory).await.unwrap_err();
        let all = recorded(&failure);
        assert_eq!(all.len(), 1);
        assert!(all[0].starts_with(&format!(r#"cleanup deployer "memory": {expected}"#)), "{all:?}");
        assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    }
}
