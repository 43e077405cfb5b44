//! `journal show`.

mod filter;
mod output;

use std::collections::VecDeque;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use clap::Args;
use watchkeeper::subscription::Cursor;
use watchkeeper_journal::{JournalView, ReadFrom, ReadItem, ViewReader};

use crate::error::{ProgramError, printed};
use crate::signals::Stop;
use crate::{Outcome, note};
use filter::{Condition, Filter};
use output::Output;

/// Print the records, one a line
///
/// A line has the record's number and the text of its object. Missing records are lines of their own. Without --from,
/// --to, --last, --all, --where and --grep, the last 20 records are printed.
///
/// Exit codes: 0, also if records are missing; 2 if something could not be read.
#[derive(Args)]
#[command(after_help = "Examples:
  journal show /var/lib/observerd/journal --last 5
  journal show /var/lib/observerd/journal --where endpoint=/put --where result.ok=false --follow
  journal show /var/lib/observerd/journal --run nightly --json")]
pub(crate) struct ShowFlags {
    /// The directory of the journal
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The run to show: the journal in DIR/run/NAME
    #[arg(long, value_name = "NAME", value_parser = run_name)]
    run: Option<PathBuf>,
    /// Begin at a record, by its number or a cursor
    #[arg(long, value_name = "N|CURSOR", value_parser = from)]
    from: Option<From>,
    /// End after this record
    #[arg(long, value_name = "N")]
    to: Option<u64>,
    /// Only the last N records, of those that match
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    /// All records
    #[arg(long, conflicts_with_all = ["from", "to", "last"])]
    all: bool,
    /// Only records with this field, such as result.ok=true; of several, all must match. Numbers are compared as JSON
    /// writes them, strings without their quotation marks
    #[arg(long = "where", value_name = "FIELD=VALUE", value_parser = filter::condition)]
    conditions: Vec<Condition>,
    /// Only records whose JSON text contains this
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Print one JSON object a line, with number, cursor, key, position, batch and body; or with gap
    #[arg(long)]
    json: bool,
    /// The longest text of a record, in bytes; 0 for any [default: $COLUMNS on a terminal, else 200]
    #[arg(long, value_name = "BYTES", conflicts_with = "json")]
    width: Option<usize>,
    /// Go on with what is appended, until SIGINT or SIGTERM
    #[arg(long, conflicts_with = "to")]
    follow: bool,
    /// How often --follow reads, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200, requires = "follow", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    interval: u64,
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
enum From {
    Number(u64),
    Cursor(Cursor),
}

fn from(text: &str) -> Result<From, &'static str> {
    if let Ok(number) = text.parse() {
        return Ok(From::Number(number));
    }
    text.parse().map(From::Cursor).map_err(|_| "give a number, or a cursor as --json prints it")
}

fn run_name(text: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(text);
    match path.components().collect::<Vec<_>>()[..] {
        [Component::Normal(name)] if name == path.as_os_str() => Ok(path.to_owned()),
        _ => Err("give the name of a directory in DIR/run, without slashes"),
    }
}

impl ShowFlags {
    fn path(&self) -> PathBuf {
        match &self.run {
            Some(name) => self.directory.join("run").join(name),
            None => self.directory.clone(),
        }
    }

    fn width(&self) -> usize {
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 20);
        let terminal = || io::stdout().is_terminal().then(columns).flatten();
        self.width.or_else(terminal).unwrap_or(200)
    }

    /// How many of the last records are shown; `None` for all.
    fn last(&self, filter: &Filter) -> Option<u64> {
        let is_limited = self.all || self.from.is_some() || self.to.is_some() || !filter.is_empty();
        match self.last {
            Some(last) => Some(last.into()),
            None if is_limited => None,
            None => Some(20),
        }
    }
}

pub(crate) fn run(flags: &ShowFlags) -> Result<Outcome, ProgramError> {
    // First, so that a signal is handled from the first line on.
    let stop = if flags.follow { Some(Stop::on_signals().map_err(ProgramError::Start)?) } else { None };
    let filter = Filter { conditions: flags.conditions.clone(), grep: flags.grep.clone() };
    let mut view = JournalView::open(flags.path())?;
    let Some(first) = first(&view, flags, &filter)? else { return Ok(Outcome::Fine) };
    let mut reader = view.reader(first)?;
    let mut show = Show {
        filter,
        to: flags.to.unwrap_or(u64::MAX),
        output: Output {
            out: BufWriter::new(io::stdout().lock()),
            is_json: flags.json,
            width: flags.width(),
        },
    };
    let is_within = show.existing(&mut reader, stop.as_ref())?;
    let Some(stop) = stop.filter(|_| is_within) else { return Ok(Outcome::Fine) };
    while stop.wait(Duration::from_millis(flags.interval)) {
        if view.refresh()? {
            reader.extend(&view);
            show.existing(&mut reader, Some(&stop))?;
        }
    }
    Ok(Outcome::Fine)
}

/// Where to begin; `None` if there is nothing to show.
fn first(view: &JournalView, flags: &ShowFlags, filter: &Filter) -> Result<Option<ReadFrom>, ProgramError> {
    let from = match flags.from {
        Some(From::Number(number)) => number,
        Some(From::Cursor(cursor)) => view.reader(ReadFrom::Cursor(cursor))?.next_number(),
        None => 0,
    };
    let next = view.cursor().seq();
    if from > next && !flags.follow {
        note(&format!("there is no record {from} yet: the next one is {next}"));
        return Ok(None);
    }
    let Some(last) = flags.last(filter) else { return Ok(Some(ReadFrom::Number(from))) };
    let end = flags.to.map_or(next, |to| to.saturating_add(1).min(next));
    if filter.is_empty() {
        let begin = end.saturating_sub(last).max(view.oldest().seq().min(end));
        return Ok(Some(ReadFrom::Number(begin.max(from))));
    }
    let mut matching = VecDeque::new();
    // First their numbers, so that any count of them needs little memory.
    for item in view.reader(ReadFrom::Number(from))? {
        let ReadItem::Record(record) = item? else { continue };
        if record.number() >= end {
            break;
        }
        if filter.matches(&record) {
            matching.push_back(record.number());
        }
        if matching.len() as u64 > last {
            matching.pop_front();
        }
    }
    Ok(Some(ReadFrom::Number(matching.front().copied().unwrap_or(end).max(from))))
}

struct Show<W: Write> {
    filter: Filter,
    to: u64,
    output: Output<W>,
}

impl<W: Write> Show<W> {
    /// Prints what there is now. Returns whether there may be more.
    fn existing(&mut self, reader: &mut ViewReader, stop: Option<&Stop>) -> Result<bool, ProgramError> {
        for item in reader {
            if stop.is_some_and(Stop::is_stopped) {
                break;
            }
            match item? {
                ReadItem::Record(record) if record.number() > self.to => return self.flush(false),
                ReadItem::Record(record) if self.filter.matches(&record) => {
                    printed(self.output.record(&record))?;
                }
                ReadItem::Record(_) => {}
                ReadItem::Gap(gap) if gap.first > self.to => return self.flush(false),
                ReadItem::Gap(gap) => printed(self.output.gap(&gap))?,
            }
        }
        self.flush(true)
    }

    fn flush(&mut self, is_within: bool) -> Result<bool, ProgramError> {
        printed(self.output.out.flush())?;
        Ok(is_within)
    }
}
