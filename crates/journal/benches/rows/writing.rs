//! Appending, by the journal and by others. The crate in `compare/` has this file too.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use watchkeeper_journal::{Durability, Entry, Journal, JournalConfig};

use super::table::median;

/// An operation: about 150 bytes of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Operation {
    timestamp: String,
    endpoint: String,
    input_summary: String,
    success: bool,
    duration_ms: u64,
    output_summary: String,
}

impl Operation {
    pub(crate) fn new(n: u64) -> Self {
        Self {
            timestamp: format!("2026-11-29T12:{:02}:{:02}Z", n / 60 % 60, n % 60),
            endpoint: "/v1/playbooks/search".to_owned(),
            input_summary: format!("query {n:08}"),
            success: !n.is_multiple_of(7),
            duration_ms: n % 1_000,
            output_summary: "3 hits".to_owned(),
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Contestant {
    /// 200 bytes and one sync, again and again, by one thread.
    Fdatasync,
    /// The store that the journal replaces, without a sync.
    Old {
        writers: u64,
    },
    Journal {
        durability: Durability,
        tasks: u64,
    },
    /// One task with `buffered` that hands over without waiting for the answers.
    Ahead,
    /// One durable commit a record.
    Redb {
        writers: u64,
    },
}

/// The median rate of each contestant. In each round all take turns.
pub(crate) fn rates(
    directory: &Path,
    contestants: &[(&'static str, Contestant, u64)],
    rounds: usize,
) -> impl Fn(&str) -> f64 {
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for ((_, contestant, records), samples) in contestants.iter().zip(&mut samples) {
            let own = tempfile::tempdir_in(directory).expect("a directory");
            samples.push(*records as f64 / contestant.run(own.path(), *records));
        }
    }
    let medians: Vec<(&str, f64)> =
        contestants.iter().zip(samples).map(|((name, ..), samples)| (*name, median(samples))).collect();
    move |name| medians.iter().find(|(other, _)| *other == name).expect("a contestant").1
}

impl Contestant {
    /// The seconds for so many records.
    pub(crate) fn run(self, directory: &Path, records: u64) -> f64 {
        match self {
            Self::Fdatasync => fdatasync(directory, records),
            Self::Old { writers } => old(directory, writers, records),
            Self::Journal { durability, tasks } => journal(directory, durability, tasks, records),
            Self::Ahead => ahead(directory, records),
            Self::Redb { writers } => redb(directory, writers, records),
        }
    }
}

fn fdatasync(directory: &Path, records: u64) -> f64 {
    let mut file = File::create(directory.join("synced")).expect("it is made");
    let began = Instant::now();
    for n in 0..records {
        file.write_all(format!("{n:0199}\n").as_bytes()).expect("it is written");
        file.sync_data().expect("it is synced");
    }
    began.elapsed().as_secs_f64()
}

/// Shares numbers among threads, and returns the seconds until all are done.
pub(crate) fn by_threads(writers: u64, records: u64, write: impl Fn(u64) + Sync) -> f64 {
    let next = AtomicU64::new(0);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= records {
                        break;
                    }
                    write(n);
                }
            });
        }
    });
    began.elapsed().as_secs_f64()
}

/// A ring of the last operations, shifted for each new one, and one file that is opened for each.
fn old(directory: &Path, writers: u64, records: u64) -> f64 {
    const RING: usize = 2_000;
    let path = directory.join("ops.jsonl");
    let ring: Mutex<Vec<Operation>> = Mutex::new((0..RING as u64).map(Operation::new).collect());
    by_threads(writers, records, |n| {
        let operation = Operation::new(n);
        let mut line = serde_json::to_vec(&operation).expect("it is written as JSON");
        line.push(b'\n');
        {
            let mut ring = ring.lock().expect("no thread panics");
            ring.remove(0);
            ring.push(operation);
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&path).expect("it is opened");
        file.write_all(&line).expect("it is written");
    })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn config(durability: Durability) -> JournalConfig {
    JournalConfig { durability, reserve: 0, ..JournalConfig::default() }
}

fn journal(directory: &Path, durability: Durability, tasks: u64, records: u64) -> f64 {
    runtime().block_on(async {
        let journal = Journal::open(directory, config(durability)).await.expect("it opens");
        let next = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let tasks: Vec<_> = (0..tasks)
            .map(|_| {
                let (journal, next) = (journal.clone(), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= records {
                            break;
                        }
                        let entry = Entry::new(&Operation::new(n)).expect("an object");
                        journal.append(entry).await.expect("it is appended");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no task panics");
        }
        let elapsed = began.elapsed().as_secs_f64();
        journal.close().await.expect("it closes");
        elapsed
    })
}

fn ahead(directory: &Path, records: u64) -> f64 {
    runtime().block_on(async {
        let journal = Journal::open(directory, config(Durability::Buffered)).await.expect("it opens");
        let own = journal.clone();
        let began = Instant::now();
        let appending = tokio::spawn(async move {
            for n in 0..records - 1 {
                let entry = Entry::new(&Operation::new(n)).expect("an object");
                drop(own.submit_entry(entry).await.expect("it is handed over"));
            }
            let entry = Entry::new(&Operation::new(records)).expect("an object");
            own.append(entry).await.expect("it is appended, and all before it");
        });
        appending.await.expect("it does not panic");
        let elapsed = began.elapsed().as_secs_f64();
        journal.close().await.expect("it closes");
        elapsed
    })
}

fn redb(directory: &Path, writers: u64, records: u64) -> f64 {
    const TABLE: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("operations");
    let database = redb::Database::create(directory.join("redb")).expect("it is made");
    by_threads(writers, records, |n| {
        let body = serde_json::to_vec(&Operation::new(n)).expect("it is written as JSON");
        let transaction = database.begin_write().expect("it begins");
        transaction.open_table(TABLE).expect("a table").insert(n, &body[..]).expect("it is inserted");
        transaction.commit().expect("it is committed");
    })
}
