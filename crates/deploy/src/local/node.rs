//! One node of a local cluster, and the actions on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use watchkeeper_process::{Process, Signal};
use watchkeeper_scenario::{Application, NodeClients};

use super::directory::IN_AN_ERROR;
use super::launch::{Launched, Launcher};
use super::{LocalError, Readiness, lock};
use crate::NodeAddress;

/// How long a killed node may take to end. It takes milliseconds, unless the kernel holds it.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A node. Actions on it run one at a time, and do not wait for those on other nodes.
pub(super) struct NodeProcess<A: Application> {
    number: u64,
    name: String,
    /// `None` before its first start, and after the end of the cluster.
    now: Mutex<Option<Now>>,
    turn: tokio::sync::Mutex<()>,
    clients: NodeClients<A::NodeClient>,
    launcher: Arc<Launcher<A>>,
}

/// Its process, which may have ended.
#[derive(Clone)]
struct Now {
    process: Arc<Process>,
    /// Whether a signal that ends it was sent, so that the next action first waits for its end.
    is_ending: Arc<AtomicBool>,
}

/// Kills a process that was asked to end if the wait for its end is dropped: it would end at some later time.
struct Ending<'a>(Option<&'a Process>);

impl Ending<'_> {
    /// Sends the signal that a process cannot ignore.
    fn kill(&mut self) {
        if let Some(process) = self.0.take()
            && let Err(error) = process.signal(Signal::KILL)
        {
            // It has ended, or may not be killed: then the wait for its end times out.
            tracing::debug!(pid = process.pid(), %error, "a node that was asked to stop is not killed");
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Kills a process that was started if the wait for it fails or is dropped.
struct Starting(Option<Arc<Process>>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(process) = self.0.take() {
            process.kill_and_reap();
        }
    }
}

impl<A: Application> NodeProcess<A> {
    /// A node that was not started yet.
    pub(super) fn new(
        launcher: &Arc<Launcher<A>>,
        clients: &NodeClients<A::NodeClient>,
        number: u64,
        name: &str,
    ) -> Self {
        Self {
            number,
            name: name.to_owned(),
            now: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
            clients: clients.clone(),
            launcher: Arc::clone(launcher),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn kill(&self) -> Result<(), LocalError> {
        self.act(async || {
            let process = self.end_with(Signal::KILL)?;
            process.exit().wait().await;
            Ok(())
        })
        .await
    }

    /// Asks it to end, and kills it after the stop time-out, or when the future is dropped. Nothing happens to one that is
    /// down.
    pub(super) async fn stop(&self) -> Result<(), LocalError> {
        self.act(async || self.stop_now().await).await
    }

    pub(super) async fn pause(&self) -> Result<(), LocalError> {
        self.act(async || {
            let paused = self.running()?.pause();
            paused.map_err(|source| LocalError::Signal { node: self.name.clone(), source })
        })
        .await
    }

    pub(super) async fn resume(&self) -> Result<(), LocalError> {
        self.act(async || self.signal(Signal::CONT).map(drop)).await
    }

    /// Starts it with its data and on its ports. Nothing happens to one that runs.
    pub(super) async fn start(&self) -> Result<(), LocalError> {
        self.act(async || match self.running() {
            Ok(process) if process.is_paused() => Err(LocalError::Paused { node: self.name.clone() }),
            Ok(_) => Ok(()),
            Err(LocalError::NotRunning { .. }) => self.start_now().await,
            Err(error) => Err(error),
        })
        .await
    }

    /// Stops it if it runs, and starts it.
    pub(super) async fn restart(&self) -> Result<(), LocalError> {
        self.act(async || {
            self.stop_now().await?;
            self.start_now().await
        })
        .await
    }

    /// Whether it serves; the error is the reason.
    pub(super) async fn serves(&self) -> Result<(), String> {
        if let Some(down) = self.down().await {
            return Err(down);
        }
        match self.clients.get(&self.name) {
            Some(client) => self.launcher.asked(&client).await,
            None => Err("its client was removed".to_owned()),
        }
    }

    /// How it has ended, with the end of its log; `None` if it runs.
    pub(super) async fn down(&self) -> Option<String> {
        let process = match self.now() {
            Ok(now) => now.process,
            Err(error) => return Some(error.to_string()),
        };
        if process.exit().is_running() {
            return None;
        }
        let status = process.exit().wait().await;
        let (status, tail) = self.launcher.end_of(&self.name, &process, status, IN_AN_ERROR).await;
        Some(format!("it does not run ({status}): start it first. The end of its log:\n{tail}"))
    }

    /// Its process, which it loses.
    pub(super) fn take(&self) -> Option<Arc<Process>> {
        lock(&self.now).take().map(|now| now.process)
    }

    /// Its process number, if it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.running().ok().map(|process| process.pid())
    }

    /// One action at a time; it ends when the cluster is closed.
    async fn act(&self, action: impl AsyncFnOnce() -> Result<(), LocalError>) -> Result<(), LocalError> {
        let acting = async {
            let _turn = self.turn.lock().await;
            self.ended().await?;
            action().await
        };
        tokio::select! {
            biased;
            () = self.launcher.closing.cancelled() => Err(LocalError::ShutDown),
            done = acting => done,
        }
    }

    async fn stop_now(&self) -> Result<(), LocalError> {
        let node = || self.name.clone();
        let process = match self.running() {
            Ok(process) => process,
            Err(LocalError::NotRunning { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        if process.is_paused() {
            // The signal would stay pending, and end the node when it is resumed.
            return Err(LocalError::DidNotStop { node: node(), after: Duration::ZERO, paused: true });
        }
        match self.end_with(Signal::TERM) {
            // It has ended meanwhile.
            Err(_) if !process.exit().is_running() => return Ok(()),
            asked => asked?,
        };
        let mut ending = Ending(Some(&process));
        let after = self.launcher.stop_within;
        if timeout(after, process.exit().wait()).await.is_err() {
            tracing::warn!(node = node(), ?after, "a node did not stop in time and is killed");
            ending.kill();
            let gone = timeout(GONE_WITHIN, process.exit().wait()).await;
            let after = after + GONE_WITHIN;
            gone.map_err(|_| LocalError::DidNotStop { node: node(), after, paused: false })?;
        }
        ending.0 = None;
        Ok(())
    }

    /// Waits for the end of a node if an action that was dropped has ended it.
    async fn ended(&self) -> Result<(), LocalError> {
        let now = self.now()?;
        if now.is_ending.load(Ordering::Acquire) {
            let gone = timeout(GONE_WITHIN, now.process.exit().wait()).await;
            let (node, after) = (self.name.clone(), GONE_WITHIN);
            gone.map_err(|_| LocalError::DidNotStop { node, after, paused: false })?;
        }
        Ok(())
    }

    /// Sends a signal that ends it.
    fn end_with(&self, signal: Signal) -> Result<Arc<Process>, LocalError> {
        let process = self.signal(signal)?;
        self.now()?.is_ending.store(true, Ordering::Release);
        Ok(process)
    }

    async fn start_now(&self) -> Result<(), LocalError> {
        let deadline = Instant::now() + self.launcher.start_within;
        let launched = self.launch()?;
        let mut starting = Starting(Some(Arc::clone(&launched.process)));
        // Only where its address is in a line, a client cannot be made before.
        let at = if matches!(self.launcher.program.readiness(), Readiness::Address(_)) {
            self.launcher.ready(launched, deadline).await?.1
        } else {
            launched.at
        };
        self.reached(&at)?;
        starting.0 = None;
        Ok(())
    }

    /// Starts its process, which is its own at once: the end of the cluster kills it.
    pub(super) fn launch(&self) -> Result<Launched, LocalError> {
        self.launcher.launch(self.number, &self.name, |process| {
            let now = Now { process: Arc::clone(process), is_ending: Arc::default() };
            let old = lock(&self.now).replace(now);
            drop(old);
        })
    }

    /// Makes its client, once its address is known.
    pub(super) fn reached(&self, at: &NodeAddress) -> Result<(), LocalError> {
        let client = self.launcher.client(at)?;
        lock(&self.launcher.addresses).insert(self.number, at.clone());
        self.clients.insert(&self.name, client);
        Ok(())
    }

    fn now(&self) -> Result<Now, LocalError> {
        let now = lock(&self.now);
        now.clone().ok_or(LocalError::ShutDown)
    }

    fn running(&self) -> Result<Arc<Process>, LocalError> {
        let process = self.now()?.process;
        if process.exit().is_running() {
            Ok(process)
        } else {
            Err(LocalError::NotRunning { node: self.name.clone() })
        }
    }

    fn signal(&self, signal: Signal) -> Result<Arc<Process>, LocalError> {
        let process = self.running()?;
        let sent = process.signal(signal);
        sent.map_err(|source| LocalError::Signal { node: self.name.clone(), source })?;
        Ok(process)
    }
}
