//! The text of reports and failures.

use std::time::Duration;

use tokio::time::sleep;
use watchkeeper_scenario::{DynError, RunContext};

use crate::common::{Memory, Numbers, Watcher, observed, often, secs};

async fn raise(context: RunContext<Numbers>) -> Result<(), DynError> {
    sleep(Duration::from_millis(450)).await;
    context.node_client("n2")?.set(7);
    sleep(Duration::from_millis(300)).await;
    Err("the third write was refused".into())
}

fn no_value() -> Result<(), DynError> {
    panic!("no value")
}

#[tokio::test(start_paused = true)]
async fn a_failure_shows_all_problems_what_was_seen_and_what_was_logged() {
    let memory = Memory::default();
    let scenario = observed(&memory)
        .workload("raise n2", raise)
        .expect_wait("n1 is raised too", |_| async {
            sleep(secs(1)).await;
            Err::<(), _>("not met in time:\n  n1 is 7 within 1s".into())
        })
        .expect_wait("nothing panics", |_| async { no_value() });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    let text = failure.to_string();
    let expected = r#"scenario "numbers" on the memory deployer: 3 failures after 1.750s

1. workload "raise n2" failed (workloads, +0.750s)
     the third write was refused

2. expectation "nothing panics" panicked (evaluate, +0.750s)
     no value

3. expectation "n1 is raised too" failed (evaluate, +1.750s)
     not met in time:
       n1 is 7 within 1s

phases: deploy 0.000s, prepare 0.000s, start_capture 0.000s, workloads 0.750s, evaluate 1.000s, cleanup 0.000s
nodes: n1, n2
workload "raise n2": failed after 0.750s
expectation "n1 is raised too": failed
expectation "nothing panics": failed

observer "numbers" (it::common::Watcher)
  idle, cycle 17, generation 1; fresh, data of 0.050s ago
  18 cycles, 0 failed; sources: n1, n2
  +0.100s cycle 1: Became("n1", 1); Became("n2", 2)
  +0.500s cycle 5: Became("n2", 7)
  the last snapshot, of cycle 17:
    {
        "n1": 1,
        "n2": 7,
    }

log of n1 (the last 40 of 50 lines)
  n1 says 11
"#;
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("log of n2 (the last 40 of 50 lines)\n  n2 says 11\n"), "{text}");
    assert!(text.ends_with("  n2 says 50\n"), "{text}");
    assert_eq!(format!("{failure:?}"), text, "`unwrap` shows it");
    assert_eq!(failure.logs().len(), 2);
}

/// Hundreds of failures of 6 kB each, of parts with long names: the cut bytes are counted, and each section has its own
/// limit.
#[tokio::test(start_paused = true)]
async fn a_failure_of_hundreds_of_parts_is_a_bounded_text() {
    let memory = Memory::default();
    let mut builder = observed(&memory).workload("w", crate::common::nothing);
    for number in 0..250 {
        let name = format!("number {number} {}", "x".repeat(280));
        builder = builder.expect_wait(&name, |_| async { Err::<(), _>("no\n".repeat(2_000).into()) });
    }
    let failure = builder.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(failure.failures().len(), 250);
    let text = failure.to_string();
    assert!(text.len() < 200_000, "{} bytes", text.len());
    for part in [
        "250 failures",
        "phases: deploy",
        "more bytes of failures)",
        "more bytes of the report)",
        "log of n2",
    ] {
        assert!(text.contains(part), "{part}");
    }
    let report = failure.report().to_string();
    assert!(report.len() < 70_000, "{} bytes", report.len());
}

#[tokio::test(start_paused = true)]
async fn a_log_is_cut_where_it_is_read() {
    let memory = Memory { log_lines: 100_000, ..Memory::default() };
    let scenario = observed(&memory).workload("fails", |_| async { Err("at once".into()) });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    for log in failure.logs() {
        assert!(log.text.len() <= 64 * 1024, "{} bytes", log.text.len());
        assert!(log.text.starts_with(&log.node) && log.text.ends_with(" says 100000"), "whole lines");
        assert!(log.cut > 1_000_000, "{} bytes", log.cut);
    }
    let text = failure.to_string();
    assert!(text.contains("log of n1 (the last 40 lines; older ones were cut)\n  n1 says 99961\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_success_has_a_report_too_without_logs() {
    let memory = Memory::default();
    let scenario = observed(&memory).workload("wait", |_| async {
        sleep(secs(1)).await;
        Ok(())
    });
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    let text = report.to_string();
    assert!(text.contains("workload \"wait\": done after 1.000s\n"), "{text}");
    assert!(text.contains("+0.100s cycle 1: Became(\"n1\", 1)"), "{text}");
    assert!(!text.contains("log of"), "{text}");
}

/// Failed cycles of an observer are shown among its events.
#[tokio::test(start_paused = true)]
async fn failures_of_an_observer_are_in_its_timeline() {
    use watchkeeper::source::source_fn;
    let memory = Memory::default();
    let diary = memory.diary.clone();
    let flaky = |context: RunContext<Numbers>| async move {
        let clients = context.clients().clone();
        Ok(source_fn(move || {
            let nodes = clients.all();
            async move { if nodes.len() == 2 { Ok(nodes) } else { Err(DynError::from("a node is away")) } }
        }))
    };
    let scenario = crate::common::scenario()
        .with_observer_over("flaky", flaky, move |_| Watcher::new(&diary), often())
        .workload("stop n2", |context| async move {
            sleep(Duration::from_millis(250)).await;
            context.control().stop("n2").await?;
            sleep(Duration::from_secs(3)).await;
            Ok(())
        });
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    let text = report.to_string();
    assert!(text.contains("+0.300s FAILED cycle 3 failed in source refresh: a node is away"), "{text}");
    assert!(text.contains("STALE, data of 3."), "{text}");
    let observer = &report.observers[0];
    assert_eq!((observer.moments.len(), observer.older), (31, 0));
}
