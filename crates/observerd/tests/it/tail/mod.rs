//! The tail of the file of corrections, on real files.

mod files;
mod kills;
mod lines;
mod model;
mod positions;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use observerd::config::CorrectionsConfig;
use observerd::loops::tail::{self, CorrectionsTail, TailEvent, TailReport};
use observerd::store::Store;
use tempfile::TempDir;
use watchkeeper::ObservationRuntime;
use watchkeeper_journal::medium::{Directory, Medium};
use watchkeeper_journal::{Journal, JournalConfig, ReadFrom, ReadItem, Record};

use crate::support::faulty::Faulty;

/// A file, a data directory, and a service that reads the one into the other.
struct Rig {
    directory: TempDir,
    path: PathBuf,
    medium: Arc<dyn Medium>,
    config: JournalConfig,
    saves: bool,
    service: Option<Service>,
}

struct Service {
    store: Store,
    tail: ObservationRuntime<CorrectionsTail>,
}

impl Rig {
    /// Nothing runs yet.
    fn stopped() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, path) = (directory.path().join("data"), directory.path().join("corrections.jsonl"));
        let config = JournalConfig { reserve: 0, ..JournalConfig::default() };
        let medium = Arc::new(Directory::new(data));
        Self { directory, path, medium, config, saves: true, service: None }
    }

    /// The journal is on this medium, and the checkpoint in a directory.
    fn on(medium: &Faulty) -> Self {
        Self { medium: Arc::new(medium.clone()), ..Self::stopped() }
    }

    async fn new() -> Self {
        let mut rig = Self::stopped();
        rig.start().await;
        rig
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    async fn start(&mut self) {
        let journal = Journal::open_on(Arc::clone(&self.medium), self.config.clone()).await.unwrap();
        let store = Store::of(journal, 100).await.unwrap();
        fs::create_dir_all(self.data()).unwrap();
        let tail = self.tail(&store);
        self.service = Some(Service { store, tail });
    }

    fn tail(&self, store: &Store) -> ObservationRuntime<CorrectionsTail> {
        // Each cycle is asked for.
        let config = CorrectionsConfig { path: self.path.clone(), every: Duration::from_hours(1) };
        let data = self.data();
        let directory = self.saves.then_some(data.as_path());
        tail::start(store, &config, directory, tail::observation(&config).unwrap()).unwrap()
    }

    /// Another tail on the store that is open.
    async fn restart_tail(&mut self) {
        let service = self.service.take().unwrap();
        let _ = service.tail.stop().await;
        let tail = self.tail(&service.store);
        self.service = Some(Service { store: service.store, tail });
    }

    /// Stops what runs, at whatever it is.
    async fn stop(&mut self) {
        let Service { store, tail } = self.service.take().unwrap();
        let _ = tail.stop().await;
        let _ = store.close().await;
    }

    async fn restart(&mut self) {
        self.stop().await;
        self.start().await;
    }

    fn store(&self) -> &Store {
        &self.service.as_ref().unwrap().store
    }

    fn runtime(&self) -> &ObservationRuntime<CorrectionsTail> {
        &self.service.as_ref().unwrap().tail
    }

    async fn poll(&self) -> TailReport {
        self.runtime().poll_now_and_wait().await.unwrap().value.clone()
    }

    async fn poll_fails(&self) -> String {
        let control = self.runtime().control();
        control.poll_now_and_wait().await.unwrap_err().to_string()
    }

    /// Polls until `is_done`.
    async fn until(&self, is_done: impl Fn(&TailReport) -> bool) -> TailReport {
        for _ in 0..100 {
            let report = self.poll().await;
            if is_done(&report) {
                return report;
            }
        }
        panic!("it does not come: {:?}", self.poll().await)
    }

    async fn caught_up(&self) -> TailReport {
        self.until(|report| report.caught_up).await
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        write_to(&self.path, text);
    }

    fn rotate(&self) -> PathBuf {
        let rotated = self.path.with_extension("jsonl.1");
        fs::rename(&self.path, &rotated).unwrap();
        rotated
    }

    async fn records(&self) -> Vec<Record> {
        let mut reader = self.store().journal().reader(ReadFrom::Oldest).unwrap();
        let mut records = Vec::new();
        while let Some(item) = reader.next_existing().await.unwrap() {
            records.extend(ReadItem::record(item));
        }
        records
    }

    /// What the journal has, by the field `n` of each line.
    async fn recorded(&self) -> Vec<u64> {
        let records = self.records().await;
        records.iter().filter_map(|record| number(record.body())).collect()
    }

    fn events(&self) -> Vec<TailEvent> {
        let batches = self.runtime().handle().history();
        batches.iter().flat_map(|batch| batch.events.clone()).collect()
    }
}

fn number(body: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(body).unwrap().get("n")?.as_u64()
}

fn write_to(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_ref()).unwrap();
}

/// Lines with these numbers.
fn lines(numbers: impl IntoIterator<Item = u64>) -> String {
    let lines: Vec<_> = numbers.into_iter().map(|n| format!("{{\"n\":{n}}}\n")).collect();
    lines.concat()
}
