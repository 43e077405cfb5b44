//! Every figure of the design, compared with the loop that Watchkeeper replaces, in one run.
//!
//! `cargo bench -p watchkeeper` measures all of them and prints one table;
//! `cargo bench -p watchkeeper -- reads stop` measures two of the parts. `benches/README.md` explains the rows.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded to three digits before anybody reads them"
)]

mod measure;
mod old_loop;
mod rows;

use measure::{Table, child};

/// A part of the table, by the name it can be asked for.
type Part = (&'static str, fn(&mut Table));

const PARTS: [Part; 10] = [
    ("reads", rows::reads::measure),
    ("readers", rows::readers::measure),
    ("publish", rows::publish::measure),
    ("cycle", rows::cycle::measure),
    ("subscribers", rows::subscribers::measure),
    ("waits", rows::waits::measure),
    ("idle", rows::idle::measure),
    ("stop", rows::stop::measure),
    ("supervise", rows::supervise::measure),
    ("faults", rows::faults::measure),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [child::CHILD, part, side, count] = *arguments.iter().map(String::as_str).collect::<Vec<_>>() {
        return rows::child(part, side, count);
    }
    if !arguments.iter().any(|argument| argument == "--bench") {
        eprintln!("figures are taken from optimised code only: cargo bench -p watchkeeper");
        return;
    }
    let asked: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = asked.iter().find(|asked| PARTS.iter().all(|(name, _)| name != *asked)) {
        let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no part {unknown:?}: ask for some of {}", names.join(", "));
        std::process::exit(2);
    }
    let mut table = Table::new("old loop");
    for (name, measure) in PARTS {
        if asked.is_empty() || asked.iter().any(|asked| *asked == name) {
            measure(&mut table);
        }
    }
    table.print();
}
