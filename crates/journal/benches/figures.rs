//! What the journal costs beside the store that it replaces, beside one `fdatasync` a record, and beside a database.
//!
//! `cargo bench -p watchkeeper-journal` prints one table: medians of several rounds, in which the contestants take turns.
//! `JOURNAL_LARGE=1` adds 10,000,000 records: 2 GB in the target directory, which are kept, and some minutes.
//! `compare/` has the table with `SQLite`.

#![expect(
    clippy::cast_precision_loss,
    reason = "figures are rounded to three digits before anybody reads them"
)]

mod rows;

use std::path::Path;

use rows::cycles;
use rows::large;
use rows::replay;
use rows::table::{Goal, Row, print};
use rows::writing::{self, Contestant};
use watchkeeper_journal::Durability;

const ROUNDS: usize = 7;

fn writing(directory: &Path) -> Vec<Row> {
    let contestants = [
        ("fdatasync", Contestant::Fdatasync, 300),
        ("old 1", Contestant::Old { writers: 1 }, 20_000),
        ("old 64", Contestant::Old { writers: 64 }, 20_000),
        ("buffered 1", Contestant::Journal { durability: Durability::Buffered, tasks: 1 }, 40_000),
        ("buffered 1 ahead", Contestant::Ahead, 200_000),
        ("buffered 64", Contestant::Journal { durability: Durability::Buffered, tasks: 64 }, 200_000),
        ("group 1", Contestant::Journal { durability: Durability::Group, tasks: 1 }, 300),
        ("group 64", Contestant::Journal { durability: Durability::Group, tasks: 64 }, 10_000),
        ("group 512", Contestant::Journal { durability: Durability::Group, tasks: 512 }, 50_000),
        ("always 64", Contestant::Journal { durability: Durability::Always, tasks: 64 }, 300),
        ("redb 64", Contestant::Redb { writers: 64 }, 300),
    ];
    let rate = writing::rates(directory, &contestants, ROUNDS);
    let row = |name: &str, other: &str, goal| Row::new(name, rate(name), other, rate(other), goal);
    vec![
        row("buffered 1", "old 1", Goal::Times(5.0)),
        row("buffered 1 ahead", "old 1", Goal::Times(5.0)),
        row("buffered 64", "old 64", Goal::Times(5.0)),
        row("group 1", "fdatasync", Goal::None),
        row("group 64", "fdatasync", Goal::Times(12.0)),
        row("group 512", "old 64", Goal::Times(1.0)),
        row("always 64", "fdatasync", Goal::None),
        row("group 64", "redb 64", Goal::None),
    ]
}

fn main() {
    if large::is_child() {
        return large::child();
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("figures are taken from optimised code only: cargo bench -p watchkeeper-journal");
        return;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(directory).expect("the target directory can be written");
    let parts: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |part: &str| parts.is_empty() || parts.iter().any(|word| word == part);
    if is_wanted("writing") {
        print(&writing(directory));
    }
    if is_wanted("replay") {
        print(&[replay::row(directory, ROUNDS)]);
    }
    if is_wanted("cycles") {
        print(&[cycles::row(directory, ROUNDS)]);
    }
    if std::env::var_os("JOURNAL_LARGE").is_some() {
        large::run(directory);
    }
}
