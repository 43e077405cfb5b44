//! Which nodes of a graph are on circles.

use std::collections::{BTreeMap, BTreeSet};

/// The strongly connected components of more than one node: from each of its nodes, an edge leads to every other.
pub(super) fn circles(edges: &BTreeSet<(usize, usize)>) -> Vec<BTreeSet<usize>> {
    let nodes: BTreeSet<usize> = edges.iter().map(|(from, _)| *from).collect();
    let reached: BTreeMap<usize, BTreeSet<usize>> =
        nodes.into_iter().map(|node| (node, reachable(node, edges))).collect();
    let mut found: Vec<BTreeSet<usize>> = Vec::new();
    for (node, others) in &reached {
        if found.iter().any(|circle| circle.contains(node)) {
            continue;
        }
        let returns = |other: &usize| reached.get(other).is_some_and(|reached| reached.contains(node));
        let mut circle: BTreeSet<usize> = others.iter().copied().filter(returns).collect();
        circle.insert(*node);
        if circle.len() > 1 {
            found.push(circle);
        }
    }
    found
}

fn reachable(start: usize, edges: &BTreeSet<(usize, usize)>) -> BTreeSet<usize> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(node) = open.pop() {
        for (_, to) in edges.range((node, 0)..=(node, usize::MAX)) {
            if reached.insert(*to) {
                open.push(*to);
            }
        }
    }
    reached
}
