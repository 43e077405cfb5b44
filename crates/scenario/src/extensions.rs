//! Values that a run carries, told apart by type.

use std::any::{Any, TypeId, type_name};
use std::sync::{Arc, Mutex};

use crate::panics::discard;
use crate::sync::lock;
use crate::text::listed;

type Value = Arc<dyn Any + Send + Sync>;

/// At most one value of a type, in the order they came.
#[derive(Default)]
pub(crate) struct Extensions {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    values: Vec<(TypeId, &'static str, Value)>,
    over: bool,
}

/// Why an extension was not added or not found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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
        /// The types there are.
        there: Vec<&'static str>,
    },
    /// There is one of this type already.
    #[error("there is an extension of type {type_name} already: wrap one of them in a type of its own")]
    Duplicate {
        /// The type.
        type_name: &'static str,
    },
    /// The run is over, and takes nothing in any more.
    #[error("the run is over: an extension of type {type_name} can no longer be added")]
    Over {
        /// The type.
        type_name: &'static str,
    },
}

impl Extensions {
    pub(crate) fn insert<T: Send + Sync + 'static>(&self, value: T) -> Result<Arc<T>, ExtensionError> {
        let type_name = type_name::<T>();
        let value = Arc::new(value);
        // A value that is refused is dropped behind the lock: its destructor is app code.
        let mut held = lock(&self.held);
        if held.over {
            return Err(ExtensionError::Over { type_name });
        }
        if held.values.iter().any(|(id, ..)| *id == TypeId::of::<T>()) {
            return Err(ExtensionError::Duplicate { type_name });
        }
        held.values.push((TypeId::of::<T>(), type_name, value.clone()));
        Ok(value)
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let value = {
            let held = lock(&self.held);
            held.values.iter().find(|(id, ..)| *id == TypeId::of::<T>())?.2.clone()
        };
        value.downcast().ok()
    }

    pub(crate) fn require<T: Send + Sync + 'static>(&self) -> Result<Arc<T>, ExtensionError> {
        self.get().ok_or_else(|| {
            let there = lock(&self.held).values.iter().map(|(_, name, _)| *name).collect();
            ExtensionError::Missing { wanted: type_name::<T>(), there }
        })
    }

    /// Drops all, the newest first: it may use an older one. Nothing is taken in any more.
    pub(crate) fn release(&self) {
        let values = {
            let mut held = lock(&self.held);
            held.over = true;
            std::mem::take(&mut held.values)
        };
        for (_, _, value) in values.into_iter().rev() {
            discard(value);
        }
    }
}
