//! The observer over random trees and nodes, compared with a plain model that knows all blocks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use proptest::prelude::*;
use proptest::sample::Index;
use watchkeeper::ObservedSource;
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{
    Agreement, Block, ChainConfig, ChainEvent, ChainObserver, ChainSource, ChainView, Detail, Group, Hash,
    Header, Start,
};

use crate::common::{
    Event, Front, InFront, LONG, NAMES, Named, Node, Step, Tree, Watched, config, fold, hash, heal, name,
    on_paused_clock, steps,
};

/// A node that counts the requests for each block, together with the other nodes.
#[derive(Clone)]
struct Noted {
    node: Node,
    blocks: Arc<Mutex<HashMap<Hash, usize>>>,
}

#[async_trait]
impl InFront for Noted {
    fn node(&self) -> &Node {
        &self.node
    }

    async fn block(&self, hash: Hash, detail: Detail) -> Result<Option<Block<Named>>, ChainError> {
        *self.blocks.lock().unwrap().entry(hash).or_default() += 1;
        self.node.block(hash, detail).await
    }
}

/// A random tree: each block's parent is an earlier block, mostly one of the last; weights from 1 to 3.
fn tree() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((prop_oneof![6 => 0..2_usize, 1 => 0..40_usize], 1..4_u8), 5..60)
}

fn plant(shape: &[(usize, u8)]) -> (Tree, Vec<String>) {
    let mut tree = Tree::new("g");
    let mut names = vec!["g".to_owned()];
    for (nth, (back, work)) in shape.iter().enumerate() {
        let parent = names[names.len() - 1 - back % names.len()].clone();
        let block = format!("b{nth}");
        tree.line(&format!("{parent} {block}:{work}"));
        names.push(block);
    }
    (tree, names)
}

fn moves() -> impl Strategy<Value = Vec<Vec<(usize, Index)>>> {
    prop::collection::vec(prop::collection::vec((0..3_usize, any::<Index>()), 0..4), 1..25)
}

/// The plain model.
struct Plain<'a> {
    tree: &'a Tree,
}

impl Plain<'_> {
    /// From the block down to genesis, by names.
    fn branch(&self, tip: &str) -> Vec<String> {
        let mut branch = vec![tip.to_owned()];
        while branch.last().unwrap() != "g" {
            branch.push(name(self.tree.header(branch.last().unwrap()).parent));
        }
        branch
    }

    fn weight(&self, tip: &str) -> u128 {
        self.branch(tip).iter().map(|block| self.tree.header(block).work).sum()
    }

    fn has(&self, tip: &str, block: &str) -> bool {
        self.branch(tip).iter().any(|other| other == block)
    }

    /// Where the branch may be now: at the old tip, if a head has it and none is heavier, else at a heaviest.
    fn tips(&self, tip: &str, heads: &[String]) -> Vec<String> {
        let most = heads.iter().map(|head| self.weight(head)).max().unwrap();
        let held = heads.iter().any(|head| self.has(head, tip));
        if held && most <= self.weight(tip) {
            return vec![tip.to_owned()];
        }
        heads.iter().filter(|head| self.weight(head) == most).cloned().collect()
    }

    /// The graph agrees with the tree, and each node's agreement with its head.
    fn check(&self, view: &ChainView, folded: &[String]) -> Result<(), TestCaseError> {
        let (graph, tip) = (view.graph.as_ref().unwrap(), name(view.tip.unwrap().hash));
        prop_assert_eq!(folded.last(), Some(&tip), "the events end at the tip");
        let mut branch: Vec<String> = self.branch(&tip);
        branch.reverse();
        prop_assert_eq!(folded, &branch, "the events fold to the branch");
        for header in graph.tips().flat_map(|tip| graph.down(&tip.hash, 0).collect::<Vec<_>>()) {
            prop_assert_eq!(header, self.tree.header(&name(header.hash)));
        }
        let finalised = name(view.finalised.unwrap().hash);
        prop_assert!(self.has(&tip, &finalised), "{} is final and not on the branch of {}", finalised, tip);
        let (tip_height, root) = (view.tip.unwrap().height, graph.root().height);
        for node in view.nodes.values() {
            if let Agreement::Below(by) = node.agreement {
                let height = node.head.unwrap().height;
                prop_assert!(height < root && by == tip_height - height, "{:?}", node);
            }
            self.check_agreement(&node.agreement, node.head, &tip)?;
        }
        Ok(())
    }

    fn check_agreement(
        &self,
        agreement: &Agreement,
        head: Option<Header>,
        tip: &str,
    ) -> Result<(), TestCaseError> {
        let head = head.map(|header| name(header.hash)).unwrap_or_default();
        let height = |block: &str| self.tree.header(block).height;
        match agreement {
            Agreement::Behind(by) => {
                prop_assert!(self.has(tip, &head));
                prop_assert_eq!(height(tip) - height(&head), *by);
            }
            Agreement::Ahead(by) => {
                prop_assert!(self.has(&head, tip));
                prop_assert_eq!(height(&head) - height(tip), *by);
            }
            Agreement::Forked(at) => {
                let shared = self.branch(&head).into_iter().find(|block| self.has(tip, block));
                prop_assert_eq!(shared.unwrap(), name(at.hash));
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(100) })]

    /// Every node answers: after each cycle the branch is the one of the plain model, and each block was fetched
    /// once.
    #[test]
    fn with_good_nodes_each_cycle_ends_at_the_tip_of_the_model(shape in tree(), steps in moves()) {
        on_paused_clock(async {
            let (tree, names) = plant(&shape);
            let plain = Plain { tree: &tree };
            let nodes: Vec<Node> = NAMES.iter().map(|_| tree.node("g")).collect();
            let blocks: Arc<Mutex<HashMap<Hash, usize>>> = Arc::default();
            let noted = |node: &Node| Front(Noted { node: node.clone(), blocks: Arc::clone(&blocks) });
            let listed = NAMES.into_iter().zip(&nodes);
            let sources =
                listed.map(|(name, node)| ObservedSource::new(name, ChainSource::local(noted(node)))).collect();
            let mut watched = Watched::with(ChainObserver::new(config()), sources).await;
            let mut heads = vec!["g".to_owned(); 3];
            let mut folded = vec!["g".to_owned()];
            for step in steps {
                for (node, block) in step {
                    heads[node] = names[block.index(names.len())].clone();
                    tree.advance(&nodes[node], &heads[node]);
                }
                let view = watched.cycle().await;
                let before = folded.last().unwrap().clone();
                fold(&mut folded, &watched.emitted());
                let allowed = plain.tips(&before, &heads);
                let tip = folded.last().unwrap();
                prop_assert!(allowed.contains(tip), "{} after {}, not one of {:?}", tip, before, allowed);
                plain.check(&view, &folded)?;
            }
            for (hash, times) in &*blocks.lock().unwrap() {
                prop_assert_eq!(*times, 1, "{} was fetched again", name(*hash));
            }
            Ok(())
        })?;
    }

    /// One address answers with heads of the heaviest branch, and up to five times consecutively with others that are
    /// not heavier: no block of that branch is disconnected, and the tip follows it.
    #[test]
    fn with_an_address_that_flaps_no_block_is_disconnected_that_most_answers_kept(
        shape in tree(),
        answers in prop::collection::vec((1..4_u8, prop::collection::vec(any::<Index>(), 0..=5)), 1..20),
    ) {
        on_paused_clock(async {
            let (tree, names) = plant(&shape);
            let plain = Plain { tree: &tree };
            let heaviest = names.iter().max_by_key(|name| plain.weight(name)).unwrap();
            let mut main = plain.branch(heaviest);
            main.reverse();
            let node = tree.node("g");
            let sources = vec![ObservedSource::new("n1", ChainSource::local(node.clone()))];
            let patient = ChainConfig { lighter_after: 6, lighter_for: LONG * 100, ..config() };
            let mut watched = Watched::with(ChainObserver::new(patient), sources).await;
            let mut height = 0;
            for (grows, others) in answers {
                height = (height + usize::from(grows)).min(main.len() - 1);
                tree.advance(&node, &main[height]);
                let view = watched.cycle().await;
                prop_assert_eq!(name(view.tip.unwrap().hash), main[height].clone());
                for other in others {
                    let most = plain.weight(&main[height]);
                    let lighter: Vec<&String> = names.iter().filter(|name| plain.weight(name) <= most).collect();
                    tree.advance(&node, lighter[other.index(lighter.len())]);
                    let view = watched.cycle().await;
                    prop_assert_eq!(name(view.tip.unwrap().hash), main[height].clone());
                }
            }
            for event in watched.emitted() {
                let disconnects = matches!(event, ChainEvent::Reorged { .. } | ChainEvent::Reverted { .. });
                prop_assert!(!disconnects, "{:?}", event);
            }
            Ok(())
        })?;
    }

    /// Local and public nodes fail, hang, lie, leave, come back, lag, rewind and report finality: in every cycle the
    /// events fold to the snapshot, no final block is disconnected, and when all nodes are healed the branch is right.
    #[test]
    fn with_faulty_nodes_the_events_fold_to_the_snapshot(
        shape in tree(),
        steps in steps(),
        bounds in prop::sample::select(vec![(128, 512, 1024), (2, 3, 5)]),
        root in prop::option::of(any::<Index>()),
        locals in prop_oneof![Just(7_u8), 0..7_u8],
        refuses in any::<bool>(),
    ) {
        on_paused_clock(async {
            let (tree, names) = plant(&shape);
            let plain = Plain { tree: &tree };
            let nodes: Vec<Node> = NAMES.iter().map(|_| tree.node("g")).collect();
            let of = |bits: u8| {
                let listed = (0..3).filter(|nth| bits & (1 << nth) != 0);
                let group = |nth: usize| if locals & (1 << nth) == 0 { ChainSource::public } else { ChainSource::local };
                listed.map(|nth| ObservedSource::new(NAMES[nth], group(nth)(nodes[nth].clone()))).collect()
            };
            let (block_window, backfill, pending_limit) = bounds;
            // Where the root is not the first block, nodes are also below it and on other branches.
            let root = root.map_or("g", |root| &names[root.index(names.len())]);
            let start = Start::Known(vec![tree.header(root)]);
            let config = ChainConfig { start, block_window, blocks_kept: 0, backfill, pending_limit, ..config() };
            let mut watched = Watched::start(config, of(7)).await;
            let mut folded = plain.branch(root);
            folded.reverse();
            let mut last_final = root.to_owned();
            for step in steps {
                if let Step::List(bits) = step {
                    watched.sources.replace(of(bits));
                }
                let branch_to = |block: Index| plain.branch(&names[block.index(names.len())]);
                step.apply(&nodes, |block| branch_to(block).iter().map(|name| tree.block(name).clone()).collect())
                    .await;
                if let (Step::Fail(node, "block"), true) = (&step, refuses) {
                    // Blocks that all nodes refuse are read in part, and hold nothing up.
                    let reason = "scripted".to_owned();
                    let error = ChainError::Refused { endpoint: "node".to_owned(), method: "block", reason };
                    nodes[*node].script().fails.insert("block", error);
                }
                let view = watched.cycle().await;
                check_final(&plain, &mut folded, &mut last_final, &watched.emitted())?;
                if view.graph.is_some() {
                    plain.check(&view, &folded)?;
                }
            }
            for node in &nodes {
                let lies = !names.contains(&name(node.script().head.unwrap()));
                heal(node);
                if lies {
                    node.script().head = Some(hash("g"));
                }
            }
            watched.sources.replace(of(7));
            // Requests that hang time out, and blocks that come in parts are emitted.
            tokio::time::sleep(LONG).await;
            let mut view = watched.cycle().await;
            for _ in 0..60 {
                view = watched.cycle().await;
                check_final(&plain, &mut folded, &mut last_final, &watched.emitted())?;
            }
            plain.check(&view, &folded)?;
            let tip = folded.last().unwrap();
            let is_there = |agreement: &Agreement| !matches!(agreement, Agreement::Breached | Agreement::Below(_));
            let deciders = if locals == 0 { Group::Public } else { Group::Local };
            let believed =
                view.nodes.values().filter(|node| node.group == deciders && is_there(&node.agreement));
            let heads: Vec<String> = believed.map(|node| name(node.head.unwrap().hash)).collect();
            // The tip is a heaviest head; or above it, where the nodes that had the tip were never seen to leave it.
            let most = heads.iter().map(|head| plain.weight(head)).max();
            let mut heaviest = heads.iter().filter(|head| Some(plain.weight(head)) == most);
            prop_assert!(
                heads.is_empty() || heaviest.any(|head| plain.has(tip, head)),
                "{} is the tip, the heads are {:?}", tip, heads
            );
            Ok(())
        })?;
    }
}

/// Folds the events, and checks that no final block leaves the branch.
fn check_final(
    plain: &Plain<'_>,
    folded: &mut Vec<String>,
    last: &mut String,
    events: &[Event],
) -> Result<(), TestCaseError> {
    for event in events {
        fold(folded, std::slice::from_ref(event));
        if let ChainEvent::Finalised { block } = event {
            let block = name(block.hash);
            prop_assert!(folded.contains(&block), "{} is final and was never emitted", block);
            prop_assert!(plain.has(&block, last), "{} is final and not above {}", block, last);
            *last = block;
        }
        prop_assert!(folded.contains(last), "{} was final and left the branch", last);
    }
    Ok(())
}
