//! Importing a file of JSON lines.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use watchkeeper::report::debug_as_text;

use crate::entry::{Entry, EntryError};
use crate::error::AppendError;
use crate::journal::{Appended, Journal};
use crate::line::{self, MAX_LINE, MAX_RECORD};

/// How many numbers of lines a [`SkippedLines`] has.
const FIRST: usize = 10;
/// The most appends whose answers have not come yet.
const IN_FLIGHT: usize = 16_384;

/// What [`import()`] has done. It serializes as a JSON object with the same fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportReport {
    /// The lines that were read, a last line without a line feed included.
    pub lines: u64,
    /// The bytes that were read.
    pub bytes: u64,
    /// The lines that are records now.
    pub imported: u64,
    /// The number of the first record of them.
    pub first: Option<u64>,
    /// The number of the last one.
    pub last: Option<u64>,
    /// Lines of white space alone. They are skipped, and are no fault.
    pub blank: u64,
    /// Lines that are no JSON, such as a last line that was cut.
    pub malformed: SkippedLines,
    /// Lines with a JSON value that is no object.
    pub not_objects: SkippedLines,
    /// Lines with a field `_wk_*` that are no valid records of a journal.
    pub reserved: SkippedLines,
    /// Lines whose object has over 1 MiB.
    pub too_long: SkippedLines,
    /// Lines that are not UTF-8, or have a NUL byte.
    pub not_text: SkippedLines,
}

/// Lines that were not imported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SkippedLines {
    /// How many there are.
    pub count: u64,
    /// The numbers of the first ten, counted from 1.
    pub first: Vec<u64>,
}

impl SkippedLines {
    fn add(&mut self, line: u64) {
        self.count += 1;
        if self.first.len() < FIRST {
            self.first.push(line);
        }
    }
}

/// `3 (lines 4, 9, 17)`.
impl fmt::Display for SkippedLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        for (place, line) in self.first.iter().enumerate() {
            match (place, self.count) {
                (0, 1) => write!(f, " (line {line}")?,
                (0, _) => write!(f, " (lines {line}")?,
                _ => write!(f, ", {line}")?,
            }
        }
        match (self.count, self.count.saturating_sub(self.first.len() as u64)) {
            (0, _) => Ok(()),
            (_, 0) => f.write_str(")"),
            (_, more) => write!(f, " and {more} more)"),
        }
    }
}

impl ImportReport {
    /// How many lines were skipped, without the blank ones.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        let all = [&self.malformed, &self.not_objects, &self.reserved, &self.too_long, &self.not_text];
        all.into_iter().map(|lines| lines.count).sum()
    }

    fn skip(&mut self, problem: Problem, line: u64) {
        let lines = match problem {
            Problem::Blank => {
                self.blank += 1;
                return;
            }
            Problem::Malformed => &mut self.malformed,
            Problem::NotAnObject => &mut self.not_objects,
            Problem::Reserved => &mut self.reserved,
            Problem::TooLong => &mut self.too_long,
            Problem::NotText => &mut self.not_text,
        };
        lines.add(line);
    }

    fn appended(&mut self, appended: &Appended) {
        self.imported += 1;
        self.first.get_or_insert(appended.number);
        self.last = Some(appended.number);
    }
}

/// Why an import has ended before the end of its file.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be read further. The lines before are imported.
    #[error(
        "reading failed after line {line}, and {imported} records were imported: mend what is named here, then import \
         the lines after it"
    )]
    Read {
        /// The last whole line that was read, counted from 1; 0 for none.
        line: u64,
        /// How many lines are records.
        imported: u64,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A line was not appended.
    #[error(
        "line {line} was not appended, and {imported} records were imported: mend what is named here, then import that \
         line and those after it, some of which may be records already"
    )]
    Append {
        /// The first line that was not appended, counted from 1.
        line: u64,
        /// How many lines are records.
        imported: u64,
        /// The error.
        #[source]
        source: AppendError,
    },
    /// The tokio runtime was shut down.
    #[error("the import was cancelled: import the lines that are not in the journal yet")]
    Cancelled,
}

debug_as_text!(ImportError);

/// Appends each line of JSON text as a record of its own, in order, and skips and counts the lines that cannot be records.
///
/// A line that is a valid record of a journal is imported without its tail; its key and its position are kept, its number
/// and its batch are not. A byte order mark, carriage returns before line feeds, and blank lines are accepted. It reads on
/// one of tokio's blocking threads, and has about 2 MiB of the file in memory besides what waits in the journal, also for
/// a line of any length. Every answer is checked.
///
/// Lines that were imported before are imported again. A segment of the same journal has no end while it is imported:
/// limit the reader to its size.
///
/// # Errors
///
/// [`ImportError`]: the file cannot be read, or the journal does not append.
///
/// # Cancel safety
///
/// Dropped, it has imported a part of the lines.
///
/// # Examples
///
/// ```
/// use watchkeeper_journal::{Journal, JournalConfig, import};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = Journal::in_memory(JournalConfig::default())?;
/// let report = import(&b"{\"op\":\"put\"}\r\n[1]\n{\"op\":"[..], &journal).await?;
/// assert_eq!((report.lines, report.imported), (3, 1));
/// assert_eq!(report.not_objects.first, [2]);
/// assert_eq!(report.malformed.to_string(), "1 (line 3)");
/// # Ok(())
/// # }
/// ```
pub async fn import(
    reader: impl Read + Send + 'static,
    journal: &Journal,
) -> Result<ImportReport, ImportError> {
    let (sender, mut blocks) = mpsc::channel::<Vec<(u64, Entry)>>(2);
    let reading = spawn_blocking(move || read(Lines::new(reader), &sender));
    let (mut appended, mut waiting) = (ImportReport::default(), VecDeque::new());
    let mut failed = None;
    'blocks: while let Some(block) = blocks.recv().await {
        for (line, entry) in block {
            match journal.submit_entry(entry).await {
                Ok(answer) => waiting.push_back((line, answer)),
                Err(source) => failed = failed.or(Some((line, source))),
            }
            while waiting.len() >= IN_FLIGHT && failed.is_none() {
                let Some((line, answer)) = waiting.pop_front() else { break };
                check(line, answer.await, &mut appended, &mut failed);
            }
            if failed.is_some() {
                break 'blocks;
            }
        }
    }
    drop(blocks);
    for (line, answer) in waiting {
        check(line, answer.await, &mut appended, &mut failed);
    }
    let imported = appended.imported;
    if let Some((line, source)) = failed {
        return Err(ImportError::Append { line, imported, source });
    }
    let (mut report, result) = reading.await.map_err(|_| ImportError::Cancelled)?;
    result.map_err(|source| ImportError::Read { line: report.lines, imported, source })?;
    (report.imported, report.first, report.last) = (imported, appended.first, appended.last);
    Ok(report)
}

/// Counts one answer, and keeps the error of the first line that has one.
fn check(
    line: u64,
    answer: Result<Appended, AppendError>,
    report: &mut ImportReport,
    failed: &mut Option<(u64, AppendError)>,
) {
    match answer {
        Ok(appended) => report.appended(&appended),
        Err(source) if failed.as_ref().is_none_or(|(first, _)| line < *first) => {
            *failed = Some((line, source));
        }
        Err(_) => {}
    }
}

/// Reads all lines, and hands over those that may be records.
fn read<R: Read>(
    mut lines: Lines<R>,
    sender: &mpsc::Sender<Vec<(u64, Entry)>>,
) -> (ImportReport, io::Result<()>) {
    let mut report = ImportReport::default();
    let mut block = Vec::new();
    let result = loop {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        report.lines += 1;
        report.bytes += line.read;
        match line.entry() {
            Ok(entry) => block.push((report.lines, entry)),
            Err(problem) => report.skip(problem, report.lines),
        }
        // A pipe may be silent for long.
        if !lines.has_line() && !block.is_empty() && sender.blocking_send(std::mem::take(&mut block)).is_err()
        {
            return (report, Ok(()));
        }
    };
    // An import that was dropped needs nothing any more.
    let _ = sender.blocking_send(block);
    (report, result)
}

/// Why a line is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Blank,
    Malformed,
    NotAnObject,
    Reserved,
    TooLong,
    NotText,
}

impl From<EntryError> for Problem {
    fn from(error: EntryError) -> Self {
        match error {
            EntryError::NotAnObject => Self::NotAnObject,
            EntryError::Reserved | EntryError::InvalidTail { .. } => Self::Reserved,
            EntryError::TooLong { .. } => Self::TooLong,
            EntryError::NotJson { .. } | EntryError::Unserializable => Self::Malformed,
        }
    }
}

/// One line, without its line feed.
struct Line<'a> {
    bytes: &'a [u8],
    /// Its bytes in the file.
    read: u64,
    /// Its end was dropped.
    is_cut: bool,
}

impl Line<'_> {
    fn entry(&self) -> Result<Entry, Problem> {
        let line = self.bytes.trim_ascii();
        if self.is_cut {
            return Err(Problem::TooLong);
        }
        if line.is_empty() {
            return Err(Problem::Blank);
        }
        if let Some(parsed) = line::parse(line).filter(|_| std::str::from_utf8(line).is_ok()) {
            return record(line, &parsed);
        }
        if line.len() > MAX_RECORD {
            return Err(Problem::TooLong);
        }
        match std::str::from_utf8(line) {
            Ok(text) if !line.contains(&0) => Ok(Entry::from_text(text)?),
            _ => Err(Problem::NotText),
        }
    }
}

/// The entry of a line that a journal has written.
fn record(line: &[u8], parsed: &line::Parsed) -> Result<Entry, Problem> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Problem::NotText);
    let string = |range: &std::ops::Range<usize>| {
        serde_json::from_slice::<String>(&line[range.clone()]).map_err(|_| Problem::Reserved)
    };
    let mut body = text(&line[..parsed.body_end - 1])?;
    body.push('}');
    let mut entry = Entry::from_text(body)?;
    if let Some(range) = &parsed.key {
        entry = entry.with_key(&string(range)?)?;
    }
    if let Some(range) = &parsed.position {
        entry = entry.with_position(&string(range)?)?;
    }
    Ok(entry)
}

/// Reads lines, and of a line that is too long only the begin.
struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    is_first: bool,
}

impl<R: Read> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(128 * 1024, reader), line: Vec::new(), is_first: true }
    }

    /// Whether the next line was read already.
    fn has_line(&self) -> bool {
        memchr::memchr(b'\n', self.reader.buffer()).is_some()
    }

    fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let (mut read, mut is_cut) = (0, false);
        loop {
            let bytes = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                filled => filled?,
            };
            if bytes.is_empty() && read == 0 {
                return Ok(None);
            }
            let end = memchr::memchr(b'\n', bytes);
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = MAX_LINE.saturating_sub(self.line.len()).min(part.len());
            is_cut |= room < part.len();
            self.line.extend_from_slice(&part[..room]);
            let is_end = end.is_some() || bytes.is_empty();
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            read += used as u64;
            if is_end {
                break;
            }
        }
        let mark: &[u8] = "\u{feff}".as_bytes();
        let start = if std::mem::take(&mut self.is_first) && self.line.starts_with(mark) { 3 } else { 0 };
        Ok(Some(Line { bytes: &self.line[start..], read, is_cut }))
    }
}
