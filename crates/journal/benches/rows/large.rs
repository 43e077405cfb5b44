//! 10,000,000 records: how long an opening takes, and how much memory it and a replay have at most.
//!
//! Each is measured in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use watchkeeper_journal::{Durability, Journal, JournalConfig, JournalView};

use super::replay;
use super::writing::runtime;

const RECORDS: u64 = 10_000_000;
const DIRECTORY: &str = "JOURNAL_LARGE_DIR";
const ROUNDS: usize = 3;

pub(crate) fn is_child() -> bool {
    std::env::var_os(DIRECTORY).is_some()
}

/// Opens the journal or reads it, and prints milliseconds and the most memory in KiB.
pub(crate) fn child() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("a directory"));
    let began = Instant::now();
    if std::env::args().any(|argument| argument == "open") {
        let config = JournalConfig {
            durability: Durability::Buffered,
            segments: 10_000,
            reserve: 0,
            ..JournalConfig::default()
        };
        runtime().block_on(async {
            let journal = Journal::open(directory, config).await.expect("it opens");
            println!("{}", began.elapsed().as_millis());
            assert_eq!(journal.cursor().seq(), RECORDS);
            journal.close().await.expect("it closes");
        });
    } else {
        assert_eq!(replay::count(&directory), RECORDS);
        println!("{}", began.elapsed().as_millis());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!("{}", peak.unwrap_or("0 kB").trim().trim_end_matches(" kB"));
}

fn measure(directory: &Path, what: &str) -> (u64, u64) {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).arg(what).env(DIRECTORY, directory).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("two numbers");
    let numbers: Vec<u64> = text.lines().map(|line| line.parse().expect("a number")).collect();
    (numbers[0], numbers[1])
}

pub(crate) fn run(directory: &Path) {
    let directory = directory.join("journal-large");
    if JournalView::open(&directory).map_or(0, |view| view.cursor().seq()) != RECORDS {
        replay::fill(&directory, RECORDS);
    }
    println!("| {RECORDS} records | median | goal | met | most memory | goal | met |");
    println!("|---|---|---|---|---|---|---|");
    for (what, limit, most) in [("open", Some(1_000), 64), ("replay", None, 256)] {
        let mut measured: Vec<(u64, u64)> = (0..ROUNDS).map(|_| measure(&directory, what)).collect();
        measured.sort_unstable();
        let milliseconds = measured[ROUNDS / 2].0;
        let memory = measured.iter().map(|(_, memory)| memory.div_ceil(1024)).max().unwrap_or(0);
        let met = |is_met| if is_met { "yes" } else { "**no**" };
        let (goal, is_met) = limit
            .map_or((String::new(), ""), |limit| (format!("under {limit} ms"), met(milliseconds < limit)));
        let within = met(memory < most);
        println!(
            "| {what} | {milliseconds} ms | {goal} | {is_met} | {memory} MB | under {most} MB | {within} |"
        );
    }
    println!();
}
