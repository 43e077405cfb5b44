//! Runs of real runtimes, recorded on a paused clock.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use watchkeeper::source::SharedSources;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, PerSource, async_trait,
};
use watchkeeper_journal::run::{PerSourceFormat, RunFormat, RunJournal, SerdeFormat};
use watchkeeper_journal::{Entry, Journal, JournalConfig, ReadFrom, ReadItem};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Without a reserve, which takes time.
pub(crate) fn config() -> JournalConfig {
    JournalConfig { reserve: 0, ..JournalConfig::default() }
}

fn observation(name: &str) -> ObservationConfig {
    ObservationConfig {
        name: Some(name.to_owned()),
        interval: ms(500),
        stale_after: Some(ms(1_500)),
        ..ObservationConfig::default()
    }
}

/// Counts its polls, which fail from 3 s to 5 s.
struct App {
    start: Instant,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    polls: u64,
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Third {
    third: u64,
}

#[async_trait]
impl Observer for App {
    type Source = ();
    type State = Seen;
    type Snapshot = Seen;
    type Event = Third;

    async fn init(&self, nodes: &[ObservedSource<()>]) -> Result<Seen, DynError> {
        Ok(Seen { polls: 0, names: nodes.iter().map(|node| node.name.clone()).collect() })
    }

    async fn poll(&self, nodes: &[ObservedSource<()>], seen: &mut Seen) -> Result<Vec<Third>, DynError> {
        if (ms(3_000)..ms(5_000)).contains(&self.start.elapsed()) {
            return Err("the node\nis down".into());
        }
        seen.polls += 1;
        seen.names = nodes.iter().map(|node| node.name.clone()).collect();
        Ok(if seen.polls.is_multiple_of(3) { vec![Third { third: seen.polls }] } else { vec![] })
    }

    fn snapshot(&self, seen: &Seen) -> Seen {
        seen.clone()
    }
}

/// The texts of the records of a run of seven seconds: n3 joins at 2.2 s.
pub(crate) fn app() -> Vec<String> {
    recorded(async {
        let sources = SharedSources::new(vec![ObservedSource::new("n1", ()), ObservedSource::new("n2", ())]);
        let config = observation("app");
        let observer = App { start: Instant::now() };
        let runtime =
            ObservationRuntime::start_in_background(sources.clone(), observer, config.clone()).unwrap();
        let journal = RunJournal::of(Journal::in_memory(self::config()).unwrap(), "app", SerdeFormat);
        let recording = journal.record(&runtime.handle(), &config).unwrap();
        tokio::time::sleep(ms(2_200)).await;
        sources.insert("n3", ());
        tokio::time::sleep(ms(4_900)).await;
        let _ = runtime.stop().await;
        assert!(recording.finished().await.is_ok());
        texts(&journal).await
    })
}

/// The texts of a run of `PerSource` of seven seconds: n1 counts seconds, n2 fails from 2 s to 4 s and leaves at 6 s.
pub(crate) fn nodes() -> Vec<String> {
    let probe = |start: Instant, node: &ObservedSource<u64>| {
        let second = start.elapsed().as_secs();
        if *node.name == *"n2" && (2..4).contains(&second) { Err("refused".into()) } else { Ok(second) }
    };
    recorded(async {
        let start = Instant::now();
        let sources = SharedSources::new(["n1", "n2"].map(|name| ObservedSource::new(name, 0)).into());
        let observer =
            PerSource::new(move |node| std::future::ready::<Result<u64, DynError>>(probe(start, &node)));
        let config = observation("nodes");
        let runtime =
            ObservationRuntime::start_in_background(sources.clone(), observer, config.clone()).unwrap();
        let journal: RunJournal<PerSource<u64, u64>, _> =
            RunJournal::of(Journal::in_memory(self::config()).unwrap(), "nodes", PerSourceFormat);
        let recording = journal.record(&runtime.handle(), &config).unwrap();
        tokio::time::sleep(ms(6_100)).await;
        sources.remove("n2");
        tokio::time::sleep(ms(1_000)).await;
        let _ = runtime.stop().await;
        assert!(recording.finished().await.is_ok());
        texts(&journal).await
    })
}

fn recorded(run: impl Future<Output = Vec<String>>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(run)
}

async fn texts<O: Observer, F: RunFormat<O>>(journal: &RunJournal<O, F>) -> Vec<String> {
    let mut reader = journal.journal().reader(ReadFrom::Oldest).unwrap();
    let mut texts = Vec::new();
    while let Some(ReadItem::Record(record)) = reader.next_existing().await.unwrap() {
        texts.push(record.body().to_owned());
    }
    texts
}

/// Writes records into `DIR/run/NAME`.
pub(crate) async fn write(directory: &Path, name: &str, texts: &[String]) {
    write_into(&directory.join("run").join(name), texts).await;
}

/// Writes records into the journal of a directory.
pub(crate) async fn write_into(directory: &Path, texts: &[String]) {
    let journal = Journal::open(directory, config()).await.unwrap();
    for text in texts {
        journal.append(Entry::from_text(text.clone()).unwrap()).await.unwrap();
    }
    journal.close().await.unwrap();
}
