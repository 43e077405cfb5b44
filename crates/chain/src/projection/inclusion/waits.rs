//! Waits for the status of transactions.

use std::sync::Arc;

use watchkeeper::wait::{ByShow, Eventually, WaitBuilder};
use watchkeeper::{ObservationHandle, ObservationSnapshot, Observer};

use super::view::{InclusionView, Status};
use crate::projection::View;
use crate::projection::wallet::{Ledger, WalletsView};
use crate::{Hash, Transaction};

/// A wait that returns the snapshot that met it; its report shows the status of the transaction.
type Wait<'a, O> =
    WaitBuilder<'a, O, Arc<ObservationSnapshot<<O as Observer>::Snapshot>>, Eventually, ByShow<'a, O>>;

/// A snapshot that shows the status of transactions.
pub trait ShowsInclusion {
    /// What blocks are made of.
    type Transaction: Transaction;

    /// The status of the followed transactions.
    fn inclusion(&self) -> &InclusionView<Self::Transaction>;
}

impl<S, T: Transaction> ShowsInclusion for View<S, InclusionView<T>> {
    type Transaction = T;

    fn inclusion(&self) -> &InclusionView<T> {
        &self.view
    }
}

impl<S, T: Transaction, L: Ledger> ShowsInclusion for View<S, (InclusionView<T>, WalletsView<L>)> {
    type Transaction = T;

    fn inclusion(&self) -> &InclusionView<T> {
        &self.view.0
    }
}

/// Waits for transactions that are followed.
///
/// A status that holds already meets them, if it is fresh. A transaction that is not followed meets none of them, and
/// the report says so.
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use watchkeeper::{ObservationHandle, Observer};
/// # use watchkeeper::wait::Unmet;
/// # use watchkeeper_chain::Hash;
/// # use watchkeeper_chain::projection::inclusion::{InclusionWaits, ShowsInclusion};
/// # async fn example<O>(handle: ObservationHandle<O>, paid: Hash) -> Result<(), Unmet>
/// # where O: Observer<Snapshot: ShowsInclusion> {
/// handle.included(paid, 3).within(Duration::from_secs(30)).await?;
/// # Ok(())
/// # }
/// ```
pub trait InclusionWaits<O: Observer> {
    /// Waits until the branch includes a transaction, at least `depth` blocks deep; 1 is in the tip.
    fn included(&self, transaction: Hash, depth: u64) -> Wait<'static, O>;

    /// Waits until a final block includes a transaction.
    fn finalised(&self, transaction: Hash) -> Wait<'static, O>;

    /// Waits until a block that included a transaction was disconnected, and no other includes it.
    fn reorged_out(&self, transaction: Hash) -> Wait<'static, O>;

    /// Waits until the branch includes another transaction that excludes this one.
    fn replaced(&self, transaction: Hash) -> Wait<'static, O>;
}

impl<O: Observer<Snapshot: ShowsInclusion>> InclusionWaits<O> for ObservationHandle<O> {
    fn included(&self, transaction: Hash, depth: u64) -> Wait<'static, O> {
        let label = format!("transaction {transaction:.8} is included at depth {depth}");
        self.eventually(label, move |seen| seen.inclusion().depth_of(transaction) >= depth.max(1))
            .show(move |seen| seen.inclusion().describe(transaction))
            .or_now()
    }

    fn finalised(&self, transaction: Hash) -> Wait<'static, O> {
        becomes(self, transaction, "final", |status| matches!(status, Status::Finalised { .. }))
    }

    fn reorged_out(&self, transaction: Hash) -> Wait<'static, O> {
        becomes(self, transaction, "reorged out", |status| matches!(status, Status::ReorgedOut { .. }))
    }

    fn replaced(&self, transaction: Hash) -> Wait<'static, O> {
        becomes(self, transaction, "replaced", |status| matches!(status, Status::Replaced { .. }))
    }
}

fn becomes<O: Observer<Snapshot: ShowsInclusion>>(
    handle: &ObservationHandle<O>,
    transaction: Hash,
    what: &str,
    is_so: fn(Status) -> bool,
) -> Wait<'static, O> {
    handle
        .eventually(format!("transaction {transaction:.8} is {what}"), move |seen| {
            seen.inclusion().status(transaction).is_some_and(is_so)
        })
        .show(move |seen| seen.inclusion().describe(transaction))
        .or_now()
}
