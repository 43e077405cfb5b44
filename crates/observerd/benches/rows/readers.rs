//! Readers of streams while operations are written.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::samples::{met, micros, percentile};
use super::server::Server;
use super::stream::{Received, Stream};
use super::writer::write;

const SECONDS: usize = 15;

/// How long after the last answer a reader may need.
const AFTER: Duration = Duration::from_secs(20);

pub(crate) async fn run(directory: &Path) {
    println!(
        "| readers | events/s written, `group` | events/s received by all | lost | goal: none | delay p50 | delay p99 | CPU of the service | most memory |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (readers, per_second) in [(0, 1_000), (1, 1_000), (100, 1_000), (1_000, 100)] {
        row(directory, readers, per_second).await;
    }
    println!();
}

async fn row(directory: &Path, readers: usize, per_second: usize) {
    let server = Server::start(directory, "durability = \"group\"", false).await;
    let mut streams = Vec::new();
    for _ in 0..readers {
        streams.push(Stream::open(server.address).await);
    }
    let began = Instant::now();
    let before = server.cpu();
    let total = per_second * SECONDS;
    let limit = Duration::from_secs(SECONDS as u64) + AFTER;
    let reading: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                let _ = timeout(limit, stream.read(total, began)).await;
                stream.into_received()
            })
        })
        .collect();
    let answered = write(server.address, per_second, SECONDS, began).await;
    let mut received = Vec::new();
    for task in reading {
        received.push(task.await.expect("no reader panics"));
    }
    let seconds = began.elapsed().as_secs_f64();
    let share = (server.cpu() - before) / seconds * 100.0;
    let lost: usize = received.iter().map(|reader| total - reader.at.len() + reader.wrong).sum();
    let came: usize = received.iter().map(|reader| reader.at.len()).sum();
    let delays = delays(&answered, &received);
    println!(
        "| {readers} | {:.0} | {:.0} | {lost} | {} | {} | {} | {share:.0} % of a core | {} MB |",
        total as f64 / seconds,
        came as f64 / seconds,
        met(lost == 0),
        micros(percentile(&delays, 0.5) as f64),
        micros(percentile(&delays, 0.99) as f64),
        server.peak(),
    );
}

/// From the answer to the receipt, sorted. What came before the answer has none.
fn delays(answered: &[u64], received: &[Received]) -> Vec<u64> {
    let of = |reader: &Received| -> Vec<u64> {
        answered.iter().zip(&reader.at).map(|(answered, at)| at.saturating_sub(*answered)).collect()
    };
    let mut delays: Vec<u64> = received.iter().flat_map(of).collect();
    delays.sort_unstable();
    delays
}
