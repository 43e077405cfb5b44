//! A journal is the upstream of a pipeline's stage, with its cursor as the position.

use std::path::Path;
use std::sync::{Arc, Mutex};

use watchkeeper::DynError;
use watchkeeper_journal::{Journal, JournalConfig};
use watchkeeper_pipeline::{
    Emitter, FileStore, Handler, Item, Pipeline, PipelineState, UpstreamPosition, stage,
};

use crate::common::*;

type Heard = Arc<Mutex<Vec<(Item<u64>, UpstreamPosition)>>>;

struct Sum {
    heard: Heard,
}

impl Handler<u64> for Sum {
    type Output = u64;

    async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<u64>) -> Result<(), DynError> {
        self.heard.lock().unwrap().push((item.cloned(), out.position()));
        Ok(())
    }
}

async fn start(journal: &Journal, path: &Path, heard: &Heard) -> Pipeline {
    let heard = Arc::clone(heard);
    let numbers = journal.upstream("journal").map(|record| {
        record.parse::<serde_json::Value>().ok().and_then(|value| value["n"].as_u64()).unwrap_or(u64::MAX)
    });
    let store: FileStore<u64, u64> = FileStore::new(path.join("sum.json"));
    let sum = stage("sum", move || Sum { heard: Arc::clone(&heard) }).from(numbers).store(store);
    Pipeline::builder("pipeline").stage(sum).start().await.unwrap()
}

#[tokio::test]
async fn a_stage_continues_after_a_restart_and_gets_the_exact_gap() {
    let directory = directory();
    let (log, stores) = (directory.path().join("log"), directory.path().join("stores"));
    let config = JournalConfig { segments: 3, ..small_segments() };
    let heard = Heard::default();

    let journal = Journal::open(&log, config.clone()).await.unwrap();
    append_all(&journal, 0..40).await;
    let pipeline = start(&journal, &stores, &heard).await;
    append_all(&journal, 40..60).await;
    // The end of the journal is the end of its stage.
    journal.close().await.unwrap();
    assert_eq!(pipeline.ended().await.state, PipelineState::Drained);
    // The position of a record is its own, whatever was read with it.
    let first = journal.cursor();
    let at = |n| UpstreamPosition::Batch { cursor: first.at(n), done: 0 };
    let events = |from: u64, to: u64| (from..to).map(|n| (Item::Event(n), at(n))).collect::<Vec<_>>();
    assert_eq!(std::mem::take(&mut *heard.lock().unwrap()), events(0, 60));

    // While no stage reads, retention removes some of what comes.
    let journal = Journal::open(&log, config).await.unwrap();
    append_all(&journal, 60..65).await;
    for n in 65..100 {
        journal.append(long_entry(n)).await.unwrap();
    }
    let oldest = journal.oldest().seq();
    assert!(oldest > 65);
    let pipeline = start(&journal, &stores, &heard).await;
    journal.close().await.unwrap();
    assert_eq!(pipeline.ended().await.state, PipelineState::Drained);
    let mut expected = vec![(Item::Lagged { missed: oldest - 60 }, at(60))];
    expected.extend(events(oldest, 100));
    assert_eq!(*heard.lock().unwrap(), expected);
}
