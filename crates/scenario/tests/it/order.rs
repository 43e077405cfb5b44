//! The order in which things end, however a run ends: observers, then extensions, then nodes.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use watchkeeper::runtime::StopReason;
use watchkeeper_scenario::{CancellationToken, DynError, Problem, Scenario, WorkloadEnd};

use crate::common::{Drops, Goes, Memory, Numbers, Watcher, observed, recorded, secs};

/// Notes what ends; `working` is notified when its endless workload has started.
fn endless(memory: &Memory, working: &Arc<Notify>) -> Scenario<Numbers> {
    let working = Arc::clone(working);
    observed(memory)
        .with_extension(Drops(memory.diary.clone(), "extension dropped"))
        .workload("endless", move |context| async move {
            context.require_observer::<Watcher>("numbers")?;
            working.notify_one();
            context.cancelled().await;
            Ok(())
        })
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_is_drained_and_cleaned_up() {
    let (memory, working) = (Memory::default(), Arc::new(Notify::new()));
    let run = endless(&memory, &working).run_until(&memory, working.notified());
    let failure = run.await.unwrap_err();
    assert_eq!(recorded(&failure), ["workloads the run: Cancelled"]);
    assert!(matches!(failure.failures()[0].problem, Problem::Cancelled));
    assert_eq!(failure.report().workloads[0].end, WorkloadEnd::Cancelled);
    let expected = ["up", "observer dropped", "extension dropped", "down", "cluster dropped"];
    assert_eq!(memory.diary.read(), expected);
}

/// One token ends every run of its program: each is stopped in order, and reports how far it got.
#[tokio::test(start_paused = true)]
async fn a_parent_token_ends_each_of_its_runs_as_a_requested_stop() {
    let (parent, (sender, mut handles)) = (CancellationToken::new(), mpsc::unbounded_channel());
    let memories = [Memory::default(), Memory::default()];
    let [one, two] = memories.each_ref().map(|memory| {
        let sender = sender.clone();
        let scenario = observed(memory).workload("endless", move |context| async move {
            sender.send(context.require_observer::<Watcher>("numbers")?)?;
            context.cancelled().await;
            Ok(())
        });
        scenario.with_parent(parent.clone()).build().unwrap().run(memory)
    });
    let both_work = async {
        let handles = [handles.recv().await.unwrap(), handles.recv().await.unwrap()];
        parent.cancel();
        handles
    };
    let (one, two, observers) = tokio::join!(one, two, both_work);
    for (run, memory) in [one, two].into_iter().zip(&memories) {
        let failure = run.unwrap_err();
        assert_eq!(recorded(&failure), ["workloads the run: Cancelled"]);
        assert_eq!(failure.report().workloads[0].end, WorkloadEnd::Cancelled);
        assert_eq!(failure.report().observers[0].sources, ["n1", "n2"]);
        assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    }
    for observer in observers {
        assert_eq!(observer.stopped().await, StopReason::Requested);
    }
}

/// Such a run deploys nothing.
#[tokio::test(start_paused = true)]
async fn an_already_cancelled_parent_token_starts_nothing() {
    let (memory, parent) = (Memory::default(), CancellationToken::new());
    parent.cancel();
    let scenario = || observed(&memory).with_parent(parent.clone()).workload("w", crate::common::nothing);
    let alone = scenario().build().unwrap().run(&memory).await.unwrap_err();
    let beside = scenario().build().unwrap().run_until(&memory, pending::<()>()).await.unwrap_err();
    for failure in [alone, beside] {
        assert_eq!(recorded(&failure), ["deploy the run: Cancelled"]);
        assert_eq!(memory.diary.read(), Vec::<String>::new());
    }
}

/// The first of the two counts; the other changes nothing after that.
#[tokio::test(start_paused = true)]
async fn a_parent_token_and_the_future_of_run_until_both_cancel() {
    for (by_parent, by_future) in [(1, 2), (2, 1), (1, 1), (1, 90), (90, 1)] {
        let (memory, parent, began) = (Memory::default(), CancellationToken::new(), Instant::now());
        let scenario =
            observed(&memory).with_parent(parent.clone()).endless_workload("e", |context| async move {
                context.cancelled().await;
                Ok(())
            });
        let run = scenario.run_for(secs(60)).build().unwrap().run_until(&memory, sleep(secs(by_future)));
        let (ended, ()) = tokio::join!(run, async {
            sleep(secs(by_parent)).await;
            parent.cancel();
        });
        let cancelled = ended.unwrap_err();
        assert_eq!(recorded(&cancelled), ["workloads the run: Cancelled"]);
        assert_eq!(began.elapsed(), secs(by_parent.max(1)));
        assert_eq!(cancelled.report().phases.iter().map(|(_, took)| *took).sum::<Duration>(), secs(1));
        assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_may_be_cancelled_while_it_deploys_and_while_it_judges() {
    let memory = Memory { up: Goes::Hangs, ..Memory::default() };
    let working = Arc::new(Notify::new());
    let run = endless(&memory, &working).run_until(&memory, sleep(secs(1)));
    assert_eq!(recorded(&run.await.unwrap_err()), ["deploy the run: Cancelled"]);
    assert_eq!(memory.diary.read(), ["extension dropped"], "it was never added");

    let memory = Memory::default();
    let diary = memory.diary.clone();
    let scenario = observed(&memory).expect_wait("long", move |_| async move {
        let _held = Drops(diary, "expectation dropped");
        pending::<Result<(), DynError>>().await
    });
    let run = scenario.build().unwrap().run_until(&memory, sleep(secs(1)));
    assert_eq!(recorded(&run.await.unwrap_err()), ["evaluate the run: Cancelled"]);
    let expected = ["up", "expectation dropped", "observer dropped", "down", "cluster dropped"];
    assert_eq!(memory.diary.read(), expected);
}

/// Without waiting: the stop of the observer is requested first, but the nodes do not wait for it.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_dropped_ends_everything() {
    let (memory, working) = (Memory::default(), Arc::new(Notify::new()));
    assert!(timeout(secs(5), endless(&memory, &working).run(&memory)).await.is_err());
    assert_eq!(memory.diary.read(), ["up", "extension dropped", "cluster dropped"]);
    while memory.diary.count("observer dropped") == 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_run_may_be_dropped_where_there_is_no_runtime() {
    let (memory, working) = (Memory::default(), Arc::new(Notify::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut run = Box::pin(endless(&memory, &working).run(&memory));
    runtime.block_on(async {
        tokio::select! {
            _ = &mut run => panic!("it is endless"),
            () = working.notified() => {}
        }
    });
    drop(run);
    assert_eq!(memory.diary.read(), ["up", "extension dropped", "cluster dropped"]);
    // The runtime has polled nothing since; the observer ends with it.
    drop(runtime);
    assert_eq!(memory.diary.count("observer dropped"), 1);
}

#[test]
fn a_run_may_outlive_its_runtime() {
    let (memory, working) = (Memory::default(), Arc::new(Notify::new()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut run = Box::pin(endless(&memory, &working).run(&memory));
    runtime.block_on(async {
        tokio::select! {
            _ = &mut run => panic!("it is endless"),
            () = working.notified() => {}
        }
    });
    drop(runtime);
    drop(run);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "extension dropped", "cluster dropped"]);
}

/// If the clean-up itself is dropped half-way, the nodes still go down.
#[tokio::test(start_paused = true)]
async fn a_clean_up_that_is_dropped_takes_the_nodes_down() {
    let memory = Memory { down: Goes::Hangs, ..Memory::default() };
    let scenario = observed(&memory).workload("w", crate::common::nothing).build().unwrap();
    assert!(timeout(secs(5), scenario.run(&memory)).await.is_err());
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
}
