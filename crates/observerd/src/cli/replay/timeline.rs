//! Records as lines for a person.

use serde_json::Value;
use watchkeeper::report::names;
use watchkeeper_journal::Gap;

use super::changes::changes;
use super::item::{Item, ItemKind};
use super::publication::{Lost, Publication, RunState, Success, duration, words};

/// What is known of a run so far: lines say what has changed.
#[derive(Default)]
pub(super) struct Timeline {
    instance: Option<u128>,
    state: Option<RunState>,
    paused: bool,
    sources: Vec<String>,
    value: Option<Value>,
}

impl Timeline {
    /// The lines of a record, after a gap.
    pub(super) fn items<'a>(&self, gap: Option<&Gap>, publication: &'a Publication) -> Vec<Item<'a>> {
        let mut items = Vec::new();
        if let Some(gap) = gap {
            items.push(Item::new(ItemKind::Gaps, gap.to_string()));
        }
        if let Some(lost) = &publication.lost {
            items.push(Item::new(ItemKind::Gaps, lost_text(lost)));
        }
        if publication.kind == "start" {
            items.push(Item::new(ItemKind::Starts, self.start(publication)));
        }
        let is_another = self.is_another(publication);
        if let Some(sources) = &publication.sources
            && (is_another || *sources != self.sources)
        {
            items.push(Item::new(ItemKind::Sources, self.sources(sources, is_another)));
        }
        if let Some(success) = &publication.success {
            items.push(self.success(success, is_another));
            items.extend(success.events.iter().map(|event| Item::new(ItemKind::Events, event.to_string())));
        }
        if let Some(failure) = &publication.failure {
            let (stage, cause) = (words(&failure.stage), words(&failure.cause));
            let then = if failure.rebuild { "; the state is lost" } else { "" };
            let (took, message) = (duration(failure.took_ns), &failure.message);
            let text = format!("{stage} failed ({cause}) after {took}{then}: {message}");
            items.push(Item::new(ItemKind::Failures, text));
        }
        items.extend(self.transition(publication, is_another));
        items
    }

    /// Continues after a record.
    pub(super) fn apply(&mut self, publication: Publication) {
        if self.is_another(&publication) {
            *self = Self::default();
        }
        self.instance = publication.instance();
        self.state = Some(publication.state);
        self.paused = publication.paused;
        self.sources = publication.sources.unwrap_or_else(|| std::mem::take(&mut self.sources));
        if let Some(success) = publication.success {
            self.value = Some(success.value);
        }
    }

    fn is_another(&self, publication: &Publication) -> bool {
        self.instance != publication.instance()
    }

    fn start(&self, publication: &Publication) -> String {
        let what = match self.instance {
            None => "the record begins",
            Some(_) if self.is_another(publication) => "another run begins",
            Some(_) => "another process resumes the run",
        };
        let run = publication.run.as_ref().map(|run| {
            let name = run.name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
            format!(": observation{name}, every {}", duration(run.interval_ns))
        });
        format!("{what}{}; {}", run.unwrap_or_default(), publication.state)
    }

    fn sources(&self, sources: &[String], is_another: bool) -> String {
        let none = Vec::new();
        let before = if is_another { &none } else { &self.sources };
        let only = |these: &[String], others: &[String]| {
            let others: std::collections::HashSet<&String> = others.iter().collect();
            let those: Vec<&str> =
                these.iter().filter(|name| !others.contains(name)).map(String::as_str).collect();
            (!those.is_empty()).then(|| names(those, 200))
        };
        let (joined, left) = (only(sources, before), only(before, sources));
        let joined = joined.filter(|_| !before.is_empty()).map(|joined| format!("joined: {joined}"));
        let all = names(sources.iter().map(String::as_str), 200);
        let parts = [Some(all), joined, left.map(|left| format!("left: {left}"))];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    fn success<'a>(&self, success: &'a Success, is_another: bool) -> Item<'a> {
        let Success { generation, took_ns, is_polled, value, .. } = success;
        let known = self.value.as_ref().filter(|_| !is_another);
        let what = known.map_or_else(|| value.to_string(), |known| changes(known, value));
        let init =
            if *is_polled { String::new() } else { format!("initial state of generation {generation}, ") };
        let text = format!("{init}took {}: {what}", duration(*took_ns));
        Item { kind: ItemKind::Successes, text, value: Some(value) }
    }

    fn transition(&self, publication: &Publication, is_another: bool) -> Option<Item<'static>> {
        if let RunState::Stopped { reason } = &publication.state {
            return Some(Item::new(ItemKind::Stops, words(reason)));
        }
        // The record's begin has the state.
        let state = self.state.as_ref().filter(|_| !is_another)?;
        let paused = match (self.paused, publication.paused) {
            (false, true) => Some("paused"),
            (true, false) => Some("resumed"),
            _ => None,
        };
        let moved = (*state != publication.state).then(|| format!("{state} -> {}", publication.state));
        let text = match (moved, paused) {
            (Some(moved), Some(paused)) => format!("{moved}, {paused}"),
            (Some(moved), None) => moved,
            (None, Some(paused)) => paused.to_owned(),
            (None, None) => return None,
        };
        Some(Item::new(ItemKind::Transitions, text))
    }
}

fn lost_text(lost: &Lost) -> String {
    let Lost { publications, batches, events, why } = lost;
    format!("{publications} publications, {batches} batches and {events} events were lost before this: {why}")
}

impl ItemKind {
    /// What a line of this kind is called.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Starts => "start",
            Self::Successes => "success",
            Self::Events => "event",
            Self::Failures => "failure",
            Self::Sources => "sources",
            Self::Transitions => "state",
            Self::Stops => "stop",
            Self::Gaps => "gap",
        }
    }
}
