//! Going on where the last run has ended: the file of `--checkpoint`.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use watchkeeper::report::{debug_as_text, error_chain};
use watchkeeper::{ObservationHandle, ObservationSnapshot};
use watchkeeper_chain::adapter::ChainIdentity;
use watchkeeper_chain::projection::checkpoint::{self, CheckpointLock, LoadError, SaveError, lock};
use watchkeeper_chain::projection::wallet::{Wallets, WalletsRecord, WrongRecord};
use watchkeeper_chain::{Hash, Header};
use watchkeeper_chain_ethereum::Address;

use super::report::Reporter;
use super::wallets::{Accounts, Opening};
use super::watched::{Ether, Observer, Seen, no_wallets};

/// What the file has.
pub(crate) type Checkpoint = checkpoint::Checkpoint<State>;

/// What is kept beside the headers: the accounts in the order of their flags, and what they own.
#[derive(Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) accounts: Vec<(Address, Opening)>,
    pub(crate) record: WalletsRecord<Ether>,
}

/// Why a checkpoint cannot be resumed or written. The file is as it was.
#[derive(thiserror::Error)]
pub(crate) enum CheckpointError {
    /// It cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It cannot be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// The nodes are on another chain.
    #[error(
        "the checkpoint {} is of chain {} ({:.8}), but {found}: give nodes of that chain, or another file",
        path.display(), expected.id, expected.genesis
    )]
    OtherChain {
        /// The file.
        path: PathBuf,
        /// Its chain.
        expected: ChainIdentity,
        /// Which chain is on the nodes, or asked for.
        found: String,
    },
    /// The accounts are not those that are kept.
    #[error(
        "the checkpoint {} has other accounts: give --wallet the same ones in the same order, or another file",
        path.display()
    )]
    OtherAccounts {
        /// The file.
        path: PathBuf,
    },
    /// The balances in it cannot be restored.
    #[error("the checkpoint {} cannot be resumed: move it away to start again", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WrongRecord,
    },
}

debug_as_text!(CheckpointError);

/// The one that writes the file.
pub(crate) struct Keeper {
    path: PathBuf,
    lock: Arc<CheckpointLock>,
}

impl Keeper {
    /// Locks the file at `path`, and returns what it has if it is there. Checks that it can be written.
    pub(crate) fn open(path: PathBuf) -> Result<(Self, Option<Checkpoint>), CheckpointError> {
        // Another file is left without a lock.
        Checkpoint::load(&path)?;
        let lock = lock(&path)?.into();
        // Only now no other run writes it.
        let loaded = Checkpoint::load(&path)?;
        Ok((Self { path, lock }, loaded))
    }

    /// Takes over what accounts own; refuses a checkpoint of another chain than that of the flags, or of other accounts.
    pub(crate) fn fits(
        &self,
        last: &Checkpoint,
        chain_id: Option<u64>,
        accounts: &Accounts,
    ) -> Result<(), CheckpointError> {
        match chain_id {
            Some(id) if last.identity.id != id.to_string() => {
                Err(self.other_chain(&last.identity, format!("--chain-id is {id}")))
            }
            _ if !accounts.restore(&last.state.accounts) => {
                Err(CheckpointError::OtherAccounts { path: self.path.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Refuses a checkpoint of another chain than that of the nodes.
    pub(crate) fn is_of(
        &self,
        expected: &ChainIdentity,
        found: &ChainIdentity,
    ) -> Result<(), CheckpointError> {
        let ChainIdentity { id, genesis } = found;
        let is = || self.other_chain(expected, format!("a local node is on chain {id} ({genesis:.8})"));
        if found == expected { Ok(()) } else { Err(is()) }
    }

    fn other_chain(&self, expected: &ChainIdentity, found: String) -> CheckpointError {
        CheckpointError::OtherChain { path: self.path.clone(), expected: expected.clone(), found }
    }

    pub(crate) fn restore(&self, record: WalletsRecord<Ether>) -> Result<Wallets<Ether>, CheckpointError> {
        let restored = no_wallets().restore(record);
        restored.map_err(|source| CheckpointError::Record { path: self.path.clone(), source })
    }

    /// Writes the file whenever the tip has moved and its events are printed, and at the end of the observation, which
    /// it returns with. What nobody `reads` is not kept: it is printed by the next run.
    pub(crate) async fn follow(
        &self,
        handle: ObservationHandle<Observer>,
        accounts: &Accounts,
        reads: &Cell<bool>,
        reporter: &Reporter,
    ) -> Result<(), SaveError> {
        let mut watch = handle.watch();
        let mut saved: Result<Option<Header>, SaveError> = Ok(None);
        loop {
            let is_over = watch.changed().await.is_err();
            if let Some(snapshot) = handle.latest_snapshot() {
                let tip = snapshot.value.chain.tip;
                let is_new = !matches!(&saved, Ok(at) if at.is_some() && *at == tip);
                reporter.wait_until_printed(&snapshot).await;
                if is_new
                    && reads.get()
                    && let Some(checkpoint) = checkpoint_of(&snapshot, accounts)
                {
                    let had_failed = saved.is_err();
                    saved = self.save(checkpoint).await.map(|()| tip);
                    if let Some(error) = saved.as_ref().err().filter(|_| !had_failed) {
                        reporter.say("unsaved", format_args!("{}", error_chain(error)));
                    }
                }
            }
            if is_over {
                let tip = saved?;
                if let Some(Header { height, hash, .. }) = tip {
                    reporter.say("saved", format_args!("up to block {height} ({hash:.8})"));
                }
                return Ok(());
            }
        }
    }

    async fn save(&self, checkpoint: Checkpoint) -> Result<(), SaveError> {
        let (path, lock) = (self.path.clone(), Arc::clone(&self.lock));
        let save = move || {
            // Also if nobody waits for it any more.
            let _held = lock;
            checkpoint.save(&path)
        };
        // A panic in there is one here.
        spawn_blocking(save)
            .await
            .unwrap_or_else(|end| std::panic::resume_unwind(end.into_panic()))
    }
}

/// What is kept of a snapshot; `None` before the first block, and until it is known what all accounts own where they begin.
fn checkpoint_of(snapshot: &Arc<ObservationSnapshot<Seen>>, accounts: &Accounts) -> Option<Checkpoint> {
    let Seen { chain, view: (_, wallets) } = &snapshot.value;
    let (identity, graph, tip) = (chain.chain.clone()?, chain.graph.as_ref()?, chain.tip?);
    let accounts = accounts.openings(wallets)?;
    let record = wallets.record()?;
    let kept = record.headers();
    // The block below the kept ones, if the graph has it, makes the lowest of them one that may change.
    let below = kept.first().map_or(tip.hash, |lowest: &Header| -> Hash { lowest.parent });
    let headers = graph.get(&below).into_iter().chain(kept).collect();
    Some(Checkpoint { identity, headers, state: State { accounts, record } })
}
