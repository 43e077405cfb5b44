//! Checking a journal's directory: it changes nothing, and needs no lock.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use watchkeeper::report::error_chain;

use crate::chunk::{ChunkReader, Piece, RecordPiece};
use crate::error::JournalError;
use crate::line::Batch;
use crate::medium::{Directory, Medium, MediumFile};
use crate::segment::{first_of, segment_name};
use crate::view::instance_of;

/// The most findings that a [`CheckReport`] has. Further ones are counted.
pub const MAX_FINDINGS: usize = 1_000;

/// What [`check`] has found. It serializes as a JSON object with the same fields, without [`runs`](Self::runs).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// The directory as a person reads it.
    pub place: String,
    /// The number of the oldest record. The records before it were removed by retention.
    pub first: u64,
    /// The number after the newest record.
    pub next: u64,
    /// How many valid records there are.
    pub records: u64,
    /// How many records are missing between [`first`](Self::first) and [`next`](Self::next).
    pub lost: u64,
    /// The bytes of all segments.
    pub bytes: u64,
    /// The segments, from the oldest to the newest.
    pub segments: Vec<SegmentReport>,
    /// The first 1,000 findings, in the order of the segments.
    pub findings: Vec<Finding>,
    /// How many further findings there are.
    pub more_findings: u64,
    /// How many of all findings are [problems](Finding::is_problem).
    pub problems: u64,
    /// Whether everything could be read.
    pub is_complete: bool,
    /// The files in `quarantine/`: damaged bytes that openings have copied.
    pub quarantine_files: u64,
    /// The bytes in `quarantine/`.
    pub quarantine_bytes: u64,
    /// The directories of the runs, `run/NAME`, by name. Each is a journal to be checked by itself.
    #[serde(skip)]
    pub runs: Vec<PathBuf>,
}

/// One segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its file.
    pub name: String,
    /// The number of its first record; none without records.
    pub first: Option<u64>,
    /// The number of its last record.
    pub last: Option<u64>,
    /// How many records it has.
    pub records: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// Something that is not as it should be, or that is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The segment's file, or `quarantine` or `run`.
    pub file: String,
    /// The first byte in the file.
    pub byte: u64,
    /// What it is.
    #[serde(flatten)]
    pub kind: FindingKind,
}

/// What a [`Finding`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// The newest segment ends with bytes that are no record. The next opening cuts them.
    TornTail {
        /// How many bytes.
        bytes: u64,
        /// Whether there are whole lines among them. Without, it is what a write in progress or a crash leaves, and
        /// no problem.
        has_lines: bool,
    },
    /// Bytes that are no record, with records after them.
    Damage {
        /// How many bytes.
        bytes: u64,
        /// How many records are missing there.
        records: u64,
    },
    /// Numbers without records and without damaged bytes.
    Gap {
        /// The first missing number.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A batch of which records are missing.
    IncompleteBatch {
        /// The number of its first record.
        first: u64,
        /// How many records it should have.
        count: u64,
        /// How many it has.
        found: u64,
        /// It is the end of the newest segment: being written, or cut at the next opening. This is no problem.
        is_end: bool,
    },
    /// Valid records whose numbers were there before. Readers skip them.
    Repeat {
        /// The number of the first of them.
        first: u64,
        /// How many records.
        records: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// The operating system has refused to read the file. The rest of it was not checked.
    Unreadable {
        /// Its error.
        error: String,
    },
}

impl Finding {
    /// Whether it is a fault, and not what a crash or a write in progress leaves in any journal.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        !matches!(
            self.kind,
            FindingKind::TornTail { has_lines: false, .. }
                | FindingKind::IncompleteBatch { is_end: true, .. }
        )
    }
}

/// `1 record`, `2 records`.
fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}

/// What a finding is and what follows from it, without the file and the byte.
impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TornTail { bytes, has_lines: false } => write!(
                f,
                "torn tail of {bytes} bytes: a torn tail is cut at the next opening; while a process writes it is normal"
            ),
            Self::TornTail { bytes, has_lines: true } => write!(
                f,
                "damaged tail of {bytes} bytes with whole lines: the next opening copies it to quarantine/ and cuts it"
            ),
            Self::Damage { bytes, records: 0 } => {
                write!(f, "damage of {bytes} bytes: no record is missing; readers skip them")
            }
            Self::Damage { bytes, records: lost } => {
                write!(f, "damage of {bytes} bytes: {} lost; readers return a gap", records(*lost))
            }
            Self::Gap { first, last } => {
                if first == last {
                    write!(f, "gap: record {first} is missing")?;
                } else {
                    write!(f, "gap: records {first} to {last} are missing")?;
                }
                f.write_str(": a segment was removed, or their append has failed")
            }
            Self::IncompleteBatch { first, count, found, is_end } => {
                write!(f, "incomplete batch: {found} of {} from number {first}", records(*count))?;
                f.write_str(if *is_end {
                    ": it is cut at the next opening; while a process writes it is normal"
                } else {
                    ": the other records are lost"
                })
            }
            Self::Repeat { first, records: count, bytes } => write!(
                f,
                "numbers go back: {} ({bytes} bytes) from number {first}, which were there before; readers skip them",
                records(*count)
            ),
            Self::Unreadable { error } => {
                write!(
                    f,
                    "cannot be read, the rest was not checked: {error}; check its permissions and the disk"
                )
            }
        }
    }
}

impl CheckReport {
    fn find(&mut self, file: &str, byte: u64, kind: FindingKind) {
        self.lost += match &kind {
            FindingKind::Damage { records, .. } => *records,
            FindingKind::Gap { first, last } => last - first + 1,
            _ => 0,
        };
        self.is_complete &= !matches!(kind, FindingKind::Unreadable { .. });
        let finding = Finding { file: file.to_owned(), byte, kind };
        self.problems += u64::from(finding.is_problem());
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }

    fn unreadable(&mut self, file: &str, byte: u64, error: &io::Error) {
        self.find(file, byte, FindingKind::Unreadable { error: error_chain(error) });
    }

    /// What is beside the segments.
    fn others(&mut self, directory: &Path) {
        match quarantine(&directory.join("quarantine")) {
            Ok((files, bytes)) => (self.quarantine_files, self.quarantine_bytes) = (files, bytes),
            Err(error) => self.unreadable("quarantine", 0, &error),
        }
        match runs(directory) {
            Ok(runs) => self.runs = runs,
            Err(error) => self.unreadable("run", 0, &error),
        }
    }
}

/// Reads every record of the journal in a directory, and reports what is damaged or missing.
///
/// It only reads, and works while another process writes the journal: what is appended meanwhile may be left out, and a
/// segment that retention removes meanwhile is left out. It reads about 256 KiB at once, and blocks.
///
/// # Errors
///
/// [`JournalError`]: it is no journal, is of a newer format, or cannot be listed. A segment that cannot be read is a
/// finding.
///
/// # Examples
///
/// ```
/// use watchkeeper_journal::{Entry, FindingKind, Journal, JournalConfig, check};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let config = JournalConfig { reserve: 0, ..JournalConfig::default() };
/// let journal = Journal::open(directory.path(), config).await?;
/// journal.append(Entry::from_text(r#"{"op":"put"}"#)?).await?;
/// journal.close().await?;
/// let segment = directory.path().join("00000000000000000000.jsonl");
/// std::io::Write::write_all(&mut std::fs::File::options().append(true).open(segment)?, b"{\"op\":")?;
///
/// let report = check(directory.path())?;
/// assert_eq!((report.records, report.problems), (1, 0));
/// assert_eq!(report.findings[0].kind, FindingKind::TornTail { bytes: 6, has_lines: false });
/// # Ok(())
/// # }
/// ```
pub fn check(directory: impl Into<PathBuf>) -> Result<CheckReport, JournalError> {
    let directory = directory.into();
    let medium = Directory::new(&directory);
    let place = medium.place();
    instance_of(&medium)?;
    let names = medium.list().map_err(|error| JournalError::io(&place, "list it", error))?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
    firsts.sort_unstable();
    let mut report = CheckReport { place, is_complete: true, ..CheckReport::default() };
    let mut is_first = true;
    // The number that is due in the next segment; none if it is not known.
    let mut due = None;
    for (place, &first) in firsts.iter().enumerate() {
        let name = segment_name(first);
        let opened = medium.open(&name, false);
        if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // Retired just now.
            due = None;
            continue;
        }
        if std::mem::take(&mut is_first) {
            (report.first, report.next) = (first, first);
        }
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                report.unreadable(&name, 0, &error);
                due = None;
                continue;
            }
        };
        if let Some(due) = due.filter(|due| *due < first) {
            report.find(&name, 0, FindingKind::Gap { first: due, last: first - 1 });
        }
        let following = firsts.get(place + 1).copied();
        let checked = SegmentCheck::new(&mut report, name, due.unwrap_or(first).max(first), following);
        due = checked.run(&file);
    }
    report.others(&directory);
    Ok(report)
}

fn quarantine(path: &Path) -> io::Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in existing(path)?.into_iter().flatten() {
        let entry = entry?;
        files += 1;
        bytes += entry.metadata()?.len();
    }
    Ok((files, bytes))
}

/// The directories of the runs in a directory, `run/NAME`, by name; none if there is no `run`.
///
/// # Errors
///
/// Those of the operating system.
pub fn runs(directory: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
    let path = &directory.as_ref().join("run");
    let mut runs = Vec::new();
    for entry in existing(path)?.into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() {
            runs.push(path);
        }
    }
    runs.sort();
    Ok(runs)
}

fn existing(path: &Path) -> io::Result<Option<fs::ReadDir>> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// The batch whose last record has not come yet.
struct OpenBatch {
    batch: Batch,
    offset: u64,
    found: u64,
}

/// Valid records whose numbers were there before, one after the other.
struct Repeated {
    offset: u64,
    first: u64,
    records: u64,
    bytes: u64,
}

/// Reads one segment.
struct SegmentCheck<'a> {
    report: &'a mut CheckReport,
    segment: SegmentReport,
    /// The number that is due.
    next: u64,
    /// The first number of the next segment.
    following: Option<u64>,
    /// Bytes since the last record that are no record: where they begin, and how many they are.
    bad: Option<(u64, u64)>,
    repeated: Option<Repeated>,
    batch: Option<OpenBatch>,
}

impl<'a> SegmentCheck<'a> {
    fn new(report: &'a mut CheckReport, name: String, next: u64, following: Option<u64>) -> Self {
        let segment = SegmentReport { name, ..SegmentReport::default() };
        Self { report, segment, next, following, bad: None, repeated: None, batch: None }
    }

    /// Returns the number that is due in the next segment.
    fn run(mut self, file: &Arc<dyn MediumFile>) -> Option<u64> {
        let mut reader = ChunkReader::new(Arc::clone(file), 0);
        let read = file.size().and_then(|size| {
            self.segment.bytes = size;
            while let Some(chunk) = reader.next(size)? {
                chunk.pieces.into_iter().for_each(|piece| self.piece(piece));
            }
            Ok(size)
        });
        let due = match read {
            Ok(size) => {
                let open_line = reader.open_line();
                Some(self.end(open_line, size.saturating_sub(open_line)))
            }
            Err(error) => {
                self.report.unreadable(&self.segment.name, reader.open_line(), &error);
                None
            }
        };
        let Self { report, segment, next, .. } = self;
        report.records += segment.records;
        report.bytes += segment.bytes;
        report.next = report.next.max(next);
        report.segments.push(segment);
        due
    }

    fn find(&mut self, byte: u64, kind: FindingKind) {
        self.report.find(&self.segment.name, byte, kind);
    }

    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Bad { offset, bytes } => {
                self.end_repeated();
                self.bad.get_or_insert((offset, 0)).1 += bytes;
            }
            Piece::Record(record) if record.number < self.next => {
                let new = || Repeated { offset: record.offset, first: record.number, records: 0, bytes: 0 };
                let repeated = self.repeated.get_or_insert_with(new);
                repeated.records += 1;
                repeated.bytes += u64::from(record.length);
            }
            Piece::Record(record) => self.record(&record),
        }
    }

    fn record(&mut self, record: &RecordPiece) {
        self.end_repeated();
        let missing = record.number - self.next;
        match self.bad.take() {
            Some((offset, bytes)) => self.find(offset, FindingKind::Damage { bytes, records: missing }),
            None if missing > 0 => {
                let gap = FindingKind::Gap { first: self.next, last: record.number - 1 };
                self.find(record.offset, gap);
            }
            None => {}
        }
        self.batch(record);
        self.segment.first.get_or_insert(record.number);
        self.segment.last = Some(record.number);
        self.segment.records += 1;
        self.next = record.number.saturating_add(1);
    }

    fn batch(&mut self, record: &RecordPiece) {
        if self.batch.as_ref().is_some_and(|open| Some(open.batch) != record.batch) {
            self.end_batch(false);
        }
        let Some(batch) = record.batch else { return };
        let open = self.batch.get_or_insert(OpenBatch { batch, offset: record.offset, found: 0 });
        open.found += 1;
        if record.number.saturating_add(1) >= batch.end() {
            self.end_batch(false);
        }
    }

    fn end_batch(&mut self, is_end: bool) {
        let Some(OpenBatch { batch: Batch { first, count }, offset, found }) = self.batch.take() else {
            return;
        };
        if found < count {
            self.find(offset, FindingKind::IncompleteBatch { first, count, found, is_end });
        }
    }

    fn end_repeated(&mut self) {
        if let Some(Repeated { offset, first, records, bytes }) = self.repeated.take() {
            self.find(offset, FindingKind::Repeat { first, records, bytes });
        }
    }

    /// The end of the file, with an unfinished line. Returns the number that is due in the next segment.
    fn end(&mut self, open_line: u64, unfinished: u64) -> u64 {
        self.end_repeated();
        let is_newest = self.following.is_none();
        self.end_batch(is_newest);
        let has_lines = self.bad.is_some();
        let (offset, bytes) = self.bad.take().unwrap_or((open_line, 0));
        let bytes = bytes + unfinished;
        if bytes == 0 {
            return self.next;
        }
        let Some(following) = self.following else {
            self.find(offset, FindingKind::TornTail { bytes, has_lines });
            return self.next;
        };
        let due = following.max(self.next);
        self.find(offset, FindingKind::Damage { bytes, records: due - self.next });
        due
    }
}
