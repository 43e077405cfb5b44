//! A run that is dropped, or cancelled, while it holds errors whose destructors panic: the process lives, and no failure
//! is lost.

use std::future::pending;
use std::time::Duration;

use tokio::time::timeout;
use watchkeeper_scenario::{DynError, Expectation, RunContext, ScenarioBuilder, async_trait};

use crate::common::{Memory, Numbers, observed, panics, secs, told};
use crate::destructors::Unsayable;

/// Two errors are recorded, or have just come, when the run is dropped.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_survives_the_errors_it_has_recorded() {
    type Add = fn(ScenarioBuilder<Numbers>) -> ScenarioBuilder<Numbers>;
    let cases: [(&str, Add); 4] = [
        ("one workload", |it| it.workload("a", |_| async { Err(Unsayable("a")) })),
        ("two workloads", |it| {
            it.workload("a", |_| async { Err(Unsayable("a")) })
                .workload("b", |_| async { Err(Unsayable("b")) })
        }),
        ("two checks", |it| it.with_expectation(Checked("a")).with_expectation(Checked("b"))),
        ("two waits", |it| {
            it.expect_wait("a", |_| async { Err::<(), _>(Unsayable("a")) })
                .expect_wait("b", |_| async { Err::<(), _>(Unsayable("b")) })
        }),
    ];
    for (name, add) in cases {
        let memory = Memory::default();
        let scenario = add(observed(&memory))
            .expect_wait("hangs", |_| pending::<Result<(), DynError>>())
            .build()
            .unwrap();
        let dropped = timeout(secs(5), async { scenario.run(&memory).await.map(drop) });
        let mut dropped = Box::pin(dropped);
        let unwound = panics(&mut dropped).await;
        assert!(!unwound, "{name}: it was polled");
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(dropped)));
        assert!(unwound.is_ok(), "{name}: it was dropped");
        assert_eq!(memory.diary.read(), ["up", "cluster dropped"], "{name}");
    }
}

/// Its check fails.
struct Checked(&'static str);

#[async_trait]
impl Expectation<Numbers> for Checked {
    fn name(&self) -> &str {
        self.0
    }
    async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Err(Unsayable(self.0).into())
    }
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Ok(())
    }
}

/// Its check ends the run, and then fails.
struct Cancels(&'static str, tokio_util::sync::CancellationToken);

#[async_trait]
impl Expectation<Numbers> for Cancels {
    fn name(&self) -> &str {
        self.0
    }
    async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        self.1.cancel();
        Err(format!("{} is broken", self.0).into())
    }
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Ok(())
    }
}

/// Both checks have ended when the run is cancelled, and neither was looked at yet.
#[tokio::test(start_paused = true)]
async fn checks_that_fail_while_the_run_is_cancelled_are_all_recorded() {
    let memory = Memory::default();
    let cancel = tokio_util::sync::CancellationToken::new();
    let scenario = observed(&memory)
        .run_for(Duration::from_millis(1_500))
        .with_expectation(Cancels("a", cancel.clone()))
        .with_expectation(Cancels("b", cancel.clone()))
        .build()
        .unwrap();
    let failure = scenario.run_until(&memory, cancel.cancelled()).await.unwrap_err();
    let mut all = told(&failure);
    all.sort();
    assert_eq!(
        all,
        [
            r#"workloads expectation "a": a is broken"#,
            r#"workloads expectation "b": b is broken"#,
            "workloads the run: Cancelled",
        ]
    );
    let checks: Vec<_> = failure.report().expectations.iter().map(|one| one.checks).collect();
    assert_eq!(checks, [Some(1), Some(1)]);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
}
