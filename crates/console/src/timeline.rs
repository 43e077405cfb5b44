//! Lines with the time since the timeline was made.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use terminal_size::{Width, terminal_size};
use tokio::sync::watch;
use tokio::time::Instant;
use watchkeeper::report::one_line;

use crate::fit::truncated;
use crate::screen::{is_dumb, no_colour};

/// Bytes of one line of text; what is cut is counted.
const LINE: usize = 4_096;

/// The format, by its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A person at a terminal: lines are coloured, and the last one is a [status](Lines::status).
    Terminal,
    /// A file or a pipe.
    Plain,
    /// A program: one JSON object per line.
    Json,
}

impl Style {
    /// [`Json`](Self::Json) if it is asked for, else by whether standard output is a terminal that can move its cursor.
    #[must_use]
    pub fn of_stdout(json: bool) -> Self {
        match (json, io::stdout().is_terminal() && !is_dumb()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal,
            (false, false) => Self::Plain,
        }
    }
}

/// Prints lines, each whole and flushed, with the time since it was made, on tokio's clock.
///
/// What is printed is escaped and bounded, so that a name or an error from outside forges no line. A text of several
/// lines goes on below its first one. When a line cannot be written, because nobody reads the pipe any more, nothing
/// fails: [`closed`](Self::closed) returns. Clones print to the same place.
///
/// # Examples
///
/// ```
/// use watchkeeper_console::{Style, Lines};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let (read, write) = std::io::pipe().unwrap();
/// let lines = Lines::to(write, Style::Plain).kind_width(7);
/// tokio::time::advance(std::time::Duration::from_millis(1_250)).await;
/// lines.text("step", "starting 3 nodes");
/// lines.text("node", "n1 says \u{1b}[2J");
/// drop(lines);
/// assert_eq!(
///     std::io::read_to_string(read).unwrap(),
///     "   1.250s  step    starting 3 nodes\n   1.250s  node    n1 says \\u{1b}[2J\n",
/// );
/// # }
/// ```
#[derive(Clone)]
pub struct Lines {
    began: Instant,
    style: Style,
    kind_width: usize,
    colour: fn(&str) -> &'static str,
    is_coloured: bool,
    /// The width of the terminal, if it has one.
    columns: fn() -> Option<usize>,
    out: Arc<Mutex<Out>>,
    closed: watch::Sender<bool>,
}

struct Out {
    to: Box<dyn Write + Send>,
    /// The last line of a terminal.
    status: String,
    /// Lines wait while something else draws on the terminal.
    holds: usize,
    /// The newest of them.
    held: VecDeque<String>,
    /// How many there were before those.
    earlier: usize,
    /// Why the first line could not be written.
    error: Option<io::Error>,
}

/// How many lines are printed after a hold.
const HELD: usize = 20;

/// Nothing is printed while it lives: see [`Lines::hold`].
#[must_use = "dropping it ends the hold"]
pub struct Hold(Lines);

impl Lines {
    /// Prints to standard output. Times count from now. `NO_COLOR` is respected.
    #[must_use]
    pub fn new(style: Style) -> Self {
        let columns = || terminal_size().map(|(Width(columns), _)| columns.into());
        Self { is_coloured: !no_colour(), columns, ..Self::to(io::stdout(), style) }
    }

    /// Prints to `out`. Times count from now.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static, style: Style) -> Self {
        let out = Out {
            to: Box::new(out),
            status: String::new(),
            holds: 0,
            held: VecDeque::new(),
            earlier: 0,
            error: None,
        };
        Self {
            began: Instant::now(),
            style,
            kind_width: 8,
            colour: |_| "",
            is_coloured: true,
            columns: || None,
            out: Arc::new(Mutex::new(out)),
            closed: watch::Sender::new(false),
        }
    }

    /// Sets the width of the column of kinds. Default: 8.
    #[must_use]
    pub fn kind_width(self, kind_width: usize) -> Self {
        Self { kind_width, ..self }
    }

    /// Sets the colour of each kind of line in a terminal, as the escape sequence that begins it. Default: none.
    #[must_use]
    pub fn colours(self, colour: fn(&str) -> &'static str) -> Self {
        Self { colour, ..self }
    }

    /// The format.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style
    }

    /// Prints a line of now, as text in any style but [`Style::Json`], which is for [`line`](Self::line).
    pub fn text(&self, kind: &str, text: &str) {
        self.line(Instant::now(), kind, text, |_| "");
    }

    /// Prints a line of the moment `at`. In [`Style::Json`] it is what `json` returns, which gets the seconds since
    /// the start, in thousandths; nothing is printed if that is empty.
    pub fn line<J: Display>(&self, at: Instant, kind: &str, text: &str, json: impl FnOnce(f64) -> J) {
        let at = at.saturating_duration_since(self.began).as_secs_f64();
        // The app's code runs outside of the lock.
        let line = match self.style {
            Style::Json => json((at * 1_000.0).round() / 1_000.0).to_string(),
            Style::Plain | Style::Terminal => self.shown(at, kind, text),
        };
        let mut out = self.out();
        if line.is_empty() {
            return;
        }
        let whole = match self.style {
            Style::Json | Style::Plain => line + "\n",
            Style::Terminal => {
                let (colour, end) =
                    if self.is_coloured { ((self.colour)(kind), "\x1b[0m") } else { ("", "") };
                format!("{colour}{line}{end}\n")
            }
        };
        if out.holds == 0 {
            self.above_status(&mut out, &whole);
        } else {
            out.hold(whole);
        }
    }

    /// Prints whole lines; on a terminal the status stays below them.
    fn above_status(&self, out: &mut Out, lines: &str) {
        let whole = match self.style {
            Style::Json | Style::Plain => lines.to_owned(),
            Style::Terminal => format!("\r\x1b[2K{lines}{}", self.status_of(out)),
        };
        self.print(out, &whole);
    }

    /// A text as one line, or as several of which all but the first are indented.
    fn shown(&self, at: f64, kind: &str, text: &str) -> String {
        let (kind, width) = (one_line(kind, LINE), self.kind_width);
        let mut lines = text.lines().map(|line| one_line(line, LINE));
        let first = format!("{at:8.3}s  {kind:<width$} {}", lines.next().unwrap_or_default());
        let indent = 11 + width;
        lines.fold(first.trim_end().to_owned(), |text, line| format!("{text}\n{:indent$}{line}", ""))
    }

    /// Replaces the last line of a terminal, which stays below all others; an empty text removes it. In other styles
    /// nothing is printed.
    pub fn status(&self, text: &str) {
        if self.style != Style::Terminal {
            return;
        }
        let mut out = self.out();
        out.status = one_line(text, LINE);
        if out.holds == 0 {
            let whole = format!("\r\x1b[2K{}", self.status_of(&out));
            self.print(&mut out, &whole);
        }
    }

    /// A line that is wrapped could not be rewritten.
    fn status_of(&self, out: &Out) -> String {
        let columns = (self.columns)().map_or(usize::MAX, |columns| columns.saturating_sub(1));
        let text = truncated(&out.status, columns);
        if text.is_empty() || !self.is_coloured { text } else { format!("\x1b[2m{text}\x1b[0m") }
    }

    /// Holds lines back until the result, and each other one, is dropped, so that a [`Table`](crate::Table) can have the
    /// terminal. Then the newest 20 of them are printed below a line that says how many others were left out (`left_out` in
    /// [`Style::Json`]), and the status is there again.
    pub fn hold(&self) -> Hold {
        let mut out = self.out();
        if out.holds == 0 && !out.status.is_empty() {
            self.print(&mut out, "\r\x1b[2K");
        }
        out.holds += 1;
        drop(out);
        Hold(self.clone())
    }

    /// Waits until a line cannot be written any more: nobody reads the pipe, or the disk is full.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn closed(&self) {
        // The sender lives in `self`.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Whether a line could not be written: all later ones are lost too, and those before were written.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes at once, so that the line is there even if the process is killed.
    fn print(&self, out: &mut Out, whole: &str) {
        if let Err(error) = out.to.write_all(whole.as_bytes()).and_then(|()| out.to.flush()) {
            out.error.get_or_insert(error);
            self.closed.send_replace(true);
        }
    }

    /// Why the first line that was lost could not be written; the next call has none.
    pub(crate) fn error(&self) -> io::Result<()> {
        self.out().error.take().map_or(Ok(()), Err)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut out = self.0.out();
        out.holds -= 1;
        if out.holds > 0 {
            return;
        }
        let held = out.take_held(self.0.style);
        if !held.is_empty() || !out.status.is_empty() {
            self.0.above_status(&mut out, &held);
        }
    }
}

impl Out {
    fn hold(&mut self, line: String) {
        if self.held.len() == HELD {
            self.held.pop_front();
            self.earlier += 1;
        }
        self.held.push_back(line);
    }

    fn take_held(&mut self, style: Style) -> String {
        let held: String = std::mem::take(&mut self.held).into_iter().collect();
        match (std::mem::take(&mut self.earlier), style) {
            (0, _) => held,
            (earlier, Style::Json) => format!("{{\"left_out\":{earlier}}}\n{held}"),
            (earlier, _) => format!("... {earlier} earlier lines were left out\n{held}"),
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("style", &self.style).finish_non_exhaustive()
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_status_fits_the_terminal_and_has_no_colour_where_none_is_wanted() {
        let (mut read, write) = io::pipe().unwrap();
        let lines = Lines::to(write, Style::Terminal).colours(|_| "\x1b[36m");
        let narrow = Lines { columns: || Some(8), ..lines.clone() };
        narrow.status("polling, cycle 3");
        let plain = Lines { is_coloured: false, ..lines };
        plain.text("node", "up");
        drop((narrow, plain));
        let mut printed = String::new();
        io::Read::read_to_string(&mut read, &mut printed).unwrap();
        let narrow = "\r\x1b[2K\x1b[2mpollin…\x1b[0m";
        let plain = "\r\x1b[2K   0.000s  node     up\npolling, cycle 3";
        let at = plain.find("0.000").unwrap();
        assert_eq!(printed[..narrow.len()], *narrow);
        assert_eq!(printed[narrow.len()..][..at], plain[..at]);
        assert_eq!(printed[narrow.len()..][at + 5..], plain[at + 5..]);
    }
}
