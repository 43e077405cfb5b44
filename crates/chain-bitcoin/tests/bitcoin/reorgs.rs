//! Branches of real blocks, and the events of the observer.

use bitcoinkernel::BlockValidationResult as Rule;
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::{ChainEvent, Start, Transaction};
use watchkeeper_chain_bitcoin::{Key, NodeError};

use crate::common::{MiningNode, Watched, coins, downwards, headers, reorg};

/// ```text
/// g - 1 - 2 - o1 - .. - od
///          \
///           n1 - .. - nd - n(d+1)
/// ```
#[tokio::test]
async fn a_heavier_branch_is_emitted_as_one_reorg_at_any_depth() {
    let mut miner = MiningNode::of("miner").await;
    miner.extend(&miner.head().await, 2).await;
    let mut watched = Watched::start(Start::Genesis, &[("n1", &miner)]).await;
    watched.events_until(&miner.head().await).await;
    for depth in [1, 3, 10] {
        let ancestor = miner.head().await;
        let old = miner.extend(&ancestor, depth).await;
        let events = watched.events_until(&old[depth - 1].header).await;
        assert!(events.iter().all(|event| matches!(event, ChainEvent::Committed { .. })), "{events:?}");

        let mut new = miner.extend(&ancestor, depth).await;
        assert_eq!(watched.events().await, [], "a branch that weighs the same is not the node's");
        new.extend(miner.extend(&new[depth - 1].header, 1).await);
        let events = watched.events_until(&new[depth].header).await;
        assert_eq!(reorg(&events), (downwards(&old), headers(&new), ancestor), "{depth} deep");
        let [ChainEvent::Reorged { new: blocks, .. }] = &events[..] else { unreachable!() };
        for block in blocks {
            assert_eq!(**block, miner.block(&block.header).await);
        }
    }
}

/// ```text
/// .. - 100 - o1{s}
///         \
///          n1 - n2{s}
/// ```
#[tokio::test]
async fn a_transaction_on_both_branches_is_the_same_one() {
    let mut miner = MiningNode::of("miner").await;
    let (ancestor, reward) = miner.mature().await;
    let mut watched = Watched::start(Start::Recent(1), &[("n1", &miner)]).await;
    watched.events_until(&ancestor).await;
    let spend = miner.key.spend(&[reward], &[Key::named("alice").paid(coins(50))]).unwrap();
    let spends = std::slice::from_ref(&spend);

    let old = miner.mine(&ancestor, spends).await;
    watched.events_until(&old.header).await;
    let lower = miner.mine(&ancestor, &[]).await;
    let upper = miner.mine(&lower.header, spends).await;
    let events = watched.events_until(&upper.header).await;
    let expected = (vec![old.header], vec![lower.header, upper.header], ancestor);
    assert_eq!(reorg(&events), expected);

    let [before, after] = [&old, &upper].map(|mined| miner.block(&mined.header));
    let (before, after) = (before.await, after.await);
    assert_eq!(before.transactions[1], after.transactions[1]);
    assert_ne!(before.transactions[0].id(), after.transactions[0].id());
}

/// ```text
/// .. - 100 - o1{to alice}
///         \
///          n1{to bob} - n2 - n3{to alice}: rejected
/// ```
#[tokio::test]
async fn a_double_spend_may_be_on_another_branch_but_not_on_the_same() {
    let mut miner = MiningNode::of("miner").await;
    let (ancestor, reward) = miner.mature().await;
    let mut watched = Watched::start(Start::Recent(1), &[("n1", &miner)]).await;
    watched.events_until(&ancestor).await;
    let pay = |who: &str| {
        let paid = Key::named(who).paid(coins(50));
        [miner.key.spend(std::slice::from_ref(&reward), &[paid]).unwrap()]
    };
    let (alice, bob) = (pay("alice"), pay("bob"));

    let old = miner.mine(&ancestor, &alice).await;
    watched.events_until(&old.header).await;
    let lower = miner.mine(&ancestor, &bob).await;
    let upper = miner.mine(&lower.header, &[]).await;
    let events = watched.events_until(&upper.header).await;
    assert_eq!(reorg(&events), (vec![old.header], vec![lower.header, upper.header], ancestor));

    let (old, new) = (miner.block(&old.header).await, miner.block(&lower.header).await);
    assert_ne!(old.transactions[1].id(), new.transactions[1].id());
    assert_eq!(old.transactions[1].conflicts(), new.transactions[1].conflicts());

    let double = miner.make(&upper.header, &alice);
    let error = miner.rejected(&double).await;
    assert!(matches!(error, NodeError::Rejected { rule: Rule::Consensus, .. }), "{error:?}");
    assert_eq!(miner.head().await, upper.header);
    assert_eq!(watched.events().await, []);
}

/// ```text
/// .. - 100 - o1
///         \
///          n1{to bob} - n2{to alice}: rejected when it is the heaviest
/// ```
#[tokio::test]
async fn a_heavier_branch_that_breaks_a_rule_is_no_reorg() {
    let mut miner = MiningNode::of("miner").await;
    let (ancestor, reward) = miner.mature().await;
    let mut watched = Watched::start(Start::Recent(1), &[("n1", &miner)]).await;
    let pay = |who: &str| {
        let paid = Key::named(who).paid(coins(50));
        [miner.key.spend(std::slice::from_ref(&reward), &[paid]).unwrap()]
    };
    let (alice, bob) = (pay("alice"), pay("bob"));
    let good = miner.mine(&ancestor, &[]).await;
    watched.events_until(&good.header).await;
    let lower = miner.mine(&ancestor, &bob).await;
    let upper = miner.make(&lower.header, &alice);
    let error = miner.rejected(&upper).await;
    let expected = upper.header.hash;
    assert!(
        matches!(error, NodeError::Rejected { hash, rule: Rule::Consensus } if hash == expected),
        "{error:?}"
    );
    assert_eq!(miner.head().await, good.header);
    assert_eq!(watched.events().await, []);
}

/// ```text
///         o1         n1 of node 1
///        /
/// g - 1 -- r1 - r2   n2 of node 2
/// ```
#[tokio::test]
async fn equal_branches_of_two_nodes_are_rivals_until_one_grows() {
    let (mut one, mut two) = (MiningNode::of("one").await, MiningNode::of("two").await);
    let shared = one.extend(&one.head().await, 1).await;
    two.take(&shared).await;
    let mut watched = Watched::start(Start::Genesis, &[("n1", &one), ("n2", &two)]).await;
    watched.events_until(&shared[0].header).await;

    let first = one.mine(&shared[0].header, &[]).await;
    watched.events_until(&first.header).await;
    let rival = two.mine(&shared[0].header, &[]).await;
    let events = watched.events().await;
    assert_eq!(events, [ChainEvent::Rivals { tip: first.header, rival: rival.header }]);

    let grown = two.mine(&rival.header, &[]).await;
    let events = watched.events_until(&grown.header).await;
    assert_eq!(reorg(&events), (vec![first.header], vec![rival.header, grown.header], shared[0].header));
    one.take(&[rival, grown.clone()]).await;
    assert_eq!(watched.cycle().await.value.shared_head(), Some(grown.header));
    assert_eq!(one.client.head().await.unwrap(), grown.header);
}
