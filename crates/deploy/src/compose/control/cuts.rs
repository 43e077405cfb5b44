//! Nodes that are cut off, and stay so when they restart.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::ready;
use tokio::sync::{Mutex, Notify};
use tokio::time::timeout;
use watchkeeper::source::source_fn;
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource};
use watchkeeper_scenario::Application;

use super::super::partition::{Running, Traffic};
use super::{ContainerControl, LAST_LOOK};
use crate::shared::lock;

/// How often it is checked that cut nodes are still cut off, in addition to the engine's events.
const CUT_AGAIN: Duration = Duration::from_secs(1);
/// How long one check may take, with the cut that it makes.
const CUT_WITHIN: Duration = Duration::from_secs(60);

/// Whether a node is to be cut off, and the process whose network was cut last.
#[derive(Debug, Default)]
pub(super) struct Cut {
    pub(super) is_wanted: bool,
    pub(super) of: Option<Running>,
    /// Why the node is not cut off although it is to be.
    pub(super) problem: Option<String>,
}

/// Why a node was not cut off again.
#[derive(Debug)]
pub(super) enum NotCut {
    /// It has restarted, and its new network cannot be cut.
    Failed(DynError),
    /// The engine does not say what runs: the cut may still hold.
    Unknown(DynError),
}

impl NotCut {
    pub(super) fn after_a_start(&self) -> String {
        match self {
            Self::Failed(error) => format!("it was started, and is no longer cut off ({error})"),
            Self::Unknown(error) => {
                format!("it was started, and whether it is cut off again is not known yet ({error})")
            }
        }
    }
}

impl<A: Application> ContainerControl<A> {
    /// A restarted node has a new network, in which nothing is cut: cuts it for the nodes that are to be cut off, at
    /// each event of the engine. After a cut that failed there may be none: it is tried again each second.
    pub(super) async fn keep_cut(&self, event: Arc<Notify>) {
        let cuts = Arc::clone(&self.cuts);
        let nodes = source_fn(move || {
            let nodes: Vec<_> = lock(&cuts).keys().map(|node| ObservedSource::new(node, ())).collect();
            ready(Ok::<_, DynError>(nodes))
        });
        let control = self.clone();
        let probe = move |node: ObservedSource<()>| {
            let control = control.clone();
            async move {
                // What fails is kept with the cut, and tried again.
                if let Err(NotCut::Unknown(error)) = control.cut_one_again(&node.name).await {
                    tracing::debug!(node = node.name, %error, "whether a node is still cut off is not known; asking again");
                }
                Ok::<_, DynError>(())
            }
        };
        let config =
            ObservationConfig { interval: CUT_AGAIN, wake: Some(event), ..ObservationConfig::default() };
        let observer = PerSource::new(probe).probe_timeout(CUT_WITHIN);
        match ObservationRuntime::start_in_background(nodes, observer, config) {
            Ok(runtime) => {
                self.down.cancelled().await;
                let _ = runtime.stop().await;
            }
            Err(error) => tracing::error!(%error, "nodes that restart are not cut off again"),
        }
    }

    /// Waits only for other changes to this node's cut.
    pub(super) async fn cut_one_again(&self, node: &str) -> Result<(), NotCut> {
        let cut = self.cut(node);
        let mut cut = cut.lock().await;
        if !cut.is_wanted || self.is_down() {
            return Ok(());
        }
        // Without an answer of the engine, what was known of the cut stays.
        let now = self.what_runs(node).await.map_err(NotCut::Unknown)?;
        let Some(now) = now.filter(|now| cut.of.as_ref() != Some(now)) else {
            cut.problem = None;
            return Ok(());
        };
        if let Err(error) = self.set_traffic(now.clone(), Traffic::Dropped).await {
            let problem = error.to_string();
            // A node that is being removed fails too.
            if cut.problem.as_ref() != Some(&problem) && !self.is_down() {
                tracing::error!(
                    node,
                    problem,
                    "a node that was cut off has restarted and is no longer cut off; trying again"
                );
            }
            cut.problem = Some(problem);
            return Err(NotCut::Failed(error));
        }
        tracing::info!(node, "a node that was cut off has restarted, and is cut off again");
        (cut.of, cut.problem) = (Some(now), None);
        Ok(())
    }

    async fn what_runs(&self, node: &str) -> Result<Option<Running>, DynError> {
        match self.nodes.container(node).await? {
            Some(container) => Ok(self.running(&container).await?),
            None => Ok(None),
        }
    }

    /// Sets the traffic of the node's network, which must not be shared.
    pub(super) async fn set_traffic(&self, node: Running, traffic: Traffic) -> Result<(), DynError> {
        if let Some(sharer) = self.nodes.shares_network(&node.container).await? {
            return Err(sharer.into());
        }
        (self.set_traffic)(node, traffic).await
    }

    /// Why a node that serves is not ready: it is to be cut off.
    pub(super) async fn not_cut_off(&self, node: &str) -> Option<String> {
        let cut = lock(&self.cuts).get(node).cloned()?;
        let Ok(cut) = timeout(LAST_LOOK, cut.lock()).await else {
            return Some(
                "it serves, and whether it is cut off is not known: its cut is still being set".to_owned(),
            );
        };
        if !cut.is_wanted {
            return None;
        }
        Some(match &cut.problem {
            Some(problem) => {
                format!("it was cut off, and is no longer since it has restarted ({problem})")
            }
            None => "it is to be cut off, but it served: it was cut off meanwhile, or has restarted and is not cut off \
                     again yet"
                .to_owned(),
        })
    }

    pub(super) fn cut(&self, node: &str) -> Arc<Mutex<Cut>> {
        Arc::clone(lock(&self.cuts).entry(node.to_owned()).or_default())
    }
}
