//! Positions in a runtime's sequence of batches, also across processes.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;
use std::time::SystemTime;

use crate::report::debug_as_text;

/// The largest number to resume from: each process counts on from it, and half of the range is left.
pub(crate) const LAST_RESUMED: u64 = u64::MAX / 2;

/// Identifies a runtime, also among the runtimes of other processes and machines.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Instance(pub(crate) u128);

impl Instance {
    /// A random 128-bit instance, from the system randomness that std uses as its seed.
    pub(crate) fn random() -> Self {
        let half = || {
            let mut hasher = RandomState::new().build_hasher();
            // The keys are random. Process id and time distinguish processes if the system has little randomness.
            hasher.write_u32(std::process::id());
            if let Ok(now) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
                hasher.write_u128(now.as_nanos());
            }
            u128::from(hasher.finish())
        };
        Self(half() << 64 | half())
    }
}

/// The first 8 of its 32 hexadecimal digits, as in logs.
impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 >> 96)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A position between two batches of one runtime.
///
/// Take it from a snapshot (`snapshot.cursor` is right after the events that the snapshot contains), from a lagged
/// subscription, or from [`Subscription::cursor`](crate::subscription::Subscription::cursor).
///
/// # Outside of the process
///
/// [`Display`](fmt::Display) and [`FromStr`] write and read the text of a cursor. It has three fields, separated by
/// dots: the instance of the runtime as 32 lower-case hexadecimal digits, the generation, and the number of the next
/// batch. The text has at most 74 bytes and is safe in URLs, file names and HTTP headers. Two cursors are equal
/// exactly if their texts are equal. The number of fields is the version: a text with another number of fields is
/// refused.
///
/// ```text
/// 0f8e1a2b3c4d5e6f708192a3b4c5d6e7.3.1729
/// ```
///
/// The instance is 128 random bits, so a cursor of another runtime is refused, also of another process or machine. A
/// process that resumes an earlier one takes over its instance: see [`Resume`].
///
/// # Examples
///
/// ```
/// use watchkeeper::subscription::Cursor;
///
/// let text = "0f8e1a2b3c4d5e6f708192a3b4c5d6e7.3.1729";
/// let cursor: Cursor = text.parse()?;
/// assert_eq!((cursor.generation(), cursor.seq()), (3, 1729));
/// assert_eq!(cursor.to_string(), text);
///
/// let error = "0f8e1a2b3c4d5e6f708192a3b4c5d6e7.3.x".parse::<Cursor>().unwrap_err();
/// assert_eq!(error.at(), 35);
/// assert!(error.to_string().contains("byte 35: the seq is not a decimal number"));
/// # Ok::<(), watchkeeper::subscription::PositionError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub(crate) instance: Instance,
    pub(crate) generation: u64,
    pub(crate) seq: u64,
}

impl Cursor {
    /// The instance of its runtime: 128 random bits, which a runtime that [resumes](Resume) takes over.
    #[must_use]
    pub fn instance(&self) -> u128 {
        self.instance.0
    }

    /// The generation at this position.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of the next batch.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The position before batch `seq`, of the same runtime and generation.
    #[must_use]
    pub fn at(self, seq: u64) -> Self {
        Self { seq, ..self }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:032x}.{}.{}", self.instance.0, self.generation, self.seq))
    }
}

/// Short: 8 digits of the instance.
impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({}/{}/{})", self.instance, self.generation, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = PositionError;

    /// Reads exactly the text that `Display` writes.
    ///
    /// # Errors
    ///
    /// [`PositionError`]: the problem and its byte. The error does not repeat the text, which may be of any size.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut fields = Fields::of("cursor", text);
        let cursor = fields.cursor()?;
        fields.end()?;
        Ok(cursor)
    }
}

/// The point at which a runtime continues an earlier process: see
/// [`ObservationConfig::resume`](crate::ObservationConfig).
///
/// The new runtime keeps the instance. It begins at the next generation, its batches at `cursor.seq()`, its cycles at
/// `cycle + 1`, and its count of events at `event_count`.
///
/// A consumer's [`Cursor`] of the earlier process stays valid: after
/// [`subscribe_from`](crate::ObservationHandle::subscribe_from) it gets
/// [`Lagged`](crate::subscription::RecvError::Lagged), with the exact number of batches that only the earlier process
/// had, then [`Rebuilt`](crate::subscription::RecvError::Rebuilt), then what the new process has published, whose first
/// batches may be `Lagged` too. A cursor from after the recorded point is refused
/// as [`CursorError::Future`](crate::subscription::CursorError::Future).
///
/// Record the point before a consumer gets a later cursor. Resume from each record once, in one runtime, and not from
/// before a rebuild. Otherwise numbers are assigned twice, and a cursor no longer identifies one position.
///
/// The text is that of the cursor with two more fields: `INSTANCE.GENERATION.SEQ.CYCLE.EVENT_COUNT`, at most 116
/// bytes.
///
/// # Examples
///
/// ```
/// use watchkeeper::ObservationConfig;
/// use watchkeeper::subscription::Resume;
///
/// // What `Resume::from(&*handle.latest_snapshot().unwrap()).to_string()` recorded.
/// let recorded = "0f8e1a2b3c4d5e6f708192a3b4c5d6e7.3.1729.5000.2210";
/// let resume: Resume = recorded.parse()?;
/// assert_eq!((resume.cursor.generation(), resume.cursor.seq()), (3, 1729));
/// assert_eq!((resume.cycle, resume.event_count), (5000, 2210));
///
/// let config = ObservationConfig { resume: Some(resume), ..Default::default() };
/// assert_eq!(config.resume.unwrap().to_string(), recorded);
/// # Ok::<(), watchkeeper::subscription::PositionError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resume {
    /// The position right after the last recorded batch.
    pub cursor: Cursor,
    /// The last recorded cycle, also a failed one.
    pub cycle: u64,
    /// The number of events so far.
    pub event_count: u64,
}

impl fmt::Display for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}.{}.{}", self.cursor, self.cycle, self.event_count))
    }
}

impl FromStr for Resume {
    type Err = PositionError;

    /// Reads exactly the text that `Display` writes.
    ///
    /// # Errors
    ///
    /// [`PositionError`]: the problem and its byte.
    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut fields = Fields::of("resume point", text);
        let resume = Self {
            cursor: fields.cursor()?,
            cycle: fields.number("cycle")?,
            event_count: fields.number("event count")?,
        };
        fields.end()?;
        Ok(resume)
    }
}

/// The first numbers of a runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) generation: u64,
    pub(crate) seq: u64,
    pub(crate) cycle: u64,
    pub(crate) event_count: u64,
}

impl Default for First {
    fn default() -> Self {
        Self { generation: 1, seq: 0, cycle: 0, event_count: 0 }
    }
}

impl Resume {
    /// The first numbers after this point. It saturates: such a point is refused before it is used.
    pub(crate) fn next(&self) -> First {
        First {
            generation: self.cursor.generation.saturating_add(1),
            seq: self.cursor.seq,
            cycle: self.cycle.saturating_add(1),
            event_count: self.event_count,
        }
    }

    /// The first field that is over [`LAST_RESUMED`], with its value.
    pub(crate) fn exhausted(&self) -> Option<(&'static str, u64)> {
        let Self { cursor: Cursor { generation, seq, .. }, cycle, event_count } = *self;
        let fields = [
            ("cursor.generation", generation),
            ("cursor.seq", seq),
            ("cycle", cycle),
            ("event_count", event_count),
        ];
        fields.into_iter().find(|(_, value)| *value > LAST_RESUMED)
    }
}

/// Why a text is not a [`Cursor`] or a [`Resume`].
///
/// It has the problem and its place, and shows nothing of the text.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {of}: at byte {at}: the {field} {problem}; write it as `Display` does, without spaces: {}", form(.of))]
pub struct PositionError {
    of: &'static str,
    at: usize,
    field: &'static str,
    problem: PositionProblem,
}

debug_as_text!(PositionError);

/// The problem of one field in the text of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PositionProblem {
    /// The field is empty, or the text ends before it.
    Missing,
    /// The field is not 32 hexadecimal digits, `0` to `9` and `a` to `f`.
    NotHexadecimal,
    /// The field is not a decimal number, or has a sign or leading zeros.
    NotDecimal,
    /// The number is over `u64::MAX`.
    TooLarge,
    /// More text follows the field.
    Followed,
}

impl fmt::Display for PositionProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::NotHexadecimal => "is not 32 lower-case hexadecimal digits",
            Self::NotDecimal => "is not a decimal number without leading zeros",
            Self::TooLarge => "is larger than 18446744073709551615",
            Self::Followed => "is followed by more, and nothing may follow",
        })
    }
}

impl PositionError {
    /// The byte of the problem in the text, counted from 0; the length of the text if a field is missing at its end.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The wrong field: `instance`, `generation`, `seq`, `cycle` or `event count`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The problem of that field.
    #[must_use]
    pub fn problem(&self) -> PositionProblem {
        self.problem
    }
}

fn form(of: &&'static str) -> &'static str {
    if *of == "cursor" { "INSTANCE.GENERATION.SEQ" } else { "INSTANCE.GENERATION.SEQ.CYCLE.EVENT_COUNT" }
}

/// Reads the text field by field.
struct Fields<'a> {
    of: &'static str,
    text: &'a str,
    /// The first byte of the next field; `None` after the last field.
    next: Option<usize>,
    /// The last field that was read, and its end.
    last: (&'static str, usize),
}

impl<'a> Fields<'a> {
    fn of(of: &'static str, text: &'a str) -> Self {
        Self { of, text, next: Some(0), last: ("text", 0) }
    }

    fn wrong(&self, at: usize, field: &'static str, problem: PositionProblem) -> PositionError {
        PositionError { of: self.of, at, field, problem }
    }

    /// Returns the first byte of a field and its text.
    fn field(&mut self, name: &'static str) -> Result<(usize, &'a str), PositionError> {
        let from = self.next.filter(|from| *from < self.text.len());
        let from = from.ok_or_else(|| self.wrong(self.text.len(), name, PositionProblem::Missing))?;
        let rest = &self.text[from..];
        let length = rest.find('.').unwrap_or(rest.len());
        self.next = (length < rest.len()).then_some(from + length + 1);
        self.last = (name, from + length);
        if length == 0 {
            return Err(self.wrong(from, name, PositionProblem::Missing));
        }
        Ok((from, &rest[..length]))
    }

    fn cursor(&mut self) -> Result<Cursor, PositionError> {
        Ok(Cursor {
            instance: self.instance()?,
            generation: self.number("generation")?,
            seq: self.number("seq")?,
        })
    }

    fn instance(&mut self) -> Result<Instance, PositionError> {
        const DIGITS: usize = 32;
        let (from, field) = self.field("instance")?;
        let digits = field.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let count = digits.take(DIGITS).count();
        if count < DIGITS || field.len() > DIGITS {
            return Err(self.wrong(from + count, "instance", PositionProblem::NotHexadecimal));
        }
        let value = u128::from_str_radix(field, 16);
        value.map(Instance).map_err(|_| self.wrong(from, "instance", PositionProblem::NotHexadecimal))
    }

    fn number(&mut self, name: &'static str) -> Result<u64, PositionError> {
        let (from, field) = self.field(name)?;
        let is_digit = |byte: &u8| byte.is_ascii_digit();
        if let Some(at) = field.bytes().position(|byte| !is_digit(&byte)) {
            return Err(self.wrong(from + at, name, PositionProblem::NotDecimal));
        }
        if field.len() > 1 && field.starts_with('0') {
            return Err(self.wrong(from, name, PositionProblem::NotDecimal));
        }
        field.parse().map_err(|_| self.wrong(from, name, PositionProblem::TooLarge))
    }

    fn end(&self) -> Result<(), PositionError> {
        let (field, at) = self.last;
        if self.next.is_some() { Err(self.wrong(at, field, PositionProblem::Followed)) } else { Ok(()) }
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::collections::HashSet;
    use std::thread;

    use super::*;

    #[test]
    fn instances_of_many_threads_differ() {
        let some = || (0..1_000).map(|_| Instance::random()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| thread::spawn(some)).collect();
        let all: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), 8_000);
        // Both halves are used.
        assert!(all.iter().any(|instance| instance.0 >> 64 != instance.0 & u128::from(u64::MAX)));
    }
}
