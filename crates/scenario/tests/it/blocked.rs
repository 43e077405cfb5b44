//! App code that blocks its thread cannot be cancelled: it is left running, and reported.
//!
//! Real time and two threads: one of them is blocked until the end of the test.

use std::future::ready;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use watchkeeper::{ObservationConfig, ObservedSource, Observer};
use watchkeeper_scenario::{
    DeployError, Deployer, DynError, Limits, ManualCluster, NodeClients, NodeControl, RunContext,
    RunningCluster, ShutDownError, async_trait,
};

use crate::common::{Goes, Memory, Number, Numbers, nothing, observed, recorded, scenario, secs};

const SOON: Duration = Duration::from_millis(50);

/// Its polls block their thread until the sender is dropped.
struct Stuck {
    begun: tokio::sync::mpsc::UnboundedSender<()>,
    released: Mutex<mpsc::Receiver<()>>,
}

#[async_trait]
impl Observer for Stuck {
    type Source = Number;
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<Number>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<Number>], (): &mut ()) -> Result<Vec<()>, DynError> {
        // From another thread: a task that is woken by this one may be queued on this very thread.
        let begun = self.begun.clone();
        tokio::task::spawn_blocking(move || begun.send(()));
        let _ = self.released.lock().unwrap().recv();
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

struct Rig {
    observer: Stuck,
    begun: tokio::sync::mpsc::UnboundedReceiver<()>,
    release: mpsc::Sender<()>,
}

fn stuck() -> Rig {
    let ((sender, begun), (release, released)) = (tokio::sync::mpsc::unbounded_channel(), mpsc::channel());
    Rig { observer: Stuck { begun: sender, released: Mutex::new(released) }, begun, release }
}

fn stops_within(stop_timeout: Duration) -> ObservationConfig {
    ObservationConfig { interval: Duration::from_millis(1), stop_timeout, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_blocks_is_reported() {
    let memory = Memory::default();
    let (release, released) = mpsc::channel::<()>();
    let scenario = observed(&memory)
        .limits(Limits { drain: SOON, ..Limits::default() })
        .run_for(SOON)
        .endless_workload("stuck", move |_| async move {
            let _ = released.recv();
            Ok(())
        });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"drain workload "stuck": Blocked"#]);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    drop(release);
}

/// One observer is detached in time; the stop of the other takes longer than the limit of the clean-up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_blocks_is_reported_and_the_nodes_go_down() {
    let cases = [
        (SOON, secs(60), r#"cleanup observer "stuck": Blocked"#),
        (secs(60), SOON, r#"cleanup observer "stuck": TimedOut(50ms)"#),
    ];
    for (stop_timeout, cleanup, expected) in cases {
        let memory = Memory::default();
        let Rig { observer, mut begun, release } = stuck();
        let scenario = scenario()
            .limits(Limits { cleanup, ..Limits::default() })
            .with_observer("stuck", move |_: &RunContext<Numbers>| observer, stops_within(stop_timeout))
            .workload("until it is stuck", move |_| async move {
                begun.recv().await.ok_or("it never polled")?;
                Ok(())
            });
        let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(recorded(&failure), [expected]);
        assert_eq!(memory.diary.read(), ["up", "down", "cluster dropped"]);
        drop(release);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_blocks_in_a_manual_cluster_is_reported() {
    let memory = Memory::default();
    let Rig { observer, mut begun, release } = stuck();
    let cluster = ManualCluster::<Numbers>::deploy(&memory, &1).await.unwrap();
    cluster.attach("stuck", observer, stops_within(SOON)).await.unwrap();
    begun.recv().await.unwrap();
    let left = cluster.shut_down().await.unwrap_err();
    assert!(matches!(&left, ShutDownError::Observers { observers } if observers == &["stuck"]), "{left}");
    assert_eq!(memory.diary.read(), ["up", "down", "cluster dropped"]);
    drop(release);
}

/// Also in a step of an expectation, which is not awaited after its limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expectation_that_blocks_is_reported() {
    let memory = Memory::default();
    let (release, released) = mpsc::channel::<()>();
    let scenario = observed(&memory)
        .limits(Limits { evaluate: SOON, ..Limits::default() })
        .workload("quick", nothing)
        .expect_wait("stuck", move |_| async move {
            let _ = released.recv();
            Ok(())
        });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    let expected =
        [r#"evaluate expectation "stuck": TimedOut(50ms)"#, r#"evaluate expectation "stuck": Blocked"#];
    assert_eq!(recorded(&failure), expected);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    drop(release);
}

/// Its task outlives the step that began it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_throughout_that_blocks_is_named() {
    let memory = Memory::default();
    let (release, released) = mpsc::channel::<()>();
    let scenario = observed(&memory)
        .limits(Limits { evaluate: SOON, ..Limits::default() })
        .workload("quick", nothing)
        .expect_wait_throughout("stuck", move |_| async move {
            tokio::task::yield_now().await;
            let _ = released.recv();
            Ok(())
        });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    let expected =
        [r#"evaluate expectation "stuck": TimedOut(50ms)"#, r#"evaluate expectation "stuck": Blocked"#];
    assert_eq!(recorded(&failure), expected);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    drop(release);
}

/// It returns while it is being aborted, with an error that names what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_of_a_shut_down_after_its_limit_is_not_lost() {
    let memory = Memory { down: Goes::BlocksAndFails(300), ..Memory::default() };
    let limits = Limits { cleanup: SOON, ..Limits::default() };
    // Without an observer, whose stop has the same limit.
    let scenario = scenario().limits(limits).workload("w", nothing).build().unwrap();
    let failure = scenario.run(&memory).await.unwrap_err();
    assert_eq!(
        recorded(&failure),
        [
            r#"cleanup deployer "memory": TimedOut(50ms)"#,
            r#"cleanup deployer "memory": the memory deployer could not stop the nodes"#,
        ]
    );
}

/// The deployer is borrowed and runs on the thread of the run: its limit is noticed after it has returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_blocks_past_its_limit_is_no_success() {
    let memory = Memory { up: Goes::Blocks(700), ..Memory::default() };
    let limits = Limits { deploy: SOON, ..Limits::default() };
    let scenario = observed(&memory).limits(limits).workload("w", nothing).build().unwrap();
    let failure = scenario.run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"deploy deployer "memory": TimedOut(50ms)"#]);
    let text = failure.failures()[0].to_string();
    assert!(text.contains("a thread was blocked") && text.contains("spawn_blocking"), "{text}");
    assert_eq!(memory.diary.read(), ["up", "down", "cluster dropped"]);
}

/// The deployment ends within its limit, but the run was cancelled meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_is_noticed_after_a_deployment_that_blocks() {
    let memory = Memory { up: Goes::Blocks(100), ..Memory::default() };
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let blocked = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        cancel.send(())
    });
    let scenario = observed(&memory).workload("w", nothing).build().unwrap();
    let failure = scenario.run_until(&memory, cancelled).await.unwrap_err();
    assert_eq!(recorded(&failure), ["deploy the run: Cancelled"]);
    assert_eq!(memory.diary.read(), ["up", "down", "cluster dropped"]);
    blocked.join().unwrap().unwrap();
}

/// Its shut-down blocks until it is released.
struct Stubborn {
    memory: Memory,
    released: Mutex<Option<mpsc::Receiver<()>>>,
}

struct StubbornCluster {
    inner: Box<dyn RunningCluster<Numbers>>,
    released: Mutex<mpsc::Receiver<()>>,
}

#[async_trait]
impl Deployer<Numbers> for Stubborn {
    fn name(&self) -> &'static str {
        "stubborn"
    }

    async fn deploy(&self, nodes: &usize) -> Result<Box<dyn RunningCluster<Numbers>>, DeployError> {
        let inner = self.memory.deploy(nodes).await?;
        let released = Mutex::new(self.released.lock().unwrap().take().unwrap());
        Ok(Box::new(StubbornCluster { inner, released }))
    }
}

#[async_trait]
impl RunningCluster<Numbers> for StubbornCluster {
    fn node_clients(&self) -> NodeClients<Number> {
        self.inner.node_clients()
    }

    fn node_control(&self) -> Arc<dyn NodeControl> {
        self.inner.node_control()
    }

    async fn shut_down(&self) -> Result<(), DeployError> {
        let _ = self.released.lock().unwrap().recv();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shut_down_that_blocks_is_reported_and_left_running() {
    let memory = Memory::default();
    let (release, released) = mpsc::channel();
    let deployer = Stubborn { memory: memory.clone(), released: Mutex::new(Some(released)) };
    let limits = Limits { cleanup: secs(1), ..Limits::default() };
    let scenario = observed(&memory).limits(limits).workload("w", nothing).build().unwrap();
    let failure = scenario.run(&deployer).await.unwrap_err();
    let expected =
        [r#"cleanup deployer "stubborn": TimedOut(1s)"#, r#"cleanup deployer "stubborn": Blocked"#];
    assert_eq!(recorded(&failure), expected);
    assert_eq!(memory.diary.read(), ["up", "observer dropped"]);
    drop(release);
}

/// On one thread nothing else runs meanwhile, and nothing is cut off: it returns too late.
#[tokio::test]
async fn on_one_thread_a_shut_down_that_blocks_past_its_limit_is_no_success() {
    let memory = Memory { down: Goes::Blocks(1_100), ..Memory::default() };
    let limits = Limits { cleanup: secs(1), ..Limits::default() };
    let scenario = observed(&memory).limits(limits).workload("w", nothing).build().unwrap();
    let failure = scenario.run(&memory).await.unwrap_err();
    assert_eq!(recorded(&failure), [r#"cleanup deployer "memory": TimedOut(1s)"#]);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
}

/// The same for each other step that has a limit.
#[tokio::test]
async fn on_one_thread_a_step_that_blocks_past_its_limit_is_no_success() {
    let blocks = |_: RunContext<Numbers>| {
        std::thread::sleep(Duration::from_millis(100));
        ready(Ok(()))
    };
    let [one, two, three] = [(); 3].map(|()| observed(&Memory::default()));
    let cases = [
        (
            one.workload("blocks", blocks).limits(Limits { workloads: SOON, ..Limits::default() }),
            r#"workloads workload "blocks": TimedOut(50ms)"#,
        ),
        (
            two.expect_wait("blocks", blocks).limits(Limits { evaluate: SOON, ..Limits::default() }),
            r#"evaluate expectation "blocks": TimedOut(50ms)"#,
        ),
        (
            three
                .expect_wait_throughout("blocks", blocks)
                .limits(Limits { start_capture: SOON, ..Limits::default() }),
            r#"start_capture expectation "blocks": TimedOut(50ms)"#,
        ),
    ];
    for (builder, expected) in cases {
        let failure = builder.build().unwrap().run(&Memory::default()).await.unwrap_err();
        assert_eq!(recorded(&failure), [expected]);
    }
}

/// A cancellation while the nodes go down is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_is_noticed_after_a_shut_down_that_blocks() {
    let memory = Memory { down: Goes::Blocks(100), ..Memory::default() };
    let (cancel, cancelled) = tokio::sync::oneshot::channel::<()>();
    let mut cancel = Some(cancel);
    let down = memory.diary.clone();
    let watch = std::thread::spawn(move || {
        while down.count("down") == 0 {
            std::thread::yield_now();
        }
        cancel.take().unwrap().send(())
    });
    let scenario = observed(&memory).workload("w", nothing).build().unwrap();
    let failure = scenario.run_until(&memory, cancelled).await.unwrap_err();
    assert_eq!(recorded(&failure), ["cleanup the run: Cancelled"]);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    watch.join().unwrap().unwrap();
}
