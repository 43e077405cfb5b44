use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use watchkeeper::runtime::StopReason;
use watchkeeper::subscription::RecvError;
use watchkeeper::{
    DynError, ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, Observer,
    StaticSourceProvider, async_trait,
};

const INTERVAL: Duration = Duration::from_millis(250);

/// Rule 1: an event carries its own position, here from 1 without gaps.
#[derive(Clone, Debug)]
struct Order {
    position: u64,
    amount: u64,
}

/// What is observed: a log of orders, somewhere else.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u64>>>);

impl Log {
    fn append(&self, amount: u64) {
        self.0.lock().unwrap().push(amount);
    }

    async fn read_after(&self, position: u64) -> Result<Vec<Order>, DynError> {
        let log = self.0.lock().unwrap();
        let orders = (1..).zip(log.iter()).map(|(position, amount)| Order { position, amount: *amount });
        Ok(orders.skip(usize::try_from(position)?).collect())
    }
}

/// What outlives a restart: in an application, tables of its database. Each write has awaits on both sides.
#[derive(Default)]
struct Store {
    /// By position: an effect that is written twice counts once.
    paid: Mutex<BTreeMap<u64, u64>>,
    committed: watch::Sender<u64>,
    /// For the assertions below: what was handled, in order.
    handled: Mutex<Vec<u64>>,
}

impl Store {
    async fn pay(&self, order: &Order) {
        yield_now().await;
        self.paid.lock().unwrap().insert(order.position, order.amount);
        self.handled.lock().unwrap().push(order.position);
        yield_now().await;
    }

    async fn commit(&self, position: u64) {
        yield_now().await;
        self.committed.send_replace(position);
        yield_now().await;
    }
}

struct Tail(Arc<Store>);

/// How far the log was read, and what of that was not committed when it was last read.
#[derive(Clone, Debug)]
struct Read {
    to: u64,
    open: Vec<Order>,
}

#[async_trait]
impl Observer for Tail {
    type Source = Log;
    type State = Read;
    type Snapshot = Vec<Order>;
    type Event = Order;

    /// Rule 2: begins at what is committed.
    async fn init(&self, _: &[ObservedSource<Log>]) -> Result<Read, DynError> {
        Ok(Read { to: *self.0.committed.borrow(), open: Vec::new() })
    }

    async fn poll(&self, sources: &[ObservedSource<Log>], read: &mut Read) -> Result<Vec<Order>, DynError> {
        let [log] = sources else { return Err("there is one log".into()) };
        let orders = log.source.read_after(read.to).await?;
        // From here on nothing fails: the state advances by what is returned.
        let committed = *self.0.committed.borrow();
        read.open.retain(|order| order.position > committed);
        read.open.extend(orders.iter().cloned());
        read.to = orders.last().map_or(read.to, |order| order.position);
        Ok(orders)
    }

    fn snapshot(&self, read: &Read) -> Vec<Order> {
        read.open.clone()
    }
}

/// What is done to a consumer in this program, at one position.
#[derive(Clone)]
enum Trouble {
    /// It is killed before it can commit, once it has notified this.
    Killed(u64, Arc<Notify>),
    Pauses(u64, Duration),
}

/// Rule 3: handle, then commit. What is committed was handled before.
async fn handle(order: &Order, store: &Store, trouble: &Trouble) -> Result<(), DynError> {
    let committed = *store.committed.borrow();
    if order.position <= committed {
        return Ok(());
    }
    if order.position != committed + 1 {
        return Err(format!("{} comes after {committed}: orders were lost", order.position).into());
    }
    if let Trouble::Pauses(at, pause) = trouble
        && *at == order.position
    {
        tokio::time::sleep(*pause).await;
    }
    store.pay(order).await;
    if let Trouble::Killed(at, handled) = trouble
        && *at == order.position
    {
        handled.notify_one();
        pending::<()>().await;
    }
    store.commit(order.position).await;
    Ok(())
}

/// Returns how the runtime ended, and how often it had to start again.
async fn consume(
    observed: ObservationHandle<Tail>,
    store: Arc<Store>,
    trouble: Trouble,
) -> Result<(StopReason, u64), DynError> {
    let mut starts = 0;
    loop {
        // Rule 4: what the snapshot holds, then what comes after it.
        let snapshot = observed.latest_snapshot().ok_or("`start` returns after the first snapshot")?;
        let mut orders = observed.subscribe_from(snapshot.cursor)?;
        for order in &snapshot.value {
            handle(order, &store, &trouble).await?;
        }
        loop {
            match orders.recv().await {
                Ok(batch) => {
                    for order in &batch.events {
                        handle(order, &store, &trouble).await?;
                    }
                }
                Err(RecvError::Lagged { .. } | RecvError::Rebuilt { .. }) => break,
                Err(RecvError::Closed(reason)) => return Ok((reason, starts)),
            }
        }
        starts += 1;
    }
}

/// The sum above: how many batches a consumer falls behind by in its longest pause.
fn history_limit(longest_pause: Duration) -> usize {
    let cycles = longest_pause.as_millis().div_ceil(INTERVAL.as_millis());
    usize::try_from(cycles).unwrap() + 1
}

/// What a process does that is started, the first time or once more.
async fn start(
    log: &Log,
    store: &Arc<Store>,
    history_limit: usize,
) -> Result<ObservationRuntime<Tail>, DynError> {
    let sources = StaticSourceProvider::new(vec![ObservedSource::new("orders", log.clone())]);
    let config = ObservationConfig { interval: INTERVAL, history_limit, ..Default::default() };
    Ok(ObservationRuntime::start(sources, Tail(Arc::clone(store)), config).await?)
}
