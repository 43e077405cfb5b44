//! How a report shows what the app owns.

use std::fmt;

use crate::observer::Observer;

type ShowSnapshot<'a, O> = Box<dyn Fn(&<O as Observer>::Snapshot) -> String + Send + 'a>;

#[cfg(feature = "json")]
type ShowJson<'a, O> = Box<dyn Fn(&<O as Observer>::Snapshot) -> serde_json::Value + Send + 'a>;

/// What is known of how to show things.
pub(crate) struct Show<'a, O: Observer> {
    snapshot: Option<ShowSnapshot<'a, O>>,
    #[cfg(feature = "json")]
    json: Option<ShowJson<'a, O>>,
    pub(crate) event: Option<fn(&O::Event) -> String>,
}

impl<'a, O: Observer> Show<'a, O> {
    pub(crate) fn nothing() -> Self {
        Self {
            snapshot: None,
            #[cfg(feature = "json")]
            json: None,
            event: None,
        }
    }

    pub(crate) fn debug() -> Self
    where
        O::Snapshot: fmt::Debug,
    {
        Self::by(|snapshot| format!("{snapshot:#?}"))
    }

    pub(crate) fn by(show: impl Fn(&O::Snapshot) -> String + Send + 'a) -> Self {
        Self { snapshot: Some(Box::new(show)), ..Self::nothing() }
    }

    #[cfg(feature = "json")]
    pub(crate) fn json(show: impl Fn(&O::Snapshot) -> serde_json::Value + Send + 'a) -> Self {
        Self { json: Some(Box::new(show)), ..Self::nothing() }
    }

    pub(crate) fn events(self, event: Option<fn(&O::Event) -> String>) -> Self {
        Self { event, ..self }
    }

    pub(crate) fn show(&self, cycle: u64, snapshot: &O::Snapshot) -> Option<Shown> {
        #[cfg(feature = "json")]
        if let Some(show) = &self.json {
            let json = show(snapshot);
            return Some(Shown { cycle, text: format!("{json:#}"), json: Some(json) });
        }
        let show = self.snapshot.as_ref()?;
        Some(Shown {
            cycle,
            text: show(snapshot),
            #[cfg(feature = "json")]
            json: None,
        })
    }
}

/// A snapshot as a report shows it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) cycle: u64,
    pub(crate) text: String,
    #[cfg(feature = "json")]
    pub(crate) json: Option<serde_json::Value>,
}
