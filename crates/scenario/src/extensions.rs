//! Values that a run carries, distinguished by type.

use std::any::{Any, TypeId, type_name};
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use crate::guarded::{Guarded, Panics};
use crate::subject::Subject;
use crate::sync::lock;
use crate::text::listed;
use watchkeeper::report::debug_as_text;

type Value = Arc<dyn Any + Send + Sync>;

/// At most one value of each type, in the order of insertion.
pub(crate) struct Extensions {
    held: Mutex<ExtensionSlots>,
    panics: Panics,
}

#[derive(Default)]
struct ExtensionSlots {
    values: Vec<(TypeId, &'static str, Guarded<Value>)>,
    over: bool,
}

/// Why an extension was not added or not found.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// There is no extension of this type.
    #[error(
        "there is no extension of type {wanted}; there are: {}. Add it with `with_extension`, or in a factory",
        listed(there)
    )]
    Missing {
        /// The type that was asked for.
        wanted: &'static str,
        /// The types of the extensions.
        there: Vec<&'static str>,
    },
    /// There already is one of this type.
    #[error("there is an extension of type {type_name} already: wrap one of them in its own type")]
    Duplicate {
        /// The type.
        type_name: &'static str,
    },
    /// The run is over, and nothing can be added.
    #[error("the run is over: add the extension of type {type_name} while it lasts, best in a factory")]
    Over {
        /// The type.
        type_name: &'static str,
    },
}

debug_as_text!(ExtensionError);

impl Extensions {
    pub(crate) fn new(panics: &Panics) -> Self {
        Self { held: Mutex::default(), panics: panics.clone() }
    }

    pub(crate) fn insert<T: Send + Sync + 'static>(&self, value: T) -> Result<Arc<T>, ExtensionError> {
        let type_name = type_name::<T>();
        let first = Arc::new(value);
        let shared: Value = first.clone();
        let guarded = self.panics.guard(Subject::Extension(type_name.to_owned()), shared);
        // A refused value is dropped after the lock and under the guard: dropped last, so declared first.
        let value = first;
        let mut held = lock(&self.held);
        if held.over {
            return Err(ExtensionError::Over { type_name });
        }
        if held.values.iter().any(|(id, ..)| *id == TypeId::of::<T>()) {
            return Err(ExtensionError::Duplicate { type_name });
        }
        held.values.push((TypeId::of::<T>(), type_name, guarded));
        Ok(value)
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let value = {
            let held = lock(&self.held);
            held.values.iter().find(|(id, ..)| *id == TypeId::of::<T>())?.2.deref().clone()
        };
        value.downcast().ok()
    }

    pub(crate) fn require<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ExtensionError> {
        self.get().ok_or_else(|| {
            let there = lock(&self.held).values.iter().map(|(_, name, _)| *name).collect();
            ExtensionError::Missing { wanted: type_name::<T>(), there }
        })
    }

    /// Drops all, the newest first, since it may use an older one. Nothing can be added after that.
    pub(crate) fn release(&self) {
        let values = {
            let mut held = lock(&self.held);
            held.over = true;
            std::mem::take(&mut held.values)
        };
        values.into_iter().rev().for_each(drop);
    }
}
