//! Finding the run in a directory.

use std::io::Write;
use std::path::{Path, PathBuf};

use watchkeeper::report::{error_chain, names, one_line};
use watchkeeper_journal::{JournalError, JournalView, ReadFrom, ReadItem, runs};

use super::ReplayArgs;
use super::publication::Publication;
use crate::cli::outcome::{CommandError, Outcome, printed};
use crate::cli::text::{self, count};

pub(super) enum Found {
    One(JournalView),
    /// Nothing says which.
    Several(Vec<PathBuf>),
}

pub(super) fn find(args: &ReplayArgs) -> Result<Found, CommandError> {
    let directory = &args.directory;
    // A directory that cannot be listed is said by its journal.
    let runs = runs(directory).unwrap_or_default();
    if let Some(name) = &args.run {
        let found = runs.iter().find(|run| run.file_name().is_some_and(|found| found == name.as_str()));
        let Some(run) = found else {
            let (place, name) = (text::path(directory), one_line(name, 100));
            let known = names(runs.iter().filter_map(|run| run.file_name()?.to_str()), 300);
            return Err(CommandError::Usage(format!("{place} has no run {name}: its runs are {known}")));
        };
        return Ok(Found::One(JournalView::open(run)?));
    }
    match runs.as_slice() {
        [] => own(directory),
        [run] => Ok(Found::One(JournalView::open(run)?)),
        _ if args.json || args.follow || args.expect.kind.is_some() => {
            let known = names(runs.iter().filter_map(|run| run.file_name()?.to_str()), 300);
            let place = text::path(directory);
            Err(CommandError::Usage(format!("{place} has several runs: name one by --run: {known}")))
        }
        _ => Ok(Found::Several(runs)),
    }
}

/// The directory of a run itself.
fn own(directory: &Path) -> Result<Found, CommandError> {
    let place = text::path(directory);
    let view = match JournalView::open(directory) {
        Err(JournalError::NoJournal { .. }) => {
            return Err(CommandError::Usage(format!(
                "{place} has no recorded run: give a data directory with run/NAME in it, or the directory of a run"
            )));
        }
        opened => opened?,
    };
    let first = view.reader(ReadFrom::Oldest)?.find_map(|item| item.ok().and_then(ReadItem::record));
    if first.is_some_and(|record| record.parse::<Publication>().is_err()) {
        return Err(CommandError::Usage(format!(
            "{place} has operations, and no recorded run: `journal show` prints operations; runs are recorded in run/NAME"
        )));
    }
    Ok(Found::One(view))
}

/// Prints the runs, one a line.
pub(super) fn list(
    directory: &Path,
    runs: &[PathBuf],
    out: &mut impl Write,
) -> Result<Outcome, CommandError> {
    let mut outcome = Outcome::Fine;
    printed(writeln!(
        out,
        "{}: {}; name one by --run",
        text::path(directory),
        count(runs.len() as u64, "run")
    ))?;
    for run in runs {
        let name = text::path(Path::new(run.file_name().unwrap_or_default()));
        let line = newest(run).unwrap_or_else(|error| {
            outcome = Outcome::Incomplete;
            format!("problem: {}", error_chain(&error))
        });
        printed(writeln!(out, "{name}: {line}"))?;
    }
    printed(out.flush())?;
    Ok(outcome)
}

/// What the last record of a run says.
fn newest(run: &Path) -> Result<String, CommandError> {
    let view = JournalView::open(run)?;
    let (first, next) = (view.oldest().seq(), view.cursor().seq());
    let last = view.reader(ReadFrom::Last(1))?.filter_map(|item| item.ok().and_then(ReadItem::record)).last();
    let Some(record) = last else { return Ok("no records".to_owned()) };
    let Ok(Publication { time, cycle, state, .. }) = record.parse() else {
        return Ok("no record of a run".to_owned());
    };
    let (records, time) = (count(next.saturating_sub(first), "record"), one_line(&time, 40));
    Ok(format!("{records}, the newest of {time}: cycle {cycle}, {}", one_line(&state.to_string(), 100)))
}
