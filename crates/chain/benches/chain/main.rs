//! What the graph costs at a million headers, beside the plain way: a map of headers, walked by parents.
//!
//! `cargo bench -p watchkeeper-chain --bench chain` prints the tables of `benches/README.md`.

#![expect(clippy::cast_precision_loss, reason = "figures are rounded before anybody reads them")]
#![allow(clippy::unwrap_used, reason = "a bench")]

mod calls;
mod catch_up;
mod chains;
mod fast;
mod questions;

use std::hint::black_box;
use std::time::{Duration, Instant};

use chains::{HEADERS, Plain, hash, one_branch, two_branches};
use watchkeeper_chain::{Graph, Header};

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("figures are taken from optimised code only: cargo bench -p watchkeeper-chain");
        return;
    }
    if !std::env::args().any(|argument| argument == "fast") {
        measured();
    }
    println!(
        "\n| interval | what | delay | 99 of 100 | at the end | goal | met |\n|---|---|---|---|---|---|---|"
    );
    fast::behind_a_fast_chain(&[100, 250, 1_000].map(Duration::from_millis));
    println!("\n| requests in flight | blocks a second | of what they allow |\n|---|---|---|");
    fast::catch_up_by_requests(&[4, 8, 16, 32, 64]);
}

/// What depends on the machine.
fn measured() {
    println!("| what | plain | graph | goal | met |\n|---|---|---|---|---|");
    let (graph, plain) = ingest();
    snapshots(&graph, &plain);
    catch_up::through_the_observer();

    println!("\n| question | plain | graph | graph, 99 of 100 | goal | met |\n|---|---|---|---|---|---|");
    questions::with_rivals(&graph, &plain);
    drop((graph, plain));
    let (graph, plain) = (filled(two_branches()), by_hash(two_branches()));
    questions::on_two_branches(&graph, &plain);
    println!("\nEach time in the columns of the graph includes {:?} for reading the clock.\n", clock());
    drop((graph, plain));

    println!(
        "| nodes | a cycle | by hand, 10 questions | observer | goal | met |\n|---|---|---|---|---|---|"
    );
    calls::on_nodes(&[1, 3, 10]);
}

/// Measures time and memory of both.
fn ingest() -> (Graph, Plain) {
    let before = resident_bytes();
    let began = Instant::now();
    let graph = filled(one_branch());
    let graph_rate = HEADERS as f64 / began.elapsed().as_secs_f64();
    let graph_bytes = resident_bytes().saturating_sub(before);
    let before = resident_bytes();
    let began = Instant::now();
    let plain = by_hash(one_branch());
    let plain_rate = HEADERS as f64 / began.elapsed().as_secs_f64();
    let plain_bytes = resident_bytes().saturating_sub(before);
    row(
        "ingest",
        &per_second(plain_rate),
        &per_second(graph_rate),
        "200 k/s",
        yes_or_no(graph_rate >= 200e3),
    );
    let each = |bytes: u64| format!("{} B", bytes / HEADERS);
    let is_met = graph_bytes < 200 * HEADERS;
    row("memory a header", &each(plain_bytes), &each(graph_bytes), "under 200 B", yes_or_no(is_met));
    let all = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    let is_met = graph_bytes < 250_000_000;
    row("memory in all", &all(plain_bytes), &all(graph_bytes), "under 250 MB", yes_or_no(is_met));
    (graph, plain)
}

/// A cycle that publishes a snapshot and inserts one more header.
fn snapshots(graph: &Graph, plain: &Plain) {
    let top = graph.get(&hash(HEADERS - 1)).unwrap();
    let grown = || {
        (0..).scan(top, |next, nth| {
            *next = Header { hash: hash(HEADERS + nth), parent: next.hash, height: next.height + 1, ..*next };
            Some(*next)
        })
    };
    let (mut map, mut kept) = (plain.clone(), plain.clone());
    let copied = median(grown().take(20).map(|header| {
        let began = Instant::now();
        map.insert(header.hash, header);
        kept.clone_from(&map);
        began.elapsed()
    }));
    let (mut graph, mut kept) = (graph.clone(), graph.clone());
    let shared = median(grown().take(10_000).map(|header| {
        let began = Instant::now();
        graph.insert(header).unwrap();
        kept = graph.clone();
        began.elapsed()
    }));
    black_box((map, kept));
    row("one header more, and a snapshot", &time(copied), &time(shared), "", "");
}

fn filled(mut headers: impl Iterator<Item = Header>) -> Graph {
    let mut graph = Graph::new(headers.next().unwrap());
    for header in headers {
        graph.insert(header).unwrap();
    }
    graph
}

fn by_hash(headers: impl Iterator<Item = Header>) -> Plain {
    headers.map(|header| (header.hash, header)).collect()
}

/// The time that the clock itself takes.
fn clock() -> Duration {
    median((0..10_000).map(|_| Instant::now().elapsed()))
}

fn median(taken: impl Iterator<Item = Duration>) -> Duration {
    let mut taken: Vec<_> = taken.collect();
    taken.sort_unstable();
    taken[taken.len() / 2]
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

fn row(what: &str, plain: &str, graph: &str, goal: &str, met: &str) {
    println!("| {what} | {plain} | {graph} | {goal} | {met} |");
}

fn yes_or_no(is_met: bool) -> &'static str {
    if is_met { "yes" } else { "**no**" }
}

fn per_second(rate: f64) -> String {
    format!("{:.0} k/s", rate / 1e3)
}

fn time(taken: Duration) -> String {
    format!("{taken:.2?}")
}
