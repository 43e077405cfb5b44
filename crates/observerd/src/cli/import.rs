//! `observerd import`.

mod source;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use watchkeeper_journal::{ImportReport, Journal, JournalConfig, SkippedLines, import};

use self::source::{Source, Stop};
use super::outcome::{CommandError, Outcome, note, printed};
use super::stop::signal;
use super::text::{self, count};
use crate::config::ObserverdConfig;

/// Append the JSON lines of the replaced system to a new or an existing data directory
///
/// Each line that is a JSON object becomes an operation of its own, in order and unchanged. Other lines are skipped and
/// counted: lines that are no JSON, no object, or not UTF-8, lines with fields _wk_*, and lines over 1 MiB. A line of
/// another journal's segment is imported without its tail. The service must not run on the directory meanwhile.
///
/// A file that grows is imported up to its size at the start; lines of a pipe are imported as they come. The same lines
/// imported again are there twice. SIGINT and SIGTERM end an import between two lines: the report is of the lines so far, and
/// the message names the line to go on with.
///
/// Exit codes: 0 if all lines were imported, 1 if some were skipped, 2 if the import did not end.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  observerd import operations.jsonl --data /var/lib/observerd
  zcat old.jsonl.gz | observerd import - --data /var/lib/observerd")]
pub struct ImportArgs {
    /// The file of JSON lines; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The data directory; it is made if it is missing
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Print the report as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Imports the file, and prints what was imported and what was not.
///
/// # Errors
///
/// [`CommandError`]: the file cannot be read, or the directory cannot be opened or written.
pub async fn run(args: &ImportArgs, out: &mut impl Write) -> Result<Outcome, CommandError> {
    let interrupted = signal().map_err(CommandError::Start)?;
    // Before the journal: without the file there is nothing to make.
    let (file, reader) = open(&args.file)?;
    let (report, is_cut) = import_all(&file, reader, &args.data, interrupted).await?;
    let result = print(out, &report, args.json).and_then(|()| out.flush());
    match printed(result) {
        _ if is_cut => Err(CommandError::Interrupted { file, line: report.lines }),
        Err(error) if error.is_closed_pipe() => Ok(Outcome::Problems),
        Err(error) => Err(error),
        Ok(()) if report.skipped() == 0 => Ok(Outcome::Fine),
        Ok(()) => Ok(Outcome::Problems),
    }
}

/// The report, and whether a signal has ended it before the end.
async fn import_all(
    file: &str,
    reader: Box<dyn Read + Send>,
    directory: &Path,
    interrupted: impl Future<Output = ()>,
) -> Result<(ImportReport, bool), CommandError> {
    tokio::pin!(interrupted);
    let file = || file.to_owned();
    // Nothing is removed while it imports.
    let config = JournalConfig { segments: u64::MAX, ..JournalConfig::default() };
    let journal = tokio::select! {
        opened = Journal::open(directory, config) => opened?,
        () = &mut interrupted => return Err(CommandError::Interrupted { file: file(), line: 0 }),
    };
    let recovery = journal.recovery();
    if !recovery.is_clean() {
        let (damaged, gaps) = (recovery.damage.len() as u64, recovery.gaps.len() as u64);
        note(&format!(
            "{}: its opening has found {} and {}, and cut a torn tail of {}",
            journal.place(),
            count(damaged, "damaged place"),
            count(gaps, "gap"),
            count(recovery.torn_bytes, "byte"),
        ));
    }
    let stop = Stop::default();
    let importing = import(Source::new(reader, stop.clone()), &journal);
    tokio::pin!(importing);
    let imported = tokio::select! {
        imported = &mut importing => imported,
        () = &mut interrupted => {
            stop.stop();
            importing.await
        }
    };
    let closed = journal.close().await;
    let report = imported.map_err(|source| CommandError::Import { file: file(), source })?;
    closed?;
    let kept = ObserverdConfig::default().segments;
    let segments = segments(directory);
    if segments > kept {
        note(&format!(
            "{} has {segments} segments, which is more than the {kept} that a service keeps by default: set \
             `observerd.segments` higher before it starts, or it removes the oldest",
            journal.place()
        ));
    }
    Ok((report, stop.has_cut()))
}

/// How many segments the journal of a directory has.
fn segments(directory: &Path) -> u64 {
    let is_segment = |name: &str| {
        let number = name.strip_suffix(".jsonl");
        number.is_some_and(|number| number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let names = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    names.filter(|entry| entry.file_name().to_str().is_some_and(is_segment)).count() as u64
}

fn open(path: &Path) -> Result<(String, Box<dyn Read + Send>), CommandError> {
    if path == Path::new("-") {
        return Ok(("standard input".to_owned(), Box::new(io::stdin())));
    }
    let file = text::path(path);
    let opened = || -> io::Result<Box<dyn Read + Send>> {
        let source = File::open(path)?;
        let metadata = source.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        // A segment of the same journal grows by what is imported. Some files of the system have no size.
        let size = if metadata.is_file() { metadata.len() } else { 0 };
        Ok(Box::new(source.take(if size > 0 { size } else { u64::MAX })))
    };
    let reader = opened().map_err(|source| CommandError::File { file: file.clone(), source })?;
    Ok((file, reader))
}

fn print(out: &mut impl Write, report: &ImportReport, is_json: bool) -> io::Result<()> {
    if is_json {
        return writeln!(out, "{}", serde_json::to_string(report)?);
    }
    let ImportReport { lines, imported, blank, .. } = report;
    write!(out, "imported {imported} of {}", count(*lines, "line"))?;
    match (report.first, report.last) {
        (Some(first), Some(last)) if first == last => writeln!(out, " as record {first}")?,
        (Some(first), Some(last)) => writeln!(out, " as records {first} to {last}")?,
        _ => writeln!(out)?,
    }
    let skipped = [
        (&report.malformed, "no JSON"),
        (&report.not_objects, "JSON, but no object"),
        (&report.reserved, "fields _wk_*, but no valid record of a journal"),
        (&report.too_long, "over 1 MiB"),
        (&report.not_text, "not UTF-8, or with a NUL byte"),
    ];
    for (lines, reason) in skipped {
        let SkippedLines { count, .. } = lines;
        if *count > 0 {
            writeln!(out, "skipped, {reason}: {lines}")?;
        }
    }
    if *blank > 0 {
        writeln!(out, "blank: {blank}")?;
    }
    Ok(())
}
