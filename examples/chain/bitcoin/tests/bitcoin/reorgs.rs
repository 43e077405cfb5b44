//! Branches of real blocks, as the observer tells them.

use bitcoinkernel::BlockValidationResult as Rule;
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::{ChainEvent, Start, Transaction};
use watchkeeper_chain_bitcoin::{Key, NodeError};

use crate::common::{BranchPosition, Watched, coins, downwards, headers, reorg};

/// ```text
/// g - 1 - 2 - o1 - .. - od
///          \
///           n1 - .. - nd - n(d+1)
/// ```
#[tokio::test]
async fn a_heavier_branch_is_told_as_one_reorg_at_any_depth() {
    let mut place = BranchPosition::of("miner").await;
    place.extend(&place.head().await, 2).await;
    let mut watched = Watched::start(Start::Genesis, &[("n1", &place)]).await;
    watched.told_up_to(&place.head().await).await;
    for depth in [1, 3, 10] {
        let ancestor = place.head().await;
        let old = place.extend(&ancestor, depth).await;
        let told = watched.told_up_to(&old[depth - 1].header).await;
        assert!(told.iter().all(|event| matches!(event, ChainEvent::Committed { .. })), "{told:?}");

        let mut new = place.extend(&ancestor, depth).await;
        assert_eq!(watched.told().await, [], "a branch that weighs the same is not the node's");
        new.extend(place.extend(&new[depth - 1].header, 1).await);
        let told = watched.told_up_to(&new[depth].header).await;
        assert_eq!(reorg(&told), (downwards(&old), headers(&new), ancestor), "{depth} deep");
        let [ChainEvent::Reorged { new: blocks, .. }] = &told[..] else { unreachable!() };
        for block in blocks {
            assert_eq!(**block, place.block(&block.header).await);
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
    let mut place = BranchPosition::of("miner").await;
    let (ancestor, reward) = place.mature().await;
    let mut watched = Watched::start(Start::Recent(1), &[("n1", &place)]).await;
    watched.told_up_to(&ancestor).await;
    let spend = place.key.spend(&[reward], &[Key::named("alice").paid(coins(50))]).unwrap();
    let spends = std::slice::from_ref(&spend);

    let old = place.mine(&ancestor, spends).await;
    watched.told_up_to(&old.header).await;
    let lower = place.mine(&ancestor, &[]).await;
    let upper = place.mine(&lower.header, spends).await;
    let told = watched.told_up_to(&upper.header).await;
    let expected = (vec![old.header], vec![lower.header, upper.header], ancestor);
    assert_eq!(reorg(&told), expected);

    let [before, after] = [&old, &upper].map(|mined| place.block(&mined.header));
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
async fn a_double_spend_may_be_on_another_branch_and_not_on_the_same() {
    let mut place = BranchPosition::of("miner").await;
    let (ancestor, reward) = place.mature().await;
    let mut watched = Watched::start(Start::Recent(1), &[("n1", &place)]).await;
    watched.told_up_to(&ancestor).await;
    let pay = |who: &str| {
        let paid = Key::named(who).paid(coins(50));
        [place.key.spend(std::slice::from_ref(&reward), &[paid]).unwrap()]
    };
    let (alice, bob) = (pay("alice"), pay("bob"));

    let old = place.mine(&ancestor, &alice).await;
    watched.told_up_to(&old.header).await;
    let lower = place.mine(&ancestor, &bob).await;
    let upper = place.mine(&lower.header, &[]).await;
    let told = watched.told_up_to(&upper.header).await;
    assert_eq!(reorg(&told), (vec![old.header], vec![lower.header, upper.header], ancestor));

    let (old, new) = (place.block(&old.header).await, place.block(&lower.header).await);
    assert_ne!(old.transactions[1].id(), new.transactions[1].id());
    assert_eq!(old.transactions[1].conflicts(), new.transactions[1].conflicts());

    let double = place.make(&upper.header, &alice);
    let error = place.rejected(&double).await;
    assert!(matches!(error, NodeError::Rejected { rule: Rule::Consensus, .. }), "{error:?}");
    assert_eq!(place.head().await, upper.header);
    assert_eq!(watched.told().await, []);
}

/// ```text
/// .. - 100 - o1
///         \
///          n1{to bob} - n2{to alice}: rejected when it is the heaviest
/// ```
#[tokio::test]
async fn a_heavier_branch_that_breaks_a_rule_is_no_reorg() {
    let mut place = BranchPosition::of("miner").await;
    let (ancestor, reward) = place.mature().await;
    let mut watched = Watched::start(Start::Recent(1), &[("n1", &place)]).await;
    let pay = |who: &str| {
        let paid = Key::named(who).paid(coins(50));
        [place.key.spend(std::slice::from_ref(&reward), &[paid]).unwrap()]
    };
    let (alice, bob) = (pay("alice"), pay("bob"));
    let good = place.mine(&ancestor, &[]).await;
    watched.told_up_to(&good.header).await;
    let lower = place.mine(&ancestor, &bob).await;
    let upper = place.make(&lower.header, &alice);
    let error = place.rejected(&upper).await;
    let expected = upper.header.hash;
    assert!(
        matches!(error, NodeError::Rejected { hash, rule: Rule::Consensus } if hash == expected),
        "{error:?}"
    );
    assert_eq!(place.head().await, good.header);
    assert_eq!(watched.told().await, []);
}

/// ```text
///         o1         n1 of node 1
///        /
/// g - 1 -- r1 - r2   n2 of node 2
/// ```
#[tokio::test]
async fn equal_branches_of_two_nodes_are_rivals_until_one_grows() {
    let (mut one, mut two) = (BranchPosition::of("one").await, BranchPosition::of("two").await);
    let shared = one.extend(&one.head().await, 1).await;
    two.take(&shared).await;
    let mut watched = Watched::start(Start::Genesis, &[("n1", &one), ("n2", &two)]).await;
    watched.told_up_to(&shared[0].header).await;

    let first = one.mine(&shared[0].header, &[]).await;
    watched.told_up_to(&first.header).await;
    let rival = two.mine(&shared[0].header, &[]).await;
    let told = watched.told().await;
    assert_eq!(told, [ChainEvent::Rivals { tip: first.header, rival: rival.header }]);

    let grown = two.mine(&rival.header, &[]).await;
    let told = watched.told_up_to(&grown.header).await;
    assert_eq!(reorg(&told), (vec![first.header], vec![rival.header, grown.header], shared[0].header));
    one.take(&[rival, grown.clone()]).await;
    assert_eq!(watched.cycle().await.value.shared_head(), Some(grown.header));
    assert_eq!(one.client.head().await.unwrap(), grown.header);
}
