//! Values of the app whose destructors may panic.
//!
//! Code of the app runs inside [`catch`] or [`caught`]. A value of the app is kept in a [`Guarded`], so that it is
//! dropped under its own catch: of two destructors that panic in one `Vec`, the second would abort the process.

use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use tokio::time::Instant;

use crate::panics::catch;
use crate::subject::Subject;
use crate::sync::lock;

/// How many panics of destructors are kept for a report; all are logged.
const MANY: usize = 100;

/// Collects the panics of destructors until a report takes them. Clones share the collection.
#[derive(Clone, Default)]
pub(crate) struct Panics {
    seen: Arc<Mutex<Vec<DropPanic>>>,
}

/// A destructor that panicked.
pub(crate) struct DropPanic {
    /// Whose destructor.
    pub(crate) subject: Subject,
    pub(crate) at: Instant,
    pub(crate) message: String,
}

impl Panics {
    pub(crate) fn guard<T>(&self, subject: Subject, value: T) -> Guarded<T> {
        Guarded { value: Some(value), subject, panics: self.clone() }
    }

    /// Runs app code to its end and returns the message of a panic.
    pub(crate) fn caught<F: Future>(
        &self,
        subject: Subject,
        app: F,
    ) -> impl Future<Output = Result<F::Output, String>> + use<F> {
        caught(self.guard(subject, Box::pin(app)))
    }

    /// Drops a value of the app, and collects a panic of its destructor.
    pub(crate) fn discard<T>(&self, subject: &Subject, value: T) {
        drop(self.guard(subject.clone(), value));
    }

    fn add(&self, subject: &Subject, panic: &str) {
        tracing::error!(panic, "a destructor of {subject} panicked");
        let message = format!("in a destructor: {panic}");
        let dropped = DropPanic { subject: subject.clone(), at: Instant::now(), message };
        let mut seen = lock(&self.seen);
        if seen.len() < MANY {
            seen.push(dropped);
        }
    }

    /// The panics since the last call, in order of time.
    pub(crate) fn take(&self) -> Vec<DropPanic> {
        std::mem::take(&mut lock(&self.seen))
    }
}

/// A value of the app. Wherever it is dropped, a panic of its destructor is caught, logged and collected.
pub(crate) struct Guarded<T> {
    /// `None` once it was taken out.
    value: Option<T>,
    subject: Subject,
    panics: Panics,
}

impl<T> Guarded<T> {
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(crate) fn into_inner(mut self) -> T {
        match self.value.take() {
            Some(value) => value,
            None => unreachable!("only this and `drop` take it out"),
        }
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => unreachable!("only `into_inner` and `drop` take it out"),
        }
    }
}

impl<T> DerefMut for Guarded<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.value {
            Some(value) => value,
            None => unreachable!("only `into_inner` and `drop` take it out"),
        }
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        let Err(panic) = catch(|| drop(value)) else { return };
        self.panics.add(&self.subject, &panic);
    }
}

/// Runs app code to its end and returns the message of a panic. The code is dropped under a catch, also when this is
/// dropped half-way.
///
/// Unwind safety: every caller drops what a panic may have left half changed.
pub(crate) async fn caught<F: Future>(mut app: Guarded<Pin<Box<F>>>) -> Result<F::Output, String> {
    poll_fn(|context| match catch(|| app.as_mut().poll(context)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
