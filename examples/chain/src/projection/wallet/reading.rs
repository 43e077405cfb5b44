//! Reading older blocks for the wallets of a requests.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::backfill::{Backfill, BackfillError};
use super::ledger::Ledger;
use super::requests::{Answer, RequestQueue, Told, WalletRequests};
use crate::Height;
use crate::adapter::ChainClient;

impl<L: Ledger> WalletRequests<L> {
    /// Waits until wallets wait for older blocks, and returns a backfill for them: what an unfinished call of
    /// [`backfill`](Self::backfill) has left, else an empty one for all of them.
    ///
    /// Two at once read the same; the first that is handed over is taken in.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Closed`]: nobody follows wallets any more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wanted(&self) -> Result<Backfill<L>, BackfillError> {
        let mut told = self.told()?;
        loop {
            Self::some_wait(&mut told).await?;
            if let Some(backfill) = self.begin(&mut told)? {
                return Ok(backfill);
            }
        }
    }

    /// Hands over what was read; answered in the next cycle, once there are blocks. `Some` comes back when the root
    /// has moved on meanwhile: read on.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Superseded`]: another backfill was first, or the branch has left what was read.
    /// [`BackfillError::Closed`]: nobody follows wallets any more.
    ///
    /// # Cancel safety
    ///
    /// What a dropped call has handed over is taken in all the same, or kept for the next backfill.
    pub async fn submit(&self, backfill: Backfill<L>) -> Result<Option<Backfill<L>>, BackfillError> {
        let (reply, answer) = oneshot::channel();
        self.open_requests()?.submit((backfill, reply));
        let mut returning = Returning { requests: self, answer };
        let answer = (&mut returning.answer).await.unwrap_or(Err(BackfillError::Closed));
        answer.map(|behind| behind.map(|behind| *behind))
    }

    /// Waits until wallets wait for older blocks, reads those through `client`, one after the other, and hands
    /// them over. Call it in a loop to serve wallets as they are added.
    ///
    /// It catches up with a chain that grows meanwhile, if it reads faster than that. Where what was read is
    /// [`Superseded`](BackfillError::Superseded), it starts over with the wallets that still wait.
    ///
    /// # Errors
    ///
    /// [`BackfillError`]: a block could not be read, or does not belong to the branch. Nothing is asked again
    /// here: wait as long as the error says, and call again, also with another client. That goes on where this
    /// one stopped, but for [`Unlinked`](BackfillError::Unlinked), after which what was read is not believed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what a dropped call has read is kept, and the next one goes on there.
    pub async fn backfill<C>(&self, client: &C) -> Result<(), BackfillError>
    where
        C: ChainClient<Transaction = L::Transaction>,
    {
        let mut told = self.told()?;
        Self::some_wait(&mut told).await?;
        while let Some(backfill) = self.begin(&mut told)? {
            match self.read(client, backfill, &mut told).await {
                Err(BackfillError::Superseded) => {}
                read => return read,
            }
        }
        Ok(())
    }

    fn told(&self) -> Result<watch::Receiver<Told<L>>, BackfillError> {
        // The requests itself is not held while waiting, or nobody would notice its end.
        Ok(self.open_requests()?.told.subscribe())
    }

    fn open_requests(&self) -> Result<Arc<RequestQueue<L>>, BackfillError> {
        self.requests.upgrade().ok_or(BackfillError::Closed)
    }

    async fn some_wait(told: &mut watch::Receiver<Told<L>>) -> Result<(), BackfillError> {
        let some = told.wait_for(|told| !told.waiting.is_empty() && told.goal.is_some()).await;
        some.map(|_| ()).map_err(|_| BackfillError::Closed)
    }

    /// For the wallets that wait: what was left, or an empty one. `None` if none waits.
    fn begin(&self, told: &mut watch::Receiver<Told<L>>) -> Result<Option<Backfill<L>>, BackfillError> {
        let requests = self.open_requests()?;
        let Told { goal, waiting } = told.borrow_and_update().clone();
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
        told: &mut watch::Receiver<Told<L>>,
    ) -> Result<(), BackfillError>
    where
        C: ChainClient<Transaction = L::Transaction>,
    {
        let mut reading = Reading { requests: self, backfill: Some(backfill) };
        loop {
            let Some(height) = reading.step(|backfill| next(backfill, told))? else {
                let Some(read) = reading.backfill.take() else { return Ok(()) };
                reading.backfill = self.submit(read).await?;
                if reading.backfill.is_none() {
                    return Ok(());
                }
                continue;
            };
            let missing = BackfillError::Missing { height };
            let header = client.header_at(height).await?.ok_or_else(|| missing.clone())?;
            let block = client.block(header.hash).await?.ok_or(missing)?;
            reading.step(|backfill| backfill.push(block))?;
        }
    }
}

/// An answer that is waited for: what comes back, and nobody takes any more, is kept for the next reader.
struct Returning<'a, L: Ledger> {
    requests: &'a WalletRequests<L>,
    answer: oneshot::Receiver<Answer<L>>,
}

impl<L: Ledger> Drop for Returning<'_, L> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(Some(behind))) = self.answer.try_recv()
            && let Some(requests) = self.requests.requests.upgrade()
        {
            requests.stash(*behind);
        }
    }
}

/// The height of the block that is wanted next, as of now.
fn next<L: Ledger>(
    backfill: &mut Backfill<L>,
    told: &mut watch::Receiver<Told<L>>,
) -> Result<Option<Height>, BackfillError> {
    let others_wait = told.has_changed().map_err(|_| BackfillError::Closed)?;
    let told = told.borrow_and_update();
    if others_wait && !backfill.is_for(&told.waiting) {
        return Err(BackfillError::Superseded);
    }
    // What is told without news is a new goal.
    backfill.aim(told.goal.ok_or(BackfillError::Superseded)?)?;
    Ok(backfill.wants())
}

/// A backfill that is kept for the next reader if this one does not finish.
struct Reading<'a, L: Ledger> {
    requests: &'a WalletRequests<L>,
    backfill: Option<Backfill<L>>,
}

impl<L: Ledger> Reading<'_, L> {
    /// What fails here is of no use to anybody.
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
