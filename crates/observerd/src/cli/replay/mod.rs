//! `observerd replay`: a recorded run as a timeline, as JSON lines, or judged by a wait.

mod any_run;
mod changes;
mod condition;
mod expect;
mod find;
mod item;
mod pointer;
mod publication;
mod select;
mod show;
mod timeline;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::outcome::{CommandError, Outcome};
use super::stop::Stop;
use expect::ExpectArgs;
use find::Found;
use select::{Bound, Filter};

pub use item::ItemKind;

/// Print a recorded run as a timeline, export it, or judge a wait over it
///
/// A line has the time, the cycle and what was published: starts, successes with what has changed in the snapshot,
/// events, failures, changes of the sources, transitions of the state, stops, and gaps in the record. It works on the runs of
/// every program, also while one is recorded. Several runs are listed, and --run names one.
///
/// --json prints one object a line: the record as the journal has it (kind, at, time, number, cursor, cycle, state, and
/// what was published in sources, success and failure), with its number in the journal as `record`, and with `missing`
/// (first, last, cause) if records before it are missing. Imported into DIR/run/NAME, they are a run again.
///
/// --expect judges a wait over the record, with the verdict that it had in the run: the window begins with the record,
/// or after --after-cycle, and ends by the time of the record. Run journals are bounded: if the record begins after that cycle,
/// or has not its end, the wait is inconclusive.
///
/// The records of this service's own loops have the first ten items of each list, and count the others in `not_recorded`: a
/// pointer to one of these is inconclusive, and a whole list is compared as it was recorded.
///
/// Exit codes: 0, also if records are missing; 1 if the expectation is not met or the record does not say; 2 if something
/// could not be read.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  observerd replay /var/lib/observerd
  observerd replay /var/lib/observerd --run errors --only failures,transitions --last 20
  observerd replay /var/lib/observerd --run tail --follow
  observerd replay data --run nodes --expect eventually --at /leader --is '\"n1\"' --within 10s
  observerd replay data --run nodes --expect never --at /height --at-most 4 --during 1m --after-cycle 3")]
pub struct ReplayArgs {
    /// The data directory that has the runs in run/, or the directory of one run
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The run: the journal in DIR/run/NAME
    #[arg(long, value_name = "NAME")]
    pub run: Option<String>,
    /// Only the last N lines, of those that match
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub last: Option<u32>,
    /// Begin at a cycle, or at a time such as 2026-11-30T08:15:00Z
    #[arg(long, value_name = "TIME|CYCLE", value_parser = select::bound)]
    pub from: Option<Bound>,
    /// End after a cycle, or after a time
    #[arg(long, value_name = "TIME|CYCLE", value_parser = select::bound)]
    pub to: Option<Bound>,
    /// Only lines of these kinds, separated by commas
    #[arg(long, value_name = "KIND", value_enum, value_delimiter = ',')]
    pub only: Vec<ItemKind>,
    /// Only lines whose text contains this; of a success, its whole snapshot counts
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
    /// The longest text of a line, in bytes; 0 for any [default: $COLUMNS on a terminal, else 200]
    #[arg(long, value_name = "BYTES", conflicts_with = "json")]
    pub width: Option<usize>,
    /// Go on with what is recorded, also after a stop, because another process may resume the run; until SIGINT or SIGTERM
    #[arg(long, conflicts_with = "to")]
    pub follow: bool,
    /// End --follow when the run stops
    #[arg(long, requires = "follow")]
    pub until_stop: bool,
    /// What is to be judged.
    #[command(flatten)]
    pub expect: ExpectArgs,
}

impl ReplayArgs {
    fn width(&self) -> usize {
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns > 40);
        let terminal = || io::stdout().is_terminal().then(columns).flatten();
        self.width.or_else(terminal).unwrap_or(200)
    }

    fn filter(&self) -> Filter {
        Filter { from: self.from, to: self.to, only: self.only.clone(), grep: self.grep.clone() }
    }
}

/// How often `--follow` reads.
const INTERVAL: Duration = Duration::from_millis(200);

/// Prints the run, or judges it.
///
/// # Errors
///
/// [`CommandError`]: there is no such run, it cannot be read, or the arguments do not fit together.
pub async fn run(args: &ReplayArgs, out: &mut impl Write) -> Result<Outcome, CommandError> {
    // First, so that a signal is handled from the first line on.
    let stop = if args.follow { Stop::on_signals().map_err(CommandError::Start)? } else { Stop::default() };
    match run_until(args, out, &stop).await {
        // The reader has seen enough. A verdict that was not printed is not known.
        Err(error) if error.is_closed_pipe() && args.expect.kind.is_none() => Ok(Outcome::Fine),
        Err(error) if error.is_closed_pipe() => Ok(Outcome::Problems),
        result => result,
    }
}

async fn run_until(args: &ReplayArgs, out: &mut impl Write, stop: &Stop) -> Result<Outcome, CommandError> {
    let view = match find::find(args)? {
        Found::One(view) => view,
        Found::Several(runs) => return find::list(&args.directory, &runs, out),
    };
    if let Some(expectation) = args.expect.expectation()? {
        return expect::judge(&view, expectation, args.json, out).await;
    }
    show::show(args, view, out, stop).await?;
    Ok(Outcome::Fine)
}
