//! A process that is killed in the middle loses nothing, and repeats only what it had not committed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream as streams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use watchkeeper::DynError;
use watchkeeper::supervise::Backoff;
use watchkeeper_pipeline::store::{StageName, Stored};
use watchkeeper_pipeline::{
    CommitStore, Emitter, FileStore, Handler, Item, OnError, Pipeline, PipelineState, Upstream,
    UpstreamPosition, stage,
};

/// The directory of the stores and the log: it makes a test a child.
const DIRECTORY: &str = "PIPELINE_CHILD_DIR";
/// Set for a child with a runtime of several threads.
const THREADS: &str = "PIPELINE_CHILD_THREADS";
/// The number before which a child waits for its kill; without it, the child ends after the last one.
const LIMIT: &str = "PIPELINE_CHILD_LIMIT";
const NUMBERS: u64 = 3_000;
const KILLS: u64 = 20;
/// The number that always fails in a child: early, so that its dead letter survives most of the kills.
const BURIED: u64 = 150;
/// How long a child may take for anything.
const CHILD: Duration = Duration::from_secs(60);

fn log_path(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn store<T, O>(directory: &Path, stage: &str) -> FileStore<T, O> {
    FileStore::new(directory.join(format!("{stage}.json")))
}

fn fails_at_first(n: u64) -> bool {
    n % 61 == 7
}

/// Doubles each number. Some fail at first, and one always, unless it is mended.
struct Double {
    is_mended: bool,
}

impl Handler<u64> for Double {
    type Output = u64;

    async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<u64>) -> Result<(), DynError> {
        let n = *item.event().ok_or("a gap")?;
        // What a failed attempt has emitted is not published.
        out.emit(2 * n);
        tokio::task::yield_now().await;
        if (n == BURIED && !self.is_mended) || (fails_at_first(n) && out.attempt() == 1) {
            return Err(format!("{n} does not work").into());
        }
        Ok(())
    }
}

/// Appends each output with its position to the log.
struct Sink {
    log: File,
}

impl Handler<u64> for Sink {
    type Output = ();

    async fn handle(&mut self, item: Item<&u64>, out: &mut Emitter<()>) -> Result<(), DynError> {
        let output = *item.event().ok_or("a gap")?;
        if output % 194 == 6 && out.attempt() == 1 {
            return Err("try again".into());
        }
        tokio::task::yield_now().await;
        self.log.write_all(format!("{output} {}\n", out.position()).as_bytes())?;
        Ok(())
    }
}

/// The numbers before `limit` in small pieces, so that there are many commits. It ends only if `ends`.
fn upstream(limit: u64, ends: bool) -> Upstream<u64> {
    Upstream::seekable("numbers", move |committed| {
        let mut waits = false;
        let mut next = committed;
        let pieces = streams::poll_fn(move |context| {
            if waits {
                waits = false;
                context.waker().wake_by_ref();
                return std::task::Poll::Pending;
            }
            let number = (next < limit).then_some(next);
            next += 1;
            waits = number.is_some_and(|number| number % 13 == 0 || number % 7 == 3);
            std::task::Poll::Ready(number)
        });
        let rest = if ends { streams::empty().left_stream() } else { streams::pending().right_stream() };
        pieces.chain(rest)
    })
}

async fn start(directory: &Path, is_mended: bool, upstream: Upstream<u64>) -> Pipeline {
    let millisecond = Duration::from_millis(1);
    let backoff = Backoff { first: millisecond, max: millisecond, jitter: 0.0, seed: 0 };
    let log = log_path(directory);
    let sink = move || Sink { log: OpenOptions::new().create(true).append(true).open(&log).unwrap() };
    Pipeline::builder("kill")
        .stage(
            stage("double", move || Double { is_mended })
                .from(upstream)
                .store(store(directory, "double"))
                .retries(2)
                .backoff(backoff)
                .on_error(OnError::DeadLetter),
        )
        .stage(
            stage("sink", sink)
                .from(Upstream::stage("double"))
                .store(store(directory, "sink"))
                .retries(1)
                .backoff(backoff),
        )
        .start()
        .await
        .unwrap()
}

/// What a child does. It is a test only so that the test's own binary can be the child.
#[test]
fn a_child_runs_the_pipeline_to_its_end() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    // Without its parent it ends too.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(3);
    });
    let mut runtime = match std::env::var_os(THREADS) {
        Some(_) => tokio::runtime::Builder::new_multi_thread(),
        None => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let limit = std::env::var(LIMIT).ok().map(|limit| limit.parse().unwrap());
    let upstream = upstream(limit.unwrap_or(NUMBERS), limit.is_none());
    let status =
        runtime.block_on(async { start(Path::new(&directory), false, upstream).await.ended().await });
    assert_eq!(status.state, PipelineState::Drained);
}

/// A child, which is killed at the latest when this is dropped.
struct Run(Child);

impl Run {
    fn start(directory: &Path, has_threads: bool, limit: Option<u64>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "kill::a_child_runs_the_pipeline_to_its_end", "--nocapture"]);
        command.env(DIRECTORY, directory).stdin(Stdio::piped()).stdout(Stdio::null());
        if has_threads {
            command.env(THREADS, "1");
        }
        if let Some(limit) = limit {
            command.env(LIMIT, limit.to_string());
        }
        Self(command.spawn().unwrap())
    }

    /// Polls the system until `condition` holds, or the child has ended.
    fn until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() && self.0.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < CHILD, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn kill(&mut self) -> ExitStatus {
        self.0.kill().unwrap();
        self.0.wait().unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        self.until("the end of the child", || false);
        self.0.wait().unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a store has, read as a stage reads it.
fn stored<T, O>(directory: &Path, name: &str) -> Stored<T, O>
where
    T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    O: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let stage = StageName { pipeline: "kill".into(), stage: name.into() };
    runtime.block_on(store(directory, name).load(&stage)).unwrap()
}

/// A line of the log.
type Line = (u64, UpstreamPosition);

/// The complete lines of the log. A line that the kill has cut is removed: its item was not handled.
fn log(directory: &Path) -> Vec<Line> {
    let path = log_path(directory);
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    let complete = text.rfind('\n').map_or(0, |end| end + 1);
    if complete < text.len() {
        text.truncate(complete);
        fs::write(&path, &text).unwrap();
    }
    let line = |line: &str| {
        let (output, position) = line.split_once(' ').unwrap();
        (output.parse().unwrap(), position.parse().unwrap())
    };
    text.lines().map(line).collect()
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn parts(position: UpstreamPosition) -> (u64, u64) {
    let UpstreamPosition::Batch { cursor, done } = position else { panic!("{position} is of no stage") };
    (cursor.seq(), done)
}

/// What the runs before have shown.
#[derive(Default)]
struct History {
    lines: usize,
    /// The first output of each position.
    outputs: BTreeMap<(u64, u64), u64>,
    /// The committed position of the sink: that of the next item.
    committed: (u64, u64),
    double: u64,
}

/// The output after `output`; without the one of the dead letter.
fn next(output: Option<u64>) -> u64 {
    let next = output.map_or(0, |output| output + 2);
    if next == 2 * BURIED { next + 2 } else { next }
}

impl History {
    /// Checks what one run has added to the log, and what it has committed.
    fn check(&mut self, directory: &Path) {
        let log = log(directory);
        let added = &log[self.lines..];
        self.lines = log.len();
        if let Some((_, position)) = added.first() {
            assert_eq!(parts(*position), self.committed, "a run begins at what was committed");
        }
        for (nth, (output, position)) in added.iter().enumerate() {
            let position = parts(*position);
            if let Some(nth) = nth.checked_sub(1) {
                let (before, at) = (added[nth].0, parts(added[nth].1));
                let follows = position == (at.0, at.1 + 1) || position == (at.0 + 1, 0);
                assert!(
                    follows,
                    "{position:?} came after {at:?}: nothing is left out or repeated within a run"
                );
                assert_eq!(*output, next(Some(before)));
            }
            let newest = self.outputs.last_key_value().map(|(position, output)| (*position, *output));
            if let Some(known) = self.outputs.get(&position) {
                assert_eq!(output, known, "{position:?} is another item than before");
                continue;
            }
            let expected = next(newest.map(|(_, output)| output));
            assert_eq!(*output, expected, "an output is missing before it");
            assert!(newest.is_none_or(|(newest, _)| newest < position));
            self.outputs.insert(position, *output);
        }
        let sink: Stored<u64, ()> = stored(directory, "sink");
        assert!(sink.dead_letters.is_empty(), "{:?}", sink.dead_letters);
        let committed = sink.position.get("double").map_or((0, 0), parts);
        assert!(committed >= self.committed, "{committed:?} was committed after {:?}", self.committed);
        if let Some((_, last)) = log.last() {
            let last = parts(*last);
            let after = [(last.0, last.1 + 1), (last.0 + 1, 0)];
            assert!(committed <= after[1], "{committed:?} was committed, and the log ends at {last:?}");
            assert!(self.outputs.contains_key(&committed) || after.contains(&committed), "{committed:?}");
        } else {
            assert_eq!(committed, (0, 0), "nothing is committed that was not handled");
        }
        self.committed = committed;

        let double: Stored<u64, u64> = stored(directory, "double");
        let read = double.position.get("numbers").map_or(0, UpstreamPosition::number);
        assert!(read >= self.double, "{read} was committed after {}", self.double);
        self.double = read;
        let letters: Vec<_> = double.dead_letters.iter().map(|letter| (letter.id, letter.item)).collect();
        let expected = if read > BURIED { vec![(0, Item::Event(BURIED))] } else { Vec::new() };
        assert_eq!(letters, expected);
        // What the sink has not committed is kept.
        if let Some(cursor) = double.cursor {
            assert!(cursor.seq() <= committed.0, "batch {} is gone, {} is next", cursor.seq(), committed.0);
            assert!(cursor.seq() + double.outputs.len() as u64 >= committed.0);
        }
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

#[test]
fn a_process_that_is_killed_twenty_times_handles_every_item_and_repeats_only_what_was_not_committed() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut history = History::default();
    let mut random = Random(20);
    for kill in 0..KILLS {
        // A child never gets to the end, however late its kill comes.
        let share = NUMBERS / (KILLS + 1);
        let until = history.lines + usize::try_from(1 + random.below(share - 2)).unwrap();
        let mut run = Run::start(directory, kill % 2 == 0, Some((kill + 1) * share));
        run.until("more lines of the log", || lines(&log_path(directory)) >= until);
        // Any moment: within a handler, a commit or a pause.
        std::thread::sleep(Duration::from_micros(random.below(4_000)));
        let status = run.kill();
        assert_eq!(status.signal(), Some(9), "the child has ended before kill {kill}");
        history.check(directory);
    }
    let mut run = Run::start(directory, true, None);
    let status = run.end();
    assert!(status.success(), "{status}");
    history.check(directory);

    let delivered: Vec<u64> = history.outputs.values().copied().collect();
    let expected: Vec<u64> = (0..NUMBERS).filter(|n| *n != BURIED).map(|n| 2 * n).collect();
    assert_eq!(delivered, expected);
    let double: Stored<u64, u64> = stored(directory, "double");
    assert_eq!(double.position.get("numbers"), Some(UpstreamPosition::Count(NUMBERS)));
    let end = double.cursor.unwrap().seq() + double.outputs.len() as u64;
    assert_eq!(history.committed, (end, 0));
    let [letter] = &double.dead_letters[..] else { panic!("{:?}", double.dead_letters) };
    assert_eq!((letter.id, letter.item, letter.attempts), (0, Item::Event(BURIED), 3));
    assert_eq!(letter.position, UpstreamPosition::Count(BURIED));
    assert_eq!(letter.error, "150 does not work");

    replay_the_letter(directory, history.lines);
}

/// Its output comes once, after all others.
fn replay_the_letter(directory: &Path, lines: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pipeline = start(directory, true, upstream(NUMBERS, false)).await;
        let double = pipeline.stage("double").unwrap();
        assert_eq!(double.dead_letters().len(), 1);
        double.replay(0).await.unwrap();
        assert_eq!(double.dead_letters(), []);
        assert_eq!(pipeline.stop().await.state, PipelineState::Drained);
    });
    let log = log(directory);
    assert_eq!(log.iter().filter(|(output, _)| *output == 2 * BURIED).count(), 1);
    assert_eq!(log.len(), lines + 1);
    assert_eq!(log[lines].0, 2 * BURIED);
    let double: Stored<u64, u64> = stored(directory, "double");
    assert!(double.dead_letters.is_empty());
    assert_eq!(double.next_dead_letter, 1);
    let sink: Stored<u64, ()> = stored(directory, "sink");
    assert_eq!(sink.position.get("double").map(parts), Some((parts(log[lines].1).0 + 1, 0)));
}
