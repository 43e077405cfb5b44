//! `journal import`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use watchkeeper_journal::{Durability, ImportReport, Journal, JournalConfig, SkippedLines, import};

use crate::error::{Printed, ProgramError, printed};
use crate::signals::signal;
use crate::text::{self, count};
use crate::{Outcome, note};

/// Append the lines of a file to a new or an existing journal
///
/// Each line that is a JSON object becomes a record of its own. Other lines are skipped and counted: lines that are no
/// JSON, no object, or not UTF-8, lines with fields _wk_*, and lines over 1 MiB. A line of another journal's segment is
/// imported without its tail; its key and its position are kept. To import a whole journal, import its segments from the
/// oldest to the newest.
///
/// A file that grows is imported up to its size at the start; lines of a pipe are imported as they come. The same lines
/// imported again are there twice. SIGINT and SIGTERM end an import; what was appended stays.
///
/// Exit codes: 0 if all lines were imported, 1 if some were skipped, 2 if the import did not end.
#[derive(Args)]
#[command(after_help = "Example: journal import operations.jsonl /var/lib/observerd/journal")]
pub(crate) struct ImportFlags {
    /// The file of JSON lines; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The directory of the journal; it is made if it is missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What each record waits for
    #[arg(long, value_enum, default_value_t = Level::Group)]
    durability: Level,
    /// The size of a segment, at least 4096 [default: 67108864]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(4_096..))]
    segment_bytes: Option<u64>,
    /// The number of segments to keep, at least 2 [default: all, so that the import removes nothing; a program that opens
    /// the journal with fewer removes the oldest ones when it begins a segment]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    segments: Option<u64>,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// The write to the operating system
    Buffered,
    /// A sync that many records share
    Group,
    /// A sync of its own
    Always,
}

impl ImportFlags {
    fn config(&self) -> JournalConfig {
        let default = JournalConfig::default();
        JournalConfig {
            durability: match self.durability {
                Level::Buffered => Durability::Buffered,
                Level::Group => Durability::Group,
                Level::Always => Durability::Always,
            },
            segment_bytes: self.segment_bytes.unwrap_or(default.segment_bytes),
            segments: self.segments.unwrap_or(u64::MAX),
            ..default
        }
    }
}

pub(crate) fn run(flags: &ImportFlags) -> Result<Outcome, ProgramError> {
    let runtime = tokio::runtime::Runtime::new().map_err(ProgramError::Start)?;
    let result = runtime.block_on(run_import(flags));
    // Standard input may not end.
    runtime.shutdown_background();
    let report = result?;
    let mut out = io::stdout().lock();
    let print = |out: &mut io::StdoutLock<'_>| -> Printed {
        match serde_json::to_string(&report) {
            Ok(text) if flags.json => writeln!(out, "{text}")?,
            _ => print(out, &report)?,
        }
        out.flush()
    };
    printed(print(&mut out))?;
    Ok(if report.skipped() == 0 { Outcome::Fine } else { Outcome::Problems })
}

async fn run_import(flags: &ImportFlags) -> Result<ImportReport, ProgramError> {
    let interrupted = signal().map_err(ProgramError::Start)?;
    // Before the journal: without the file there is nothing to make.
    let (name, reader) = open(&flags.file)?;
    tokio::pin!(interrupted);
    let journal = tokio::select! {
        opened = Journal::open(&flags.directory, flags.config()) => opened?,
        () = &mut interrupted => return Err(ProgramError::Interrupted { file: name, records: 0 }),
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
    let first = journal.cursor().seq();
    let imported = tokio::select! {
        imported = import(reader, &journal) => Some(imported),
        () = &mut interrupted => None,
    };
    let closed = journal.close().await;
    let Some(imported) = imported else {
        let records = journal.cursor().seq() - first;
        return Err(ProgramError::Interrupted { file: name, records });
    };
    let report = imported.map_err(|source| ProgramError::Import { file: name, source })?;
    closed?;
    Ok(report)
}

fn open(path: &Path) -> Result<(String, Progress), ProgramError> {
    if path == Path::new("-") {
        let name = "standard input".to_owned();
        return Ok((name.clone(), Progress::new(Box::new(io::stdin()), name, None)));
    }
    let file = text::path(path);
    let opened = || -> io::Result<Progress> {
        let source = File::open(path)?;
        let metadata = source.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let size = metadata.is_file().then_some(metadata.len());
        // A segment of the same journal grows by what is imported. Some files of the system have no size.
        let limit = size.filter(|size| *size > 0).unwrap_or(u64::MAX);
        Ok(Progress::new(Box::new(source.take(limit)), file.clone(), size))
    };
    let reader = opened().map_err(|source| ProgramError::File { file: file.clone(), source })?;
    Ok((file, reader))
}

fn print(out: &mut impl Write, report: &ImportReport) -> Printed {
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

/// Prints how far a long reading has come.
struct Progress {
    source: Box<dyn Read + Send>,
    name: String,
    size: Option<u64>,
    read: u64,
    /// When a line was printed.
    last: Instant,
}

/// How often it is printed.
const INTERVAL: Duration = Duration::from_secs(2);
const MIB: u64 = 1024 * 1024;

impl Progress {
    fn new(source: Box<dyn Read + Send>, name: String, size: Option<u64>) -> Self {
        Self { source, name, size, read: 0, last: Instant::now() }
    }
}

impl Read for Progress {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(bytes)?;
        self.read += count as u64;
        if self.read >= MIB && self.last.elapsed() >= INTERVAL {
            self.last = Instant::now();
            let (name, read) = (&self.name, self.read / MIB);
            match self.size {
                Some(size) => note(&format!("{name}: {read} of {} MiB read", size / MIB)),
                None => note(&format!("{name}: {read} MiB read")),
            }
        }
        Ok(count)
    }
}
