use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use watchkeeper_journal::{Entry, Journal, JournalConfig, ReadFrom};

use super::*;

#[path = "../../../../../journal/tests/journal/faulty.rs"]
#[allow(dead_code, reason = "the journal's tests need more of it")]
mod faulty;

struct Rig {
    journal: Journal,
    live: Live,
    stop: CancellationToken,
    slots: Arc<Semaphore>,
}

impl Rig {
    fn new(config: JournalConfig) -> Self {
        let journal = Journal::in_memory(config).unwrap();
        let live = Live::follow(&journal).unwrap();
        Self { journal, live, stop: CancellationToken::new(), slots: Arc::new(Semaphore::new(10)) }
    }

    fn stream(&self, from: ReadFrom, filter: Filter) -> EventStream {
        let slot = Arc::clone(&self.slots).try_acquire_owned().unwrap();
        let reader = self.journal.reader(from).unwrap();
        EventStream::new(&self.journal, &self.live, reader, filter, self.stop.clone(), slot)
    }

    async fn append(&self, endpoint: &str, fill: usize) {
        let body = serde_json::json!({"endpoint": endpoint, "fill": "x".repeat(fill)});
        self.journal.append(Entry::new(&body).unwrap()).await.unwrap();
    }

    /// Waits until the follower has published all there is.
    async fn followed(&self) {
        while self.live.next() < self.journal.cursor().seq() {
            tokio::time::sleep(COALESCED).await;
        }
    }
}

/// A little longer than parts are held back.
const COALESCED: Duration = Duration::from_millis(25);

/// What a stream's next pieces say, until there are so many events.
async fn events(stream: &mut EventStream, count: usize) -> Vec<(String, u64)> {
    let (mut events, mut beats) = (Vec::new(), 0);
    while events.len() < count {
        let chunk: Bytes = stream.next().await.expect("the stream goes on");
        let text = std::str::from_utf8(&chunk).unwrap();
        beats += usize::from(text.starts_with(": heartbeat"));
        assert!(beats < 100, "{count} events are there, and {} came", events.len());
        for block in text.split("\n\n").filter(|block| block.contains("data: ")) {
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_else(|| panic!("no {name} in {block}")).to_owned()
            };
            let data: serde_json::Value = serde_json::from_str(&field("data: ")).unwrap();
            let number = if field("event: ") == "gap" { &data["last"] } else { &data["sequence"] };
            let number = number.as_u64().unwrap();
            assert_eq!(field("id: ").rsplit('.').next().unwrap(), (number + 1).to_string());
            events.push((field("event: "), number));
        }
    }
    events
}

fn numbers(events: &[(String, u64)]) -> Vec<u64> {
    events.iter().map(|(_, number)| *number).collect()
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_lags_goes_back_to_the_journal_and_loses_nothing() {
    let rig = Rig::new(JournalConfig::default());
    let mut stream = rig.stream(ReadFrom::End, Filter::default());
    let _ = stream.next().await;
    rig.append("/first", 0).await;
    assert_eq!(numbers(&events(&mut stream, 1).await), [0]);
    assert!(stream.reader.is_none(), "it has caught up");
    // Each is a part of its own, and there are more of them than wait for a reader.
    for _ in 0..200 {
        rig.append("/put", 70_000).await;
    }
    rig.followed().await;
    let mut gone_back = false;
    let mut seen = Vec::new();
    while seen.len() < 200 {
        seen.extend(numbers(&events(&mut stream, 1).await));
        gone_back |= stream.reader.is_some();
    }
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
    assert!(gone_back);
}

/// A part that begins after the reader's position is no reason to leave out what is between.
#[tokio::test(start_paused = true)]
async fn a_hole_before_a_part_is_read_from_the_journal() {
    let rig = Rig::new(JournalConfig::default());
    for _ in 0..3 {
        rig.append("/put", 0).await;
    }
    rig.followed().await;
    let mut stream = rig.stream(ReadFrom::Oldest, Filter::default());
    let _ = stream.next().await;
    // As if it had caught up before the follower began.
    stream.reader = None;
    rig.append("/put", 0).await;
    assert_eq!(numbers(&events(&mut stream, 4).await), [0, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_filter_holds_for_what_is_live() {
    let rig = Rig::new(JournalConfig::default());
    let filter = Filter { endpoint: Some("/wanted".to_owned()), ..Filter::default() };
    let mut stream = rig.stream(ReadFrom::End, filter);
    let _ = stream.next().await;
    rig.append("/wanted", 0).await;
    assert_eq!(numbers(&events(&mut stream, 1).await), [0]);
    assert!(stream.reader.is_none());
    for endpoint in ["/other", "/wanted", "/other", "/wanted"] {
        rig.append(endpoint, 0).await;
    }
    assert_eq!(numbers(&events(&mut stream, 2).await), [2, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_has_the_position_of_what_was_passed_over() {
    let rig = Rig::new(JournalConfig::default());
    let filter = Filter { endpoint: Some("/wanted".to_owned()), ..Filter::default() };
    let begun = Instant::now();
    let mut stream = rig.stream(ReadFrom::End, filter);
    let _ = stream.next().await;
    for _ in 0..5 {
        rig.append("/other", 0).await;
    }
    rig.followed().await;
    let beat = loop {
        let chunk = stream.next().await.unwrap();
        if stream.cursor.seq() == 5 {
            break chunk;
        }
    };
    let text = std::str::from_utf8(&beat).unwrap();
    assert!(text.starts_with(": heartbeat\nid: ") && text.trim_end().ends_with(".1.5"), "{text}");
    assert!(begun.elapsed() >= HEARTBEAT);
    rig.stop.cancel();
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_journals_end_is_the_streams_end() {
    let rig = Rig::new(JournalConfig::default());
    let mut stream = rig.stream(ReadFrom::End, Filter::default());
    let _ = stream.next().await;
    rig.append("/put", 0).await;
    assert_eq!(numbers(&events(&mut stream, 1).await), [0]);
    rig.journal.close().await.unwrap();
    while let Some(chunk) = stream.next().await {
        assert!(chunk.starts_with(b": heartbeat"));
    }
    assert_eq!(rig.slots.available_permits(), 9);
    drop(stream);
    assert_eq!(rig.slots.available_permits(), 10);
}

/// A slow reader of a journal that retires gets the exact gap, and not a jump.
#[tokio::test(start_paused = true)]
async fn what_was_retired_meanwhile_is_a_gap() {
    let config = JournalConfig { segment_bytes: 100_000, segments: 2, ..JournalConfig::default() };
    let rig = Rig::new(config);
    let mut stream = rig.stream(ReadFrom::End, Filter::default());
    let _ = stream.next().await;
    for _ in 0..100 {
        rig.append("/put", 70_000).await;
    }
    rig.followed().await;
    let mut next = 0;
    let mut gaps = 0;
    while next < 100 {
        for (name, number) in events(&mut stream, 1).await {
            if name == "gap" {
                gaps += 1;
            } else {
                assert_eq!(number, next, "what is missing is said");
            }
            next = number + 1;
        }
    }
    assert_eq!(gaps, 1);
}

/// What was read before the disk stalled goes out before a heartbeat says that it was passed.
#[tokio::test(start_paused = true)]
async fn a_disk_that_stalls_in_the_middle_loses_nothing() {
    for reads in 1..8 {
        let disk = faulty::Faulty::default();
        let journal = Journal::open_on(
            Arc::new(disk.clone()),
            JournalConfig { reserve: 0, ..JournalConfig::default() },
        );
        let journal = journal.await.unwrap();
        for endpoint in std::iter::once("/wanted").chain(std::iter::repeat_n("/other", 100)) {
            let body = serde_json::json!({"endpoint": endpoint, "fill": "x".repeat(30_000)});
            journal.append(Entry::new(&body).unwrap()).await.unwrap();
        }
        let live = Live::follow(&journal).unwrap();
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let filter = Filter { endpoint: Some("/wanted".to_owned()), ..Filter::default() };
        let reader = journal.reader(ReadFrom::Oldest).unwrap();
        let mut stream = EventStream::new(&journal, &live, reader, filter, CancellationToken::new(), slot);
        let _ = stream.next().await;
        disk.hold_reads_after(reads);
        let mut text = String::new();
        while stream.cursor.seq() < 101 {
            tokio::select! {
                chunk = stream.next() => text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap()),
                // A thread that reads holds the paused clock.
                () = async { loop { tokio::task::yield_now().await; tokio::time::advance(HEARTBEAT).await; } } => {}
            }
            if text.contains("heartbeat") {
                disk.release_reads();
            }
        }
        assert_eq!(text.matches("event: operation").count(), 1, "after {reads} reads: {}", text.len());
        disk.release_reads();
        journal.close().await.unwrap();
    }
}
