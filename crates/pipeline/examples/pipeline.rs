//! Counters -> differences -> a ledger that fails now and then: with a crash in the middle and dead letters replayed,
//! nothing is lost and nothing is booked twice: `cargo run -p watchkeeper-pipeline --example pipeline`

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{collections::BTreeMap, sync::Arc, sync::Mutex, time::Duration};
use watchkeeper::per_source::SourceEvent;
use watchkeeper::{DynError, ObservedSource, observe};
use watchkeeper_pipeline::{DeadLetterError, Emitter, FileStore, Handler, Item, OnError, Pipeline};
use watchkeeper_pipeline::{Upstream, handler_fn, stage};
type Counter = Arc<AtomicU64>;
type Growth = (String, u64); // a counter's name, and by how much it has grown

fn growth(event: &SourceEvent<u64>) -> Growth {
    let by = if let SourceEvent::Changed { old, new, .. } = event { **new - **old } else { 0 };
    (event.source().to_string(), by)
}

async fn differences(item: Item<Growth>) -> Result<Vec<Growth>, DynError> {
    Ok(item.event().into_iter().filter(|(_, by)| *by > 0).collect()) // the history is long enough: no gap
}

/// Books each growth under its position, which is the same when a growth comes again after the crash.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<String, u64>>>, Counter, Counter);

impl Handler<Growth> for Ledger {
    type Output = ();
    async fn handle(&mut self, item: Item<&Growth>, out: &mut Emitter<()>) -> Result<(), DynError> {
        let (Self(booked, calls, knows_tens), Item::Event((_, by))) = (self, item) else { return Ok(()) };
        match (calls.fetch_add(1, Relaxed) % 4, *by) {
            (1, _) => return Err("the ledger is busy".into()), // now and then: it is retried
            (_, 10) if knows_tens.load(Relaxed) == 0 => return Err("the ledger knows no tens".into()), // for good
            _ => booked.lock().expect("no panic").insert(out.position().to_string(), *by),
        };
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), DynError> {
    let (files, ledger) = (tempfile::tempdir()?, Ledger::default());
    let counters = [("cats", Counter::default()), ("dogs", Counter::default())];
    let count =
        |counter: ObservedSource<Counter>| async move { Ok::<_, DynError>(counter.source.load(Relaxed)) };
    let runtime = observe(Duration::from_millis(20), counters.clone(), count).await?;
    let grow = async |by: u64| {
        let _ = counters.each_ref().map(|(_, counter)| counter.fetch_add(by, Relaxed));
        runtime.poll_now_and_wait().await
    };
    let start = async || {
        let (ledger, path) = (ledger.clone(), |name| files.path().join(name));
        let counted = Upstream::observation("counters", &runtime.handle()).map(growth);
        let differences = stage("differences", || handler_fn(differences)).from(counted);
        let differences = differences.store(FileStore::new(path("differences.json")));
        let book = stage("book", move || ledger.clone()).from(Upstream::stage("differences"));
        let book = book.on_error(OnError::DeadLetter).store(FileStore::new(path("book.json")));
        Pipeline::builder("accounts").stage(differences).stage(book).start().await
    };
    let pipeline = start().await?;
    let _ = (grow(1).await?, grow(2).await?, grow(10).await?, grow(3).await?);
    println!("aborted: {:?}", pipeline.abort().await.cut_off);
    grow(4).await?; // while no pipeline runs
    let pipeline = start().await?;
    grow(5).await?;
    let (metrics, book) = (pipeline.metrics(), pipeline.stage("book")?);
    for stage in ["differences", "book"] {
        let done = metrics.all_sources(stage, |stage| stage.lag == Some(0)).after(metrics.mark());
        done.within(Duration::from_secs(60)).await?;
    }
    ledger.2.store(1, Relaxed);
    for letter in book.dead_letters() {
        println!("{} after {} attempts: {}", letter.item, letter.attempts, letter.error);
        while let Err(DeadLetterError::Failed { .. }) = book.replay(letter.id).await {} // it may be busy
    }
    let booked: Vec<u64> = ledger.0.lock().expect("no panic").values().copied().collect();
    println!("booked {} of 50 in {} entries", booked.iter().sum::<u64>(), booked.len());
    assert_eq!((booked.iter().sum::<u64>(), booked.len()), (50, 12));
    Ok(())
}
