//! Going on where the last run has ended: the file of `--checkpoint`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use watchkeeper::report::{debug_as_text, error_chain, names, one_line};
use watchkeeper::{ObservationHandle, ObservationSnapshot};
use watchkeeper_chain::adapter::ChainIdentity;
use watchkeeper_chain::projection::checkpoint::{self, CheckpointLock, LoadError, SaveError, lock};
use watchkeeper_chain::projection::wallet::{Wallets, WalletsRecord, WrongRecord};
use watchkeeper_chain::{Hash, Header};
use watchkeeper_chain_ethereum::Address;

use super::chain_id::shown;
use super::report::Reporter;
use super::wallets::{Accounts, Opening};
use super::watched::{Ether, Observer, Seen, no_wallets};

/// Bytes of a path, and of the accounts that are named, in a message.
const PATH: usize = 300;
const ACCOUNTS: usize = 140;

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
        "the checkpoint {} is of chain {}, but {found}: give nodes of that chain, or another file",
        at(path),
        shown(expected)
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
        "the checkpoint {} has other accounts: give --wallet the same ones in the same order ({expected}), or another \
         file",
        at(path)
    )]
    OtherAccounts {
        /// The file.
        path: PathBuf,
        /// The first of its accounts.
        expected: String,
    },
    /// The balances in it cannot be restored.
    #[error("the checkpoint {} cannot be resumed: move it away to start again", at(path))]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WrongRecord,
    },
    /// The output was not read for so long that the history no longer has what is to be printed.
    #[error(
        "events were dropped before they could be printed, and the checkpoint {} ends before them: read the output \
         faster, and start again",
        at(path)
    )]
    Missed {
        /// The file.
        path: PathBuf,
    },
}

debug_as_text!(CheckpointError);

fn at(path: &Path) -> String {
    one_line(&path.display().to_string(), PATH)
}

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
                let expected: Vec<_> =
                    last.state.accounts.iter().map(|(address, _)| address.to_string()).collect();
                let expected = names(expected.iter().map(String::as_str), ACCOUNTS);
                Err(CheckpointError::OtherAccounts { path: self.path.clone(), expected })
            }
            _ => Ok(()),
        }
    }

    /// What helps if nodes are right that are on a branch without the lowest block of the file.
    pub(crate) fn if_nodes_are_right(&self) -> String {
        format!("if the node is right, move {} away to start again", at(&self.path))
    }

    /// It is of another chain than the nodes or the flags.
    pub(crate) fn other_chain(&self, expected: &ChainIdentity, found: String) -> CheckpointError {
        CheckpointError::OtherChain { path: self.path.clone(), expected: expected.clone(), found }
    }

    pub(crate) fn restore(&self, record: WalletsRecord<Ether>) -> Result<Wallets<Ether>, CheckpointError> {
        let restored = no_wallets().restore(record);
        restored.map_err(|source| CheckpointError::Record { path: self.path.clone(), source })
    }

    /// Writes the file whenever the tip has moved and its events are printed, and at the end of the observation, which
    /// it returns with. What nobody reads is not kept: it is printed by the next run.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Save`]: the last attempt has failed. [`CheckpointError::Missed`], at once.
    pub(crate) async fn follow(
        &self,
        handle: ObservationHandle<Observer>,
        accounts: &Accounts,
        reporter: &Reporter,
    ) -> Result<(), CheckpointError> {
        let mut watch = handle.watch();
        let (mut saved, mut is_said): (Result<Option<Header>, SaveError>, _) = (Ok(None), false);
        loop {
            let is_over = watch.changed().await.is_err();
            if let Some(snapshot) = handle.latest_snapshot() {
                let Seen { chain, view: (_, wallets) } = &snapshot.value;
                let is_new = !matches!(&saved, Ok(at) if at.is_some() && *at == chain.tip);
                reporter.wait_until_printed(&snapshot).await;
                if reporter.has_missed() {
                    return Err(CheckpointError::Missed { path: self.path.clone() });
                }
                // At the end in any case: wallets change also without a block.
                let is_due = (is_new || is_over) && chain.tip.is_some() && reporter.is_read();
                if is_due && let Some(checkpoint) = checkpoint_of(&snapshot, accounts) {
                    let had_failed = saved.is_err();
                    saved = self.save(checkpoint).await.map(|()| chain.tip);
                    if let Some(error) = saved.as_ref().err().filter(|_| !had_failed) {
                        reporter.say("unsaved", format_args!("{}", error_chain(error)));
                    }
                } else if is_due
                    && let (missing, waits) = accounts.missing(wallets)
                    && (is_over || (waits && !is_said))
                    && !missing.is_empty()
                {
                    is_said = true;
                    let are = if missing.len() == 1 { "is" } else { "are" };
                    reporter.say("unsaved", format_args!("{} {are} not known yet", names(missing, ACCOUNTS)));
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
        spawn_blocking(save).await.unwrap_or_else(|end| std::panic::resume_unwind(end.into_panic()))
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
