//! An observer of any type, watched by its snapshots.

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::Arc;

use watchkeeper::wait::{Invariant, Verdict};
use watchkeeper::{ObservationHandle, Observer};

type Predicate = Box<dyn FnMut(&dyn Any) -> Verdict + Send>;
type Watch = dyn Fn(&str, Predicate) -> Invariant + Send + Sync;

/// An observer whose type is erased, except for the type of its snapshots.
#[derive(Clone)]
pub(crate) struct AnyWatched {
    snapshot: (TypeId, &'static str),
    watch: Arc<Watch>,
}

impl AnyWatched {
    pub(crate) fn new<O: Observer<Snapshot: fmt::Debug>>(handle: ObservationHandle<O>) -> Self {
        let watch = move |label: &str, mut predicate: Predicate| {
            handle.invariant(label, move |snapshot: &O::Snapshot| predicate(snapshot))
        };
        Self { snapshot: (TypeId::of::<O::Snapshot>(), type_name::<O::Snapshot>()), watch: Arc::new(watch) }
    }

    /// Begins to watch that `predicate` holds. If the snapshots are of another type, returns the name of that type.
    pub(crate) fn watch<S, R>(
        &self,
        label: &str,
        mut predicate: impl FnMut(&S) -> R + Send + 'static,
    ) -> Result<Invariant, &'static str>
    where
        S: 'static,
        R: Into<Verdict>,
    {
        let (id, is) = self.snapshot;
        if id != TypeId::of::<S>() {
            return Err(is);
        }
        let predicate = move |snapshot: &dyn Any| match snapshot.downcast_ref() {
            Some(snapshot) => predicate(snapshot).into(),
            None => unreachable!("the type was compared"),
        };
        Ok((self.watch)(label, Box::new(predicate)))
    }
}
