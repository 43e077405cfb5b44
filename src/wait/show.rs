//! How a report shows the app's values: rendered once, bounded, with panics caught.

use std::fmt::{self, Write as _};

use crate::observer::Observer;
use crate::panics::catch;
use crate::text::render::{End, Rendered, render};
use crate::text::{Form, one_line, prefix};

/// Bytes of a snapshot that are rendered; the rest is neither shown nor compared.
pub(super) const RENDERED: usize = 16 * 1_024;

type RenderSnapshot<S> = fn(&S, &mut dyn fmt::Write) -> fmt::Result;
type ShowSnapshot<'a, S> = Box<dyn Fn(&S) -> String + Send + 'a>;

#[cfg(feature = "json")]
type ShowJson<'a, S> = Box<dyn Fn(&S) -> serde_json::Value + Send + 'a>;

/// How to show snapshots and events.
pub(crate) struct Show<'a, O: Observer> {
    snapshot: How<'a, O::Snapshot>,
    pub(crate) event: Option<fn(&O::Event) -> String>,
}

enum How<'a, S> {
    Nothing,
    Debug(RenderSnapshot<S>),
    By(ShowSnapshot<'a, S>),
    #[cfg(feature = "json")]
    Json(ShowJson<'a, S>),
}

impl<'a, O: Observer> Show<'a, O> {
    pub(crate) fn nothing() -> Self {
        Self { snapshot: How::Nothing, event: None }
    }

    pub(crate) fn debug() -> Self
    where
        O::Snapshot: fmt::Debug,
    {
        // `Debug` ignores the minus flag; `PerSourceSnapshot` reads it as: without ages, which always differ.
        Self { snapshot: How::Debug(|snapshot, out| write!(out, "{snapshot:-#?}")), event: None }
    }

    pub(crate) fn by(show: impl Fn(&O::Snapshot) -> String + Send + 'a) -> Self {
        Self { snapshot: How::By(Box::new(show)), event: None }
    }

    #[cfg(feature = "json")]
    pub(crate) fn json(show: impl Fn(&O::Snapshot) -> serde_json::Value + Send + 'a) -> Self {
        Self { snapshot: How::Json(Box::new(show)), event: None }
    }

    pub(crate) fn events(self, event: Option<fn(&O::Event) -> String>) -> Self {
        Self { event, ..self }
    }

    /// `None` if snapshots cannot be shown. Calls app code, once.
    pub(super) fn show(&self, snapshot: &O::Snapshot) -> Option<RenderedSnapshot> {
        match &self.snapshot {
            How::Nothing => None,
            How::Debug(write) => Some(render(RENDERED, Form::Lines, |out| write(snapshot, out)).into()),
            How::By(show) => Some(match catch(|| show(snapshot)) {
                Ok(shown) => {
                    RenderedSnapshot::from(render(RENDERED, Form::Lines, |out| out.write_str(&shown)))
                        .made_whole()
                }
                Err(panic) => RenderedSnapshot::panicked(&panic),
            }),
            #[cfg(feature = "json")]
            How::Json(show) => Some(match catch(|| show(snapshot)) {
                Ok(json) => RenderedSnapshot::json(json),
                Err(panic) => RenderedSnapshot::panicked(&panic),
            }),
        }
    }
}

/// A rendered snapshot, for the report and for comparison.
#[derive(Clone, Debug)]
pub(super) struct RenderedSnapshot {
    /// At most [`RENDERED`] bytes, escaped, with line breaks.
    pub(super) text: String,
    /// The text was cut.
    pub(super) cut: bool,
    /// More text was made than is kept. `Debug` stops at the cut; an app's own function does not.
    pub(super) is_costly: bool,
    /// A failure or panic while the snapshot was rendered.
    trouble: Option<String>,
    /// The value itself, unless it is too large.
    #[cfg(feature = "json")]
    json: Option<serde_json::Value>,
    #[cfg(feature = "json")]
    is_json: bool,
}

impl From<Rendered> for RenderedSnapshot {
    fn from(Rendered { text, end }: Rendered) -> Self {
        let trouble = match end {
            End::Whole | End::Cut => None,
            End::Failed | End::Panicked(_) => Some(end.to_string()),
        };
        Self {
            text,
            cut: matches!(end, End::Cut),
            is_costly: false,
            trouble,
            #[cfg(feature = "json")]
            json: None,
            #[cfg(feature = "json")]
            is_json: false,
        }
    }
}

impl RenderedSnapshot {
    fn panicked(panic: &str) -> Self {
        let text = format!("(showing it panicked: {})", one_line(panic, 200));
        Rendered { text, end: End::Whole }.into()
    }

    fn made_whole(mut self) -> Self {
        self.is_costly = self.cut;
        self
    }

    #[cfg(feature = "json")]
    fn json(json: serde_json::Value) -> Self {
        let mut seen = Self::from(render(RENDERED, Form::Lines, |out| write!(out, "{json:#}"))).made_whole();
        seen.is_json = true;
        seen.json = Some(json).filter(|_| !seen.cut);
        seen
    }

    /// For a report: the first `limit` bytes, including `indent` for each line, and a count of the rest.
    pub(super) fn within(&self, limit: usize, indent: usize) -> String {
        let (mut room, mut taken) = (limit, 0);
        for line in self.text.split_inclusive('\n') {
            room = room.saturating_sub(indent);
            let part = prefix(line, room);
            taken += part.len();
            room -= part.len();
            if part.len() < line.len() {
                break;
            }
        }
        let mut shown = self.text[..taken].trim_end_matches('\n').to_owned();
        let rest = self.text.len() - taken;
        if rest > 0 || self.cut {
            let than = if self.cut { "more than " } else { "" };
            let _ = write!(shown, " ... ({than}{rest} more bytes)");
        }
        shown.push_str(self.trouble.as_deref().unwrap_or_default());
        shown
    }
}

/// A snapshot as a report shows it.
#[derive(Clone, Debug)]
pub(super) struct ReportedSnapshot {
    pub(super) cycle: u64,
    pub(super) text: String,
    #[cfg(feature = "json")]
    pub(super) json: Option<serde_json::Value>,
    /// The JSON was too large to be kept.
    #[cfg(feature = "json")]
    pub(super) is_too_large: bool,
}

impl ReportedSnapshot {
    pub(super) fn of(cycle: u64, seen: &RenderedSnapshot, limit: usize, indent: usize) -> Self {
        Self {
            cycle,
            text: seen.within(limit, indent),
            #[cfg(feature = "json")]
            json: seen.json.clone(),
            #[cfg(feature = "json")]
            is_too_large: seen.is_json && seen.json.is_none(),
        }
    }
}
