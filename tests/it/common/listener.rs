//! What the library logs.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Records every line and every span.
#[derive(Clone, Default)]
pub struct Listener {
    pub heard: Arc<Mutex<Heard>>,
    /// Called with each line.
    pub on_line: Option<Arc<dyn Fn(&str) + Send + Sync>>,
    spans: Arc<AtomicU64>,
}

#[derive(Default)]
pub struct Heard {
    pub spans: BTreeMap<u64, String>,
    entered: Vec<u64>,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub level: Level,
    pub text: String,
    pub span: Option<u64>,
}

/// `message field=value ...`
#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Raw, as a subscriber may print it.
        write!(self.0, " {}=\"{value}\"", field.name()).unwrap();
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.insert_str(0, &format!("{value:?}"));
        } else {
            write!(self.0, " {}={value:?}", field.name()).unwrap();
        }
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("watchkeeper")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.spans.fetch_add(1, Ordering::Relaxed) + 1;
        let mut text = Text::default();
        span.record(&mut text);
        self.heard.lock().unwrap().spans.insert(id, format!("{}{}", span.metadata().name(), text.0));
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        if let Some(on_line) = &self.on_line {
            on_line(&text.0);
        }
        let mut heard = self.heard.lock().unwrap();
        let span = heard.entered.last().copied();
        heard.lines.push(Line { level: *event.metadata().level(), text: text.0, span });
    }

    fn enter(&self, span: &Id) {
        self.heard.lock().unwrap().entered.push(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        assert_eq!(self.heard.lock().unwrap().entered.pop(), Some(span.into_u64()));
    }
}

impl Listener {
    /// The lines of `level` that begin with `beginning`.
    pub fn lines(&self, level: Level, beginning: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let lines = heard.lines.iter().filter(|line| line.level == level && line.text.starts_with(beginning));
        lines.map(|line| line.text.clone()).collect()
    }

    pub fn count(&self, level: Level) -> usize {
        self.lines(level, "").len()
    }

    /// The span of each line with this text.
    pub fn spans_of(&self, text: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let lines = heard.lines.iter().filter(|line| line.text == text);
        lines.map(|line| line.span.map_or(String::new(), |span| heard.spans[&span].clone())).collect()
    }
}
