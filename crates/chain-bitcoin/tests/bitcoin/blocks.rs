//! The blocks that a node accepts, and the answers of its client.

use bitcoin::Amount;
use bitcoinkernel::BlockValidationResult as Rule;
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::projection::wallet::{OutPoint, UtxoTransaction};
use watchkeeper_chain::{Block, Detail, Hash, Header, Transaction};
use watchkeeper_chain_bitcoin::{BitcoinTransaction, Input, Key, Mined, NodeError, SpendError};

use crate::common::{MiningNode, coins};

fn rule(error: NodeError, of: &Mined) -> Rule {
    match error {
        NodeError::Rejected { hash, rule } if hash == of.header.hash => rule,
        other => panic!("{other:?} of {:?}", of.header),
    }
}

#[tokio::test]
async fn the_chain_begins_at_the_genesis_of_regtest() {
    let miner = MiningNode::of("miner").await;
    let identity = miner.client.identity().await.unwrap();
    let genesis = miner.head().await;
    assert_eq!(identity.id, "regtest");
    assert_eq!(identity.genesis, genesis.hash);
    assert_eq!(genesis.hash.to_string(), "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206");
    assert_eq!((genesis.height, genesis.parent, genesis.work), (0, Hash([0; 32]), 2));
    assert_eq!(miner.client.finalised().await.unwrap(), None);
    let block = miner.block(&genesis).await;
    assert_eq!(block.transactions.len(), 1);
    assert!(block.transactions[0].is_coinbase && block.transactions[0].inputs.is_empty());
}

#[tokio::test]
async fn a_mined_block_is_found_by_hash_and_by_height() {
    let mut miner = MiningNode::of("miner").await;
    let made = miner.extend(&miner.head().await, 3).await;
    assert_eq!(miner.head().await, made[2].header);
    for mined in &made {
        let Header { hash, height, .. } = mined.header;
        assert_eq!(miner.client.header(hash).await.unwrap(), Some(mined.header));
        assert_eq!(miner.client.header_at(height).await.unwrap(), Some(mined.header));
        assert_eq!(miner.block(&mined.header).await.header, mined.header);
    }
    let nowhere = Hash([7; 32]);
    assert_eq!(miner.client.header(nowhere).await.unwrap(), None);
    assert_eq!(miner.client.block(nowhere, Detail::Results).await.unwrap(), None);
    for height in [4, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(miner.client.header_at(height).await.unwrap(), None, "{height}");
    }
}

/// ```text
/// height 1: reward -> height 101: 20 to alice, 29 back, 1 fee -> height 102: alice's 20 and the 29 to bob
/// ```
#[tokio::test]
async fn spent_outputs_are_those_that_were_made() {
    let mut miner = MiningNode::of("miner").await;
    let (tip, reward) = miner.mature().await;
    let (alice, bob) = (Key::named("alice"), Key::named("bob"));
    let first = [alice.paid(coins(20)), miner.key.paid(coins(29))];
    let first = miner.key.spend(std::slice::from_ref(&reward), &first).unwrap();
    let second = alice.spend(&[first.coin(0).unwrap()], &[bob.paid(coins(20))]).unwrap();
    let third = miner.key.spend(&[first.coin(1).unwrap()], &[bob.paid(coins(28))]).unwrap();
    let lower = miner.mine(&tip, std::slice::from_ref(&first)).await;
    let upper = miner.mine(&lower.header, &[second.clone(), third.clone()]).await;

    let block = miner.block(&lower.header).await;
    let [coinbase, spend] = &block.transactions[..] else { panic!("{block:?}") };
    let made = UtxoTransaction::outputs(coinbase);
    assert_eq!(made[0], (Some(miner.key.script()), 51 * u128::from(coins(1).to_sat())));
    assert_eq!(made[1..], [(None, 0)], "the output with the hash of the witnesses has no owner");
    assert!(coinbase.is_coinbase && coinbase.conflicts().is_empty());
    assert_eq!(spend.inputs, [Input { outpoint: reward.outpoint, spent: reward.output }]);
    assert_eq!(*spend, BitcoinTransaction::from(&first));
    let source = miner.client.header_at(1).await.unwrap().unwrap();
    let transaction = miner.block(&source).await.transactions[0].id;
    assert_eq!(UtxoTransaction::inputs(spend), [OutPoint { transaction, output: 0 }]);
    assert_eq!(spend.id.to_string(), first.transaction.compute_txid().to_string());

    assert_eq!(created(&block), coins(50));

    let block = miner.block(&upper.header).await;
    assert_eq!(block.transactions[1..], [&second, &third].map(BitcoinTransaction::from));
    let spent = |nth: usize| block.transactions[nth].inputs[0].spent.clone();
    assert_eq!((spent(1), spent(2)), (alice.paid(coins(20)), miner.key.paid(coins(29))));
    assert_eq!(created(&block), coins(50));
}

/// The value of all outputs beyond that of all inputs: fees are no new value.
fn created(block: &Block<BitcoinTransaction>) -> Amount {
    let transactions = || block.transactions.iter();
    let made: Amount = transactions().flat_map(|one| &one.outputs).map(|output| output.value).sum();
    let spent: Amount = transactions().flat_map(|one| &one.inputs).map(|input| input.spent.value).sum();
    made - spent
}

/// ```text
/// height 1: reward -> height 100: too early -> height 101: spent
/// ```
#[tokio::test]
async fn a_reward_is_spent_a_hundred_blocks_later_and_not_before() {
    let mut miner = MiningNode::of("miner").await;
    let mined = miner.extend(&miner.head().await, 99).await;
    let tip = mined[98].header;
    let alice = Key::named("alice");
    let spend = [miner.key.spend(&[mined[0].reward.clone()], &[alice.paid(coins(50))]).unwrap()];
    let early = miner.make(&tip, &spend);
    assert_eq!(rule(miner.rejected(&early).await, &early), Rule::Consensus);
    assert_eq!(miner.head().await, tip);

    let hundredth = miner.mine(&tip, &[]).await;
    let spent = miner.mine(&hundredth.header, &spend).await;
    assert_eq!((miner.head().await, spent.header.height), (spent.header, 101));

    let again = miner.make(&spent.header, &spend);
    assert_eq!(rule(miner.rejected(&again).await, &again), Rule::Consensus);
}

#[tokio::test]
async fn the_subsidy_halves_and_a_greater_reward_is_rejected() {
    let mut miner = MiningNode::of("miner").await;
    let (tip, reward) = miner.mature().await;
    let rest = miner.extend(&tip, 50).await;
    let rewards: Vec<Amount> = rest[48..].iter().map(|mined| mined.reward.output.value).collect();
    assert_eq!(rewards, [coins(50), coins(25)], "of the blocks 149 and 150");

    let tip = miner.head().await;
    let mut greedy = miner.key.spend(&[reward], &[miner.key.paid(coins(49))]).unwrap();
    assert_eq!(greedy.fee, coins(1));
    greedy.fee += Amount::ONE_SAT;
    let mined = miner.make(&tip, &[greedy]);
    assert_eq!(rule(miner.rejected(&mined).await, &mined), Rule::Consensus);
}

#[tokio::test]
async fn signatures_are_checked() {
    let mut miner = MiningNode::of("miner").await;
    let (tip, reward) = miner.mature().await;
    let (alice, bob) = (Key::named("alice"), Key::named("bob"));
    let outpoint = reward.outpoint;
    let reward = std::slice::from_ref(&reward);
    assert_eq!(alice.spend(reward, &[bob.paid(coins(1))]), Err(SpendError::Foreign { outpoint }));
    assert_eq!(
        miner.key.spend(reward, &[bob.paid(coins(51))]),
        Err(SpendError::TooLittle { have: coins(50), want: coins(51) })
    );

    let mut forged = miner.key.spend(reward, &[bob.paid(coins(50))]).unwrap();
    forged.transaction.output[0] = alice.paid(coins(50));
    let mined = miner.make(&tip, &[forged]);
    assert_eq!(rule(miner.rejected(&mined).await, &mined), Rule::Consensus);
}

#[tokio::test]
async fn a_block_without_its_parent_waits_for_it() {
    let mut miner = MiningNode::of("miner").await;
    let parent = miner.make(&miner.head().await, &[]);
    let child = miner.make(&parent.header, &[]);
    assert_eq!(rule(miner.rejected(&child).await, &child), Rule::MissingPrev);
    miner.take(&[parent, child.clone()]).await;
    assert_eq!(miner.head().await, child.header);
    miner.take(std::slice::from_ref(&child)).await;
    assert_eq!(miner.head().await, child.header, "submitted twice");
}

/// The difficulty never changes on regtest: only a longer branch is heavier.
#[tokio::test]
async fn a_block_cannot_weigh_more_than_another() {
    let mut miner = MiningNode::of("miner").await;
    let mut mined = miner.make(&miner.head().await, &[]);
    assert_eq!(mined.header.work, 2);
    let header = &mut mined.block.header;
    header.bits = bitcoin::CompactTarget::from_consensus(0x203f_ffff);
    header.nonce = (0..=u32::MAX)
        .find(|nonce| {
            header.nonce = *nonce;
            header.validate_pow(header.target()).is_ok()
        })
        .unwrap();
    let error = miner.rejected(&mined).await;
    assert!(matches!(error, NodeError::Rejected { rule: Rule::InvalidHeader, .. }), "{error:?}");
}

#[tokio::test]
async fn of_a_block_that_was_never_on_the_best_chain_only_the_header_is_known() {
    let mut miner = MiningNode::of("miner").await;
    let genesis = miner.head().await;
    let first = miner.mine(&genesis, &[]).await;
    let rival = miner.mine(&genesis, &[]).await;
    let hash = rival.header.hash;
    assert_eq!(miner.head().await, first.header);
    assert_eq!(miner.client.header(hash).await.unwrap(), Some(rival.header));
    let error = miner.client.block(hash, Detail::Results).await.unwrap_err();
    assert!(matches!(error, ChainError::Refused { method: "block", .. }), "{error}");

    let heavier = miner.mine(&rival.header, &[]).await;
    assert_eq!(miner.head().await, heavier.header);
    assert_eq!(miner.block(&rival.header).await.header, rival.header);
    assert_eq!(miner.block(&first.header).await.header, first.header, "disconnected, and not forgotten");
}
