//! Invariants over an observer as expectations.

use std::collections::BTreeMap;

use tokio::time::sleep;
use watchkeeper::wait::{Unmet, UnmetOutcome};
use watchkeeper_scenario::{DynError, ExpectationEnd, Problem, RunContext};

use crate::common::{Diary, Drops, Memory, Numbers, nothing, observed, recorded, secs};

type Seen = BTreeMap<String, u64>;

/// n1 is 5 for a second.
async fn blink(context: RunContext<Numbers>) -> Result<(), DynError> {
    let n1 = context.node_client("n1")?;
    sleep(secs(1)).await;
    n1.set(5);
    sleep(secs(1)).await;
    n1.set(1);
    sleep(secs(3_600)).await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_violates_an_invariant_fails_the_scenario() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("blink", blink)
        .expect_invariant("n1 stays below 5", "numbers", |seen: &Seen| seen["n1"] < 5)
        .build();
    let failure = scenario.unwrap().run(&memory).await.unwrap_err();
    let [failed] = failure.failures() else { panic!("{failure}") };
    assert!(failed.at < secs(4), "the workload is not awaited: {failure}");
    let text = failed.to_string();
    assert!(text.starts_with(r#"expectation "n1 stays below 5" failed (workloads, +"#), "{text}");
    let violated = "\n  violated: \"n1 stays below 5\"\n    first violation at +1.000s, in cycle ";
    assert!(text.contains(violated) && text.contains("\"n1\": 5"), "{text}");
    let Problem::Error(error) = &failed.problem else { panic!("{failure}") };
    assert_eq!(error.downcast_ref::<Unmet>().unwrap().outcome(), UnmetOutcome::Violated);
}

#[tokio::test(start_paused = true)]
async fn an_invariant_that_holds_is_reported_with_what_it_has_judged() {
    let memory = Memory::default();
    let wait = |_| async {
        sleep(secs(1)).await;
        Ok(())
    };
    let reasons = |seen: &Seen| if seen.len() == 2 { Ok(()) } else { Err(format!("{} nodes", seen.len())) };
    let scenario =
        observed(&memory).workload("w", wait).expect_invariant("there are two", "numbers", reasons).build();
    let report = scenario.unwrap().run(&memory).await.unwrap();
    assert_eq!((report.expectations[0].checks, report.expectations[0].end), (None, ExpectationEnd::Held));
    let text = report.to_string();
    assert!(text.contains("expectation \"there are two\": held, judged 10 snapshots\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_invariant_that_was_never_judged_fails_the_scenario() {
    let memory = Memory::default();
    let scenario =
        observed(&memory).workload("w", nothing).expect_invariant("any", "numbers", |_: &Seen| true).build();
    let failure = scenario.unwrap().run(&memory).await.unwrap_err();
    let text = failure.failures()[0].to_string();
    assert!(text.contains("inconclusive (no cycle that counts has succeeded): \"any\""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_invariant_over_an_unknown_observer_or_type_is_refused() {
    async fn panics(_: RunContext<Numbers>) -> Result<(), DynError> {
        panic!("a workload has started");
    }
    let memory = Memory::default();
    let unknown =
        observed(&memory).workload("w", panics).expect_invariant("any", "nubmers", |_: &Seen| true).build();
    let other = observed(&memory)
        .workload("w", panics)
        .expect_invariant("any", "numbers", |seen: &Vec<u64>| seen.is_empty())
        .build();
    for (scenario, expected) in [
        (unknown, "no observer is called \"nubmers\"; the observers are: numbers ("),
        (
            other,
            "the snapshots of the observer \"numbers\" are of the type alloc::collections::btree::map::BTreeMap<\
             alloc::string::String, u64>, not alloc::vec::Vec<u64>: let the predicate take that type",
        ),
    ] {
        let failure = scenario.unwrap().run(&memory).await.unwrap_err();
        let lines = recorded(&failure);
        assert!(lines.len() == 1 && lines[0].contains(expected), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_predicate_that_panics_is_dropped_before_the_nodes_go_down() {
    let memory = Memory::default();
    let holds = |diary: &Diary| Drops(diary.clone(), "predicate dropped");
    for panics in [true, false] {
        let before = memory.diary.read().len();
        let held = holds(&memory.diary);
        let scenario = observed(&memory)
            .workload("fails", |_| async {
                sleep(secs(5)).await;
                Err("it failed".into())
            })
            .expect_invariant("any", "numbers", move |_: &Seen| {
                let _held = &held;
                assert!(!panics, "at once");
                true
            })
            .build();
        let failure = scenario.unwrap().run(&memory).await.unwrap_err();
        assert_eq!(failure.to_string().contains("panicked: at once"), panics, "{failure}");
        let diary = memory.diary.read();
        let at = |what: &str| diary[before..].iter().position(|noted| noted == what).unwrap();
        assert!(at("predicate dropped") < at("down"), "{diary:?}");
    }
}
