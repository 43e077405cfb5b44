//! The start over a journal with 10,000,000 records.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use observerd::operation::Operation;
use watchkeeper_journal::{Durability, Journal, JournalConfig};
use watchkeeper_process::Signal;

use super::operation::operation;
use super::samples::{median, met};
use super::server::Server;

const RECORDS: usize = 10_000_000;
const ROUNDS: usize = 5;
/// Enough that none is removed.
const SEGMENTS: u64 = 1_000;

pub(crate) async fn run(directory: &Path) {
    let own = tempfile::tempdir_in(directory).expect("a directory");
    let data = own.path().join("data");
    fill(&data).await;
    let segments = segments(&data);
    println!(
        "| start with {RECORDS} records ({segments} segments) | median | longest | goal | met | most memory |"
    );
    println!("|---|---|---|---|---|---|");
    let settings = format!("segments = {SEGMENTS}");
    for (name, signal) in [("after a stop", Signal::TERM), ("after a kill", Signal::KILL)] {
        let (mut times, mut most) = (Vec::new(), 0);
        // The first start is after the filling.
        for round in 0..=ROUNDS {
            let began = Instant::now();
            let server = Server::over(Some(&data), own.path(), &settings).await;
            if round > 0 {
                times.push(began.elapsed().as_secs_f64() * 1e3);
                most = most.max(server.peak());
            }
            server.stop(signal).await;
        }
        let longest = times.iter().copied().fold(0.0, f64::max);
        let median = median(times);
        println!(
            "| {name} | {median:.0} ms | {longest:.0} ms | under 2 s | {} | {most} MB |",
            met(longest < 2_000.0)
        );
    }
    println!();
    assert_eq!(segments, self::segments(&data), "none was removed");
}

async fn fill(data: &Path) {
    let config = JournalConfig {
        durability: Durability::Buffered,
        segments: SEGMENTS,
        reserve: 0,
        ..JournalConfig::default()
    };
    let journal = Journal::open(data, config).await.expect("it opens");
    let now = Timestamp::now();
    // Parsing is not what is measured: a few of them again and again.
    let entries: Vec<_> =
        (0..100).map(|n| Operation::read(&operation(n), now).expect("an operation").1).collect();
    for n in 0..RECORDS {
        drop(journal.submit_entry(entries[n % entries.len()].clone()).await.expect("it is handed over"));
    }
    journal.close().await.expect("it closes");
}

fn segments(data: &Path) -> usize {
    let files = std::fs::read_dir(data).expect("a directory").flatten();
    files.filter(|file| file.path().extension().is_some_and(|extension| extension == "jsonl")).count()
}
