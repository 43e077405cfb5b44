//! A driver for loom models: the real core, driven by the test instead of the executor.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use loom::model::Builder;
use tokio::runtime::Runtime;

use super::*;
use crate::clock::Clock;
use crate::cursor::Instance;
use crate::publish::history::History;
use crate::status::Published;
use crate::task::inbox::life;
use crate::task::lifetime::{EndGuard, Lifetime};

/// Provides the clock; no task runs on it.
static EXECUTOR: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("an executor for its clock"));

/// Runs `body` in every order of thread steps with at most this many preemptions. Prints the number of orders with
/// `--nocapture`.
pub(crate) fn model(interruptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    let mut model = Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(interruptions));
    LazyLock::force(&EXECUTOR);
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        body();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

/// The snapshot is the number of events so far.
pub(crate) struct App;

#[async_trait]
impl Observer for App {
    type Source = ();
    type State = ();
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        unreachable!("the rig answers in its place")
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<u64>, DynError> {
        unreachable!("the rig answers in its place")
    }

    fn snapshot(&self, (): &()) -> u64 {
        unreachable!("the rig answers in its place")
    }
}

/// The driver's values. Dropping them publishes the end, as the driver does.
pub(crate) struct Rig {
    core: Core<App>,
    pub(crate) shared: Arc<Shared<u64, u64>>,
    pub(crate) life: Arc<Lifetime<StopReason>>,
    events: u64,
    state: Option<AppValue<()>>,
    _guard: EndGuard<StopReason>,
}

impl Rig {
    /// Cycle 0 has been published.
    pub(crate) fn new(history_limit: usize) -> Self {
        let clock = Clock::of(EXECUTOR.handle().clone());
        let config = ObservationConfig { history_limit, ..ObservationConfig::default() };
        let first = Published::before_the_start(clock.started(), &config);
        let history = History::new(Instance(1), history_limit, First::default());
        let shared = Arc::new(Shared::new((None, "App"), clock.clone(), history, first));
        let (remote, _, guard) =
            life::<Request, StopReason>(&clock, config.stop_timeout, None, shared.clone());
        let mut core = Core::new(Arc::clone(&shared), Arc::clone(&remote.life), &config, false, None);
        core.start();
        let mut rig = Self { core, shared, life: remote.life, events: 0, state: None, _guard: guard };
        rig.work(0);
        rig
    }

    /// Runs a cycle that finds this many events.
    pub(crate) fn cycle(&mut self, events: u64) {
        self.core.control(Control::PollNow);
        self.work(events);
    }

    fn work(&mut self, found: u64) {
        loop {
            match self.core.work() {
                Some((Stage::SourceRefresh, work)) => {
                    let none = || AppValues::new(Vec::new());
                    self.core.refreshed(work, Ended::Done(Ok(none())), &mut none(), &mut self.state);
                }
                Some((Stage::Init, work)) => {
                    let built = (AppValue::new(()), AppValue::new(self.events));
                    self.core.initialized(work, Ended::Done(Ok(built)), &mut self.state);
                }
                Some((Stage::Poll, work)) => {
                    let events = (self.events..self.events + found).collect();
                    self.events += found;
                    let looked = (AppValue::new(self.events), AppValues::new(events));
                    self.core.polled(work, Ended::Done(Ok(looked)), &mut self.state);
                }
                None => break,
            }
        }
        self.core.flush();
    }
}
