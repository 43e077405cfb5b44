//! A table for a pipe: a line when something has changed.

use std::collections::HashMap;
use std::fmt::Write;

use crate::frame::{Frame, Kind, Row, RowState};

/// What was printed of each row and of the machine. Ages and latencies change all the time, and are no news.
#[derive(Default)]
pub(crate) struct Printed {
    machine: Option<String>,
    rows: HashMap<String, String>,
}

impl Printed {
    /// The lines of what has changed, as kind and text: the machine's first.
    pub(crate) fn news(&mut self, frame: &Frame) -> Vec<(&'static str, String)> {
        let mut news = Vec::new();
        let machine = machine(frame);
        if self.machine.as_ref() != Some(&machine) {
            news.push(("state", machine.clone()));
            self.machine = Some(machine);
        }
        let kind = match frame.kind {
            Kind::Sources => "source",
            Kind::Observations => "observed",
        };
        let mut now = HashMap::with_capacity(frame.rows.len());
        for row in &frame.rows {
            let text = text(row);
            if self.rows.get(&row.name) != Some(&text) {
                news.push((kind, text.clone()));
            }
            now.insert(row.name.clone(), text);
        }
        let mut left: Vec<&String> = self.rows.keys().filter(|name| !now.contains_key(*name)).collect();
        left.sort_unstable();
        news.extend(left.into_iter().map(|name| (kind, format!("{name} has left"))));
        self.rows = now;
        news
    }
}

/// A machine that refreshes, polls and waits does one thing: it observes. One that has failed and tries again is
/// failing until it succeeds.
fn machine(frame: &Frame) -> String {
    let name = if frame.name.is_empty() { String::new() } else { format!("{} is ", frame.name) };
    let works = ["refreshing", "polling", "idle"].contains(&frame.state.as_str());
    let has_ended = frame.state.starts_with("stopped");
    let mut text = name
        + match () {
            () if frame.last_error.is_some() && !has_ended => "failing",
            () if works => "observing",
            () => &frame.state,
        };
    if frame.paused {
        text.push_str(", paused");
    }
    if let Some(generation) = frame.generation.filter(|generation| *generation > 1) {
        _ = write!(text, ", generation {generation}");
    }
    if frame.fresh == Some(false) {
        text.push_str(", stale");
    }
    if let Some(error) = &frame.last_error {
        _ = write!(text, ": {error}");
    }
    text
}

fn text(row: &Row) -> String {
    let mut text = format!("{} is {}", row.name, row.state.word());
    if row.state == RowState::Never {
        text = format!("{} has not answered", row.name);
    }
    // What a source said before it fell silent is no news.
    let is_shown =
        matches!(row.state, RowState::Fresh | RowState::Unknown | RowState::Partial | RowState::Paused);
    if let Some(value) = row.value.as_ref().filter(|_| is_shown) {
        _ = write!(text, ": {value}");
    }
    if let Some(error) = &row.error {
        _ = write!(text, ": {error}");
    }
    text
}
