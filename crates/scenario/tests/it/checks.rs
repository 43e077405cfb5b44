//! Checks: of short runs, of the last second, and concurrently with other events.

use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;
use watchkeeper_scenario::{DynError, Expectation, Limits, Phase, RunContext, WorkloadEnd, async_trait};

use crate::common::{Diary, Memory, Numbers, Watcher, nothing, observed, recorded, scenario, secs};

/// Each check takes this long, and fails if n1 is 13 when it begins.
struct Unlucky {
    takes: Duration,
}

impl Unlucky {
    fn quick() -> Self {
        Self { takes: Duration::ZERO }
    }
}

#[async_trait]
impl Expectation<Numbers> for Unlucky {
    fn name(&self) -> &'static str {
        "no 13"
    }

    async fn check_during_capture(&mut self, context: &RunContext<Numbers>) -> Result<(), DynError> {
        let unlucky = context.node_client("n1")?.get() == 13;
        sleep(self.takes).await;
        if unlucky { Err("n1 is 13".into()) } else { Ok(()) }
    }

    /// The state at the end differs from the state while the workloads ran.
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Ok(())
    }
}

/// Sets n1 to 13 after a while.
fn unlucky_after(after: Duration) -> impl FnOnce(RunContext<Numbers>) -> Boxed + Send {
    move |context| {
        Box::pin(async move {
            sleep(after).await;
            context.node_client("n1")?.set(13);
            Ok(())
        })
    }
}

type Boxed = std::pin::Pin<Box<dyn Future<Output = Result<(), DynError>> + Send>>;

#[tokio::test(start_paused = true)]
async fn a_run_that_is_shorter_than_the_interval_of_checks_is_checked() {
    for after in [Duration::ZERO, Duration::from_millis(300)] {
        let memory = Memory::default();
        let scenario =
            scenario().workload("unlucky", unlucky_after(after)).with_expectation(Unlucky::quick());
        let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(recorded(&failure), [r#"workloads expectation "no 13": n1 is 13"#]);
    }
}

/// The last check of the grid is at 2 s.
#[tokio::test(start_paused = true)]
async fn changes_after_the_last_check_of_the_grid_are_checked() {
    let memory = Memory::default();
    let after = Duration::from_millis(2_900);
    let scenario = scenario().workload("unlucky", unlucky_after(after)).with_expectation(Unlucky::quick());
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"workloads expectation "no 13": n1 is 13"#]);
    assert_eq!(failure.failures()[0].at, after);
}

/// An endless workload does it in the last 100 ms of the cooldown.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_cooldown_is_checked() {
    let memory = Memory::default();
    let scenario = scenario()
        .workload("quick", nothing)
        .endless_workload("unlucky", |context| async move {
            sleep(Duration::from_millis(2_950)).await;
            context.node_client("n1")?.set(13);
            context.cancelled().await;
            Ok(())
        })
        .with_expectation(Unlucky::quick())
        .cooldown(secs(3));
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"cooldown expectation "no 13": n1 is 13"#]);
    assert_eq!(failure.failures()[0].at, secs(3));
}

/// A check that began before the workload ended says nothing about the end.
#[tokio::test(start_paused = true)]
async fn the_last_check_begins_after_the_last_workload() {
    let memory = Memory::default();
    let scenario = scenario()
        .workload("unlucky", unlucky_after(Duration::from_millis(1_500)))
        .with_expectation(Unlucky { takes: secs(4) }); // begins at 1 s
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"workloads expectation "no 13": n1 is 13"#]);
    assert_eq!(failure.failures()[0].at, secs(9), "4 s after the first one, which ended at 5 s");
    assert_eq!(failure.report().expectations[0].checks, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_recorded_at_its_time_while_a_slow_check_runs() {
    let memory = Memory::default();
    let heard = Diary::default();
    let cancelled = heard.clone();
    let scenario = scenario()
        .workload("fails", |_| async {
            sleep(Duration::from_millis(1_500)).await;
            Err("lost it".into())
        })
        .workload("long", move |context| async move {
            context.cancelled().await;
            cancelled.note(format!("cancelled at {:?}", context.elapsed()));
            Ok(())
        })
        .with_expectation(Unlucky { takes: secs(9) }); // begins at 1 s
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"workloads workload "fails": lost it"#]);
    assert_eq!(failure.failures()[0].at, Duration::from_millis(1_500));
    assert_eq!(heard.read(), ["cancelled at 1.5s"]);
    assert!(failure.report().phases.contains(&(Phase::Workloads, Duration::from_millis(1_500))), "{failure}");
    assert_eq!(failure.report().elapsed, secs(10), "the check is still awaited before it is judged");
    assert_eq!(failure.report().workloads[0].took, Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_the_workloads_holds_while_a_slow_check_runs() {
    let memory = Memory::default();
    let scenario = scenario()
        .limits(Limits { workloads: secs(2), ..Limits::default() })
        .workload("hangs", |context| async move {
            context.cancelled().await;
            Ok(())
        })
        .with_expectation(Unlucky { takes: secs(9) });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"workloads workload "hangs": TimedOut(2s)"#]);
    assert_eq!(failure.failures()[0].at, secs(2));
    assert!(failure.report().phases.contains(&(Phase::Workloads, secs(2))), "{failure}");
}

/// One expectation fails at 1 s while the check of the other hangs.
#[tokio::test(start_paused = true)]
async fn a_broken_check_is_noticed_while_another_is_slow() {
    struct Slow;
    #[async_trait]
    impl Expectation<Numbers> for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }
        async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            pending().await
        }
        async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            Err("it was judged although its check had hung".into())
        }
    }
    let memory = Memory::default();
    let scenario = scenario()
        .workload("unlucky", unlucky_after(Duration::from_millis(500)))
        .workload("long", |context| async move {
            context.cancelled().await;
            Ok(())
        })
        .with_expectation(Slow)
        .with_expectation(Unlucky::quick());
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [
            r#"workloads expectation "no 13": n1 is 13"#,
            r#"workloads expectation "slow": TimedOut(10s)"#, // begun at the same time
        ]
    );
    assert_eq!(failure.failures()[0].at, secs(1));
    assert_eq!(failure.failures()[1].at, secs(11));
    let long = failure.report().workloads.iter().find(|workload| workload.name == "long").unwrap();
    assert_eq!((long.end, long.took), (WorkloadEnd::Cancelled, secs(1)));
}

/// The run is cancelled while a check and a wait are in flight: both end before the nodes do.
#[tokio::test(start_paused = true)]
async fn checks_and_waits_in_flight_end_before_the_nodes_go_down() {
    struct Held(Diary);
    #[async_trait]
    impl Expectation<Numbers> for Held {
        fn name(&self) -> &'static str {
            "held"
        }
        async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            let _held = crate::common::Drops(self.0.clone(), "check dropped");
            pending().await
        }
        async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            Ok(())
        }
    }
    let memory = Memory::default();
    let (check, wait) = (memory.diary.clone(), memory.diary.clone());
    let scenario = observed(&memory)
        .workload("long", |context| async move {
            context.require_observer::<Watcher>("numbers")?;
            context.cancelled().await;
            Ok(())
        })
        .with_expectation(Held(check))
        .expect_wait_throughout("wait", move |_| async move {
            let _held = crate::common::Drops(wait, "wait dropped");
            pending::<Result<(), DynError>>().await
        });
    let run = scenario.build().unwrap().run_until(&memory, sleep(Duration::from_millis(1_500)));
    let failure = run.await.unwrap_err();
    assert_eq!(recorded(&failure), ["workloads the run: Cancelled"]);
    let ends = memory.diary.read();
    assert_eq!(ends[ends.len() - 3..], ["observer dropped", "down", "cluster dropped"], "{ends:?}");
    assert_eq!(memory.diary.count("check dropped"), 1);
    assert_eq!(memory.diary.count("wait dropped"), 1);
}

/// Cut off by the limit of the evaluation, on many threads and many times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_throughout_that_is_cut_off_never_outlives_the_nodes() {
    for round in 0..500_u32 {
        let memory = Memory::default();
        let alive = memory.diary.clone();
        let scenario = scenario()
            .limits(Limits { evaluate: Duration::from_micros(1), ..Limits::default() })
            .workload("quick", nothing)
            .expect_wait_throughout("wait", move |_| async move {
                let _held = crate::common::Drops(alive.clone(), "alive");
                loop {
                    // An abort takes effect only after this.
                    std::thread::sleep(Duration::from_micros(300));
                    alive.note("alive");
                    tokio::task::yield_now().await;
                    if alive.count("cluster dropped") > 0 {
                        break Ok(());
                    }
                }
            });
        scenario.build().unwrap().run(&memory).await.unwrap_err();
        let diary = memory.diary.read();
        let down = diary.iter().position(|noted| noted == "down").unwrap();
        assert_eq!(diary[down..], ["down", "cluster dropped"], "round {round}");
    }
}

/// An endless workload acts on its cancellation after the last check of the workloads.
#[tokio::test(start_paused = true)]
async fn changes_by_a_workload_during_the_drain_are_checked() {
    for cooldown in [None, Some(secs(2))] {
        let memory = Memory::default();
        let mut scenario = scenario()
            .workload("quick", nothing)
            .endless_workload("unlucky", |context| async move {
                context.cancelled().await;
                context.node_client("n1")?.set(13);
                Ok(())
            })
            .with_expectation(Unlucky::quick());
        if let Some(cooldown) = cooldown {
            scenario = scenario.cooldown(cooldown);
        }
        let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(recorded(&failure), [r#"drain expectation "no 13": n1 is 13"#]);
        assert!(failure.failures()[0].to_string().contains("(drain, +"), "{failure}");
    }
}

/// One check takes 9 s; the other expectation is checked each second meanwhile.
#[tokio::test(start_paused = true)]
async fn a_slow_check_does_not_delay_the_checks_of_another_expectation() {
    struct Slow;
    #[async_trait]
    impl Expectation<Numbers> for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }
        async fn check_during_capture(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            sleep(secs(9)).await;
            Ok(())
        }
        async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
            Ok(())
        }
    }
    let memory = Memory::default();
    let scenario = scenario()
        .workload("unlucky for half a second", |context| async move {
            sleep(Duration::from_millis(2_750)).await;
            context.node_client("n1")?.set(13);
            sleep(Duration::from_millis(500)).await;
            context.node_client("n1")?.set(1);
            sleep(secs(20)).await;
            Ok(())
        })
        .with_expectation(Slow)
        .with_expectation(Unlucky::quick());
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"workloads expectation "no 13": n1 is 13"#]);
    assert_eq!(failure.failures()[0].at, secs(3));
    let checks: Vec<_> = failure.report().expectations.iter().map(|one| one.checks).collect();
    assert_eq!(checks, [Some(1), Some(3)]);
}

/// If a check takes longer than the interval, the next one begins when it has ended. A quick one keeps the interval.
/// Each expectation is checked once more when the last workload has ended.
#[tokio::test(start_paused = true)]
async fn each_expectation_has_its_own_check_interval() {
    struct Noting(&'static str, Duration, Diary);
    #[async_trait]
    impl Expectation<Numbers> for Noting {
        fn name(&self) -> &'static str {
            self.0
        }
        async fn check_during_capture(&mut self, context: &RunContext<Numbers>) -> Result<(), DynError> {
            self.2.note(format!("{} at {:?}", self.0, context.elapsed()));
            sleep(self.1).await;
            Ok(())
        }
        async fn evaluate(&mut self, context: &RunContext<Numbers>) -> Result<(), DynError> {
            self.2.note(format!("{} is judged at {:?}", self.0, context.elapsed()));
            Ok(())
        }
    }
    let memory = Memory::default();
    let scenario = scenario()
        .workload("w", |_| async {
            sleep(Duration::from_millis(3_500)).await;
            Ok(())
        })
        .with_expectation(Noting("slow", Duration::from_millis(1_200), memory.diary.clone()))
        .with_expectation(Noting("quick", Duration::ZERO, memory.diary.clone()));
    scenario.build().unwrap().run(&memory).await.unwrap();
    let of = |name: &str| {
        let diary = memory.diary.read();
        diary.into_iter().filter(|noted| noted.starts_with(name)).collect::<Vec<_>>()
    };
    assert_eq!(
        of("slow"),
        ["slow at 1s", "slow at 2.2s", "slow at 3.4s", "slow at 4.6s", "slow is judged at 5.8s"]
    );
    assert_eq!(
        of("quick"),
        [
            "quick at 1s",
            "quick at 2s",
            "quick at 3s",
            "quick at 3.5s",
            "quick at 4.5s",
            "quick at 5.5s",
            "quick is judged at 5.8s"
        ]
    );
}
