//! The graph against a plain map of headers that is walked parent by parent.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::Index;
use watchkeeper_chain::{Graph, Hash, Header, Height, InsertError, OnBranch};

#[derive(Clone, Debug)]
enum Step {
    /// A child of any block, of any weight; often of the last one.
    Insert {
        parent: Option<Index>,
        work: u8,
    },
    /// At an ancestor of any block.
    Prune(Index),
    Ask(Index, Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (prop::option::weighted(0.3, any::<Index>()), 1..4_u8)
            .prop_map(|(parent, work)| Step::Insert { parent, work }),
        1 => any::<Index>().prop_map(Step::Prune),
        6 => (any::<Index>(), any::<Index>()).prop_map(|(one, other)| Step::Ask(one, other)),
    ]
}

#[derive(Default)]
struct Plain {
    headers: HashMap<Hash, Header>,
    order: Vec<Hash>,
    made: u32,
}

impl Plain {
    fn make(&mut self, parent: Option<Header>, work: u8) -> Header {
        self.made += 1;
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&self.made.to_le_bytes());
        Header {
            hash: Hash(hash),
            parent: parent.map_or(Hash([0xff; 32]), |parent| parent.hash),
            height: parent.map_or(5, |parent| parent.height + 1),
            work: work.into(),
            time: self.made.into(),
        }
    }

    fn take(&mut self, header: Header) {
        self.headers.insert(header.hash, header);
        self.order.push(header.hash);
    }

    /// From the block down to the root.
    fn branch(&self, tip: Hash) -> Vec<Header> {
        std::iter::successors(self.headers.get(&tip), |header| self.headers.get(&header.parent))
            .copied()
            .collect()
    }

    fn any(&self, index: Index) -> Hash {
        self.order[index.index(self.order.len())]
    }

    fn prune(&mut self, boundary: Hash) {
        let stays = |hash: &Hash| self.branch(*hash).iter().any(|header| header.hash == boundary);
        let order: Vec<Hash> = self.order.iter().copied().filter(stays).collect();
        self.headers.retain(|hash, _| order.contains(hash));
        self.order = order;
    }

    fn meet(&self, one: Hash, other: Hash) -> Header {
        let branch = self.branch(one);
        let shared = self.branch(other).into_iter().find(|header| branch.contains(header));
        shared.expect("all have the root")
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn it_answers_as_a_plain_map_does(steps in prop::collection::vec(step(), 1..300)) {
        let mut plain = Plain::default();
        let root = plain.make(None, 1);
        plain.take(root);
        let mut graph = Graph::new(root);
        let mut gone: Vec<Header> = Vec::new();
        for step in steps {
            match step {
                Step::Insert { parent, work } => {
                    let parent = parent.map_or(*plain.order.last().unwrap(), |index| plain.any(index));
                    let header = plain.make(Some(plain.headers[&parent]), work);
                    let orphan = Header { parent: header.hash, height: header.height + 1, ..plain.make(None, 1) };
                    let missing = matches!(graph.insert(orphan), Err(InsertError::MissingParent { .. }));
                    prop_assert!(missing);
                    plain.take(header);
                    graph.insert(header).unwrap();
                }
                Step::Prune(index) => {
                    let boundary = plain.any(index);
                    let before = plain.headers.clone();
                    let kept = graph.clone();
                    plain.prune(boundary);
                    prop_assert_eq!(graph.prune(&boundary), Ok(before.len() - plain.headers.len()));
                    gone.extend(before.values().filter(|header| !plain.headers.contains_key(&header.hash)));
                    prop_assert_eq!(kept.len(), before.len(), "a clone does not change");
                }
                Step::Ask(one, other) => ask(&graph, &plain, plain.any(one), plain.any(other))?,
            }
            prop_assert_eq!(graph.len(), plain.headers.len());
        }
        for header in gone {
            prop_assert_eq!(graph.get(&header.hash), None);
            prop_assert_eq!(graph.is_on_branch(&header.hash, &graph.root().hash), OnBranch::Unknown);
        }
        check_tips(&graph, &plain)?;
    }
}

fn ask(graph: &Graph, plain: &Plain, one: Hash, other: Hash) -> Result<(), TestCaseError> {
    let branch = plain.branch(one);
    prop_assert_eq!(graph.get(&one), branch.first().copied());
    let root = graph.root();
    prop_assert_eq!(Some(&root), branch.last());
    for height in root.height.saturating_sub(1)..=branch[0].height + 1 {
        let expected = branch.iter().find(|header| header.height == height).copied();
        prop_assert_eq!(graph.ancestor_at(&one, height), expected, "at {}", height);
    }
    let shared = plain.meet(one, other);
    prop_assert_eq!(graph.common_ancestor(&one, &other), Some(shared));
    let path = graph.path(&one, &other).unwrap();
    let above = |tip: Hash| plain.branch(tip).into_iter().filter(|header| header.height > shared.height);
    let mut joined: Vec<Header> = above(other).collect();
    joined.reverse();
    prop_assert_eq!(&path.left, &above(one).collect::<Vec<_>>());
    prop_assert_eq!(&path.joined, &joined);
    prop_assert_eq!(graph.distance(&one, &other), Some((path.left.len() + joined.len()) as u64));
    let expected = if shared.hash == one { OnBranch::Yes } else { OnBranch::No };
    prop_assert_eq!(graph.is_on_branch(&one, &other), expected);
    let weight =
        |graph: &Graph, hash| graph.total_work(hash).unwrap() - graph.total_work(&root.hash).unwrap();
    let expected: u128 = branch.iter().rev().skip(1).map(|header| header.work).sum();
    prop_assert_eq!(weight(graph, &one), expected);
    let heads = [one, other, *plain.order.last().unwrap()];
    let most =
        |header: &&Header| heads.iter().filter(|head| plain.branch(**head).contains(header)).count() >= 2;
    let expected = plain.headers.values().filter(most).max_by_key(|header| header.height);
    prop_assert_eq!(graph.majority(&heads).map(|header| header.height), expected.map(|header| header.height));
    Ok(())
}

fn check_tips(graph: &Graph, plain: &Plain) -> Result<(), TestCaseError> {
    let is_parent = |hash: &Hash| plain.headers.values().any(|header| header.parent == *hash);
    let tips: Vec<Hash> = plain.order.iter().copied().filter(|hash| !is_parent(hash)).collect();
    prop_assert_eq!(graph.tips().map(|tip| tip.hash).collect::<Vec<_>>(), tips.clone());
    let height: Height = graph.root().height;
    let above = graph.branches_above(height);
    prop_assert_eq!(above.len(), tips.iter().filter(|tip| plain.headers[*tip].height > height).count());
    for tip in &tips {
        let drawn = graph.draw(tip, 0);
        prop_assert_eq!(blocks_in(&drawn), plain.headers.len(), "each block is drawn once:\n{}", drawn);
    }
    Ok(())
}

/// How many blocks a drawing has: those that are drawn, and those that are counted as "more".
fn blocks_in(drawn: &str) -> usize {
    let each = drawn.lines().map(|line| {
        let count = |wanted| line.chars().filter(|c| *c == wanted).count();
        let between = line.strip_suffix(" more").and_then(|line| line.rsplit(' ').next());
        count('*') + between.map_or(0, |between| count(':') * between.parse::<usize>().unwrap())
    });
    each.sum()
}
