//! Counters -> differences -> a ledger that fails now and then: with a crash in the middle and dead letters replayed,
//! nothing is lost and nothing is booked twice. Run it by
//! `cargo run -p watchkeeper-pipeline --example pipeline`

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use watchkeeper::per_source::SourceEvent;
use watchkeeper::{DynError, ObservationHandle, ObservedSource, PerSource, observe};
use watchkeeper_pipeline::{
    DeadLetterError, Emitter, FileStore, Handler, Item, OnError, Pipeline, Upstream, handler_fn, stage,
};

type Counter = Arc<AtomicU64>;

async fn count(counter: ObservedSource<Counter>) -> Result<u64, DynError> {
    Ok(counter.source.load(Relaxed))
}

/// A counter's name, and by how much it has grown. What goes into files is a type of the app.
type Growth = (String, u64);

fn growth(event: &SourceEvent<u64>) -> Growth {
    let by = match event {
        SourceEvent::Appeared { value, .. } => **value,
        SourceEvent::Changed { old, new, .. } => new.saturating_sub(**old),
        _ => 0,
    };
    (event.source().to_string(), by)
}

async fn differences(item: Item<Growth>) -> Result<Vec<Growth>, DynError> {
    match item {
        Item::Lagged { missed } => panic!("the history is too short: {missed} batches are missing"),
        item => Ok(item.event().into_iter().filter(|(_, by)| *by > 0).collect()),
    }
}

/// Books each growth under its position, which is the same when a growth comes again after the crash.
#[derive(Clone, Default)]
struct Ledger {
    booked: Arc<Mutex<BTreeMap<String, u64>>>,
    calls: Arc<AtomicU64>,
    knows_tens: Arc<AtomicU64>,
}

impl Handler<Growth> for Ledger {
    type Output = ();

    async fn handle(&mut self, item: Item<&Growth>, out: &mut Emitter<()>) -> Result<(), DynError> {
        let Item::Event((_, by)) = item else { return Ok(()) };
        if self.calls.fetch_add(1, Relaxed) % 4 == 1 {
            return Err("the ledger is busy".into()); // now and then: it is retried
        }
        if self.knows_tens.load(Relaxed) == 0 && *by == 10 {
            return Err("the ledger knows no tens".into()); // for good: a dead letter
        }
        self.booked.lock().expect("no panic").insert(out.position().to_string(), *by);
        Ok(())
    }
}

type Counters = ObservationHandle<PerSource<Counter, u64>>;

async fn start(counters: &Counters, ledger: &Ledger, files: &Path) -> Result<Pipeline, DynError> {
    let ledger = ledger.clone();
    let differences = stage("differences", || handler_fn(differences))
        .from(Upstream::observation("counters", counters).map(growth));
    let book = stage("book", move || ledger.clone()).from(Upstream::stage("differences"));
    let pipeline = Pipeline::builder("accounts")
        .stage(differences.store(FileStore::new(files.join("differences.json"))))
        .stage(book.on_error(OnError::DeadLetter).store(FileStore::new(files.join("book.json"))));
    Ok(pipeline.start().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), DynError> {
    let (files, ledger) = (tempfile::tempdir()?, Ledger::default());
    let counters = [("cats", Counter::default()), ("dogs", Counter::default())];
    let runtime = observe(Duration::from_millis(20), counters.clone(), count).await?;
    let grow = async |by: u64| {
        for (_, counter) in &counters {
            counter.fetch_add(by, Relaxed);
        }
        runtime.poll_now_and_wait().await
    };
    let pipeline = start(&runtime.handle(), &ledger, files.path()).await?;
    for by in [1, 2, 10, 3] {
        grow(by).await?;
    }
    println!("aborted: {:?}", pipeline.abort().await.cut_off);
    grow(4).await?; // while no pipeline runs
    let pipeline = start(&runtime.handle(), &ledger, files.path()).await?;
    grow(5).await?;
    let metrics = pipeline.metrics();
    for stage in ["differences", "book"] {
        let booked = metrics.all_sources(stage, |stage| stage.lag == Some(0)).after(metrics.mark());
        booked.within(Duration::from_secs(60)).await?;
    }
    let book = pipeline.stage("book")?;
    ledger.knows_tens.store(1, Relaxed);
    for letter in book.dead_letters() {
        println!("{} after {} attempts: {}", letter.item, letter.attempts, letter.error);
        while let Err(DeadLetterError::Failed { .. }) = book.replay(letter.id).await {} // it may be busy
    }
    let booked = ledger.booked.lock().expect("no panic").clone();
    let counted: u64 = counters.iter().map(|(_, counter)| counter.load(Relaxed)).sum();
    println!("booked {} of {counted} in {} entries", booked.values().sum::<u64>(), booked.len());
    assert_eq!(booked.values().sum::<u64>(), counted);
    pipeline.stop().await;
    Ok(())
}

#[test]
fn nothing_is_lost_and_nothing_is_booked_twice() {
    main().unwrap();
}
