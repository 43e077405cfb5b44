//! One node of a local cluster, and the actions on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use watchkeeper_process::{Exit, Process, Signal};

use super::ClusterError;
use super::launch::{Launched, Launcher};
use super::roster::Roster;
use crate::api::NodeId;
use crate::client::NodeClient;
use crate::sync::lock;

/// How long a killed node may take to end. It takes milliseconds, unless the kernel holds it.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A node that was started once. Actions on it run one at a time, and do not wait for those on other nodes.
///
/// Dropping it kills its process.
#[derive(Debug)]
pub(crate) struct NodeProcess {
    id: NodeId,
    // Before the launcher, which owns the directory: fields are dropped in this order.
    now: Mutex<Option<Now>>,
    turn: tokio::sync::Mutex<()>,
    roster: Roster,
    launcher: Arc<Launcher>,
}

/// Its process, which may have ended, and where it serves.
#[derive(Clone, Debug)]
struct Now {
    process: Arc<Process>,
    addr: String,
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

impl NodeProcess {
    /// Waits until the process prints its address, and makes it a node.
    pub(super) async fn admit(
        launcher: &Arc<Launcher>,
        roster: &Roster,
        id: NodeId,
        launched: Launched,
        deadline: Instant,
    ) -> Result<Arc<Self>, ClusterError> {
        let (process, addr) = launcher.ready(launched, deadline).await?;
        let node = Self {
            id,
            now: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
            roster: roster.clone(),
            launcher: Arc::clone(launcher),
        };
        node.set(process, addr);
        Ok(Arc::new(node))
    }

    pub(crate) async fn kill(&self) -> Result<(), ClusterError> {
        self.act(async || {
            self.end_with(Signal::KILL)?;
            self.exit()?.wait().await;
            Ok(())
        })
        .await
    }

    /// Asks it to end, and kills it after the stop timeout, or when the future is dropped.
    pub(crate) async fn terminate(&self) -> Result<(), ClusterError> {
        self.act(async || self.terminate_now().await).await
    }

    pub(crate) async fn pause(&self) -> Result<(), ClusterError> {
        self.act(async || self.pause_now()).await
    }

    pub(crate) async fn resume(&self) -> Result<(), ClusterError> {
        self.act(async || self.resume_now()).await
    }

    /// Starts it with its data and on its port.
    pub(crate) async fn start(&self) -> Result<(), ClusterError> {
        self.act(async || self.start_now().await).await
    }

    /// Terminates it if it runs, and starts it.
    pub(crate) async fn restart(&self) -> Result<(), ClusterError> {
        self.act(async || {
            match self.terminate_now().await {
                Ok(()) | Err(ClusterError::NotRunning { .. }) => {}
                Err(error) => return Err(error),
            }
            self.start_now().await
        })
        .await
    }

    /// Not during another action on this node.
    pub(super) fn pause_now(&self) -> Result<(), ClusterError> {
        let paused = self.running()?.pause();
        paused.map_err(|source| ClusterError::Signal { id: self.id, source })
    }

    /// Not during another action on this node.
    pub(super) fn resume_now(&self) -> Result<(), ClusterError> {
        self.signal(Signal::CONT)
    }

    /// Ends it, and the action on it: when this returns, it does not run.
    pub(crate) async fn close(&self) {
        self.launcher.closing.cancel();
        let _turn = self.turn.lock().await;
        let now = lock(&self.now).take();
        // Kills and reaps, which blocks for some milliseconds; a runtime that shuts down does it on this thread.
        let _ = tokio::task::spawn_blocking(move || drop(now)).await;
    }

    pub(crate) fn client(&self) -> Result<NodeClient, ClusterError> {
        Ok(self.launcher.client(self.id, &self.now()?.addr))
    }

    pub(super) fn is_running(&self) -> bool {
        self.exit().is_ok_and(|exit| exit.is_running())
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.now().is_ok_and(|now| now.process.is_paused())
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.running().ok().map(|process| process.pid())
    }

    pub(super) fn exit(&self) -> Result<Exit, ClusterError> {
        Ok(self.now()?.process.exit())
    }

    /// One action at a time; it ends when the cluster is closed.
    async fn act(&self, action: impl AsyncFnOnce() -> Result<(), ClusterError>) -> Result<(), ClusterError> {
        let acting = async {
            let _turn = self.turn.lock().await;
            self.ended().await?;
            action().await
        };
        tokio::select! {
            biased;
            () = self.launcher.closing.cancelled() => Err(ClusterError::ShutDown),
            done = acting => done,
        }
    }

    async fn terminate_now(&self) -> Result<(), ClusterError> {
        let id = self.id;
        let process = self.running()?;
        if process.is_paused() {
            // The signal would stay pending, and end the node when it is resumed.
            return Err(ClusterError::DidNotStop { id, after: Duration::ZERO, paused: true });
        }
        self.end_with(Signal::TERM)?;
        let mut ending = Ending(Some(&process));
        let after = self.launcher.options.stop_timeout;
        if timeout(after, process.exit().wait()).await.is_err() {
            tracing::warn!(node = id, ?after, "a node did not stop in time and is killed");
            ending.kill();
            let gone = timeout(GONE_WITHIN, process.exit().wait()).await;
            gone.map_err(|_| ClusterError::DidNotStop { id, after: after + GONE_WITHIN, paused: false })?;
        }
        ending.0 = None;
        Ok(())
    }

    /// Waits for the end of a node if an action that was dropped has ended it.
    async fn ended(&self) -> Result<(), ClusterError> {
        let now = self.now()?;
        if now.is_ending.load(Ordering::Acquire) {
            let gone = timeout(GONE_WITHIN, now.process.exit().wait()).await;
            let (id, after) = (self.id, GONE_WITHIN);
            gone.map_err(|_| ClusterError::DidNotStop { id, after, paused: false })?;
        }
        Ok(())
    }

    /// Sends a signal that ends it.
    fn end_with(&self, signal: Signal) -> Result<(), ClusterError> {
        self.signal(signal)?;
        self.now()?.is_ending.store(true, Ordering::Release);
        Ok(())
    }

    async fn start_now(&self) -> Result<(), ClusterError> {
        let Now { process, addr, .. } = self.now()?;
        if process.exit().is_running() {
            return Err(ClusterError::StillRunning { id: self.id });
        }
        let deadline = Instant::now() + self.launcher.options.start_timeout;
        let launched = self.launcher.launch(self.id, &addr)?;
        let (process, addr) = self.launcher.ready(launched, deadline).await?;
        self.set(process, addr);
        Ok(())
    }

    fn set(&self, process: Process, addr: String) {
        self.roster.admit(self.id, self.launcher.client(self.id, &addr), process.exit());
        let now = Now { process: Arc::new(process), addr, is_ending: Arc::default() };
        let old = lock(&self.now).replace(now);
        drop(old);
    }

    fn now(&self) -> Result<Now, ClusterError> {
        let now = lock(&self.now);
        now.clone().ok_or(ClusterError::ShutDown)
    }

    fn running(&self) -> Result<Arc<Process>, ClusterError> {
        let process = self.now()?.process;
        if process.exit().is_running() { Ok(process) } else { Err(ClusterError::NotRunning { id: self.id }) }
    }

    fn signal(&self, signal: Signal) -> Result<(), ClusterError> {
        let sent = self.running()?.signal(signal);
        sent.map_err(|source| ClusterError::Signal { id: self.id, source })
    }
}
