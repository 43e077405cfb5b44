//! A start that is cut off: the observer is stopped and awaited before the nodes go down, and named.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use watchkeeper::source::source_fn;
use watchkeeper::{ObservedSource, Observer};
use watchkeeper_scenario::{
    DynError, Limits, ManualCluster, ObservationExtensionFactory, ObserverError, RunContext, ShutDownError,
    Subject, WorkloadEnd, async_trait,
};

use crate::common::{
    Diary, Drops, Memory, Number, Numbers, Watcher, nothing, often, recorded, scenario, secs,
};

const ENDS_IN_ORDER: [&str; 5] = ["up", "init dropped", "observer dropped", "down", "cluster dropped"];

/// An observer whose `init` never ends. It adds a note when the `init` is dropped, and when it is dropped itself.
struct Starting {
    diary: Diary,
    begun: Arc<Notify>,
    _dropped: Drops,
}

impl Starting {
    fn new(memory: &Memory) -> Self {
        let diary = memory.diary.clone();
        let dropped = Drops(diary.clone(), "observer dropped");
        Self { diary, begun: Arc::default(), _dropped: dropped }
    }
}

#[async_trait]
impl Observer for Starting {
    type Source = Number;
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<Number>]) -> Result<(), DynError> {
        let _held = Drops(self.diary.clone(), "init dropped");
        self.begun.notify_one();
        pending().await
    }

    async fn poll(&self, _: &[ObservedSource<Number>], (): &mut ()) -> Result<Vec<()>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

/// Starts an observer called "late".
struct StartsLate(Memory);

#[async_trait]
impl ObservationExtensionFactory<Numbers> for StartsLate {
    fn name(&self) -> &'static str {
        "starts late"
    }

    async fn build(&mut self, context: &RunContext<Numbers>) -> Result<(), DynError> {
        context.observe("late", context.clients().clone(), Starting::new(&self.0), often()).await?;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_times_out_ends_before_the_nodes_go_down() {
    let memory = Memory::default();
    let cluster = ManualCluster::<Numbers>::deploy(&memory, &2).await.unwrap();
    let attached = timeout(secs(1), cluster.attach("late", Starting::new(&memory), often())).await;
    assert!(attached.is_err());
    cluster.shut_down().await.unwrap();
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
}

#[tokio::test(start_paused = true)]
async fn the_name_of_an_attach_that_timed_out_is_free() {
    let memory = Memory::default();
    let cluster = ManualCluster::<Numbers>::deploy(&memory, &2).await.unwrap();
    assert!(timeout(secs(1), cluster.attach("one", Starting::new(&memory), often())).await.is_err());
    let one = cluster.attach("one", Watcher::new(&memory.diary), often()).await.unwrap();
    one.eventually("n1 is 1", |seen| seen["n1"] == 1).within(secs(1)).await.unwrap();
    cluster.shut_down().await.unwrap();
    assert_eq!(memory.diary.count("observer dropped"), 2);
    assert_eq!(memory.diary.read().iter().position(|noted| noted == "down"), Some(4), "{:?}", memory.diary);
}

#[tokio::test(start_paused = true)]
async fn an_init_that_outlasts_its_limit_is_named_and_ends_before_the_nodes_go_down() {
    let memory = Memory::default();
    let limits = Limits { prepare: secs(2), ..Limits::default() };
    let scenario = scenario().limits(limits).with_factory(StartsLate(memory.clone())).workload("w", nothing);
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"prepare factory "starts late": TimedOut(2s)"#]);
    assert_eq!(failure.failures()[0].starting, ["late"]);
    let text = failure.failures()[0].to_string();
    assert!(text.contains("still being started, and were cut off: late"), "{text}");
    assert!(failure.to_string().contains("observer \"late\"\n  its start was CUT OFF"), "{failure}");
    assert_eq!(failure.report().cut_off, ["late"]);
    assert_eq!(failure.report().elapsed, secs(2));
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
}

/// One workload hangs and is cut off at the limit of the workloads, while another one, endless, starts an observer.
#[tokio::test(start_paused = true)]
async fn a_time_out_names_only_the_starts_of_the_part_that_was_cut_off() {
    let memory = Memory::default();
    let (starts, also) = (memory.clone(), memory.clone());
    let limits = Limits { workloads: secs(1), ..Limits::default() };
    let scenario = scenario()
        .limits(limits)
        .workload("hangs", |_| pending::<Result<(), DynError>>())
        .workload("hangs in a start", move |context| async move {
            context.observe("its own", context.clients().clone(), Starting::new(&also), often()).await?;
            Ok(())
        })
        .endless_workload("observes", move |context| async move {
            context.observe("another's", context.clients().clone(), Starting::new(&starts), often()).await?;
            Ok(())
        });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [
            r#"workloads workload "hangs": TimedOut(1s)"#,
            r#"workloads workload "hangs in a start": TimedOut(1s)"#
        ]
    );
    let starting: Vec<_> = failure.failures().iter().map(|failure| failure.starting.clone()).collect();
    assert_eq!(starting, [vec![], vec!["its own".to_owned()]]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_during_an_init_names_the_observer() {
    let memory = Memory::default();
    let scenario = scenario().with_factory(StartsLate(memory.clone())).workload("w", nothing);
    let failure = scenario.build().unwrap().run_until(&memory, sleep(secs(1))).await.unwrap_err();
    assert_eq!(recorded(&failure), ["prepare the run: Cancelled"]);
    assert_eq!(failure.failures()[0].starting, ["late"]);
    assert_eq!(failure.report().elapsed, secs(1));
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
}

#[tokio::test(start_paused = true)]
async fn a_workload_that_is_aborted_while_it_starts_an_observer_leaves_nothing() {
    let memory = Memory::default();
    let starts = memory.clone();
    let limits = Limits { drain: secs(1), ..Limits::default() };
    let scenario =
        scenario().limits(limits).run_for(secs(1)).endless_workload("observes", move |context| async move {
            context.observe("late", context.clients().clone(), Starting::new(&starts), often()).await?;
            Ok(())
        });
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    assert_eq!(report.workloads[0].end, WorkloadEnd::Aborted);
    assert_eq!(report.cut_off, ["late"]);
    assert!(report.to_string().contains("observer \"late\"\n  its start was CUT OFF"), "{report}");
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
}

/// No part of the run waits for it. Its own task notices the end of the run.
#[tokio::test(start_paused = true)]
async fn a_start_that_outlasts_the_run_is_cut_off_and_named() {
    let memory = Memory::default();
    let starts = memory.clone();
    let (refusal_sender, refusal) = tokio::sync::oneshot::channel();
    let scenario = scenario().workload("observes", move |context| async move {
        let (observer, sources) = (Starting::new(&starts), context.clients().clone());
        let begun = Arc::clone(&observer.begun);
        tokio::spawn(async move {
            let late = context.observe("late", sources, observer, often()).await;
            let _ = refusal_sender.send(late.map(drop));
        });
        begun.notified().await;
        Ok(())
    });
    let report = scenario.build().unwrap().run(&memory).await.unwrap();
    assert_eq!(report.cut_off, ["late"]);
    assert_eq!(memory.diary.read(), ENDS_IN_ORDER);
    let refused = refusal.await.unwrap();
    assert!(matches!(refused, Err(ObserverError::Over { .. })), "{refused:?}");
}

/// Here the first refresh hangs, not `init`.
#[tokio::test(start_paused = true)]
async fn a_first_refresh_that_hangs_is_cut_off() {
    let memory = Memory::default();
    let cluster = ManualCluster::<Numbers>::deploy(&memory, &2).await.unwrap();
    let silent = source_fn(pending::<Result<Vec<ObservedSource<Number>>, DynError>>);
    let observer = Watcher::new(&memory.diary);
    assert!(timeout(secs(1), cluster.attach_over("late", silent, observer, often())).await.is_err());
    cluster.shut_down().await.unwrap();
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
}

/// Blocks its thread in `init`, for half a second.
struct Blocking {
    inner: Starting,
    blocks: bool,
}

#[async_trait]
impl Observer for Blocking {
    type Source = Number;
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<Number>]) -> Result<(), DynError> {
        // From another thread: a task that is woken by this one may be queued on this very thread.
        let begun = Arc::clone(&self.inner.begun);
        tokio::task::spawn_blocking(move || begun.notify_one());
        if self.blocks {
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<Number>], (): &mut ()) -> Result<Vec<()>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_was_cut_off_and_blocks_its_thread_is_named() {
    let memory = Memory::default();
    let cluster = ManualCluster::<Numbers>::deploy(&memory, &2).await.unwrap();
    let observer = Blocking { inner: Starting::new(&memory), blocks: true };
    let begun = Arc::clone(&observer.inner.begun);
    let config =
        watchkeeper::ObservationConfig { stop_timeout: Duration::from_millis(20), ..Default::default() };
    tokio::select! {
        _ = cluster.attach("stuck", observer, config) => panic!("it blocks"),
        () = begun.notified() => {}
    }
    let left = cluster.shut_down().await.unwrap_err();
    assert!(matches!(&left, ShutDownError::Observers { observers } if observers == &["stuck"]), "{left}");
    assert_eq!(memory.diary.read(), ["up", "down", "cluster dropped"]);
}

/// Adds a note for each step of its start and for each poll. At one of the steps it sends a message and hangs.
struct Busy {
    diary: Diary,
    says_at: u64,
    at_the_step: Arc<Notify>,
    _dropped: Drops,
}

#[async_trait]
impl Observer for Busy {
    type Source = Number;
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<Number>]) -> Result<(), DynError> {
        for step in 0..8 {
            self.diary.note("observer alive");
            tokio::task::yield_now().await;
            if step == self.says_at {
                self.at_the_step.notify_one();
                loop {
                    std::thread::sleep(Duration::from_micros(50));
                    self.diary.note("observer alive");
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<Number>], (): &mut ()) -> Result<Vec<()>, DynError> {
        self.diary.note("observer alive");
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

impl Busy {
    fn new(memory: &Memory, says_at: u64) -> Self {
        let dropped = Drops(memory.diary.clone(), "observer alive");
        Self { diary: memory.diary.clone(), says_at, at_the_step: Arc::default(), _dropped: dropped }
    }
}

/// Asserts that no observer lives once the nodes go down.
fn assert_no_observer_outlives_the_nodes(memory: &Memory, round: u64) {
    let diary = memory.diary.read();
    let down = diary.iter().position(|noted| noted == "down").unwrap();
    assert_eq!(diary[down..], ["down", "cluster dropped"], "round {round}");
}

/// Each start is cut off at another step; those that send no message are not cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_observer_outlives_the_nodes_in_500_manual_rounds() {
    let cut_off = AtomicU64::new(0);
    for round in 0..500 {
        let memory = Memory::default();
        let cluster = ManualCluster::<Numbers>::deploy(&memory, &2).await.unwrap();
        let attach = |name, says_at| {
            let (cluster, cut_off, observer) = (&cluster, &cut_off, Busy::new(&memory, says_at));
            let at_the_step = Arc::clone(&observer.at_the_step);
            async move {
                tokio::select! {
                    attached = cluster.attach(name, observer, often()) => drop(attached.unwrap()),
                    () = at_the_step.notified() => drop(cut_off.fetch_add(1, Relaxed)),
                }
            }
        };
        tokio::join!(attach("first", round % 10), attach("second", round % 11));
        cluster.shut_down().await.unwrap();
        assert_no_observer_outlives_the_nodes(&memory, round);
    }
    let cut_off = cut_off.into_inner();
    assert!((100..1_000).contains(&cut_off), "too few starts were cut off, or all: {cut_off}");
}

/// Each run is cancelled at another step of a start, by a factory or in a workload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_observer_outlives_the_nodes_in_500_cancelled_runs() {
    let mut during_the_start = 0;
    for round in 0..500 {
        let memory = Memory::default();
        let by_a_factory = round % 2 == 0;
        let (first, second) = if by_a_factory { (round % 8, 99) } else { (99, round % 8) };
        let (first, second) = (Busy::new(&memory, first), Busy::new(&memory, second));
        let cancel = Arc::clone(if by_a_factory { &first.at_the_step } else { &second.at_the_step });
        let scenario = scenario()
            .with_observer("first", move |_: &RunContext<Numbers>| first, often())
            .workload("observes", move |context| async move {
                context.observe("second", context.clients().clone(), second, often()).await?;
                context.cancelled().await;
                Ok(())
            })
            .limits(Limits { drain: Duration::from_micros(1), ..Limits::default() });
        let cancelled = scenario.build().unwrap().run_until(&memory, cancel.notified()).await;
        let failure = cancelled.unwrap_err();
        assert!(failure.failures().iter().all(|failure| failure.subject == Subject::Run), "{failure}");
        during_the_start += u64::from(!failure.report().cut_off.is_empty());
        assert_no_observer_outlives_the_nodes(&memory, round);
    }
    assert!(during_the_start >= 50, "too few were cancelled during a start: {during_the_start}");
}
