//! The view that is published.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::known::{Chain, ChainFacts, Standing};
use super::node::NodeFacts;
use super::{Agreement, ChainView, Group, NodeView, Progress};
use crate::{Hash, Header, OnBranch, Transaction};

impl<T: Transaction> ChainFacts<T> {
    pub(super) fn view(&self, now: Instant) -> ChainView {
        let chain = self.chain.as_ref();
        let nodes = self.nodes.iter().filter(|(_, node)| node.listed);
        ChainView {
            chain: self.identity.clone(),
            graph: chain.map(|chain| chain.graph.clone()),
            tip: chain.map(|chain| chain.tip),
            head: self.best(),
            finalised: chain.map(|chain| chain.finalised),
            rivals: self.rivals.clone(),
            target: self.target(now),
            progress: self.progress(now),
            nodes: Arc::new(nodes.map(|(name, node)| (Arc::clone(name), self.show(node))).collect()),
            pending: self.pending.len(),
            blocks: self.blocks.len(),
            taken_at: now,
        }
    }

    fn show(&self, node: &NodeFacts) -> NodeView {
        NodeView {
            group: node.group,
            head: node.head,
            head_asked: node.head_asked,
            finalised: node.finalised,
            agreement: self.agreement(node),
            health: node.health.clone(),
            error: {
                let trouble = node.last_error.as_ref().map(|trouble| &trouble.error);
                node.failure.as_ref().or(node.invalid_header.as_ref()).or(trouble).cloned()
            },
        }
        .since_it_appeared()
    }

    fn agreement(&self, node: &NodeFacts) -> Agreement {
        if let Some(found) = &node.foreign {
            return Agreement::OtherChain(found.clone());
        }
        if node.invalid_header.is_some() {
            return Agreement::Untrue;
        }
        if node.breached {
            return Agreement::Breached;
        }
        let (Some(head), Some(chain)) = (node.head, &self.chain) else { return Agreement::Unknown };
        match self.standing(&head) {
            Standing::Waiting => Agreement::Pending,
            Standing::Below => Agreement::Below(chain.tip.height - head.height),
            Standing::Off => Agreement::Unknown,
            Standing::Linked => compare(chain, &head),
        }
    }

    fn target(&self, now: Instant) -> Option<Header> {
        let counts =
            |node: &&NodeFacts| node.group == Group::Public && node.is_believed() && node.is_fresh(now);
        let heads: Vec<Hash> =
            self.nodes.values().filter(counts).filter_map(|node| node.head).map(|head| head.hash).collect();
        let graph = &self.chain.as_ref()?.graph;
        if heads.len() < self.config.public_quorum { None } else { graph.majority(&heads) }
    }

    fn progress(&self, now: Instant) -> Option<Progress> {
        let (since, from) = self.behind_since?;
        let height = self.chain.as_ref()?.tip.height;
        let goal = self.goal()?.max(height);
        let elapsed = now.saturating_duration_since(since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let (done, rest) = (height.saturating_sub(from) as f64, (goal - height) as f64);
        let rate = if elapsed > 0.0 { done / elapsed } else { 0.0 };
        let left = (rate > 0.0).then(|| Duration::try_from_secs_f64(rest / rate).ok()).flatten();
        Some(Progress { from, height, goal, rate, left })
    }
}

fn compare(Chain { graph, tip, .. }: &Chain, head: &Header) -> Agreement {
    if graph.is_on_branch(&head.hash, &tip.hash) == OnBranch::Yes {
        return Agreement::Behind(tip.height - head.height);
    }
    match graph.common_ancestor(&head.hash, &tip.hash) {
        Some(shared) if shared == *tip => Agreement::Ahead(head.height - tip.height),
        Some(shared) => Agreement::Forked(shared),
        None => Agreement::Unknown,
    }
}
