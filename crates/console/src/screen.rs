//! Where a table is drawn.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use terminal_size::{Height, Width, terminal_size};

use crate::fit::{truncated, width};
use crate::render::{Line, Size, Tone};

/// A terminal, or something that stands for one.
pub trait Screen: Write + Send + 'static {
    /// Its size now. A table asks before each frame.
    fn size(&self) -> Size;
}

/// How a table is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// In place, on a terminal.
    InPlace {
        /// Whether lines are coloured.
        colour: bool,
    },
    /// One plain line when something has changed.
    Lines,
}

impl Look {
    /// In place if standard output is a terminal that can move its cursor; in colour unless `NO_COLOR` is set.
    #[must_use]
    pub fn of_stdout() -> Self {
        Self::of(io::stdout().is_terminal(), is_dumb(), no_colour())
    }

    fn of(is_terminal: bool, is_dumb: bool, no_colour: bool) -> Self {
        if is_terminal && !is_dumb { Self::InPlace { colour: !no_colour } } else { Self::Lines }
    }
}

/// Whether the terminal cannot move its cursor.
pub(crate) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether the user wants no colour.
pub(crate) fn no_colour() -> bool {
    env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Standard output.
///
/// On Unix it is written past the lock and the buffer of [`std::io::stdout`]: a write that never returns keeps nobody
/// else waiting, and a frame is one write.
#[derive(Debug)]
pub struct Stdout {
    #[cfg(unix)]
    own: Option<std::fs::File>,
    shared: io::Stdout,
}

impl Stdout {
    /// Standard output of this process. What its buffer holds is written first.
    #[must_use]
    pub fn new() -> Self {
        let mut shared = io::stdout();
        let _ = shared.flush();
        Self {
            #[cfg(unix)]
            own: std::os::fd::AsFd::as_fd(&shared).try_clone_to_owned().ok().map(std::fs::File::from),
            shared,
        }
    }

    fn to(&mut self) -> &mut dyn Write {
        #[cfg(unix)]
        if let Some(own) = &mut self.own {
            return own;
        }
        &mut self.shared
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Stdout {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.to().write(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to().flush()
    }
}

/// 80 columns and 24 lines where the terminal says nothing.
impl Screen for Stdout {
    fn size(&self) -> Size {
        match terminal_size() {
            Some((Width(columns), Height(lines))) if columns > 0 && lines > 0 => {
                Size { columns: columns.into(), lines: lines.into() }
            }
            _ => Size { columns: 80, lines: 24 },
        }
    }
}

/// Draws frames over each other.
///
/// Each frame is one buffer. The cursor is never hidden and rests below the table, and colours end with their line: so
/// there is nothing to restore, whatever ends the process.
pub(crate) struct InPlace {
    pub(crate) colour: bool,
    /// The columns that each line of the frame on the screen takes.
    drawn: Vec<usize>,
    /// How many lines of older frames a low screen has pushed out of reach: a higher one may show them again.
    lost: usize,
    /// The height of the last frame's screen.
    height: usize,
    /// A line to be left above the next frame, which begins where the cursor is.
    below: Option<String>,
}

impl InPlace {
    pub(crate) fn new(colour: bool) -> Self {
        Self { colour, drawn: Vec::new(), lost: 0, height: 0, below: None }
    }

    /// The next frame replaces nothing: it begins below `line`.
    pub(crate) fn begin_below(&mut self, line: &str) {
        self.below = Some(line.to_owned());
    }

    /// What replaces the frame on the screen by `lines`.
    pub(crate) fn over(&mut self, lines: &[Line], size: Size) -> String {
        let mut frame = String::from("\r");
        if let Some(line) = self.below.take() {
            (self.drawn, self.lost) = (Vec::new(), 0);
            _ = writeln!(frame, "\x1b[2K{}", truncated(&line, size.columns.saturating_sub(1)));
        }
        let up = self.up(size);
        if up > 0 {
            _ = write!(frame, "\x1b[{up}A");
        }
        for Line { text, tone } in lines {
            frame.push_str("\x1b[2K");
            match self.colour.then(|| sequence(*tone)).flatten() {
                Some(sequence) => _ = write!(frame, "{sequence}{text}\x1b[0m"),
                None => frame.push_str(text),
            }
            frame.push('\n');
        }
        frame.push_str("\x1b[J");
        self.drawn = lines.iter().map(|line| width(&line.text)).collect();
        frame
    }

    /// How far the cursor goes up: over the last frame, and over what a screen that has grown shows again.
    fn up(&mut self, size: Size) -> usize {
        // A terminal that has become narrower has wrapped the lines on it.
        let columns = size.columns.max(1);
        let wanted: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        let grown = size.lines.saturating_sub(self.height).min(self.lost);
        self.height = size.lines;
        let up = (wanted + grown).min(size.lines.saturating_sub(1));
        self.lost = (self.lost + wanted).saturating_sub(up);
        up
    }
}

fn sequence(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Title => Some("\x1b[1m"),
        Tone::Faint => Some("\x1b[2m"),
        Tone::Bad => Some("\x1b[31m"),
        Tone::Doubtful => Some("\x1b[33m"),
    }
}

/// The part of a screen that a frame may take: a line that fills the last column would wrap, and the cursor needs a
/// line below.
pub(crate) fn inner(size: Size) -> Size {
    Size { columns: size.columns.saturating_sub(1), lines: size.lines.saturating_sub(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_can_is_drawn_in_place() {
        assert_eq!(Look::of(true, false, false), Look::InPlace { colour: true });
        assert_eq!(Look::of(true, false, true), Look::InPlace { colour: false });
        assert_eq!(Look::of(true, true, false), Look::Lines);
        assert_eq!(Look::of(false, false, false), Look::Lines);
    }

    #[test]
    fn a_frame_replaces_the_one_before_also_when_that_was_wrapped() {
        let line = |text: &str, tone| Line { text: text.to_owned(), tone };
        let wide = Size { columns: 20, lines: 10 };
        let mut screen = InPlace::new(true);
        let two = [line("0123456789", Tone::Bad), line("節", Tone::Plain)];
        assert_eq!(screen.over(&two, wide), "\r\x1b[2K\x1b[31m0123456789\x1b[0m\n\x1b[2K節\n\x1b[J");
        assert!(screen.over(&two, wide).starts_with("\r\x1b[2A\x1b[2K"));
        let narrow = Size { columns: 4, lines: 10 };
        assert!(
            screen.over(&[line("a", Tone::Plain)], narrow).starts_with("\r\x1b[4A\x1b[2Ka\n\x1b[J"),
            "3 + 1 lines"
        );
        let low = Size { columns: 1, lines: 3 };
        screen.over(&two, wide);
        assert!(screen.over(&two, low).starts_with("\r\x1b[2A"), "no further than the screen is high");
        assert!(!InPlace::new(false).over(&two, wide).contains("\x1b[31m"));
    }
}
