//! A frame as lines of a screen.

use std::fmt::Write;

use watchkeeper::report::one_line;

use crate::fit::{age, latency, padded, shortened, truncated, width};
use crate::frame::{Frame, Kind, Row, RowState};

/// Bytes of a name, a value or an error before they are cut to their columns.
const TEXT: usize = 600;

/// The size of a screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many columns a line has.
    pub columns: usize,
    /// How many lines there are.
    pub lines: usize,
}

/// A line, and how it is coloured.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Title,
    Faint,
    Bad,
    Doubtful,
}

/// The lines of a frame: at most [`Size::lines`], each of at most [`Size::columns`], without escape sequences.
///
/// The machine and the freshness of the data come first, then a line a row. If not all rows fit, the worst are shown,
/// and the last line counts the others. In a narrow screen columns are left out: latencies first, then errors, values
/// and ages. Names, values and errors are escaped.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper_console::{Frame, Row, RowState, Size, render};
///
/// let mut frame = Frame { name: "nodes".into(), state: "idle".into(), cycle: Some(7), ..Frame::default() };
/// frame.rows = vec![Row {
///     name: "n1".into(),
///     state: RowState::Failing,
///     age: Some(Duration::from_millis(3_200)),
///     error: Some("connection refused".into()),
///     ..Row::default()
/// }];
/// let lines = render(&frame, Size { columns: 60, lines: 24 });
/// assert_eq!(lines[0], "nodes: idle; no answer yet; cycle 7; shown for 0.0 s");
/// assert_eq!(lines[2], "n1      failing  3.2 s  connection refused");
/// ```
#[must_use]
pub fn render(frame: &Frame, size: Size) -> Vec<String> {
    lines(frame, size).into_iter().map(|line| line.text).collect()
}

pub(crate) fn lines(frame: &Frame, size: Size) -> Vec<Line> {
    let columns = size.columns;
    let mut lines = Vec::new();
    // First, so that the narrowest screen shows it.
    let doubt = match (frame.old, frame.late, frame.was_late) {
        (Some(old), ..) => Some((format!("this frame is {} old", age(old)), Tone::Bad)),
        (_, Some(late), _) => Some((format!("this frame is {} late", age(late)), Tone::Bad)),
        (.., Some((late, ago))) => {
            Some((format!("a frame was {} late, {} ago", age(late), age(ago)), Tone::Doubtful))
        }
        _ => None,
    };
    lines.extend(doubt.map(|(text, tone)| Line { text, tone }));
    let tone = if frame.fresh == Some(false) { Tone::Doubtful } else { Tone::Title };
    lines.push(Line { text: title(frame), tone });
    if let Some(error) = &frame.last_error {
        lines.push(Line { text: format!("last error: {}", one_line(error, TEXT)), tone: Tone::Bad });
    }
    for line in &mut lines {
        line.text = truncated(&line.text, columns);
    }
    let left = size.lines.saturating_sub(lines.len());
    let mut rows: Vec<&Row> = frame.rows.iter().collect();
    let mut rest = None;
    let mut has_header = true;
    if rows.len() + 1 > left {
        rows.sort_by_key(|row| row.state);
        // The worst row comes before the line for what does not fit, and that before the header.
        has_header = left > 2;
        let shown = left.saturating_sub(2).max(1).min(rows.len());
        rest = Some(more(&rows.split_off(shown))).filter(|_| left > 1);
    }
    let layout = Layout::of(frame.kind, &rows, columns);
    if has_header {
        lines.push(Line { text: layout.header(frame.kind), tone: Tone::Faint });
    }
    lines.extend(rows.into_iter().map(|row| Line { text: layout.row(row), tone: tone_of(row.state) }));
    lines.extend(rest.map(|text| Line { text: truncated(&text, columns), tone: Tone::Faint }));
    lines.truncate(size.lines);
    lines
}

fn title(frame: &Frame) -> String {
    let name = one_line(&frame.name, TEXT);
    let mut text = if name.is_empty() { String::new() } else { format!("{name}: ") };
    text.push_str(&one_line(&frame.state, TEXT));
    if frame.failures > 1 {
        _ = write!(text, ", {} consecutive times", frame.failures);
    }
    if frame.paused {
        text.push_str(", paused");
    }
    if frame.kind == Kind::Sources {
        text.push_str("; ");
        match (frame.fresh, frame.age) {
            (Some(fresh), Some(known)) => {
                _ = write!(text, "{}, {} old", if fresh { "fresh" } else { "stale" }, age(known));
            }
            _ => text.push_str("no answer yet"),
        }
    }
    if let Some(generation) = frame.generation.filter(|generation| *generation > 1) {
        _ = write!(text, "; generation {generation}");
    }
    if let Some(cycle) = frame.cycle {
        _ = write!(text, "; cycle {cycle}");
    }
    text + "; shown for " + &age(frame.at)
}

/// `and 976 more: 3 failing, 973 fresh`.
fn more(rows: &[&Row]) -> String {
    let mut counts: Vec<(RowState, usize)> = Vec::new();
    for row in rows {
        match counts.last_mut() {
            Some((state, count)) if *state == row.state => *count += 1,
            _ => counts.push((row.state, 1)),
        }
    }
    let counts: Vec<String> =
        counts.iter().map(|(state, count)| format!("{count} {}", state.word())).collect();
    format!("and {} more: {}", rows.len(), counts.join(", "))
}

fn tone_of(state: RowState) -> Tone {
    match state {
        RowState::Failing | RowState::Stopped => Tone::Bad,
        RowState::Silent | RowState::Stale | RowState::Partial | RowState::Never => Tone::Doubtful,
        RowState::Unknown | RowState::Paused | RowState::Fresh => Tone::Plain,
    }
}

/// The widths of the columns; 0 leaves one out.
struct Layout {
    name: usize,
    state: usize,
    age: usize,
    value: usize,
    bars: usize,
    latency: usize,
    error: usize,
}

const GAP: usize = 2;

impl Layout {
    fn of(kind: Kind, rows: &[&Row], columns: usize) -> Self {
        let widest = |heading: &str, cell: fn(&Row) -> String| {
            let cells = rows.iter().map(|row| width(&cell(row))).max().unwrap_or(0);
            if cells == 0 { 0 } else { cells.max(width(heading)) }
        };
        let [named, _, _, _, _, _] = headings(kind);
        let mut left = columns;
        let mut take = |wanted: usize, least: usize| {
            let gap = if left == columns { 0 } else { GAP };
            let given =
                if wanted == 0 || left < gap + least.min(wanted) { 0 } else { wanted.min(left - gap) };
            left -= if given == 0 { 0 } else { given + gap };
            given
        };
        // In the order in which a narrow screen keeps them.
        let state = widest("state", state);
        let named = widest(named, name);
        let name = take(named.min((columns / 3).max(8)), 4);
        let state = take(state, 5);
        let age = take(widest("age", known), 3);
        let valued = widest("value", value);
        let value = take(valued.min(columns / 4), 5);
        let wanted = widest("last error", error);
        let error = take(wanted.min(24), 10);
        // On a narrow screen it is of no interest how long answers took.
        let has_bars = columns >= 60 && rows.iter().any(|row| !row.latencies.is_empty());
        let bars = take(if has_bars { (columns / 10).clamp(7, 16) } else { 0 }, 7);
        let latency = take(if bars == 0 { 0 } else { widest("took", took) }, 4);
        // What is left goes to what was cut.
        let mut more = |given: usize, wanted: usize| {
            let more = if given == 0 { 0 } else { left.min(wanted.saturating_sub(given)) };
            left -= more;
            given + more
        };
        let error = more(error, wanted);
        let value = more(value, valued);
        let name = more(name, named);
        Self { name, state, age, value, bars, latency, error }
    }

    fn header(&self, kind: Kind) -> String {
        self.line_with(headings(kind).map(str::to_owned), "latency".to_owned())
    }

    fn row(&self, row: &Row) -> String {
        let cells =
            [shortened(&name(row), self.name), state(row), known(row), value(row), took(row), error(row)];
        self.line_with(cells, row.latencies.sparkline(self.bars))
    }

    fn line_with(&self, [name, state, age, value, latency, error]: [String; 6], bars: String) -> String {
        let all = [
            (name, self.name),
            (state, self.state),
            (age, self.age),
            (value, self.value),
            (latency, self.latency),
            (bars, self.bars),
            (error, self.error),
        ];
        let shown: Vec<String> =
            all.iter().filter(|(_, width)| *width > 0).map(|(cell, width)| padded(cell, *width)).collect();
        shown.join(&" ".repeat(GAP)).trim_end().to_owned()
    }
}

fn headings(kind: Kind) -> [&'static str; 6] {
    let named = match kind {
        Kind::Sources => "source",
        Kind::Observations => "observation",
    };
    [named, "state", "age", "value", "took", "last error"]
}

fn name(row: &Row) -> String {
    one_line(&row.name, TEXT)
}

/// A source of which the answer is missed says for how long it was asked.
fn state(row: &Row) -> String {
    let is_missed = matches!(row.state, RowState::Silent | RowState::Stale | RowState::Never);
    match row.in_flight.filter(|_| is_missed) {
        Some(since) => format!("{}, asked {} ago", row.state.word(), age(since)),
        None => row.state.word().to_owned(),
    }
}

fn known(row: &Row) -> String {
    row.age.map_or_else(String::new, age)
}

fn value(row: &Row) -> String {
    let parts: Vec<&str> = [&row.value, &row.activity].into_iter().flatten().map(String::as_str).collect();
    one_line(&parts.join(", "), TEXT)
}

fn took(row: &Row) -> String {
    row.latencies.last().map_or_else(String::new, latency)
}

fn error(row: &Row) -> String {
    row.error.as_deref().map_or_else(String::new, |error| one_line(error, TEXT))
}
