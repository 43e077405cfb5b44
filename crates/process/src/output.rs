//! The output of a child: all of it is read, and one line is searched for.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout};
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::oneshot;

use crate::log::Log;

/// How many bytes of the output before the line are kept.
const KEPT: usize = 64 * 1024;
/// How long to wait for more of a line with the mark. After that it is a prompt, which has no line break.
const REST_WITHIN: Duration = Duration::from_millis(100);
/// How long to wait for the whole rest of the line, which may grow for ever, such as dots for progress.
const WHOLE_REST_WITHIN: Duration = Duration::from_secs(2);

/// The line that a program prints when it serves.
#[derive(Debug)]
pub struct ReadyLine(oneshot::Receiver<Result<String, String>>);

impl ReadyLine {
    pub(crate) fn new(ready: oneshot::Receiver<Result<String, String>>) -> Self {
        Self(ready)
    }

    /// Waits for the line and returns it without the line break, and only the last 64 KiB of a longer one.
    ///
    /// Use it with a time-out: a program may run and print nothing.
    ///
    /// # Errors
    ///
    /// The program closed its standard output before, and may still be running: the last 64 KiB of its standard output,
    /// and of standard error if that is a pipe.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the line; the output of the program is still read.
    pub async fn line(self) -> Result<String, String> {
        self.0.await.unwrap_or_else(|_| Err(String::new()))
    }
}

/// The last bytes of the output. The cost of a push does not depend on how much was printed before.
#[derive(Debug, Default)]
pub(crate) struct Printed(Vec<u8>);

impl Printed {
    /// Appends bytes, and returns how many were dropped at the beginning.
    fn push(&mut self, bytes: &[u8]) -> usize {
        self.0.extend_from_slice(bytes);
        // Not at every push, so that each byte is moved once at most.
        if self.0.len() < 2 * KEPT {
            return 0;
        }
        let excess = self.0.len() - KEPT;
        self.0.drain(..excess);
        excess
    }

    fn last(&self) -> &[u8] {
        &self.0[self.0.len().saturating_sub(KEPT)..]
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.last()).into_owned()
    }
}

/// Reads to the end: otherwise a child that prints more would block on a full pipe.
pub(crate) fn keep(mut stderr: ChildStderr, printed: &Mutex<Printed>, log: &Log) {
    let mut chunk = vec![0; KEPT];
    while let Ok(length @ 1..) = read(&mut stderr, &mut chunk) {
        log.write(&chunk[..length]);
        lock(printed).push(&chunk[..length]);
    }
}

/// Searches for the line with `mark`, and then reads to the end.
pub(crate) fn look_for(
    mark: &str,
    mut stdout: ChildStdout,
    printed: &Mutex<Printed>,
    log: &Log,
    errors_ended: &Receiver<()>,
    ready: oneshot::Sender<Result<String, String>>,
) {
    let mut search = Search::new(mark);
    let mut chunk = vec![0; KEPT];
    let answer = loop {
        let left = search.left(Instant::now());
        if left.is_some_and(|left| !more_within(&stdout, left)) {
            break Ok(search.line.text());
        }
        // Output that is already there counts, since this thread may be late.
        let is_last = search.is_overdue(Instant::now());
        match read(&mut stdout, &mut chunk) {
            Ok(length @ 1..) => {
                log.write(&chunk[..length]);
                lock(printed).push(&chunk[..length]);
                if let Some(line) = search.push(&chunk[..length], Instant::now()) {
                    break Ok(line);
                }
                if is_last {
                    break Ok(search.line.text());
                }
            }
            Ok(0) | Err(_) if search.grew.is_some() => break Ok(search.line.text()),
            Ok(0) | Err(_) => {
                // Another thread reads standard error.
                let _ = errors_ended.recv_timeout(REST_WITHIN);
                break Err(lock(printed).text());
            }
        }
    };
    let _ = ready.send(answer.map(|line| line.trim_end().to_owned()));
    while let Ok(length @ 1..) = read(&mut stdout, &mut chunk) {
        log.write(&chunk[..length]);
    }
}

/// The line without a line break until now, and whether the mark is in it.
struct Search<'a> {
    mark: &'a [u8],
    line: Printed,
    /// When the line last grew, if it has the mark.
    grew: Option<Instant>,
    /// When the mark was found.
    marked: Option<Instant>,
}

impl<'a> Search<'a> {
    fn new(mark: &'a str) -> Self {
        Self { mark: mark.as_bytes(), line: Printed::default(), grew: None, marked: None }
    }

    /// How long to wait for more of the line, if it has the mark.
    fn left(&self, now: Instant) -> Option<Duration> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let more = REST_WITHIN.saturating_sub(since(self.grew?));
        Some(more.min(WHOLE_REST_WITHIN.saturating_sub(since(self.marked?))))
    }

    /// Whether the time for the rest of the line is over.
    fn is_overdue(&self, now: Instant) -> bool {
        self.marked.is_some_and(|marked| now.saturating_duration_since(marked) >= WHOLE_REST_WITHIN)
    }

    /// Adds output, and returns the line with the mark if it has its line break.
    fn push(&mut self, mut bytes: &[u8], now: Instant) -> Option<String> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.line.0.is_empty() {
                // Most lines arrive whole.
                if contains(line, self.mark) {
                    self.line.push(line);
                    return Some(self.line.text());
                }
            } else {
                self.append(line, now);
                if self.grew.is_some() {
                    return Some(self.line.text());
                }
                self.line.0.clear();
            }
        }
        if !bytes.is_empty() {
            self.append(bytes, now);
        }
        None
    }

    fn append(&mut self, bytes: &[u8], now: Instant) {
        // The mark may have begun in earlier output.
        let before = self.line.0.len().saturating_sub(self.mark.len().saturating_sub(1));
        let dropped = self.line.push(bytes);
        let news = &self.line.0[before.saturating_sub(dropped)..];
        if self.grew.is_some() || contains(news, self.mark) {
            self.grew = Some(now);
            self.marked.get_or_insert(now);
        }
    }
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    let Some((first, rest)) = mark.split_first() else { return true };
    let mut bytes = bytes;
    while let Some(at) = bytes.iter().position(|byte| byte == first) {
        bytes = &bytes[at + 1..];
        if bytes.starts_with(rest) {
            return true;
        }
    }
    false
}

fn read(pipe: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    loop {
        match pipe.read(chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Whether more output, or its end, arrives within this time.
fn more_within(pipe: impl AsFd, within: Duration) -> bool {
    let within = Timespec::try_from(within).unwrap_or_default();
    // An interruption counts as more output: the read after it waits for the rest of the line.
    !matches!(poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&within)), Ok(0))
}

fn lock(printed: &Mutex<Printed>) -> std::sync::MutexGuard<'_, Printed> {
    printed.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line that is found when `text` arrives in pieces of `length` bytes, and whether it had its line break.
    fn found(mark: &str, text: &str, length: usize) -> Option<(String, bool)> {
        let mut search = Search::new(mark);
        for piece in text.as_bytes().chunks(length) {
            if let Some(line) = search.push(piece, Instant::now()) {
                return Some((line, true));
            }
        }
        search.grew.map(|_| (search.line.text(), false))
    }

    #[test]
    fn a_mark_is_found_in_pieces_of_any_length() {
        let cases = [
            ("two", "one\ntwo: 2\nthree\n", Some(("two: 2", true))),
            ("two", "one two\n", Some(("one two", true))),
            ("aab", "caaab\n", Some(("caaab", true))),
            ("> ", "welcome\nready> ", Some(("ready> ", false))),
            ("", "\nsecond\n", Some(("", true))),
            ("", "fir", Some(("fir", false))),
            ("", "", None),
            ("on\ntw", "one\ntwo\n", None),
            ("twotwo", "two\ntwo", None),
        ];
        for (mark, text, expected) in cases {
            for length in 1..=text.len().max(1) {
                let expected = expected.map(|(line, ended)| (line.to_owned(), ended));
                let found = found(mark, text, length);
                if mark.is_empty() && found.as_ref().is_some_and(|(_, ended)| !ended) {
                    // An empty mark is found in the first piece of a line.
                    continue;
                }
                assert_eq!(found, expected, "{mark:?} in {text:?} by {length}");
            }
        }
    }

    /// The time counted from the mark, so the third piece of a port number was cut off.
    #[test]
    fn a_line_that_still_grows_is_not_cut_off() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut search = Search::new("listening on ");
        assert_eq!(search.push(b"starting", at(0)), None);
        assert_eq!(search.left(at(500)), None, "there is no mark");
        for (millis, piece) in [(500, "\nlistening on 12"), (560, "34"), (659, "56")] {
            assert_eq!(search.push(piece.as_bytes(), at(millis)), None);
            assert_eq!(search.left(at(millis)), Some(REST_WITHIN), "after {piece:?}");
        }
        assert_eq!(search.left(at(758)), Some(Duration::from_millis(1)));
        assert_eq!(search.left(at(759)), Some(Duration::ZERO));
        assert_eq!(search.push(b"78\n", at(759)).as_deref(), Some("listening on 12345678"));
    }

    /// Each dot restarted the time, so a program that prints dots for ever never became ready.
    #[test]
    fn a_line_that_grows_for_ever_has_two_seconds() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut search = Search::new("ready");
        assert_eq!(search.push(b"almost ", at(0)), None);
        assert!(!search.is_overdue(at(60_000)), "there is no mark");
        for millis in (60_000..=62_000).step_by(50) {
            let piece: &[u8] = if millis == 60_000 { b"ready" } else { b"." };
            assert_eq!(search.push(piece, at(millis)), None);
            assert_eq!(search.is_overdue(at(millis)), millis == 62_000);
            let left = REST_WITHIN.min(Duration::from_millis(62_000 - millis));
            assert_eq!(search.left(at(millis)), Some(left), "at {millis} ms");
        }
    }

    #[test]
    fn the_last_64_kib_are_kept() {
        let mut printed = Printed::default();
        let mut all = Vec::new();
        for n in 0..100_000 {
            let piece = format!("{n} ");
            printed.push(piece.as_bytes());
            all.extend_from_slice(piece.as_bytes());
            assert!(printed.0.len() < 2 * KEPT);
        }
        assert_eq!(printed.last(), &all[all.len() - KEPT..]);
    }

    /// Each line moved all the kept bytes, which were 64 KiB.
    #[test]
    fn short_lines_move_the_kept_bytes_once_per_64_kib() {
        let mut printed = Printed::default();
        let lines = 1_000_000;
        let moves = (0..lines).filter(|_| printed.push(b"y\n") > 0).count();
        assert!((1..=2 * lines / KEPT).contains(&moves), "{moves} moves");
    }
}
