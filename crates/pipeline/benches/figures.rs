//! What a stage costs beside `for batch in subscription`, and what a commit to a file costs beside one `fsync`.
//!
//! `cargo bench -p watchkeeper-pipeline`. Each figure is the median of 9 runs, both contestants in turn in one process.

#![expect(
    clippy::cast_precision_loss,
    reason = "figures are rounded to three digits before anybody reads them"
)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::time::{Duration, Instant};

use watchkeeper::feed::{Feed, FeedSuccess};
use watchkeeper::subscription::RecvError;
use watchkeeper::{DynError, ObservationConfig, ObservationHandle, ObservedSource, Observer, async_trait};
use watchkeeper_pipeline::{
    CommitStore, Emitter, FileStore, Handler, Item, MemoryStore, Pipeline, StageState, Upstream,
    UpstreamPosition, stage,
};

const ITEMS: u64 = 1_000_000;
const RUNS: usize = 9;
const LONG: Duration = Duration::from_secs(3_600);

struct Numbers;

#[async_trait]
impl Observer for Numbers {
    type Source = Infallible;
    type State = ();
    type Snapshot = ();
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<Infallible>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<Infallible>], (): &mut ()) -> Result<Vec<u64>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

fn feed(batches: usize) -> Feed<Numbers> {
    let config = ObservationConfig { history_limit: batches, ..ObservationConfig::default() };
    Feed::live(&config, None).expect("the config is valid")
}

fn publish(feed: &mut Feed<Numbers>, items: u64, batch: u64) {
    for cycle in 0..items / batch {
        let now = tokio::time::Instant::now();
        let events = (cycle * batch..(cycle + 1) * batch).collect();
        let success = FeedSuccess { cycle, generation: 1, began: now, is_polled: true, value: (), events };
        feed.success(now, success).expect("it is in order");
    }
}

/// What a handler does with an item.
trait Task: Default + Send + 'static {
    fn take(&mut self, item: u64);
}

/// An addition.
#[derive(Default)]
struct Sum(u64);

impl Task for Sum {
    fn take(&mut self, item: u64) {
        self.0 = black_box(self.0.wrapping_add(item));
    }
}

/// A count by key in a map, as a projection keeps it.
#[derive(Default)]
struct Counts(HashMap<u64, u64>);

impl Task for Counts {
    fn take(&mut self, item: u64) {
        *self.0.entry(item % 1_000).or_default() += 1;
    }
}

/// The handler of both contestants.
#[derive(Default)]
struct Counting<W>(W);

impl<W: Task> Handler<u64> for Counting<W> {
    type Output = ();

    async fn handle(&mut self, item: Item<&u64>, _: &mut Emitter<()>) -> Result<(), DynError> {
        if let Item::Event(item) = item {
            self.0.take(*item);
        }
        Ok(())
    }
}

/// A loop by hand around the same handler, with its position in memory.
async fn by_hand<W: Task>(
    handle: ObservationHandle<Numbers>,
    feed: Feed<Numbers>,
    items: u64,
    batch: u64,
) -> f64 {
    let mut feed = feed;
    let mut subscription = handle.subscribe();
    publish(&mut feed, items, batch);
    let began = Instant::now();
    let spawned = tokio::spawn(async move {
        let (mut work, mut seen) = (Counting(W::default()), 0);
        let mut out = Emitter::new("numbers", UpstreamPosition::Count(0));
        while seen < items {
            match subscription.recv().await {
                Ok(batch) => {
                    for item in &batch.events {
                        work.handle(Item::Event(item), &mut out).await.expect("it does not fail");
                    }
                    seen += batch.events.len() as u64;
                    black_box(subscription.cursor());
                }
                Err(RecvError::Closed(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
    });
    spawned.await.expect("it does not panic");
    began.elapsed().as_secs_f64()
}

async fn by_stage<W: Task, S: CommitStore<u64, ()>>(items: u64, batch: u64, store: S) -> f64 {
    let mut feed = feed(usize::try_from(items / batch).expect("it fits"));
    let pipeline = Pipeline::builder("figures")
        .stage(
            stage("count", || Counting(W::default()))
                .from(Upstream::observation("numbers", &feed.handle()))
                .store(store),
        )
        .metrics(LONG)
        .start()
        .await
        .expect("it starts");
    let count = pipeline.stage("count").expect("it is there");
    publish(&mut feed, items, batch);
    drop(feed);
    let began = Instant::now();
    let drained = count.wait_for("drained", |status| status.state == StageState::Drained).within(LONG).await;
    let elapsed = began.elapsed().as_secs_f64();
    drained.expect("it drains");
    assert_eq!(pipeline.ended().await.cut_off.len(), 0);
    elapsed
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

async fn compare<W: Task>(what: &str, batch: u64) {
    let (mut loops, mut stages) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let feed = feed(usize::try_from(ITEMS / batch).expect("it fits"));
        loops.push(by_hand::<W>(feed.handle(), feed, ITEMS, batch).await);
        stages.push(by_stage::<W, _>(ITEMS, batch, MemoryStore::new()).await);
    }
    let (by_hand, by_stage) = (median(loops), median(stages));
    let nanos = |seconds: f64| seconds * 1e9 / ITEMS as f64;
    println!(
        "{what:<28} {batch:>6} a batch: loop {:>7.1} ns an item, stage {:>7.1}, {:.2} times",
        nanos(by_hand),
        nanos(by_stage),
        by_stage / by_hand
    );
}

/// One file that is written and synced again and again.
fn fsyncs(path: &std::path::Path, count: u64) -> f64 {
    let mut file = File::create(path).expect("it is made");
    let began = Instant::now();
    for number in 0..count {
        file.write_all(format!("{number:0200}\n").as_bytes()).expect("it is written");
        file.sync_all().expect("it is synced");
    }
    count as f64 / began.elapsed().as_secs_f64()
}

async fn file_store() {
    const COMMITS: u64 = 500;
    let directory = tempfile::tempdir().expect("a directory");
    let (mut syncs, mut commits) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        syncs.push(fsyncs(&directory.path().join("synced"), COMMITS));
        let path = directory.path().join(format!("{run}.json"));
        let elapsed = by_stage::<Sum, FileStore<u64, ()>>(COMMITS, 1, FileStore::new(path)).await;
        commits.push(COMMITS as f64 / elapsed);
    }
    let (syncs, commits) = (median(syncs), median(commits));
    println!("file store: {commits:.0} commits/s, one fsync {syncs:.0}/s, {:.2} of it", commits / syncs);
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("figures are taken from optimised code only: cargo bench -p watchkeeper-pipeline");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for batch in [1_000, 100, 10, 1] {
            compare::<Counts>("counts by key", batch).await;
        }
        for batch in [1_000, 100, 10, 1] {
            compare::<Sum>("adds", batch).await;
        }
        file_store().await;
    });
}
