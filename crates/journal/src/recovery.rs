//! Opening a journal: what a crash has left is made whole.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::error::JournalError;
use crate::medium::{Medium, MediumFile, append_all, read_full};
use crate::newest::{NewestSegment, is_full};
use crate::report::{MissingRecords, Recovery};
use crate::segment::{RESERVE, Segment, first_of, segment_name, valid_end};

/// The version of the format.
const FORMAT: u64 = 1;
pub(crate) const IDENTITY: &str = "journal.json";
pub(crate) const NEW_IDENTITY: &str = "journal.json.tmp";
/// Names that may be in a directory that is about to become a journal.
const OWN: [&str; 5] = [NEW_IDENTITY, RESERVE, "quarantine", "run", "lost+found"];
/// The largest last number that is continued.
const LAST_NUMBER: u64 = u64::MAX / 2;

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
            Ok((end, valid_end(&*file, Segment { first, end }, false)?.map(|(next, _)| next)))
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
    let scan = || NewestSegment::of(&file, newest, cancelled).map_err(failed)?.ok_or(JournalError::Cancelled);
    let mut found = scan()?;
    // The next opening finds what a cancelled one has left.
    let go_on =
        |error| if cancelled.load(Ordering::Relaxed) { JournalError::Cancelled } else { failed(error) };
    if found.silence(medium, &file).map_err(go_on)? {
        found = found.again(scan()?);
    }
    // What is cut may have been answered: its numbers are those of a gap. The segment after them is there before the cut, so
    // that no later opening uses them again.
    let lines = found.torn_lines(&*file).map_err(go_on)?;
    let next = found.next.saturating_add(lines);
    let begun =
        if lines > 0 && next <= LAST_NUMBER { Some(begin(&**medium, next).map_err(failed)?) } else { None };
    let is_cut = found.mend(medium, &file, report).map_err(go_on)?;
    if cancelled.load(Ordering::Relaxed) {
        return Err(JournalError::Cancelled);
    }
    // Nor its last records: what is read from now on stays.
    file.sync().map_err(failed)?;
    if is_cut || found.end > 0 {
        segments.push(Segment { first: newest, end: found.end });
    }
    if let Some(file) = begun {
        report.torn_lines = lines;
        report.gaps.extend(missing(Some(found.next), next));
        segments.push(Segment { first: next, end: 0 });
        return Ok((segments, Some(file), next));
    }
    Ok((segments, is_cut.then_some(file), found.next))
}

/// Begins the segment of record `first`, also on a full disk.
fn begin(medium: &dyn Medium, first: u64) -> io::Result<Arc<dyn MediumFile>> {
    let name = segment_name(first);
    let file = match medium.create(&name) {
        Err(error) if is_full(&error) && medium.remove(RESERVE).is_ok() => medium.create(&name)?,
        created => created?,
    };
    medium.sync_names()?;
    Ok(file)
}
