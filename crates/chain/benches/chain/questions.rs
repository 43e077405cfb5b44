//! Questions about forks, for the graph and for the plain map. Both must give the same answers.

use std::fmt::Debug;
use std::hint::black_box;
use std::time::{Duration, Instant};

use fastrand::Rng;
use watchkeeper_chain::{Graph, Hash, Height, OnBranch};

use crate::chains::{HEADERS, Plain, RIVAL_EVERY, hash, meet, walk};
use crate::{time, yes_or_no};

const QUESTIONS: usize = 100_000;
/// The plain way answers as many of them as it can in this time, and at least three.
const PATIENCE: Duration = Duration::from_millis(500);
const GOAL: Duration = Duration::from_micros(2);

/// Both ways to answer.
struct Both<'a> {
    graph: &'a Graph,
    plain: &'a Plain,
}

/// Beside the heaviest branch there are only single headers.
pub(crate) fn with_rivals(graph: &Graph, plain: &Plain) {
    let both = Both { graph, plain };
    let tip = hash(HEADERS - 1);
    let top = plain[&tip].height;
    let any = |random: &mut Rng| hash(random.u64(0..HEADERS));
    let near = |random: &mut Rng| hash(HEADERS - 1 - random.u64(0..1_000));
    let rival = |random: &mut Rng| hash(random.u64(0..HEADERS / RIVAL_EVERY) * RIVAL_EVERY);
    let last_rival = hash(HEADERS - RIVAL_EVERY);
    both.ancestor("ancestor at any height", |random| (tip, random.u64(0..=top)));
    both.is_on_branch("is any block on the branch", |random| (any(random), tip));
    both.is_on_branch("is one of the last 1,000 on it", |random| (near(random), tip));
    both.common_ancestor("common ancestor of two tips near each other", |_| (last_rival, tip));
    both.common_ancestor("common ancestor with any old rival", |random| (rival(random), tip));
}

/// Two long branches, one of which is never the heaviest.
pub(crate) fn on_two_branches(graph: &Graph, plain: &Plain) {
    let both = Both { graph, plain };
    let heavier = |random: &mut Rng| hash(random.u64(0..HEADERS / 2) * 2 + 1);
    let other = |random: &mut Rng| hash(random.u64(0..HEADERS / 2) * 2);
    let any = |random: &mut Rng| hash(random.u64(0..HEADERS));
    both.ancestor("two long branches: ancestor of any block at any height", |random| {
        let block = other(random);
        (block, random.u64(0..=plain[&block].height))
    });
    let tip = hash(HEADERS - 2);
    both.is_on_branch("two long branches: is any block on the branch", |random| (any(random), tip));
    both.is_on_branch("two long branches: is any block on that of any one above it", |random| {
        let (one, two) = (random.u64(0..HEADERS), random.u64(0..HEADERS / 2) * 2);
        // The lower one is the block: a block above the tip would cost no walk.
        if one < two { (hash(one), hash(two)) } else { (hash(two), hash(one / 2 * 2)) }
    });
    both.common_ancestor("two long branches: common ancestor across them", |random| {
        (heavier(random), other(random))
    });
    both.common_ancestor("two long branches: common ancestor on the lighter one", |random| {
        (other(random), other(random))
    });
}

impl Both<'_> {
    fn ancestor(&self, what: &str, question: impl Fn(&mut Rng) -> (Hash, Height)) {
        let plain = |(tip, height)| Some(walk(self.plain, tip, height));
        ask(what, question, plain, |(tip, height)| self.graph.ancestor_at(&tip, height));
    }

    fn is_on_branch(&self, what: &str, question: impl Fn(&mut Rng) -> (Hash, Hash)) {
        let plain = |(block, tip): (Hash, Hash)| {
            let is_on_branch = walk(self.plain, tip, self.plain[&block].height).hash == block;
            if is_on_branch { OnBranch::Yes } else { OnBranch::No }
        };
        ask(what, question, plain, |(block, tip)| self.graph.is_on_branch(&block, &tip));
    }

    fn common_ancestor(&self, what: &str, question: impl Fn(&mut Rng) -> (Hash, Hash)) {
        let plain = |(one, other)| Some(meet(self.plain, one, other));
        ask(what, question, plain, |(one, other)| self.graph.common_ancestor(&one, &other));
    }
}

/// Prints a row: the times of single answers, for the plain way the median.
fn ask<Q: Copy + Debug, A: Debug + PartialEq>(
    what: &str,
    question: impl Fn(&mut Rng) -> Q,
    plain: impl Fn(Q) -> A,
    graph: impl Fn(Q) -> A,
) {
    let mut random = Rng::with_seed(7);
    let questions: Vec<Q> = (0..QUESTIONS).map(|_| question(&mut random)).collect();
    let began = Instant::now();
    let mut walked = Vec::new();
    for &question in &questions {
        if walked.len() >= 3 && began.elapsed() > PATIENCE {
            break;
        }
        let (answer, taken) = timed(|| plain(question));
        assert_eq!(graph(question), answer, "{what}: {question:?}");
        walked.push(taken);
    }
    let mut found: Vec<Duration> = questions.iter().map(|question| timed(|| graph(*question)).1).collect();
    walked.sort_unstable();
    found.sort_unstable();
    let (median, high) = (found[found.len() / 2], found[found.len() / 100 * 99]);
    println!(
        "| {what} | {} | {} | {} | under {GOAL:?} | {} |",
        time(walked[walked.len() / 2]),
        time(median),
        time(high),
        yes_or_no(median < GOAL)
    );
}

fn timed<A>(work: impl FnOnce() -> A) -> (A, Duration) {
    let began = Instant::now();
    let answer = black_box(work());
    (answer, began.elapsed())
}
