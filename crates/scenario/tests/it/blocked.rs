//! App code that blocks its thread cannot be cancelled: it is left behind, and told.
//!
//! Real time and two threads: the other one is blocked, and let go when the test is over.

use std::sync::{Mutex, mpsc};
use std::time::Duration;

use watchkeeper::{ObservationConfig, ObservedSource, Observer};
use watchkeeper_scenario::{DynError, Limits, ManualCluster, RunContext, ShutDownError, async_trait};

use crate::common::{Memory, Number, Numbers, nothing, observed, scenario, secs, told};

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
    let ((tell, begun), (release, released)) = (tokio::sync::mpsc::unbounded_channel(), mpsc::channel());
    Rig { observer: Stuck { begun: tell, released: Mutex::new(released) }, begun, release }
}

fn stops_within(stop_timeout: Duration) -> ObservationConfig {
    ObservationConfig { interval: Duration::from_millis(1), stop_timeout, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_blocks_is_told() {
    let memory = Memory::default();
    let (release, released) = mpsc::channel::<()>();
    let scenario = observed(&memory)
        .limits(Limits { drain: SOON, ..Limits::default() })
        .run_for(SOON)
        .endless_workload("stuck", move |_| async move {
            let _ = released.recv();
            Ok::<_, DynError>(())
        });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    assert_eq!(told(&failure), [r#"drain workload "stuck": Blocked"#]);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    drop(release);
}

/// One that is detached in time, and one whose stop takes longer than the clean-up may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_blocks_is_told_and_the_nodes_go_down() {
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
                Ok::<_, DynError>(())
            });
        let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
        assert_eq!(told(&failure), [expected]);
        assert_eq!(memory.diary.read(), ["up", "down", "cluster dropped"]);
        drop(release);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_blocks_in_a_manual_cluster_is_told() {
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

/// Also in a step of an expectation, which is not waited for when its limit is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expectation_that_blocks_is_told() {
    let memory = Memory::default();
    let (release, released) = mpsc::channel::<()>();
    let scenario = observed(&memory)
        .limits(Limits { evaluate: SOON, ..Limits::default() })
        .workload("quick", nothing)
        .expect_wait("stuck", move |_| async move {
            let _ = released.recv();
            Ok::<_, DynError>(())
        });
    let failure = scenario.build().unwrap().run(&memory).await.unwrap_err();
    let expected =
        [r#"evaluate expectation "stuck": TimedOut(50ms)"#, r#"evaluate expectation "stuck": Blocked"#];
    assert_eq!(told(&failure), expected);
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
    drop(release);
}
