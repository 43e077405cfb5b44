//! Reading all records, beside a plain reader of the same files.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use serde::Deserialize;
use watchkeeper_journal::{Durability, Entry, Journal, JournalConfig, JournalView, ReadFrom};

use super::table::{Goal, Row, median};
use super::writing::{Operation, runtime};

const RECORDS: u64 = 1_000_000;
const CHUNK: usize = 1024 * 1024;

/// What is kept of an operation.
#[derive(Deserialize)]
struct Small<'a> {
    endpoint: &'a str,
    success: bool,
    duration_ms: u64,
}

#[derive(Default, Debug, PartialEq)]
struct Sum {
    records: u64,
    failed: u64,
    milliseconds: u64,
    letters: u64,
}

impl Sum {
    fn add(&mut self, small: &Small<'_>) {
        self.records += 1;
        self.failed += u64::from(!small.success);
        self.milliseconds += small.duration_ms;
        self.letters += small.endpoint.len() as u64;
    }
}

/// Appends operations without waiting for each.
pub(crate) fn fill(directory: &Path, records: u64) {
    let config = JournalConfig {
        durability: Durability::Buffered,
        segments: 10_000,
        reserve: 0,
        ..JournalConfig::default()
    };
    runtime().block_on(async {
        let journal = Journal::open(directory, config).await.expect("it opens");
        for n in journal.cursor().seq()..records {
            let entry = Entry::new(&Operation::new(n)).expect("an object");
            drop(journal.submit_entry(entry).await.expect("it is handed over"));
        }
        journal.close().await.expect("it closes");
    });
}

fn by_view(directory: &Path) -> Sum {
    let mut sum = Sum::default();
    let view = JournalView::open(directory).expect("a journal");
    for item in view.reader(ReadFrom::Oldest).expect("a reader") {
        let record = item.expect("it is read").record().expect("no gap");
        sum.add(&serde_json::from_str(record.body()).expect("an operation"));
    }
    sum
}

/// How many records a view has, parsed into the same struct.
pub(crate) fn count(directory: &Path) -> u64 {
    black_box(by_view(directory)).records
}

fn by_lines(directory: &Path) -> Sum {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    paths.sort();
    let mut sum = Sum::default();
    let mut bytes = vec![0; 2 * CHUNK];
    for path in paths {
        let mut file = File::open(path).expect("it is opened");
        let mut rest = 0;
        loop {
            let read = file.read(&mut bytes[rest..rest + CHUNK]).expect("it is read");
            if read == 0 {
                break;
            }
            let filled = rest + read;
            let mut start = 0;
            while let Some(length) = memchr::memchr(b'\n', &bytes[start..filled]) {
                sum.add(&serde_json::from_slice(&bytes[start..start + length]).expect("an operation"));
                start += length + 1;
            }
            bytes.copy_within(start..filled, 0);
            rest = filled - start;
        }
    }
    sum
}

/// Seconds of this thread on a processor, so that other load does not count, or else of the clock.
fn seconds() -> f64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = text.and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| BEGAN.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
}

fn timed(read: impl Fn() -> Sum) -> f64 {
    let began = seconds();
    assert_eq!(black_box(read()).records, RECORDS);
    RECORDS as f64 / (seconds() - began)
}

pub(crate) fn row(directory: &Path, rounds: usize) -> Row {
    let own = tempfile::tempdir_in(directory).expect("a directory");
    fill(own.path(), RECORDS);
    assert_eq!(by_view(own.path()), by_lines(own.path()));
    let (mut views, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        views.push(timed(|| by_view(own.path())));
        plain.push(timed(|| by_lines(own.path())));
    }
    Row::new("replay, parsed", median(views), "plain reader", median(plain), Goal::Times(0.85))
}
