//! Two questions, asked over RPC by hand and of the projections, on the same scripted chain: what each way costs.
//!
//! It prints the tables of the README. The clock is paused: a minute of chain takes a moment.

#[path = "included/after.rs"]
mod included_after;
#[path = "included/before.rs"]
mod included_before;
#[path = "sync/after.rs"]
mod sync_after;
#[path = "sync/before.rs"]
mod sync_before;

mod chain;

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use watchkeeper::DynError;
use watchkeeper_chain::{Header, Height};

use chain::{LENGTH, Node, PART};

const SECOND: Duration = Duration::from_secs(1);
/// Changes of the chain and questions come between two cycles.
const BETWEEN: Duration = Duration::from_millis(500);
const WITHIN: Duration = Duration::from_secs(LENGTH);
const DEPTH: u64 = 3;

/// The answers of one way, and how often it asked a node.
#[derive(Debug, PartialEq)]
struct Ran<A> {
    answers: Vec<A>,
    calls: usize,
}

fn main() -> Result<(), DynError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    println!("{}", runtime.block_on(tables())?);
    Ok(())
}

/// Each of the consumers asks once a second for a minute; returns the answers at the end of each part.
async fn sync_before(consumers: usize) -> Result<Ran<Option<Height>>, DynError> {
    let nodes = [(); 4].map(|()| chain::node());
    let mut answers = Vec::new();
    for second in 0..LENGTH {
        chain::at_second(second, &nodes);
        let mut asked = JoinSet::new();
        for _ in 0..consumers {
            let [ours, public @ ..] = nodes.clone();
            asked.spawn(async move { sync_before::behind(&ours, &public).await });
        }
        sleep(SECOND).await;
        let returned = asked.join_all().await;
        if second % PART == PART - 1 {
            answers.extend(returned);
        }
    }
    Ok(Ran { answers, calls: chain::calls(&nodes) })
}

/// The same.
async fn sync_after(consumers: usize) -> Result<Ran<Option<Height>>, DynError> {
    let nodes = [(); 4].map(|()| chain::node());
    let [ours, public @ ..] = nodes.clone();
    let watched = sync_after::watch(ours, public.to_vec(), SECOND).await?;
    sleep(BETWEEN).await;
    let mut answers = Vec::new();
    for second in 0..LENGTH {
        chain::at_second(second, &nodes);
        sleep(SECOND).await;
        let returned = (0..consumers).map(|_| sync_after::behind(&watched)).collect::<Vec<_>>();
        if second % PART == PART - 1 {
            answers.extend(returned);
        }
    }
    Ok(Ran { answers, calls: chain::calls(&nodes) })
}

/// Waits for each of the transactions; calls are counted until all are found.
async fn included_before(transactions: u64) -> Result<Ran<Option<(Header, u64)>>, DynError> {
    let node = chain::node();
    let mut script = JoinSet::new();
    script.spawn(play(node.clone(), transactions));
    sleep(BETWEEN).await;
    let mut waits = JoinSet::new();
    for transaction in (0..transactions).map(chain::transaction) {
        let node = node.clone();
        waits
            .spawn(async move { included_before::included(&node, transaction, DEPTH, SECOND, WITHIN).await });
    }
    let answers = waits.join_all().await.into_iter().collect::<Result<_, _>>()?;
    Ok(Ran { answers, calls: chain::calls([&node]) })
}

/// The same.
async fn included_after(transactions: u64) -> Result<Ran<Option<(Header, u64)>>, DynError> {
    let node = chain::node();
    let mut script = JoinSet::new();
    script.spawn(play(node.clone(), transactions));
    sleep(BETWEEN).await;
    let watched = std::sync::Arc::new(included_after::watch(node.clone(), SECOND).await?);
    let mut waits = JoinSet::new();
    for transaction in (0..transactions).map(chain::transaction) {
        let watched = watched.clone();
        waits.spawn(async move { included_after::included(&watched, transaction, DEPTH, WITHIN).await });
    }
    let answers = waits.join_all().await.into_iter().collect::<Result<_, _>>()?;
    Ok(Ran { answers, calls: chain::calls([&node]) })
}

async fn play(node: Node, transactions: u64) {
    for second in 0..LENGTH {
        chain::reorg_at_second(second, &node, transactions);
        sleep(SECOND).await;
    }
}

/// Lines with code.
fn lines(code: &str) -> usize {
    code.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

async fn tables() -> Result<String, DynError> {
    let sync = [
        (lines(include_str!("sync/before.rs")), sync_before(1).await?.calls, sync_before(10).await?.calls),
        (lines(include_str!("sync/after.rs")), sync_after(1).await?.calls, sync_after(10).await?.calls),
    ];
    let included = [
        (
            lines(include_str!("included/before.rs")),
            included_before(1).await?.calls,
            included_before(100).await?.calls,
        ),
        (
            lines(include_str!("included/after.rs")),
            included_after(1).await?.calls,
            included_after(100).await?.calls,
        ),
    ];
    let table = |title: &str, one: &str, many: &str, [before, after]: [(usize, usize, usize); 2]| {
        let row = |name: &str, (lines, one, many): (usize, usize, usize)| {
            format!("| {name} | {lines} | {one} | {many} |")
        };
        let head = format!("| {title} | lines | calls, {one} | calls, {many} |\n|---|---|---|---|");
        [head, row("by hand", before), row("projection", after)].join("\n")
    };
    Ok([
        table("is our node in sync with the public chain?", "1 asks", "10 ask", sync),
        table("wait until it is included 3 deep", "1 transaction", "100 transactions", included),
    ]
    .join("\n\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn both_ways_agree_about_our_node() {
        let before = sync_before(1).await.unwrap();
        assert_eq!(before.answers, [Some(0), Some(5), Some(0), Some(5), None, Some(0)]);
        assert_eq!(sync_after(1).await.unwrap().answers, before.answers);
    }

    #[tokio::test(start_paused = true)]
    async fn by_hand_a_node_that_hangs_during_a_question_delays_no_other() {
        let nodes = [(); 4].map(|()| chain::node());
        chain::at_second(3 * PART, &nodes);
        let [ours, public @ ..] = &nodes;
        assert_eq!(sync_before::behind(ours, public).await, Some(1), "it is on a fork");
        ours.script().hangs = vec!["header"];
        let answer = tokio::time::timeout(WITHIN, sync_before::behind(ours, public)).await;
        assert_eq!(answer, Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn both_ways_find_the_block_that_stayed() {
        let before = included_before(3).await.unwrap();
        let found: Vec<_> =
            before.answers.iter().flatten().map(|(block, depth)| (block.height, *depth)).collect();
        assert_eq!(found, [(10, 3); 3]);
        assert_eq!(included_after(3).await.unwrap().answers, before.answers);
    }

    #[tokio::test(start_paused = true)]
    async fn more_questions_cost_the_projections_nothing() {
        assert_eq!(sync_after(10).await.unwrap().calls, sync_after(1).await.unwrap().calls);
        assert_eq!(included_after(100).await.unwrap().calls, included_after(1).await.unwrap().calls);
    }

    #[tokio::test(start_paused = true)]
    async fn the_readme_has_these_tables() {
        let tables = tables().await.unwrap();
        assert!(include_str!("../../README.md").contains(&tables), "the README lacks\n{tables}");
    }
}
