//! A day of load on a fast clock: memory stays flat, and files stay within their bounds.
//!
//! `OBSERVERD_DAY=1 cargo test --release -p observerd --test it -- day --nocapture` takes some minutes. Without the variable, the clock runs
//! for four minutes.
//!
//! Files and sockets are real, and the clock is tokio's, paused: it would run ahead whenever everything waits for the disk. A blocking task
//! holds it, so it moves only when the test moves it.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use observerd::config::ObserverdConfig;
use observerd::operation::Operation;
use observerd::service::Service;
use observerd::{Key, Recorded};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::advance;

use watchkeeper_journal::{ReadFrom, ReadItem};

use crate::support::*;

const DAY: &str = "OBSERVERD_DAY";
const PER_SECOND: usize = 20;
const MIB: u64 = 1024 * 1024;
/// How much memory may be added after the first quarter.
const GROWTH: u64 = 16 * MIB;

struct Scale {
    seconds: usize,
    segment_bytes: u64,
    window: usize,
}

fn scale() -> Scale {
    if std::env::var_os(DAY).is_some() {
        Scale { seconds: 86_400, segment_bytes: 4 * MIB, window: 10_000 }
    } else {
        Scale { seconds: 240, segment_bytes: 160 * 1024, window: 500 }
    }
}

fn service_config(scale: &Scale, data: &Path, corrections: &Path) -> ObserverdConfig {
    let mut config = config(Some(data));
    (config.segment_bytes, config.segments) = (scale.segment_bytes, 8);
    (config.errors.window, config.playbooks.window) = (scale.window, scale.window);
    (config.errors.clusters, config.playbooks.playbooks) = (scale.window / 20, scale.window / 50);
    config.idempotency_window = 2 * scale.window as u64;
    config.corrections.path = corrections.to_path_buf();
    config
}

/// The clock stands still while this lives, also where all tasks wait.
struct Hold(#[expect(dead_code, reason = "its drop ends the hold")] mpsc::Sender<()>);

impl Hold {
    fn new() -> Self {
        let (sender, receiver) = mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || {
            let _ = receiver.recv();
        });
        Self(sender)
    }
}

/// Lets the clock run, at most twenty times as fast as the wall's, until the future is done.
async fn passing<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        let millisecond = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1)));
        tokio::select! {
            biased;
            output = &mut future => return output,
            _ = millisecond => advance(Duration::from_millis(20)).await,
        }
    }
}

/// Operations of all kinds: ever new endpoints, messages, sources and keys among those that are known.
fn operation(n: usize, at: Timestamp) -> Value {
    let letters: String =
        (0..6).map(|place| char::from(b"abcdefghijklmnopqrstuvwxyz"[n / 26_usize.pow(place) % 26])).collect();
    let rare = n.is_multiple_of(50);
    let error = match n % 7 {
        0 if rare => format!("cannot find {letters} in {n}"),
        0 => format!("timeout after {n} ms at 10.0.0.{}:8080, request {letters}-{n:x}", n % 250),
        _ => String::new(),
    };
    json!({
        "endpoint": if rare { format!("/v1/{letters}") } else { format!("/v1/step/{}", n % 12) },
        "source": if n.is_multiple_of(101) { letters.clone() } else { ["mcp", "scenario"][n % 2].to_owned() },
        "success": error.is_empty(),
        "error": error,
        "timestamp": at.to_string(),
        "duration_ms": n % 1_000,
        "staffer_id": format!("s{}", n / 12 % 40),
        "input_summary": "x".repeat(n * 31 % 400),
        "further": {"n": n},
    })
}

/// Where the load is, and what it was answered.
struct Load {
    service: Service,
    started: Timestamp,
    corrections: PathBuf,
    next: u64,
}

impl Load {
    async fn second(&mut self, second: usize) {
        let at = self.started + SignedDuration::from_secs(second.try_into().unwrap());
        let store = self.service.store();
        let recordings = (0..PER_SECOND).map(|nth| {
            let n = second * PER_SECOND + nth;
            let text = operation(n, at).to_string();
            let (operation, entry) = Operation::read(&text, at).unwrap();
            let key =
                n.is_multiple_of(10).then(|| Key::new(&format!("request-{n}"), text.as_bytes()).unwrap());
            store.record(operation, entry, key, None)
        });
        for recorded in join_all(recordings).await {
            let Recorded { sequence, is_repeated, .. } = recorded.unwrap();
            assert!(!is_repeated);
            self.next = self.next.max(sequence.unwrap() + 1);
        }
        self.correct(second);
    }

    /// A line each 10 s; each hour the file is renamed, or truncated.
    fn correct(&self, second: usize) {
        match second % 3_600 {
            1_800 => std::fs::rename(&self.corrections, self.corrections.with_extension("1")).unwrap(),
            0 => std::fs::write(&self.corrections, "").unwrap(),
            _ => {}
        }
        if second.is_multiple_of(10) {
            use std::io::Write;
            let file = std::fs::OpenOptions::new().create(true).append(true).open(&self.corrections);
            let line = json!({"endpoint": "/correct", "verdict": second});
            writeln!(file.unwrap(), "{line}").unwrap();
        }
    }
}

/// A reader of the stream, by HTTP. It panics if an operation is missing. Its channel has the next sequence.
async fn reader(client: &Client) -> (JoinHandle<()>, watch::Receiver<u64>) {
    let mut events = client.stream("events?from=oldest").await;
    let (sender, receiver) = watch::channel(0);
    let reading = tokio::spawn(async move {
        let mut next = 0;
        while let Some((name, data)) = events.next().await {
            assert_eq!((name.as_str(), data["sequence"].as_u64()), ("operation", Some(next)), "{data}");
            next += 1;
            sender.send_replace(next);
        }
    });
    (reading, receiver)
}

/// The most bytes that the data directory may have.
fn most_bytes(config: &ObserverdConfig) -> u64 {
    let largest_record = 4 * 1024;
    // A segment is begun before the oldest one is removed.
    let journal = (config.segments + 1) * (config.segment_bytes + largest_record) + 16 * MIB;
    let runs = 3 * (4 + 1) * 8 * MIB;
    journal + runs + MIB
}

fn bytes_in(directory: &Path) -> u64 {
    // A segment may be removed between the two calls.
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The memory of this process, where no other test shares it.
fn memory() -> u64 {
    if std::env::var_os(DAY).is_none() && std::env::var_os("NEXTEST").is_none() {
        return 0;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

async fn until_analysed(client: &Client, path: &str, up_to: u64) {
    loop {
        let answer = client.get(path).await;
        if answer.status == 200 && answer.json()["analysed_up_to"].as_u64() >= Some(up_to) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn memory_and_files_stay_within_bounds_in_a_day_of_load() {
    let _hold = Hold::new();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let corrections = directory.path().join("corrections.jsonl");
    let scale = scale();
    let config = service_config(&scale, &data, &corrections);
    let most = most_bytes(&config);
    let (service, client) = passing(start(config.clone())).await;
    let (reading, mut received) = passing(reader(&client)).await;
    let mut load = Load { service, started: Timestamp::UNIX_EPOCH, corrections, next: 0 };
    let (mut warm, mut highest, mut largest) = (0, 0, 0);
    for second in 0..scale.seconds {
        load.second(second).await;
        advance(Duration::from_secs(1)).await;
        if second % 60 == 59 {
            let next = load.next;
            passing(received.wait_for(|received| *received >= next)).await.unwrap();
            largest = largest.max(bytes_in(&data));
            assert!(largest <= most, "{largest} bytes in the directory at {second} s, of {most}");
            let now = memory();
            if second < scale.seconds / 4 {
                warm = warm.max(now);
            }
            highest = highest.max(now);
            assert!(
                highest <= warm + GROWTH,
                "{highest} bytes of memory at {second} s, of {warm} in the first quarter"
            );
        }
    }
    for path in ["clusters", "playbooks"] {
        passing(until_analysed(&client, path, load.next)).await;
    }
    let health = passing(client.get("health")).await;
    assert_eq!(health.status, 200, "{health:?}");
    let stats = passing(client.get("stats")).await.json();
    assert_eq!(stats["total"], 2_000);
    let journal = load.service.store().journal();
    let oldest = journal.reader(ReadFrom::Oldest).unwrap().next_existing().await.unwrap();
    assert!(matches!(oldest, Some(ReadItem::Record(record)) if record.number() > 0), "segments were removed");
    let corrected = {
        let filter = "events?from=oldest&limit=1000&source=overseer_correction";
        passing(client.get(filter)).await.json()["events"].as_array().unwrap().len()
    };
    assert!(corrected > 0, "corrections were read");
    passing(load.service.stop()).await.unwrap();
    passing(reading).await.unwrap();

    println!(
        "{} s: {} MB of memory after a quarter, {} MB at most; {} MB of files, of {} MB",
        scale.seconds,
        warm / MIB,
        highest / MIB,
        largest / MIB,
        most / MIB
    );
    let (service, client) = passing(start(config)).await;
    assert_eq!(passing(client.get("stats")).await.json(), stats);
    passing(service.stop()).await.unwrap();
}
