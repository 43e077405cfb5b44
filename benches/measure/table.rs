//! The table that is printed.

use std::time::Instant;

use super::Samples;
use super::machine::load_average;

/// What a figure counts, and which way is better.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Less is better.
    Seconds,
    /// Less is better.
    Bytes,
    /// A share of one core, or of what there was; less is better.
    Share,
    /// More is better.
    PerSecond,
}

impl Unit {
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 1e-6 => format!("{:.1} ns", value * 1e9),
            Self::Seconds if value < 1e-3 => format!("{:.2} us", value * 1e6),
            Self::Seconds => format!("{:.2} ms", value * 1e3),
            Self::Bytes => format!("{:.2} KiB", value / 1024.0),
            Self::Share => format!("{:.2} %", value * 100.0),
            Self::PerSecond if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
            Self::PerSecond if value >= 1e3 => format!("{:.1} k/s", value / 1e3),
            Self::PerSecond => format!("{value:.1} /s"),
        }
    }

    /// How many times better `new` is than `old`.
    fn ratio(self, old: f64, new: f64) -> f64 {
        match self {
            Self::Seconds | Self::Bytes | Self::Share => old / new,
            Self::PerSecond => new / old,
        }
    }
}

/// One line of the table.
pub(crate) struct Row {
    what: String,
    old: String,
    new: String,
    ratio: String,
    goal: String,
    met: bool,
}

impl Row {
    /// Two figures side by side. `met` is given their medians and how many times better the new
    /// one is.
    pub(crate) fn compare(
        what: impl Into<String>,
        unit: Unit,
        (old, new): &(Samples, Samples),
        goal: &str,
        met: impl Fn(Medians) -> bool,
    ) -> Self {
        let ratio = unit.ratio(old.median(), new.median());
        let medians = Medians { new: new.median(), ratio };
        Self {
            what: what.into(),
            old: shown(unit, old),
            new: shown(unit, new),
            ratio: if ratio >= 100.0 { format!("{ratio:.0}") } else { format!("{ratio:.2}") },
            goal: goal.to_owned(),
            met: met(medians),
        }
    }

    /// A figure without a counterpart in the old loop.
    pub(crate) fn alone(
        what: impl Into<String>,
        unit: Unit,
        new: &Samples,
        goal: &str,
        met: impl Fn(f64) -> bool,
    ) -> Self {
        let met = met(new.median());
        Self { new: shown(unit, new), met, ..Self::observed(what, "", "", goal, met) }
    }

    /// What was observed to happen.
    pub(crate) fn observed(
        what: impl Into<String>,
        old: impl Into<String>,
        new: impl Into<String>,
        goal: &str,
        met: bool,
    ) -> Self {
        Self {
            what: what.into(),
            old: old.into(),
            new: new.into(),
            ratio: String::new(),
            goal: goal.to_owned(),
            met,
        }
    }
}

/// What a goal is judged by.
#[derive(Clone, Copy)]
pub(crate) struct Medians {
    pub(crate) new: f64,
    /// How many times better the new one is.
    pub(crate) ratio: f64,
}

fn shown(unit: Unit, samples: &Samples) -> String {
    let median = unit.show(samples.median());
    if samples.count() == 1 {
        return median;
    }
    format!("{median} ±{:.0} % ({})", samples.spread() * 100.0, samples.count())
}

/// All lines: printed on stderr as they come, and as a table on stdout at the end.
pub(crate) struct Table {
    /// What Watchkeeper is compared with.
    beside: &'static str,
    rows: Vec<Row>,
    began: Instant,
}

impl Table {
    pub(crate) fn new(beside: &'static str) -> Self {
        Self { beside, rows: Vec::new(), began: Instant::now() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        let Row { what, old, new, ratio, met, .. } = &row;
        let verdict = if *met { "" } else { "  NOT MET" };
        eprintln!("{:6.1}s  {what}: {old} | {new} | {ratio}{verdict}", self.began.elapsed().as_secs_f64());
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        println!("| what | {} | Watchkeeper | times better | goal | met |", self.beside);
        println!("|---|---|---|---|---|---|");
        for Row { what, old, new, ratio, goal, met } in &self.rows {
            let met = match (goal.as_str(), *met) {
                ("reported", _) => "",
                (_, true) => "yes",
                (_, false) => "**no**",
            };
            println!("| {what} | {old} | {new} | {ratio} | {goal} | {met} |");
        }
        let missed = self.rows.iter().filter(|row| !row.met).count();
        println!();
        println!(
            "{} rows, {missed} missed, in {:.0} s; load average {} on {} cores. After ± half the distance of \
             the quartiles, in brackets the number of alternating repetitions.",
            self.rows.len(),
            self.began.elapsed().as_secs_f64(),
            load_average(),
            std::thread::available_parallelism().map_or(0, usize::from),
        );
    }
}
