//! Lines with the time since the timeline was made.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use watchkeeper::report::one_line;

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
    /// [`Json`](Self::Json) if it is asked for, else by whether standard output is a terminal.
    #[must_use]
    pub fn of_stdout(json: bool) -> Self {
        match (json, io::stdout().is_terminal()) {
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
    out: Arc<Mutex<Out>>,
    closed: watch::Sender<bool>,
}

struct Out {
    to: Box<dyn Write + Send>,
    /// The last line of a terminal.
    status: String,
    /// Lines are left out while something else draws on the terminal.
    held: bool,
}

/// Nothing is printed while it lives: see [`Lines::hold`].
#[must_use = "dropping it ends the hold"]
pub struct Hold(Lines);

impl Lines {
    /// Prints to standard output. Times count from now.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self::to(io::stdout(), style)
    }

    /// Prints to `out`. Times count from now.
    #[must_use]
    pub fn to(out: impl Write + Send + 'static, style: Style) -> Self {
        let out = Out { to: Box::new(out), status: String::new(), held: false };
        Self {
            began: Instant::now(),
            style,
            kind_width: 8,
            colour: |_| "",
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
        self.line(Instant::now(), kind, text, |_| format_args!("").to_string());
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
        if out.held || line.is_empty() {
            return;
        }
        let whole = match self.style {
            Style::Json | Style::Plain => line + "\n",
            Style::Terminal => {
                let colour = (self.colour)(kind);
                format!("\r\x1b[2K{colour}{line}\x1b[0m\n{}", out.status)
            }
        };
        self.print(&mut out, &whole);
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
        let text = one_line(text, LINE);
        let mut out = self.out();
        out.status = if text.is_empty() { text } else { format!("\x1b[2m{text}\x1b[0m") };
        if !out.held {
            let whole = format!("\r\x1b[2K{}", out.status);
            self.print(&mut out, &whole);
        }
    }

    /// Leaves lines out until the result is dropped, so that a [`Table`](crate::Table) can have the terminal.
    pub fn hold(&self) -> Hold {
        let mut out = self.out();
        if !out.held && !out.status.is_empty() {
            self.print(&mut out, "\r\x1b[2K");
        }
        out.held = true;
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
        if out.to.write_all(whole.as_bytes()).and_then(|()| out.to.flush()).is_err() {
            self.closed.send_replace(true);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.out().held = false;
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
