//! Reading older blocks for requested wallets.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::backfill::{Backfill, BackfillError};
use super::ledger::Ledger;
use super::requests::{BackfillAnswer, BackfillDemand, RequestQueue, WalletRequests};
use crate::adapter::ChainClient;
use crate::{Detail, Height};

impl<L: Ledger> WalletRequests<L> {
    /// Waits until wallets need older blocks, and returns a backfill for them: the one that an unfinished call of
    /// [`backfill`](Self::backfill) has left, else an empty one for all of them.
    ///
    /// Two concurrent calls read the same blocks; the first backfill that is submitted is used.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Closed`]: the projection of wallets has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wanted(&self) -> Result<Backfill<L>, BackfillError> {
        let mut demand = self.demand()?;
        loop {
            Self::some_wait(&mut demand).await?;
            if let Some(backfill) = self.begin(&mut demand)? {
                return Ok(backfill);
            }
        }
    }

    /// Submits a backfill; the answer comes in the next cycle, once there are blocks. Returns `Some` if the root has
    /// moved on meanwhile: read more blocks and submit it again.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Superseded`]: another backfill was first, or the blocks that were read are not on the branch
    /// any more. [`BackfillError::Closed`]: the projection of wallets has ended.
    ///
    /// # Cancel safety
    ///
    /// The backfill of a dropped call is still used, or kept for the next one.
    pub async fn submit(&self, backfill: Backfill<L>) -> Result<Option<Backfill<L>>, BackfillError> {
        let (reply, answer) = oneshot::channel();
        self.open_requests()?.submit((backfill, reply));
        let mut returning = Returning { requests: self, answer };
        let answer = (&mut returning.answer).await.unwrap_or(Err(BackfillError::Closed));
        answer.map(|unfinished| unfinished.map(|unfinished| *unfinished))
    }

    /// Waits until wallets need older blocks, reads them through `client`, one after the other, and submits them. Call
    /// it in a loop to serve wallets as they are added.
    ///
    /// It catches up with a chain that grows meanwhile, if it reads faster than the chain grows. If its backfill is
    /// [`Superseded`](BackfillError::Superseded), it starts again with the wallets that still wait.
    ///
    /// # Errors
    ///
    /// [`BackfillError`]: a block could not be read, or is not on the branch. There is no retry: wait as long as the
    /// error says, and call again, possibly with another client. That call continues where this one stopped, except
    /// after [`Unlinked`](BackfillError::Unlinked), which discards what was read.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what a dropped call has read is kept, and the next call continues there.
    pub async fn backfill<C>(&self, client: &C) -> Result<(), BackfillError>
    where
        C: ChainClient<Transaction = L::Transaction>,
    {
        let mut demand = self.demand()?;
        Self::some_wait(&mut demand).await?;
        while let Some(backfill) = self.begin(&mut demand)? {
            match self.read(client, backfill, &mut demand).await {
                Err(BackfillError::Superseded) => {}
                read => return read,
            }
        }
        Ok(())
    }

    fn demand(&self) -> Result<watch::Receiver<BackfillDemand<L>>, BackfillError> {
        // The queue is not held while waiting, so that its end is noticed.
        Ok(self.open_requests()?.demand.subscribe())
    }

    fn open_requests(&self) -> Result<Arc<RequestQueue<L>>, BackfillError> {
        self.requests.upgrade().ok_or(BackfillError::Closed)
    }

    async fn some_wait(demand: &mut watch::Receiver<BackfillDemand<L>>) -> Result<(), BackfillError> {
        let some = demand.wait_for(|demand| !demand.waiting.is_empty() && demand.goal.is_some()).await;
        some.map(|_| ()).map_err(|_| BackfillError::Closed)
    }

    /// A backfill for the wallets that wait: an unfinished one, or an empty one. `None` if no wallet waits.
    fn begin(
        &self,
        demand: &mut watch::Receiver<BackfillDemand<L>>,
    ) -> Result<Option<Backfill<L>>, BackfillError> {
        let requests = self.open_requests()?;
        let BackfillDemand { goal, waiting } = demand.borrow_and_update().clone();
        let Some(goal) = goal.filter(|_| !waiting.is_empty()) else { return Ok(None) };
        while let Some(mut left) = requests.take_back() {
            if left.is_for(&waiting) && left.aim(goal).is_ok() {
                return Ok(Some(left));
            }
        }
        Ok(Some(Backfill::new(requests.ledger.clone(), waiting, goal)))
    }

    async fn read<C>(
        &self,
        client: &C,
        backfill: Backfill<L>,
        demand: &mut watch::Receiver<BackfillDemand<L>>,
    ) -> Result<(), BackfillError>
    where
        C: ChainClient<Transaction = L::Transaction>,
    {
        let mut reading = Reading { requests: self, backfill: Some(backfill) };
        loop {
            let Some(height) = reading.step(|backfill| next(backfill, demand))? else {
                let Some(read) = reading.backfill.take() else { return Ok(()) };
                reading.backfill = self.submit(read).await?;
                if reading.backfill.is_none() {
                    return Ok(());
                }
                continue;
            };
            let missing = BackfillError::Missing { height };
            let header = client.header_at(height).await?.ok_or_else(|| missing.clone())?;
            let block = client.block(header.hash, Detail::Results).await?.ok_or(missing)?;
            reading.step(|backfill| backfill.push(block))?;
        }
    }
}

/// A pending answer: a backfill that is returned to a dropped call is kept for the next reader.
struct Returning<'a, L: Ledger> {
    requests: &'a WalletRequests<L>,
    answer: oneshot::Receiver<BackfillAnswer<L>>,
}

impl<L: Ledger> Drop for Returning<'_, L> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(Some(unfinished))) = self.answer.try_recv()
            && let Some(requests) = self.requests.requests.upgrade()
        {
            requests.stash(*unfinished);
        }
    }
}

/// The height of the next block to read.
fn next<L: Ledger>(
    backfill: &mut Backfill<L>,
    demand: &mut watch::Receiver<BackfillDemand<L>>,
) -> Result<Option<Height>, BackfillError> {
    let others_wait = demand.has_changed().map_err(|_| BackfillError::Closed)?;
    let demand = demand.borrow_and_update();
    if others_wait && !backfill.is_for(&demand.waiting) {
        return Err(BackfillError::Superseded);
    }
    // A new goal alone does not mark the demand as changed.
    backfill.aim(demand.goal.ok_or(BackfillError::Superseded)?)?;
    Ok(backfill.wants())
}

/// A backfill that is kept for the next reader if this one does not finish.
struct Reading<'a, L: Ledger> {
    requests: &'a WalletRequests<L>,
    backfill: Option<Backfill<L>>,
}

impl<L: Ledger> Reading<'_, L> {
    /// A backfill whose step fails is discarded.
    fn step<V>(
        &mut self,
        step: impl FnOnce(&mut Backfill<L>) -> Result<V, BackfillError>,
    ) -> Result<V, BackfillError> {
        let mut backfill = self.backfill.take().ok_or(BackfillError::Superseded)?;
        let value = step(&mut backfill)?;
        self.backfill = Some(backfill);
        Ok(value)
    }
}

impl<L: Ledger> Drop for Reading<'_, L> {
    fn drop(&mut self) {
        if let Some((backfill, requests)) = self.backfill.take().zip(self.requests.requests.upgrade()) {
            requests.stash(backfill);
        }
    }
}
