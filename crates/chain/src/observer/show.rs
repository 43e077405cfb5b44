//! The view that is published.

use std::sync::Arc;

use tokio::time::Instant;

use super::branch::CanonicalBranch;
use super::headers::{Headers, Place};
use super::nodes::{NodeFacts, Nodes};
use super::{Agreement, ChainView, Group, NodeView};
use crate::{Graph, Hash, Header, OnBranch, Transaction};

/// What is known now.
pub(super) fn view<T: Transaction>(
    headers: &Headers,
    branch: &CanonicalBranch<T>,
    nodes: &Nodes,
    public_quorum: usize,
    now: Instant,
) -> ChainView {
    let graph = headers.graph();
    let listed = nodes.iter().filter(|node| node.is_listed());
    let show = |node: &NodeFacts| {
        let shown = NodeView {
            group: node.group(),
            head: node.head(),
            head_asked: node.head_asked(),
            finalised: node.finalised(),
            agreement: agreement(headers, branch.tip(), node),
            health: node.health().clone(),
            error: node.error().cloned().or_else(|| headers.too_long(node.name(), &node.head()?)),
            flaps: node.flaps(now),
        };
        shown.since_it_appeared()
    };
    ChainView {
        chain: nodes.identity().cloned(),
        graph: graph.cloned(),
        tip: branch.tip(),
        head: graph.and_then(|graph| branch.best(graph, &nodes.linked_heads())),
        finalised: branch.finalised(),
        rivals: branch.rivals().to_vec(),
        target: graph.and_then(|graph| target(graph, nodes, public_quorum, now)),
        progress: branch.progress(nodes.goal(), now),
        nodes: Arc::new(listed.map(|node| (Arc::clone(node.name()), show(node))).collect()),
        deciders: nodes.deciders(),
        pending: headers.pending(),
        blocks: branch.blocks(),
        taken_at: now,
        heads_at: nodes.recorded_at().unwrap_or(now),
    }
}

fn agreement(headers: &Headers, tip: Option<Header>, node: &NodeFacts) -> Agreement {
    if let Some(found) = node.foreign() {
        return Agreement::OtherChain(found.clone());
    }
    if node.is_invalid() {
        return Agreement::Untrue;
    }
    if node.is_in_breach() {
        return Agreement::Breached;
    }
    let (Some(head), Some(tip), Some(graph)) = (node.head(), tip, headers.graph()) else {
        return Agreement::Unknown;
    };
    match headers.place(&head) {
        Place::Waiting => Agreement::Pending,
        Place::Below => Agreement::Below(tip.height - head.height),
        Place::Off => Agreement::Unknown,
        Place::Linked => compare(graph, &tip, &head),
    }
}

fn target(graph: &Graph, nodes: &Nodes, public_quorum: usize, now: Instant) -> Option<Header> {
    let counts =
        |node: &&NodeFacts| node.group() == Group::Public && node.is_believed() && node.is_fresh(now);
    let heads: Vec<Hash> =
        nodes.iter().filter(counts).filter_map(NodeFacts::head).map(|head| head.hash).collect();
    if heads.len() < public_quorum { None } else { graph.majority(&heads) }
}

fn compare(graph: &Graph, tip: &Header, head: &Header) -> Agreement {
    if graph.is_on_branch(&head.hash, &tip.hash) == OnBranch::Yes {
        return Agreement::Behind(tip.height - head.height);
    }
    match graph.common_ancestor(&head.hash, &tip.hash) {
        Some(shared) if shared == *tip => Agreement::Ahead(head.height - tip.height),
        Some(shared) => Agreement::Forked(shared),
        None => Agreement::Unknown,
    }
}
