//! The journal beside redb and `SQLite`, with 64 writers and one durable commit a record.
//!
//! `cargo run --release --manifest-path crates/journal/compare/Cargo.toml [DIRECTORY]` prints one table. The directory is on the
//! disk that is measured; without it, it is the system's for temporary files.

#[path = "../../benches/rows/table.rs"]
#[allow(dead_code, reason = "the figures of the journal have goals")]
mod table;
#[path = "../../benches/rows/writing.rs"]
#[allow(dead_code, reason = "the figures of the journal have other contestants too")]
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::Connection;
use table::median;
use watchkeeper_journal::Durability;
use writing::{Contestant, Operation, by_threads};

const ROUNDS: usize = 5;
const WRITERS: u64 = 64;

/// One connection that the writers share, as `SQLite` has one writer at a time anyway: connections of their own would sleep
/// and try again.
fn sqlite(directory: &Path, records: u64) -> f64 {
    let connection = Connection::open(directory.join("sqlite")).expect("it opens");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             CREATE TABLE operations (number INTEGER PRIMARY KEY, body TEXT NOT NULL);",
        )
        .expect("a table");
    let connection = Mutex::new(connection);
    by_threads(WRITERS, records, |n| {
        let body = serde_json::to_string(&Operation::new(n)).expect("it is written as JSON");
        let connection = connection.lock().expect("no thread panics");
        let mut insert =
            connection.prepare_cached("INSERT INTO operations (body) VALUES (?1)").expect("a statement");
        insert.execute([body]).expect("it is committed");
    })
}

fn main() {
    let directory = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let group = Contestant::Journal { durability: Durability::Group, tasks: WRITERS };
    let redb = Contestant::Redb { writers: WRITERS };
    let contestants: [(&str, u64, &dyn Fn(&Path, u64) -> f64); 4] = [
        ("journal, group, 64 tasks", 10_000, &|path, records| group.run(path, records)),
        ("redb, 64 threads", 300, &|path, records| redb.run(path, records)),
        ("SQLite, WAL, FULL, 64 threads", 300, &sqlite),
        ("fdatasync, 1 thread", 300, &|path, records| Contestant::Fdatasync.run(path, records)),
    ];
    let mut samples = vec![Vec::new(); contestants.len()];
    for _ in 0..ROUNDS {
        for ((_, records, run), samples) in contestants.iter().zip(&mut samples) {
            let own = tempfile::tempdir_in(&directory).expect("a directory");
            samples.push(*records as f64 / run(own.path(), *records));
        }
    }
    let rates: Vec<f64> = samples.into_iter().map(median).collect();
    println!("| what | durable records/s | times one fdatasync |");
    println!("|---|---|---|");
    for ((name, ..), rate) in contestants.iter().zip(&rates) {
        println!("| {name} | {rate:.0} | {:.2} |", rate / rates[3]);
    }
}
