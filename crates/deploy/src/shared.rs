//! What several deployers need.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use watchkeeper::DynError;
use watchkeeper_scenario::Application;

use crate::{NodeAccess, NodeAddress};

/// Locks `mutex`, also after a panic of another holder.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of a name that no other cluster has.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::SystemTime;

    static CLUSTERS: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    format!("{}-{:x}-{number}", std::process::id(), now.as_millis())
}

/// A client of the node at this address. A panic of the application is an error: it would end the task that follows the
/// nodes.
pub(crate) fn client<A: Application>(
    access: &dyn NodeAccess<A>,
    at: &NodeAddress,
) -> Result<A::NodeClient, DynError> {
    catch_unwind(AssertUnwindSafe(|| access.client(at))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("its payload is no text");
        Err(format!("the application panicked: {text}").into())
    })
}
