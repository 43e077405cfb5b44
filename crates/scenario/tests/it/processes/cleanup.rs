//! After every kind of end, no process of a run is left.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use watchkeeper_scenario::{
    DynError, Limits, ManualCluster, ObservationExtensionFactory, RunContext, Scenario, ScenarioBuilder,
    async_trait,
};

use super::cluster::{Asking, Names, Processes, asking, observed, quickly};
use super::count;
use crate::common::{recorded, secs};

/// Starts an observer and its own process, then fails.
struct HalfWay {
    processes: Processes,
}

#[async_trait]
impl ObservationExtensionFactory<Names> for HalfWay {
    fn name(&self) -> &'static str {
        "half-way"
    }

    async fn build(&mut self, context: &RunContext<Names>) -> Result<(), DynError> {
        let observer = asking(&self.processes.diary);
        context.observe("half", context.clients().clone(), observer, quickly()).await?;
        assert_eq!(count(&self.processes.mark), 2);
        Err("no more".into())
    }
}

/// The observers are stopped and awaited before the nodes go down, so no probe ever fails.
#[tokio::test]
async fn a_run_leaves_no_process_after_any_end() {
    type Add = fn(ScenarioBuilder<Names>, &Processes) -> ScenarioBuilder<Names>;
    let limits = || Limits { workloads: Duration::from_millis(300), ..Limits::default() };
    let cases: [(Add, &[&str]); 6] = [
        (|it, _| it, &[]),
        (
            |it, _| it.expect_wait("never", |_| async { Err::<(), _>("not held".into()) }),
            &[r#"evaluate expectation "never": not held"#],
        ),
        (
            |it, _| it.workload("panics", |_| async { Err(no_value()) }),
            &[r#"workloads workload "panics": panicked: no value"#],
        ),
        (
            |it, _| it.expect_wait("panics", |_| async { Err::<(), _>(no_value()) }),
            &[r#"evaluate expectation "panics": panicked: no value"#],
        ),
        (
            |it, _| it.workload("hangs", |_| pending::<Result<(), DynError>>()),
            &[r#"workloads workload "hangs": TimedOut(300ms)"#],
        ),
        (
            |it, processes| it.with_factory(HalfWay { processes: processes.clone() }),
            &[r#"prepare factory "half-way": no more"#],
        ),
    ];
    for (add, expected) in cases {
        let processes = Processes::new();
        let limits = Limits { drain: Duration::from_millis(100), ..limits() };
        let scenario = add(observed(&processes), &processes).limits(limits).build().unwrap();
        let report = match scenario.run(&processes).await {
            Ok(report) => {
                assert_eq!(expected, [""; 0]);
                report
            }
            Err(failure) => {
                assert_eq!(recorded(&failure), expected, "{failure}");
                failure.report().clone()
            }
        };
        processes.assert_ended(2);
        let mut diary = processes.diary.read();
        assert_eq!(diary.pop().as_deref(), Some("nodes go down"), "{expected:?}");
        assert_eq!(diary, vec!["observer dropped"; report.observers.len()], "{expected:?}");
        assert!(!report.observers.is_empty() && !report.to_string().contains("failed: "), "{report}");
    }
}

fn no_value() -> DynError {
    panic!("no value")
}

/// Notifies when its endless workload has started.
fn endless(processes: &Processes, working: &Arc<Notify>) -> Scenario<Names> {
    let working = Arc::clone(working);
    let endless = move |context: RunContext<Names>| async move {
        let names = context.require_observer::<Asking>("names")?;
        names.eventually("a cycle", |_| true).within(secs(10)).await?;
        working.notify_one();
        pending::<Result<(), DynError>>().await
    };
    observed(processes).workload("endless", endless).build().unwrap()
}

#[tokio::test]
async fn a_run_that_is_dropped_leaves_no_process() {
    let (processes, working) = (Processes::new(), Arc::new(Notify::new()));
    let (scenario, deployer) = (endless(&processes, &working), processes.clone());
    let run = tokio::spawn(async move { scenario.run(&deployer).await.map(drop) });
    working.notified().await;
    run.abort();
    assert!(run.await.unwrap_err().is_cancelled());
    processes.assert_ended(2);
}

#[tokio::test]
async fn a_panic_outside_the_run_leaves_no_process() {
    let (processes, working) = (Processes::new(), Arc::new(Notify::new()));
    let run = endless(&processes, &working).run(&processes);
    let test = async {
        tokio::join!(run, async {
            working.notified().await;
            panic!("on purpose")
        })
    };
    assert!(crate::common::panics(test).await);
    processes.assert_ended(2);
}

#[test]
fn a_run_that_is_dropped_without_a_runtime_leaves_no_process() {
    let (processes, working) = (Processes::new(), Arc::new(Notify::new()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut run = Box::pin(endless(&processes, &working).run(&processes));
    runtime.block_on(async {
        tokio::select! {
            _ = &mut run => panic!("it is endless"),
            () = working.notified() => {}
        }
    });
    assert_eq!(count(&processes.mark), 2);
    drop(run);
    processes.assert_ended(2);
}

/// A deployment that is abandoned has started one node or both.
#[tokio::test]
async fn a_deployment_that_times_out_leaves_no_process() {
    let processes = Processes::new();
    let limits = Limits { deploy: Duration::from_nanos(1), ..Limits::default() };
    let failure = observed(&processes).limits(limits).build().unwrap().run(&processes).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"deploy deployer "processes": TimedOut(1ns)"#]);
    assert_eq!(count(&processes.mark), 0);
}

#[tokio::test]
async fn a_manual_cluster_leaves_no_process() {
    for dropped in [false, true] {
        let processes = Processes::new();
        let cluster = ManualCluster::<Names>::deploy(&processes, &2).await.unwrap();
        let names = cluster.attach("names", asking(&processes.diary), quickly()).await.unwrap();
        names.eventually("a cycle", |_| true).within(secs(10)).await.unwrap();
        cluster.pause("n1").await.unwrap(); // it does not answer, and is ended nevertheless
        assert_eq!(count(&processes.mark), 2);
        if dropped {
            drop(cluster);
        } else {
            cluster.shut_down().await.unwrap();
            assert_eq!(processes.diary.read(), ["observer dropped", "nodes go down"]);
        }
        processes.assert_ended(2);
    }
}
