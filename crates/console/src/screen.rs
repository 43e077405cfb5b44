//! Where a table is drawn.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use terminal_size::{Height, Width, terminal_size};

use crate::fit::width;
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
        let text = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        Self::of(
            io::stdout().is_terminal(),
            text("TERM").is_some_and(|term| term == "dumb"),
            text("NO_COLOR").is_some(),
        )
    }

    fn of(is_terminal: bool, is_dumb: bool, no_colour: bool) -> Self {
        if is_terminal && !is_dumb { Self::InPlace { colour: !no_colour } } else { Self::Lines }
    }
}

/// Standard output.
#[derive(Debug)]
pub struct Stdout(io::Stdout);

impl Stdout {
    /// Standard output of this process.
    #[must_use]
    pub fn new() -> Self {
        Self(io::stdout())
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Write for Stdout {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.0.write(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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
/// Each frame is one write. The cursor is never hidden and rests below the table, and colours end with their line: so
/// there is nothing to restore, whatever ends the process.
pub(crate) struct InPlace {
    pub(crate) colour: bool,
    /// The columns that each line of the frame on the screen takes.
    drawn: Vec<usize>,
}

impl InPlace {
    pub(crate) fn new(colour: bool) -> Self {
        Self { colour, drawn: Vec::new() }
    }

    /// What replaces the frame on the screen by `lines`.
    pub(crate) fn over(&mut self, lines: &[Line], size: Size) -> String {
        // A terminal that has become narrower has wrapped the lines on it.
        let columns = size.columns.max(1);
        let up: usize = self.drawn.iter().map(|width| width.div_ceil(columns).max(1)).sum();
        let up = up.min(size.lines.saturating_sub(1));
        let mut frame = String::from("\r");
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
