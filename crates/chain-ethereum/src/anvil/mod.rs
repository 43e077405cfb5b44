//! Real Ethereum nodes on this machine, for tests and demonstrations.
//!
//! The program is found by the environment variable `WATCHKEEPER_ANVIL`, in `node_modules` of the current folder or one
//! above, or in `PATH`. `npm install --no-save @foundry-rs/anvil` installs it.
//!
//! # Examples
//!
//! ```no_run
//! use watchkeeper_chain::adapter::ChainClient;
//! use watchkeeper_chain_ethereum::U256;
//! use watchkeeper_chain_ethereum::anvil::{Anvil, AnvilConfig};
//!
//! # async fn drive() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Anvil::start(AnvilConfig::default()).await?;
//! let accounts = node.accounts().await?;
//! node.transfer(accounts[0], accounts[1], U256::from(1)).await?;
//! node.mine(3).await?;
//! node.reorg(2).await?;
//! assert_eq!(node.client().head().await?.height, 3);
//! # Ok(())
//! # }
//! ```

mod binary;
mod error;
mod process;

use std::process::Command;
use std::time::Duration;

use alloy::primitives::{Address, B256, U64, U256};
use alloy::rpc::json_rpc::{RpcRecv, RpcSend};
use alloy::rpc::types::TransactionRequest;
use serde_json::json;
use tokio::time::timeout;
use watchkeeper_process::{Process, ReadyLine, RunDirectory, Signal, while_parent_lives};

pub use error::{AnvilError, BINARY_VARIABLE};

use super::{Endpoint, EthereumClient};
use watchkeeper_chain::Hash;

/// How long a node may take for anything; it usually takes 50 ms to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// What it prints before the address.
const LISTENING: &str = "Listening on ";

/// The configuration of a node. Two nodes with equal configurations and calls have the same blocks, hash for hash.
#[derive(Clone, Debug)]
pub struct AnvilConfig {
    /// The chain's id. Default: 31337.
    pub chain_id: u64,
    /// The time of its first block, in seconds since 1970. Default: one moment in 2023.
    pub genesis_time: u64,
    /// The seconds from block to block, independent of the clock. Default: 12.
    pub block_time: u64,
}

impl Default for AnvilConfig {
    fn default() -> Self {
        Self { chain_id: 31_337, genesis_time: 1_700_000_000, block_time: 12 }
    }
}

/// A node of the program anvil, with a separate chain and ten accounts that own 10,000 ether each.
///
/// It makes blocks only on request ([`mine`](Self::mine)), unless [`set_automine`](Self::set_automine) is on. It
/// listens on a local port that the system picks. It is killed when this value is dropped, and when this process ends
/// in any way. Its files are removed with this value; if this process is killed, they stay until the next node is
/// started.
#[derive(Debug)]
pub struct Anvil {
    config: AnvilConfig,
    address: String,
    client: EthereumClient,
    websocket: Endpoint,
    /// Dropped before the folder that it writes to.
    process: Option<Process>,
    folder: RunDirectory,
}

/// A state of a node to which it can go back, once.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot(U64);

impl Anvil {
    /// Starts a node and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`AnvilError::NotInstalled`], with how to install it; others if it does not start.
    pub async fn start(config: AnvilConfig) -> Result<Self, AnvilError> {
        let folder = RunDirectory::new("watchkeeper-anvil-")
            .map_err(|source| AnvilError::System { what: "make a folder", source })?;
        let (process, address) = launch(&config, &folder, "0").await?;
        let client = EthereumClient::new(format!("http://{address}").parse()?)?;
        let websocket = format!("ws://{address}").parse()?;
        let node = Self { config, address, client, websocket, process: Some(process), folder };
        node.set_block_time().await?;
        Ok(node)
    }

    /// A client of this node; it stays usable while the node is stopped and started again.
    #[must_use]
    pub fn client(&self) -> EthereumClient {
        self.client.clone()
    }

    /// Its address for HTTP.
    #[must_use]
    pub fn http(&self) -> Endpoint {
        self.client.endpoint().clone()
    }

    /// Its address for WebSocket.
    #[must_use]
    pub fn websocket(&self) -> Endpoint {
        self.websocket.clone()
    }

    /// The id of its process; `None` while it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// The accounts for which it signs.
    ///
    /// # Errors
    ///
    /// [`AnvilError::Call`].
    pub async fn accounts(&self) -> Result<Vec<Address>, AnvilError> {
        self.ask("eth_accounts", ()).await
    }

    /// What an account owns after the newest block, in wei.
    ///
    /// # Errors
    ///
    /// [`AnvilError::Call`].
    pub async fn balance(&self, account: Address) -> Result<U256, AnvilError> {
        self.ask("eth_getBalance", (account, "latest")).await
    }

    /// Makes this many blocks; the first includes the pending transactions.
    ///
    /// # Errors
    ///
    /// [`AnvilError::Call`].
    pub async fn mine(&self, blocks: u64) -> Result<(), AnvilError> {
        self.execute("anvil_mine", (U64::from(blocks),)).await
    }

    /// Whether every transaction makes a block at once.
    ///
    /// # Errors
    ///
    /// [`AnvilError::Call`].
    pub async fn set_automine(&self, automine: bool) -> Result<(), AnvilError> {
        self.execute("evm_setAutomine", (automine,)).await
    }

    /// Sends ether from one of its accounts; the next block includes the transaction.
    ///
    /// # Errors
    ///
    /// [`AnvilError::Call`], also if the account does not own that much.
    pub async fn transfer(&self, from: Address, to: Address, wei: U256) -> Result<Hash, AnvilError> {
        self.send(TransactionRequest {
            from: Some(from),
            to: Some(to.into()),
            value: Some(wei),
            ..Default::default()
        })
        .await
    }

    /// Sends any transaction of one of its accounts. It replaces a pending one with the same nonce and a lower fee.
    ///
    /// # Errors
    ///
    /// [`AnvilError::Call`].
    pub async fn send(&self, transaction: TransactionRequest) -> Result<Hash, AnvilError> {
        let hash: B256 = self.ask("eth_sendTransaction", (transaction,)).await?;
        Ok(Hash(hash.0))
    }

    /// Replaces this many blocks at the tip by as many empty ones. Their transactions are lost.
    ///
    /// # Errors
    ///
    /// [`AnvilError::Call`], also if blocks were made before the node was last started: it has lost their states.
    pub async fn reorg(&self, depth: u64) -> Result<(), AnvilError> {
        self.execute("anvil_reorg", json!([depth, []])).await
    }

    /// Takes a snapshot of the node's state.
    ///
    /// # Errors
    ///
    /// [`AnvilError::Call`].
    pub async fn snapshot(&self) -> Result<Snapshot, AnvilError> {
        Ok(Snapshot(self.ask("evm_snapshot", ()).await?))
    }

    /// Goes back to a snapshot. A node that left the snapshot's branch in a reorg has no head afterwards.
    ///
    /// # Errors
    ///
    /// [`AnvilError::NoSuchSnapshot`], [`AnvilError::Call`].
    pub async fn revert(&self, snapshot: Snapshot) -> Result<(), AnvilError> {
        let done: bool = self.ask("evm_revert", (snapshot.0,)).await?;
        if done { Ok(()) } else { Err(AnvilError::NoSuchSnapshot) }
    }

    /// Makes the node hang: it accepts connections and answers nothing.
    ///
    /// # Errors
    ///
    /// [`AnvilError::NotRunning`], [`AnvilError::System`].
    pub fn pause(&self) -> Result<(), AnvilError> {
        self.running()?.pause().map_err(|source| AnvilError::System { what: "pause anvil", source })
    }

    /// Ends [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// [`AnvilError::NotRunning`], [`AnvilError::System`].
    pub fn resume(&self) -> Result<(), AnvilError> {
        let resumed = self.running()?.signal(Signal::CONT);
        resumed.map_err(|source| AnvilError::System { what: "resume anvil", source })
    }

    /// Stops the node in order: it keeps its chain for the next start. Does nothing if the node does not run.
    ///
    /// A node that has not ended after 30 s is killed.
    ///
    /// # Cancel safety
    ///
    /// After a dropped call the node may have been asked to end.
    pub async fn stop(&mut self) {
        if let Some(process) = &self.process {
            let _ = timeout(PATIENCE, process::end(process)).await;
        }
        self.kill();
    }

    /// Kills the node: its chain goes back to the last stop in order.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts the node again at its address, with the chain that it kept. Does nothing if the node runs.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); also if another program has taken the port meanwhile.
    pub async fn start_again(&mut self) -> Result<(), AnvilError> {
        if self.process.is_some() {
            return Ok(());
        }
        let port = self.address.rsplit(':').next().unwrap_or_default();
        let (process, _) = launch(&self.config, &self.folder, port).await?;
        self.process = Some(process);
        self.set_block_time().await
    }

    async fn set_block_time(&self) -> Result<(), AnvilError> {
        self.execute("anvil_setBlockTimestampInterval", (self.config.block_time,)).await
    }

    /// Calls a method whose answer does not matter.
    async fn execute(&self, method: &'static str, parameters: impl RpcSend) -> Result<(), AnvilError> {
        let _: serde_json::Value = self.ask(method, parameters).await?;
        Ok(())
    }

    /// Calls a method with a longer time-out than observers have: many blocks take time.
    async fn ask<R: RpcRecv>(&self, method: &'static str, parameters: impl RpcSend) -> Result<R, AnvilError> {
        Ok(self.client().with_timeout(PATIENCE).ask(method, parameters).await?)
    }

    fn running(&self) -> Result<&Process, AnvilError> {
        self.process.as_ref().ok_or(AnvilError::NotRunning)
    }
}

/// Runs the program and waits for its address.
async fn launch(
    config: &AnvilConfig,
    folder: &RunDirectory,
    port: &str,
) -> Result<(Process, String), AnvilError> {
    let mut command = Command::new(binary::find()?);
    command
        .args(["--no-mining", "--host", "127.0.0.1", "--port", port])
        .args(["--chain-id", &config.chain_id.to_string()])
        .args(["--timestamp", &config.genesis_time.to_string()])
        .arg("--state")
        .arg(folder.path().join("state.json"))
        // Anvil also writes to the home folder, and leaves its files there when it is killed.
        .env("HOME", folder.path());
    let (process, ready) =
        Process::start(while_parent_lives(&command), LISTENING).map_err(AnvilError::NotStarted)?;
    let line = listening(ready).await?;
    let address = line.trim_start_matches(LISTENING).to_owned();
    Ok((process, address))
}

async fn listening(ready: ReadyLine) -> Result<String, AnvilError> {
    let Ok(line) = timeout(PATIENCE, ready.line()).await else {
        return Err(AnvilError::NotReady { after: PATIENCE });
    };
    line.map_err(|printed| {
        let last: Vec<&str> = printed.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
        AnvilError::Ended { printed: last.into_iter().rev().collect::<Vec<_>>().join(" | ") }
    })
}
