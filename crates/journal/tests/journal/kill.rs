//! Processes under load that are killed at random moments, and openings that are killed or dropped.
//!
//! The test's own binary is the child. Of it, a kill leaves what the operating system has; what a power cut leaves, other
//! tests show.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use watchkeeper_journal::{Durability, Entry, Journal, JournalConfig, ReadFrom, ReadItem, Recovery};

use crate::common::*;

/// The directory of the journal: it makes a test a child.
const DIRECTORY: &str = "JOURNAL_CHILD_DIR";
/// The number of kills before this child. Without it, the child opens the journal, and does no more.
const LIFE: &str = "JOURNAL_CHILD_LIFE";
/// How many kills, by hand.
const KILLS: &str = "JOURNAL_KILLS";
const TASKS: u64 = 8;
/// How long a child may take for anything.
const CHILD: Duration = Duration::from_secs(60);

/// The records of a child. `of` have consecutive places in one batch; a single one is 1 of 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Content {
    life: u64,
    task: u64,
    call: u64,
    place: u64,
    of: u64,
}

/// Small segments, so that rotation and retention are killed too.
fn child_config(life: u64) -> JournalConfig {
    let durability = if life.is_multiple_of(2) { Durability::Group } else { Durability::Always };
    JournalConfig { durability, segment_bytes: 32 * 1024, segments: 6, ..config() }
}

/// One write, which no kill cuts.
fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn append_for_ever(journal: Journal, life: u64, task: u64) {
    for call in 0.. {
        let of = if call % 5 == task % 5 { 2 + (call + task) % 6 } else { 1 };
        let content = |place| Content { life, task, call, place, of };
        let entries: Vec<Entry> = (0..of).map(|place| Entry::new(&content(place)).unwrap()).collect();
        let appended = match <[Entry; 1]>::try_from(entries) {
            Ok([entry]) => journal.append(entry).await.unwrap(),
            Err(entries) => journal.append_batch(entries).await.unwrap(),
        };
        assert_eq!(appended.count, of);
        print(&format!("appended {} {task} {call} {of}\n", appended.number));
    }
}

/// What a child does. It is a test only so that the test's own binary can be the child.
#[test]
fn a_child_appends_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    // Without its parent it ends too.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let life = std::env::var(LIFE).ok().map(|life| life.parse().unwrap());
        // After the name of the test, which has no line feed.
        print("\nopening\n");
        let journal = Journal::open(&directory, child_config(life.unwrap_or(0))).await.unwrap();
        print("opened\n");
        if let Some(life) = life {
            let tasks: Vec<_> =
                (0..TASKS).map(|task| tokio::spawn(append_for_ever(journal.clone(), life, task))).collect();
            for task in tasks {
                task.await.unwrap();
            }
        }
    });
}

/// A child, which is killed at the latest when this is dropped.
struct Run {
    child: Child,
    lines: Receiver<String>,
}

impl Run {
    fn start(directory: &Path, life: Option<u64>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "kill::a_child_appends_until_it_is_killed", "--nocapture"]);
        command.env(DIRECTORY, directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        if let Some(life) = life {
            command.env(LIFE, life.to_string());
        }
        let mut child = command.spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        // It ends with the child, whose end of the pipe is the only one.
        std::thread::spawn(move || {
            let lines = |out: ChildStdout| BufReader::new(out).lines().map_while(Result::ok);
            lines(out).try_for_each(|line| sender.send(line))
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(CHILD).expect("the child prints a line in time")
    }

    /// Waits for this line.
    fn until(&self, expected: &str) {
        while self.line() != expected {}
    }

    /// Kills the child. Returns what it had printed besides.
    fn kill(mut self) -> (ExitStatus, Vec<String>) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(CHILD) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => return (status, lines),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the pipe of a child that was killed is open"),
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same numbers in each run of the test.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The first number of each append that was answered, and what it had.
type Answered = BTreeMap<u64, Content>;

fn answered(lines: &[String], life: u64, all: &mut Answered) -> usize {
    let before = all.len();
    for line in lines.iter().filter_map(|line| line.strip_prefix("appended ")) {
        let words: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let [number, task, call, of] = words[..] else { panic!("{line}") };
        let known = all.insert(number, Content { life, task, call, place: 0, of });
        assert_eq!(known, None, "{number} was given twice");
    }
    all.len() - before
}

/// Every record, with its number and the first number and the count of its batch. There is no gap.
async fn records(journal: &Journal) -> Vec<(u64, Content, Option<(u64, u64)>)> {
    let mut reader = journal.reader(ReadFrom::Oldest).unwrap();
    let mut records = Vec::new();
    while let Some(item) = reader.next_existing().await.unwrap() {
        match item {
            ReadItem::Record(record) => {
                let batch = record.batch().map(|batch| (batch.first, batch.count));
                records.push((record.number(), record.parse().unwrap(), batch));
            }
            ReadItem::Gap(gap) => panic!("{gap}"),
        }
    }
    records
}

/// The complete lines of all segments, read as plain JSON.
fn plain(path: &Path) -> Vec<(u64, Content)> {
    let mut found = Vec::new();
    for segment in segments(path) {
        for line in fs::read_to_string(segment).unwrap().lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let number = value["_wk_n"].as_str().unwrap().parse().unwrap();
            found.push((number, serde_json::from_value(value).unwrap()));
        }
    }
    found
}

/// Opens the journal, and compares it with all answers so far.
async fn check(path: &Path, life: u64, answered: &Answered) {
    let journal = Journal::open(path, child_config(life)).await.unwrap();
    let recovery = journal.recovery().clone();
    assert_eq!((&recovery.damage[..], &recovery.gaps[..]), (&[][..], &[][..]), "a kill damages nothing");
    let records = records(&journal).await;
    let oldest = journal.oldest().seq();
    journal.close().await.unwrap();
    let plain = plain(path);
    assert_eq!(records.iter().map(|(number, content, _)| (*number, *content)).collect::<Vec<_>>(), plain);

    let by_number: BTreeMap<u64, Content> = plain.iter().copied().collect();
    assert!(plain.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "each number is there once, in order");
    let contents: HashSet<Content> = plain.iter().map(|(_, content)| *content).collect();
    assert_eq!(contents.len(), plain.len(), "no record is there twice");
    let mut last: BTreeMap<(u64, u64), Content> = BTreeMap::new();
    for (number, content, batch) in &records {
        let before = last.insert((content.life, content.task), *content);
        let before = before.map(|before| (before.call, before.place));
        assert!(before < Some((content.call, content.place)), "{content:?} came after {before:?}");
        let first = number - content.place;
        assert_eq!(*batch, (content.of > 1).then_some((first, content.of)), "{content:?}");
        for place in 0..content.of {
            let other = by_number.get(&(first + place));
            assert_eq!(other, Some(&Content { place, ..*content }), "a batch is whole");
        }
    }
    for (first, content) in answered.range(oldest..) {
        for place in 0..content.of {
            let found = by_number.get(&(first + place));
            assert_eq!(found, Some(&Content { place, ..*content }), "record {} was answered", first + place);
        }
    }
}

#[tokio::test]
async fn what_was_answered_survives_each_kill_of_its_process() {
    let directory = directory();
    let directory = directory.path();
    let kills = std::env::var(KILLS).map_or(20, |kills| kills.parse().expect("a number of kills"));
    let (mut all, mut random) = (Answered::new(), Random(20));
    for life in 0..kills {
        let run = Run::start(directory, Some(life));
        run.until("opened");
        let lines: Vec<String> = (0..random.below(400)).map(|_| run.line()).collect();
        // Any moment: within a write, a sync, a new segment.
        std::thread::sleep(Duration::from_micros(random.below(6_000)));
        let (status, rest) = run.kill();
        assert_eq!(status.signal(), Some(9), "the child has ended before kill {life}");
        answered(&[lines, rest].concat(), life, &mut all);
        // Sometimes the next child recovers.
        if life % 4 != 3 {
            check(directory, life, &all).await;
        }
    }
    check(directory, 0, &all).await;
    assert!(all.len() as u64 > 20 * kills, "{} appends were answered", all.len());
}

/// A journal of one segment with damage, a broken batch and a torn end, made without its slow parts.
async fn damaged(path: &Path, bytes: usize, damages: usize) {
    let journal = Journal::open(path, JournalConfig { durability: Durability::Buffered, ..config() }).await;
    let journal = journal.unwrap();
    for n in 0..40 {
        journal.append(long_entry(n)).await.unwrap();
    }
    journal.append_batch((40..44).map(long_entry).collect()).await.unwrap();
    journal.close().await.unwrap();
    let file = segments(path).remove(0);
    let whole = fs::read(&file).unwrap();
    let mut lines: Vec<Vec<u8>> = whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    // Without the commit mark.
    lines.pop();
    let junk = bytes / damages;
    for line in &mut lines[..damages] {
        line.resize(line.len() + junk - 1, b'x');
        line.push(b'\n');
    }
    lines.push(b"{\"torn\":".to_vec());
    fs::write(file, lines.concat()).unwrap();
}

/// What an opening leaves: its report, the numbers, and the files without the lock.
async fn opened(path: &Path) -> (Recovery, Vec<u64>, BTreeMap<String, Vec<u8>>) {
    let journal = open(path).await;
    let (recovery, numbers) = (journal.recovery().clone(), numbers(&journal).await);
    journal.close().await.unwrap();
    let mut files = BTreeMap::new();
    let below = fs::read_dir(path.join("quarantine")).into_iter().flatten();
    for entry in fs::read_dir(path).unwrap().chain(below) {
        let path = entry.unwrap().path();
        if path.is_file() {
            files.insert(path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap());
        }
    }
    (recovery, numbers, files)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_recovery_that_is_killed_is_done_again() {
    const DAMAGES: usize = 20;
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    damaged(&at("damaged"), 1_000_000, DAMAGES).await;
    copy(&at("damaged"), &at("whole"));
    let began = Instant::now();
    let expected = opened(&at("whole")).await;
    let whole = began.elapsed();
    let (recovery, numbers, _) = &expected;
    assert_eq!((recovery.damage.len(), recovery.uncommitted), (DAMAGES, 3));
    assert_eq!(*numbers, (0..40).collect::<Vec<_>>());

    let mut interrupted = 0;
    for kill in 0..12 {
        let path = at(&kill.to_string());
        copy(&at("damaged"), &path);
        for _ in 0..2 {
            let run = Run::start(&path, None);
            run.until("opening");
            std::thread::sleep(whole * kill / 12);
            let (_, lines) = run.kill();
            interrupted += u32::from(!lines.iter().any(|line| line == "opened"));
        }
        let (recovery, numbers, files) = opened(&path).await;
        assert_eq!((&recovery.damage, &numbers), (&expected.0.damage, &expected.1), "kill {kill}");
        assert!(files == expected.2, "kill {kill}: the files are those of one whole recovery");
    }
    assert!(interrupted >= 4, "{interrupted} of 24 recoveries were interrupted");
}

/// Whether some process has the lock of the directory, by the system's own list.
fn is_locked(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = format!(":{} 0 EOF", fs::metadata(path).unwrap().ino());
    fs::read_to_string("/proc/locks")
        .unwrap()
        .lines()
        .any(|lock| lock.contains("FLOCK") && lock.ends_with(&place))
}

/// How long the directory is locked from now on.
fn locked(path: &Path) -> Duration {
    let lock = File::open(path).unwrap();
    let began = Instant::now();
    while lock.try_lock().is_err() {
        assert!(began.elapsed() < CHILD, "the directory stays locked");
        std::thread::sleep(Duration::from_millis(1));
    }
    began.elapsed()
}

#[tokio::test]
async fn an_opening_that_is_dropped_ends_within_one_piece_and_frees_the_directory() {
    let directory = directory();
    for (name, damages) in [("one line", 1), ("lines", 39)] {
        let path = directory.path().join(name);
        damaged(&path, 40_000_000, damages).await;
        let before = fs::read(&segments(&path)[0]).unwrap();
        let opening = {
            let path = path.clone();
            tokio::spawn(async move { Journal::open(path, config()).await.map(drop) })
        };
        // Some file systems show other numbers there: the reading takes longer than this.
        for _ in 0..500 {
            if is_locked(&path) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Into the reading, which takes far longer.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let began = Instant::now();
        opening.abort();
        assert!(opening.await.unwrap_err().is_cancelled());
        assert!(began.elapsed() < Duration::from_secs(1), "a task that is dropped does not wait");
        let locked = locked(&path);
        // One piece takes some 100 ms without optimisation, on a machine that is busy.
        assert!(locked < Duration::from_secs(2), "{locked:?}");
        assert!(fs::read(&segments(&path)[0]).unwrap() == before, "{name}: nothing was changed");
        let journal = open(&path).await;
        assert_eq!(journal.recovery().damage.len(), damages);
        assert_eq!(numbers(&journal).await, (0..40).collect::<Vec<_>>());
        journal.close().await.unwrap();
    }
}
