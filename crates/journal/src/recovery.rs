//! Opening a journal: what a crash has left is made whole.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkReader, Piece, RecordPiece};
use crate::error::JournalError;
use crate::line::{Batch, MAX_BATCH, MAX_BATCH_BYTES, MIN_LINE};
use crate::medium::{Medium, MediumFile, append_all, read_full};
use crate::segment::{Segment, first_of, segment_name, valid_end};

/// The version of the format.
const FORMAT: u64 = 1;
pub(crate) const IDENTITY: &str = "journal.json";
pub(crate) const NEW_IDENTITY: &str = "journal.json.tmp";
pub(crate) const RESERVE: &str = "reserve";
/// Names that may be in a directory that is about to become a journal.
const OWN: [&str; 5] = [NEW_IDENTITY, RESERVE, "quarantine", "run", "lost+found"];
/// The largest last number that is continued.
const LAST_NUMBER: u64 = u64::MAX / 2;
/// The most places that are kept apart.
const MAX_DAMAGE: usize = 1_000;
/// The smallest part of a file that is written as a whole.
const BLOCK: u64 = 512;
/// No power cut loses a part of what is further from the end: it was synced before the last group was written.
const LAST_GROUP: u64 = 2 * MAX_BATCH_BYTES as u64;

/// What an opening has found and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Whether the journal is new.
    pub is_new: bool,
    /// The bytes at the end of the last segment that were no record, and were cut.
    pub torn_bytes: u64,
    /// How many whole lines they were. They may have been answered: a copy of them is in `quarantine/`, and their numbers are
    /// a gap.
    pub torn_lines: u64,
    /// The records of a batch without its commit mark, at the end of the last segment; they were cut too.
    pub uncommitted: u64,
    /// Damaged places of the last segment, with valid records after them: at most 1,000, and the last one covers all further
    /// ones. Their bytes are in `quarantine/`.
    pub damage: Vec<Damage>,
    /// Missing numbers between two segments.
    pub gaps: Vec<MissingRecords>,
    /// The records of the last segment: the only one that an opening reads as a whole.
    pub records: u64,
}

/// Bytes of a segment that are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The segment's file.
    pub segment: String,
    /// Where they begin.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
    /// The number of records that are missing there.
    pub records: u64,
}

/// Numbers without records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingRecords {
    /// The first missing number.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

#[derive(Serialize, Deserialize)]
struct Identity {
    watchkeeper_journal: u64,
    instance: String,
}

/// An opened journal.
pub(crate) struct Opened {
    pub(crate) lock: Box<dyn Any + Send>,
    pub(crate) instance: u128,
    /// From the oldest to the newest; the last is the active one, if there is one.
    pub(crate) segments: Vec<Segment>,
    /// The file of the last segment, if it is appended to.
    pub(crate) active: Option<Arc<dyn MediumFile>>,
    pub(crate) next: u64,
    pub(crate) report: Recovery,
}

/// Opens the journal on `medium`, or makes it.
pub(crate) fn open(medium: &Arc<dyn Medium>, cancelled: &AtomicBool) -> Result<Opened, JournalError> {
    let place = medium.place();
    let lock = match medium.lock() {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(JournalError::Locked { place });
        }
        Err(error) => return Err(JournalError::io(&place, "make and lock it", error)),
    };
    let names = medium.list().map_err(|error| JournalError::io(&place, "list it", error))?;
    let is_new = !names.iter().any(|name| name == IDENTITY);
    let instance = match read_identity(&**medium)? {
        Some(instance) => {
            // A process that was killed may have made names that no sync has covered.
            medium.sync_names().map_err(|error| JournalError::io(&place, "sync it", error))?;
            instance
        }
        None => make_identity(&**medium, &names)?,
    };
    let mut report = Recovery { is_new, ..Recovery::default() };
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| first_of(name)).collect();
    firsts.sort_unstable();
    let (segments, active, next) = segments(medium, &firsts, cancelled, &mut report)?;
    if next > LAST_NUMBER {
        return Err(JournalError::NumbersUsedUp { place, last: next - 1 });
    }
    Ok(Opened { lock, instance, segments, active, next, report })
}

/// The instance in `journal.json`; `None` without such a file.
pub(crate) fn read_identity(medium: &dyn Medium) -> Result<Option<u128>, JournalError> {
    let place = medium.place();
    let file = match medium.open(IDENTITY, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io(&place, "open journal.json", error)),
    };
    let mut bytes = vec![0; 4_096];
    let length = read_full(&*file, 0, &mut bytes)
        .map_err(|error| JournalError::io(&place, "read journal.json", error))?;
    let damaged = || JournalError::Identity { place: place.clone() };
    let value: serde_json::Value = serde_json::from_slice(&bytes[..length]).map_err(|_| damaged())?;
    let found = value["watchkeeper_journal"].as_u64().ok_or_else(damaged)?;
    if found != FORMAT {
        return Err(JournalError::Newer { place, found });
    }
    let Identity { instance, .. } = serde_json::from_value(value).map_err(|_| damaged())?;
    match u128::from_str_radix(&instance, 16) {
        Ok(number) if format!("{number:032x}") == instance => Ok(Some(number)),
        _ => Err(damaged()),
    }
}

fn make_identity(medium: &dyn Medium, names: &[String]) -> Result<u128, JournalError> {
    let place = medium.place();
    if names.iter().any(|name| first_of(name).is_some()) {
        return Err(JournalError::Identity { place });
    }
    if let Some(name) = names.iter().find(|name| !OWN.contains(&name.as_str())) {
        return Err(JournalError::Foreign { place, name: name.clone() });
    }
    let instance = random();
    if names.iter().any(|name| name == NEW_IDENTITY) {
        medium.remove(NEW_IDENTITY).map_err(|error| JournalError::io(&place, "write journal.json", error))?;
    }
    write_identity(medium, instance)
        .map_err(|error| JournalError::io(&place, "write journal.json", error))?;
    Ok(instance)
}

/// Writes `journal.json`.
pub(crate) fn write_identity(medium: &dyn Medium, instance: u128) -> io::Result<()> {
    let identity = Identity { watchkeeper_journal: FORMAT, instance: format!("{instance:032x}") };
    let mut text = serde_json::to_vec(&identity)?;
    text.push(b'\n');
    let file = medium.create(NEW_IDENTITY)?;
    append_all(&*file, &text)?;
    file.sync()?;
    medium.rename(NEW_IDENTITY, IDENTITY)?;
    medium.sync_names()
}

/// Whether the disk has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// 128 random bits, from the system randomness that std uses as its seed.
fn random() -> u128 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let half = || {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        u128::from(hasher.finish())
    };
    half() << 64 | half()
}

type Found = (Vec<Segment>, Option<Arc<dyn MediumFile>>, u64);

fn segments(
    medium: &Arc<dyn Medium>,
    firsts: &[u64],
    cancelled: &AtomicBool,
    report: &mut Recovery,
) -> Result<Found, JournalError> {
    let place = medium.place();
    let mut segments = Vec::with_capacity(firsts.len());
    let Some((&newest, sealed)) = firsts.split_last() else { return Ok((segments, None, 0)) };
    // The number that is due in the next segment, as far as it is known.
    let mut due = None;
    let missing = |due: Option<u64>, first: u64| {
        due.filter(|due| *due < first).map(|due| MissingRecords { first: due, last: first - 1 })
    };
    for &first in sealed {
        let look = || -> io::Result<(u64, Option<u64>)> {
            let file = medium.open(&segment_name(first), false)?;
            let end = file.size()?;
            Ok((end, valid_end(&*file, Segment { first, end })?.map(|(next, _)| next)))
        };
        report.gaps.extend(missing(due, first));
        let (end, next) = match look() {
            Ok(found) => found,
            Err(error) => {
                // A reader says it again when it comes there.
                tracing::error!(place, segment = segment_name(first), %error, "a segment cannot be read");
                (u64::MAX, None)
            }
        };
        due = next;
        segments.push(Segment { first, end });
    }
    report.gaps.extend(missing(due, newest));
    let failed = |error| JournalError::io(&place, "recover the newest segment", error);
    let file = medium.open(&segment_name(newest), true).map_err(failed)?;
    let scan = || Scan::of(&file, newest, cancelled).map_err(failed)?.ok_or(JournalError::Cancelled);
    let mut found = scan()?;
    // The next opening finds what a cancelled one has left.
    let go_on =
        |error| if cancelled.load(Ordering::Relaxed) { JournalError::Cancelled } else { failed(error) };
    if found.silence(medium, &file).map_err(go_on)? {
        found = found.again(scan()?);
    }
    let is_cut = found.mend(medium, &file, report).map_err(go_on)?;
    if cancelled.load(Ordering::Relaxed) {
        return Err(JournalError::Cancelled);
    }
    // Nor its last records: what is read from now on stays.
    file.sync().map_err(failed)?;
    if is_cut || found.end > 0 {
        segments.push(Segment { first: newest, end: found.end });
    }
    let next = found.next.saturating_add(report.torn_lines);
    if is_cut && next > found.next && next <= LAST_NUMBER {
        // What was cut may have been answered: its numbers are those of a gap, also for the next opening.
        report.gaps.extend(missing(Some(found.next), next));
        let begin = || -> io::Result<Arc<dyn MediumFile>> {
            let file = medium.create(&segment_name(next))?;
            if found.end == 0 {
                medium.remove(&segment_name(newest))?;
            }
            medium.sync_names()?;
            Ok(file)
        };
        let file = begin().map_err(failed)?;
        segments.pop_if(|last| last.end == 0);
        segments.push(Segment { first: next, end: 0 });
        return Ok((segments, Some(file), next));
    }
    Ok((segments, is_cut.then_some(file), found.next))
}

/// What the newest segment has.
struct Scan<'a> {
    cancelled: &'a AtomicBool,
    first: u64,
    size: u64,
    /// Where the valid part ends.
    end: u64,
    /// The number after the last valid record.
    next: u64,
    records: u64,
    uncommitted: u64,
    damage: Vec<Damage>,
    /// Batches with a hole, with valid records after them.
    suspects: Vec<OpenBatch>,
    /// Lines of those that never were committed.
    broken: Vec<(u64, u32)>,
}

/// The batch whose commit mark has not come yet.
struct OpenBatch {
    batch: Batch,
    lines: Vec<(u64, u32)>,
    has_hole: bool,
    /// Bytes that are no records, among its lines or after them.
    holes: Vec<(u64, u64)>,
    /// Where the valid part ended before it, and the number that was due.
    before: (u64, u64),
}

impl<'a> Scan<'a> {
    /// Reads the segment; `None` if it was cancelled.
    fn of(file: &Arc<dyn MediumFile>, first: u64, cancelled: &'a AtomicBool) -> io::Result<Option<Self>> {
        let size = file.size()?;
        let mut scan = Self {
            cancelled,
            first,
            size,
            end: 0,
            next: first,
            records: 0,
            uncommitted: 0,
            damage: Vec::new(),
            suspects: Vec::new(),
            broken: Vec::new(),
        };
        let mut reader = ChunkReader::new(Arc::clone(file), 0);
        let (mut bad, mut open): (Option<(u64, u64)>, Option<OpenBatch>) = (None, None);
        while let Some(chunk) = reader.next(size)? {
            if cancelled.load(Ordering::Relaxed) {
                return Ok(None);
            }
            for piece in chunk.pieces {
                match piece {
                    Piece::Record(record) if record.number >= scan.next => {
                        scan.record(&record, bad.take(), &mut open);
                    }
                    // A record that was there before is as wrong as bytes that are none.
                    Piece::Record(RecordPiece { offset, length, .. }) => {
                        bad.get_or_insert((offset, 0)).1 += u64::from(length);
                    }
                    Piece::Bad { offset, bytes } => bad.get_or_insert((offset, 0)).1 += bytes,
                }
            }
        }
        if let Some(open) = open {
            scan.uncommitted = open.lines.len() as u64;
            scan.records -= scan.uncommitted;
            // Damage in front of it is at the end too, or the next opening would find another end and other numbers.
            (scan.end, scan.next) = open.before;
            scan.damage.retain(|damage| damage.offset < scan.end);
        }
        scan.find_broken(&**file)?;
        Ok(Some(scan))
    }

    fn record(&mut self, record: &RecordPiece, bad: Option<(u64, u64)>, open: &mut Option<OpenBatch>) {
        let missing = record.number - self.next;
        if let Some((offset, bytes)) = bad {
            let is_kept_apart = self.damage.len() < MAX_DAMAGE;
            if let Some(last) = self.damage.last_mut().filter(|_| !is_kept_apart) {
                last.bytes = offset + bytes - last.offset;
                last.records += missing;
            } else {
                let segment = segment_name(self.first);
                self.damage.push(Damage { segment, offset, bytes, records: missing });
            }
        }
        let line = (record.offset, record.length);
        // What no journal writes is no batch.
        let is_possible = |batch: &Batch| {
            (batch.first..batch.end()).contains(&record.number) && batch.count <= MAX_BATCH as u64
        };
        match (open.take(), record.batch.filter(is_possible)) {
            (Some(mut before), Some(batch)) if before.batch == batch => {
                before.has_hole |= missing > 0;
                before.holes.extend(bad);
                before.lines.push(line);
                *open = Some(before);
            }
            (before, batch) => {
                self.broke(before.map(|mut before| {
                    before.holes.extend(bad);
                    before
                }));
                *open = batch.map(|batch| OpenBatch {
                    batch,
                    lines: vec![line],
                    has_hole: record.number != batch.first,
                    holes: bad.into_iter().collect(),
                    before: (self.end, self.next),
                });
            }
        }
        if open.as_ref().is_some_and(|open| record.number + 1 >= open.batch.end()) {
            let complete = open.take().filter(|open| open.has_hole);
            self.broke(complete);
        }
        self.end = record.offset + u64::from(record.length);
        self.next = record.number + 1;
        self.records += 1;
    }

    /// A batch with a hole. If it is in the last group, a power cut may have torn it.
    fn broke(&mut self, batch: Option<OpenBatch>) {
        let is_last = |batch: &OpenBatch| {
            batch.lines.first().is_some_and(|(offset, _)| offset + LAST_GROUP >= self.size)
        };
        self.suspects.extend(batch.filter(is_last));
    }

    /// Finds the batches that never were committed: in place of their holes are blocks that were not written. Other damage
    /// came later, and the records that are whole stay.
    fn find_broken(&mut self, file: &dyn MediumFile) -> io::Result<()> {
        for OpenBatch { lines, holes, .. } in std::mem::take(&mut self.suspects) {
            for (offset, bytes) in holes {
                if has_lost_block(file, offset, bytes)? {
                    self.broken.extend(&lines);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes lines of broken batches out of the journal. Returns whether there were any: the segment is to be read again.
    fn silence(&self, medium: &Arc<dyn Medium>, file: &Arc<dyn MediumFile>) -> io::Result<bool> {
        if self.broken.is_empty() {
            return Ok(false);
        }
        for (offset, end) in ranges(&self.broken) {
            self.keep(&**medium, &**file, offset, end - offset)?;
        }
        medium.sync_names()?;
        for (offset, _) in &self.broken {
            go_on(self.cancelled)?;
            // No longer a record, for any reader.
            file.overwrite(*offset, b"#")?;
        }
        file.sync()?;
        Ok(true)
    }

    /// The second reading, with what only the first could know.
    fn again(self, second: Self) -> Self {
        let mut damage = self.damage;
        damage.retain(|damage| damage.offset < second.end);
        Self { damage, uncommitted: second.uncommitted + self.broken.len() as u64, ..second }
    }

    /// Keeps damaged bytes in quarantine, and cuts the torn end. Returns whether the segment may be appended to.
    fn mend(
        &self,
        medium: &Arc<dyn Medium>,
        file: &Arc<dyn MediumFile>,
        report: &mut Recovery,
    ) -> io::Result<bool> {
        let mut kept = 0;
        for damage in &self.damage {
            kept += u64::from(self.keep(&**medium, &**file, damage.offset, damage.bytes).is_err());
        }
        if kept > 0 {
            // The bytes stay where they are in any case.
            tracing::warn!(place = %medium.place(), "damaged bytes could not be copied to quarantine");
        }
        report.records = self.records;
        report.uncommitted = self.uncommitted;
        report.damage.clone_from(&self.damage);
        report.torn_bytes = self.size - self.end;
        if report.torn_bytes == 0 {
            return Ok(true);
        }
        let lines = self.lines(&**file)?;
        let cut = || -> io::Result<()> {
            if lines > 0 {
                // It may be a whole record with a damaged byte.
                self.keep(&**medium, &**file, self.end, report.torn_bytes)?;
                medium.sync_names()?;
            }
            file.truncate(self.end)?;
            file.sync()
        };
        match cut() {
            Ok(()) => {
                report.torn_lines = if self.uncommitted == 0 { lines } else { 0 };
                Ok(true)
            }
            // Its lines are valid: they would be read as records once there is a newer segment.
            // And a segment without any record has the name of the one that would be begun.
            Err(error) if self.uncommitted > 0 || (self.end == 0 && lines > 0) => Err(error),
            Err(error) => {
                // It is no part of the journal, and nothing is appended after it.
                tracing::warn!(place = %medium.place(), %error, "a torn segment could not be cut");
                Ok(false)
            }
        }
    }

    /// How many lines that are long enough for a record are torn.
    fn lines(&self, file: &dyn MediumFile) -> io::Result<u64> {
        let (mut lines, mut length) = (0, 0);
        self.each(file, self.end, self.size - self.end, |bytes| {
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                length += line.len();
                if line.ends_with(b"\n") {
                    lines += u64::from(length > MIN_LINE);
                    length = 0;
                }
            }
            Ok(())
        })?;
        Ok(lines)
    }

    /// Copies bytes to `quarantine/`. If the disk is full, the reserve is there for it.
    fn keep(&self, medium: &dyn Medium, file: &dyn MediumFile, offset: u64, length: u64) -> io::Result<()> {
        let kept = self.copy(medium, file, offset, length);
        match &kept {
            Err(error) if is_full(error) && medium.remove(RESERVE).is_ok() => {
                self.copy(medium, file, offset, length)
            }
            _ => kept,
        }
    }

    fn copy(&self, medium: &dyn Medium, file: &dyn MediumFile, offset: u64, length: u64) -> io::Result<()> {
        // Other bytes may have been there before.
        let mut hasher = crc32fast::Hasher::new();
        self.each(file, offset, length, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        let name = format!("quarantine/{:020}-{offset:020}-{:08x}", self.first, hasher.finalize());
        let copy = match medium.create(&name) {
            Ok(copy) => copy,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // An earlier opening has copied it, or was interrupted.
                let copy = medium.open(&name, true)?;
                if copy.size()? >= length {
                    return copy.sync();
                }
                medium.remove(&name)?;
                medium.create(&name)?
            }
            Err(error) => return Err(error),
        };
        self.each(file, offset, length, |bytes| append_all(&*copy, bytes))?;
        copy.sync()
    }

    /// Reads bytes in pieces.
    fn each(
        &self,
        file: &dyn MediumFile,
        mut offset: u64,
        mut left: u64,
        mut piece: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(1024 * 1024)];
        while left > 0 {
            go_on(self.cancelled)?;
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            let read = read_full(file, offset, &mut bytes[..most])?;
            if read == 0 {
                break;
            }
            piece(&bytes[..read])?;
            offset += read as u64;
            left -= read as u64;
        }
        Ok(())
    }
}

/// Whether bytes that are no record have a block that was not written: it reads as zeros, up to its end. A record has none.
fn has_lost_block(file: &dyn MediumFile, offset: u64, length: u64) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(length.min(LAST_GROUP)).unwrap_or_default()];
    let read = read_full(file, offset, &mut bytes)?;
    let is_end = |place: usize| (offset + place as u64) % BLOCK == BLOCK - 1;
    Ok(bytes[..read].iter().enumerate().any(|(place, byte)| *byte == 0 && is_end(place)))
}

/// Where lines that follow each other begin and end; if there are many places, it is one that has them all.
fn ranges(lines: &[(u64, u32)]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (offset, length) in lines {
        let end = offset + u64::from(*length);
        match ranges.last_mut() {
            Some(last) if last.1 == *offset => last.1 = end,
            _ => ranges.push((*offset, end)),
        }
    }
    match (ranges.first(), ranges.last()) {
        (Some(first), Some(last)) if ranges.len() > MAX_DAMAGE => vec![(first.0, last.1)],
        _ => ranges,
    }
}

/// An error once the opening is cancelled.
fn go_on(cancelled: &AtomicBool) -> io::Result<()> {
    if cancelled.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

impl Recovery {
    /// Whether nothing had to be mended, and nothing is missing.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.torn_bytes == 0 && self.uncommitted == 0 && self.damage.is_empty() && self.gaps.is_empty()
    }

    pub(crate) fn log(&self, place: &str) {
        if self.torn_bytes > 0 || self.uncommitted > 0 {
            let (bytes, uncommitted) = (self.torn_bytes, self.uncommitted);
            tracing::warn!(place, bytes, uncommitted, "the journal's torn end was cut");
        }
        for Damage { segment, offset, bytes, records } in &self.damage {
            tracing::error!(place, segment, offset, bytes, records, "a part of the journal is damaged");
        }
        for MissingRecords { first, last } in &self.gaps {
            tracing::error!(place, first, last, "records of the journal are missing");
        }
    }
}
