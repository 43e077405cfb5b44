//! The report of a run that passed shows how much the run has proved.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use watchkeeper::{ObservationConfig, ObservedSource, PerSource};
use watchkeeper_scenario::{
    DynError, Expectation, ExpectationEnd, Problem, RunContext, RunReport, Scenario, WorkloadEnd, async_trait,
};

use crate::common::{Memory, Number, Numbers, Watcher, nothing, observed, recorded, scenario, secs};

async fn heeds(context: RunContext<Numbers>) -> Result<(), DynError> {
    context.cancelled().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_endless_workload_that_ends_before_it_is_cancelled_is_a_failure() {
    for after in [0, 1] {
        let memory = Memory::default();
        let scenario = observed(&memory).run_for(secs(5)).endless_workload("load", move |_| async move {
            sleep(secs(after)).await;
            Ok(())
        });
        let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(recorded(&failure), [r#"workloads workload "load": EndedEarly"#]);
        assert!(matches!(failure.failures()[0].problem, Problem::EndedEarly));
        let text = failure.failures()[0].to_string();
        assert!(text.contains("is endless, and ended by itself"), "{text}");
        assert!(text.contains("until it is cancelled"), "{text}");
        assert_eq!(failure.report().elapsed, secs(after));
        assert_eq!(failure.report().workloads[0].end, WorkloadEnd::Failed);
    }
}

/// Also in the cooldown. After it was cancelled, it may end.
#[tokio::test(start_paused = true)]
async fn an_endless_workload_may_not_end_in_the_cooldown_either() {
    let memory = Memory::default();
    let ends = |_| async {
        sleep(secs(2)).await;
        Ok(())
    };
    let scenario =
        observed(&memory).workload("quick", nothing).endless_workload("load", ends).cooldown(secs(5));
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"cooldown workload "load": EndedEarly"#]);

    let scenario =
        observed(&memory).workload("quick", nothing).endless_workload("load", heeds).cooldown(secs(5));
    scenario.build().unwrap().run(&memory).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_endless_workload_that_had_no_time_is_named_in_the_report() {
    let run = async |lasts: u64| {
        let memory = Memory::default();
        let scenario = observed(&memory)
            .workload("ends", move |_| async move {
                sleep(secs(lasts)).await;
                Ok(())
            })
            .endless_workload("load", |context| async move {
                loop {
                    tokio::select! {
                        () = context.cancelled() => return Ok(()),
                        () = sleep(Duration::from_millis(100)) => context.node_client("n1")?.set(9),
                    }
                }
            });
        scenario.build().unwrap().run(&memory).await.unwrap()
    };
    let got_to_work = |report: &RunReport| {
        report.workloads.iter().find(|workload| workload.name == "load").unwrap().got_to_work
    };
    let none = run(0).await;
    assert!(!got_to_work(&none));
    let line = "workload \"load\": cancelled after 0.000s, and had not passed its first await: give it time with \
                `run_for`\n";
    assert!(none.to_string().contains(line), "{none}");
    let some = run(1).await;
    assert!(got_to_work(&some));
    assert!(some.to_string().contains("workload \"load\": cancelled after 1.000s\n"), "{some}");
}

fn probed(answers: fn(&str) -> bool) -> PerSource<Number, u64> {
    PerSource::new(move |node: ObservedSource<Number>| async move {
        if answers(&node.name) { Ok(node.source.get()) } else { Err("connection refused") }
    })
}

fn often() -> ObservationConfig {
    ObservationConfig { interval: Duration::from_millis(100), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn an_observer_none_of_whose_probes_was_answered_is_not_called_fresh() {
    let run = async |answers: fn(&str) -> bool| {
        let scenario = scenario()
            .with_observer("probes", move |_: &RunContext<Numbers>| probed(answers), often())
            .workload("w", |_| async {
                sleep(secs(1)).await;
                Ok(())
            });
        scenario.build().unwrap().run(&Memory::default()).await.unwrap()
    };
    let none = run(|_| false).await;
    assert_eq!(none.observers[0].answered, Some(0));
    let text = none.to_string();
    assert!(text.contains("; NO DATA: none of its sources ever answered\n"), "{text}");
    assert!(text.contains("0 failed; sources: n1, n2; 0 of 2 answered, 0 answer now\n"), "{text}");
    assert!(!text.contains("fresh"), "{text}");

    let some = run(|name| name == "n2").await;
    assert_eq!(some.observers[0].answered, Some(1));
    assert!(some.to_string().contains("; 1 of 2 answered, 1 answers now\n"), "{some}");
}

/// Both answer once, and are then killed: the loop continues without new data.
#[tokio::test(start_paused = true)]
async fn an_observer_whose_sources_all_died_is_not_called_fresh() {
    for hang in [false, true] {
        let killed = Arc::new(AtomicBool::new(false));
        let kill = Arc::clone(&killed);
        let probe = move |node: ObservedSource<Number>| {
            let killed = killed.load(Ordering::SeqCst);
            async move {
                match (killed, hang) {
                    (false, _) => Ok(node.source.get()),
                    (true, false) => Err("connection refused"),
                    (true, true) => pending().await,
                }
            }
        };
        let scenario = scenario()
            .with_observer("probes", move |_: &RunContext<Numbers>| PerSource::new(probe), often())
            .workload("kill all", move |_| async move {
                sleep(secs(1)).await;
                kill.store(true, Ordering::SeqCst);
                sleep(secs(30)).await;
                Ok(())
            });
        let report = scenario.build().unwrap().run(&Memory::default()).await.unwrap();
        let text = report.to_string();
        assert!(text.contains("; SILENT: none of its sources answers now\n"), "{text}");
        assert!(text.contains("sources: n1, n2; 2 of 2 answered, 0 answer now\n"), "{text}");
        assert!(!text.contains("fresh"), "{text}");
    }
}

/// Every statement about all its nodes holds.
#[tokio::test(start_paused = true)]
async fn a_cluster_of_no_nodes_is_named_in_the_report() {
    let scenario = Scenario::<Numbers>::builder("nothing", 0)
        .with_observer("probes", |_: &RunContext<Numbers>| probed(|_| true), often())
        .workload("w", nothing)
        .expect_wait("all are 7", |context| async move {
            let probes = context.require_observer::<PerSource<Number, u64>>("probes")?;
            let all = probes.eventually("all are 7", |seen| seen.iter().all(|node| node.value.is_some()));
            all.within(secs(1)).await?;
            Ok(())
        });
    let report = scenario.build().unwrap().run(&Memory::default()).await.unwrap();
    assert_eq!(report.nodes, Some(vec![]));
    let text = report.to_string();
    assert!(text.contains("nodes: NONE, so every statement about all nodes holds\n"), "{text}");
    assert!(text.contains("sources: NONE, so every statement about all sources holds\n"), "{text}");
}

struct Looks;

#[async_trait]
impl Expectation<Numbers> for Looks {
    fn name(&self) -> &'static str {
        "looks"
    }
    async fn check_during_capture(&mut self, context: &RunContext<Numbers>) -> Result<(), DynError> {
        context.node_client("n1")?;
        Ok(())
    }
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Ok(())
    }
}

/// Has the default check.
struct LooksOnlyAtTheEnd;

#[async_trait]
impl Expectation<Numbers> for LooksOnlyAtTheEnd {
    fn name(&self) -> &'static str {
        "looks only at the end"
    }
    async fn evaluate(&mut self, _: &RunContext<Numbers>) -> Result<(), DynError> {
        Ok(())
    }
}

/// An expectation that checks nothing is not reported as checked.
#[tokio::test(start_paused = true)]
async fn a_report_shows_what_a_passed_run_has_checked() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("w", |_| async {
            sleep(Duration::from_millis(2_500)).await;
            Ok(())
        })
        .expect_wait_throughout("throughout", nothing)
        .expect_wait("at the end", nothing)
        .expect_wait("an invariant", |context| async move {
            let numbers = context.require_observer::<Watcher>("numbers")?;
            let invariant = numbers.invariant("there are two", |seen| seen.len() == 2);
            sleep(Duration::from_millis(450)).await;
            Ok(invariant.finish().await?)
        })
        .expect_wait_throughout("an invariant throughout", |context| async move {
            let numbers = context.require_observer::<Watcher>("numbers")?;
            let invariant = numbers.invariant("there are two", |seen| seen.len() == 2);
            sleep(secs(1)).await;
            Ok(invariant.finish().await?)
        })
        .with_expectation(Looks)
        .with_expectation(LooksOnlyAtTheEnd);
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    let ends: Vec<_> =
        report.expectations.iter().map(|one| (one.name.as_str(), one.checks, one.end)).collect();
    assert_eq!(
        ends,
        [
            ("throughout", None, ExpectationEnd::Held),
            ("at the end", None, ExpectationEnd::Held),
            ("an invariant", None, ExpectationEnd::Held),
            ("an invariant throughout", None, ExpectationEnd::Held),
            ("looks", Some(3), ExpectationEnd::Held),
            ("looks only at the end", None, ExpectationEnd::Held),
        ]
    );
    let text = report.to_string();
    for line in [
        "nodes: n1, n2\n",
        "workload \"w\": done after 2.500s\n",
        "expectation \"throughout\": held\n",
        "expectation \"at the end\": held\n",
        "expectation \"an invariant\": held, judged 4 snapshots\n",
        "expectation \"an invariant throughout\": held, judged 10 snapshots\n",
        "expectation \"looks\": held, checked 3 times\n",
        "expectation \"looks only at the end\": held\n",
        "30 cycles, 0 failed; sources: n1, n2\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_expectation_that_was_not_judged_is_not_called_held() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("long", heeds)
        .expect_wait("never asked", nothing)
        .expect_wait_throughout("broken", |_| async { Err::<(), _>("at once".into()) });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    let ends: Vec<_> = failure.report().expectations.iter().map(|one| one.end).collect();
    assert_eq!(ends, [ExpectationEnd::NotJudged, ExpectationEnd::Failed]);
    assert!(failure.to_string().contains("expectation \"never asked\": not judged\n"), "{failure}");
}
