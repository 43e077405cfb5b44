//! A run that is dropped or cancelled while it holds errors whose destructors panic: the process is not aborted, and no
//! failure is lost.

use std::future::pending;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use watchkeeper_scenario::{
    DynError, Expectation, ExpectationEnd, Limits, Problem, RunContext, ScenarioBuilder, ScenarioFailure,
    async_trait,
};

use crate::common::{Memory, Numbers, Sharp, observed, panics, recorded, secs};
use crate::destructors::{Cutting, Unsayable};

/// Two errors are recorded, or were just returned, when the run is dropped.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_survives_the_errors_it_has_recorded() {
    type Add = fn(ScenarioBuilder<Numbers>) -> ScenarioBuilder<Numbers>;
    let cases: [(&str, Add); 4] = [
        ("one workload", |it| it.workload("a", |_| async { Err(Unsayable("a").into()) })),
        ("two workloads", |it| {
            it.workload("a", |_| async { Err(Unsayable("a").into()) })
                .workload("b", |_| async { Err(Unsayable("b").into()) })
        }),
        ("two checks", |it| it.with_expectation(Checked("a")).with_expectation(Checked("b"))),
        ("two waits", |it| {
            it.expect_wait("a", |_| async { Err::<(), _>(Unsayable("a").into()) })
                .expect_wait("b", |_| async { Err::<(), _>(Unsayable("b").into()) })
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
struct Cancels(&'static str, watchkeeper_scenario::CancellationToken);

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

fn sorted(failure: &ScenarioFailure) -> Vec<String> {
    let mut all = recorded(failure);
    all.sort();
    all
}

/// Both checks have ended when the run is cancelled, and neither was recorded yet.
#[tokio::test(start_paused = true)]
async fn checks_that_fail_while_the_run_is_cancelled_are_all_recorded() {
    let memory = Memory::default();
    let cancel = watchkeeper_scenario::CancellationToken::new();
    let scenario = observed(&memory)
        .run_for(Duration::from_millis(1_500))
        .with_expectation(Cancels("a", cancel.clone()))
        .with_expectation(Cancels("b", cancel.clone()))
        .build()
        .unwrap();
    let failure = scenario.run_until(&memory, cancel.cancelled()).await.unwrap_err();
    assert_eq!(
        sorted(&failure),
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

/// Both steps have ended when the run is cancelled: they are recorded for the phase in which they failed.
#[tokio::test(start_paused = true)]
async fn steps_that_fail_while_the_run_is_cancelled_are_all_recorded() {
    let memory = Memory::default();
    let cancel = watchkeeper_scenario::CancellationToken::new();
    let cancels = |name: &'static str| {
        let cancel = cancel.clone();
        move |_| async move {
            sleep(secs(1)).await;
            cancel.cancel();
            Err::<(), _>(format!("{name} does not hold").into())
        }
    };
    let scenario = observed(&memory)
        .expect_wait("a", cancels("a"))
        .expect_wait("b", cancels("b"))
        .expect_wait("holds", |_| async {
            sleep(secs(1)).await;
            Ok(())
        })
        .expect_wait("hangs", |_| pending::<Result<(), DynError>>())
        .build()
        .unwrap();
    let failure = scenario.run_until(&memory, cancel.cancelled()).await.unwrap_err();
    assert_eq!(
        sorted(&failure),
        [
            r#"evaluate expectation "a": a does not hold"#,
            r#"evaluate expectation "b": b does not hold"#,
            "evaluate the run: Cancelled",
        ]
    );
    let held = failure.report().expectations.iter().find(|known| known.name == "holds");
    assert_eq!(held.unwrap().end, ExpectationEnd::Held);
}

/// The part with the panicking destructor hangs or fails; the run is ended after so many turns of its thread.
fn sharp(memory: &Memory) -> ScenarioBuilder<Numbers> {
    observed(memory)
        .with_extension(Sharp("extension"))
        .with_extension((Sharp("another"), 1))
        .with_expectation(Checked("a"))
        .with_expectation(Checked("b"))
        .with_workload(Cutting::hanging("c"))
        .with_workload(Cutting::new("d"))
        .workload("e", |_| async { Err(Unsayable("e").into()) })
        .workload("f", |_| async { Err(Unsayable("f").into()) })
        .expect_wait_throughout("g", |_| async {
            let _held = Sharp("a wait");
            pending::<Result<(), DynError>>().await
        })
        .expect_wait("h", |_| async { Err::<(), _>(Unsayable("h").into()) })
}

async fn turns(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// The tasks of the run are polled by the other thread meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_dropped_at_any_moment_releases_its_nodes() {
    let limits = || Limits { drain: Duration::from_millis(5), ..Limits::default() };
    for round in 0..500 {
        let memory = Memory::default();
        let scenario = sharp(&memory).limits(limits()).build().unwrap();
        let drop_it = async { turns(round).await };
        tokio::select! {
            biased;
            _ = scenario.run(&memory) => {}
            () = drop_it => {}
        }
        // A task that was being polled drops its values when that poll returns.
        let released = async {
            while memory.diary.count("cluster dropped") < memory.diary.count("up") {
                tokio::task::yield_now().await;
            }
        };
        timeout(secs(20), released).await.unwrap_or_else(|_| panic!("round {round}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cancelled_at_any_moment_ends_in_order() {
    let limits = || Limits { drain: Duration::from_millis(5), ..Limits::default() };
    for round in 0..500 {
        let memory = Memory::default();
        let scenario = sharp(&memory).limits(limits()).build().unwrap();
        let failure = scenario.run_until(&memory, turns(round)).await.unwrap_err();
        let diary = memory.diary.read();
        if memory.diary.count("up") > 0 {
            assert_eq!(diary[diary.len() - 2..], ["down", "cluster dropped"], "round {round}: {diary:?}");
        }
        let mut problems = failure.failures().iter().map(|failure| &failure.problem);
        assert!(!problems.any(|problem| matches!(problem, Problem::Blocked)), "round {round}: {failure}");
        drop(failure);
    }
}
