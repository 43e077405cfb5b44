//! Reading and mending the newest segment.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chunk::{ChunkReader, Piece, RecordPiece};
use crate::line::{Batch, MAX_BATCH, MAX_BATCH_BYTES, MIN_LINE};
use crate::medium::{Medium, MediumFile, append_all, read_full};
use crate::report::{Damage, Recovery};
use crate::segment::{RESERVE, segment_name};

/// The most places that are kept apart.
const MAX_DAMAGE: usize = 1_000;
/// The smallest part of a file that is written as a whole.
const BLOCK: u64 = 512;
/// No power cut loses a part of what is further from the end: it was synced before the last group was written.
const LAST_GROUP: u64 = 2 * MAX_BATCH_BYTES as u64;

/// What the newest segment has.
pub(crate) struct NewestSegment<'a> {
    cancelled: &'a AtomicBool,
    first: u64,
    size: u64,
    /// Where the valid part ends.
    pub(crate) end: u64,
    /// The number after the last valid record.
    pub(crate) next: u64,
    records: u64,
    pub(crate) uncommitted: u64,
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

impl<'a> NewestSegment<'a> {
    /// Reads the segment; `None` if it was cancelled.
    pub(crate) fn of(
        file: &Arc<dyn MediumFile>,
        first: u64,
        cancelled: &'a AtomicBool,
    ) -> io::Result<Option<Self>> {
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
    pub(crate) fn silence(&self, medium: &Arc<dyn Medium>, file: &Arc<dyn MediumFile>) -> io::Result<bool> {
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
    pub(crate) fn again(self, second: Self) -> Self {
        let mut damage = self.damage;
        damage.retain(|damage| damage.offset < second.end);
        Self { damage, uncommitted: second.uncommitted + self.broken.len() as u64, ..second }
    }

    /// Keeps damaged bytes in quarantine, and cuts the torn end. Returns whether the segment may be appended to.
    pub(crate) fn mend(
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
            Ok(()) => Ok(true),
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

    /// How many records of the torn end may have been answered: none if a power cut has left it, or a batch that was being
    /// written.
    pub(crate) fn torn_lines(&self, file: &dyn MediumFile) -> io::Result<u64> {
        let torn = self.size - self.end;
        if torn == 0 || has_lost_block(file, self.end, torn)? {
            return Ok(0);
        }
        let lines = self.lines(file)?;
        Ok(if lines > self.uncommitted { lines } else { 0 })
    }

    /// How many lines that are long enough for a record are torn, or how many numbers of records are in them.
    fn lines(&self, file: &dyn MediumFile) -> io::Result<u64> {
        let (mut lines, mut length, mut numbers) = (0, 0, 0);
        self.each(file, self.end, self.size - self.end, |bytes| {
            // A damaged line feed joins two lines.
            numbers += memchr::memmem::find_iter(bytes, b"\"_wk_n\":\"").count() as u64;
            for line in bytes.split_inclusive(|byte| *byte == b'\n') {
                length += line.len();
                if line.ends_with(b"\n") {
                    lines += u64::from(length > MIN_LINE);
                    length = 0;
                }
            }
            Ok(())
        })?;
        // The last one may be half a line, which was not answered.
        Ok(if lines == 0 { 0 } else { lines.max(numbers - u64::from(length > 0 && numbers > 0)) })
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

/// Whether the disk has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
