//! Chains that are not quite like Ethereum.

use super::{ACCOUNT, LOOK, balance_at_4, count, following};
use crate::misbehaving::{Batches, Content, Finality, Hashes, Misbehaving, Modes, Receipts};

/// ```text
/// opening: 2 ether | each block: 1 ether comes, 0.5 go and 0.000021 for gas, and a state-sync transaction
/// ```
#[tokio::test]
async fn a_wallet_is_right_on_a_chain_with_state_sync_without_batches_and_receipts_of_blocks() {
    let modes = Modes {
        contents: vec![Content::Payment, Content::Spend, Content::StateSync],
        receipts: Receipts::ByTransaction,
        batches: Batches::Refused(-32600, "batch requests are not supported"),
        ..Modes::default()
    };
    assert_eq!(balance_at_4(modes, &[]).await, "3.999916 ether at block 4");
}

/// A block has a root of no transactions, and lists one.
#[tokio::test]
async fn a_state_sync_transaction_alone_in_a_block_holds_up_nothing() {
    for receipts in [Receipts::ByBlock, Receipts::OneShort] {
        let modes = Modes { contents: vec![Content::StateSync], receipts, ..Modes::default() };
        assert_eq!(balance_at_4(modes.clone(), &[]).await, "2.000000 ether at block 4", "{receipts:?}");
        let server = Misbehaving::start(modes).await;
        following(&server, &[]).says(" 3 (").await;
    }
}

#[tokio::test]
async fn system_transactions_of_sender_0_and_nonce_0_are_no_trouble() {
    let modes = Modes { contents: vec![Content::System, Content::Payment], ..Modes::default() };
    assert_eq!(balance_at_4(modes, &[]).await, "6.000000 ether at block 4");
}

#[tokio::test]
async fn a_chain_with_other_hashes_is_followed_on_demand_and_else_the_flag_is_named() {
    for hashes in [Hashes::GenesisOtherwise, Hashes::AllOtherwise, Hashes::ExtraFields] {
        let server = Misbehaving::start(Modes { hashes, ..Modes::default() }).await;
        let line = following(&server, &[]).says("--trust-hashes").await;
        assert!(line.contains("  node    rpc1 ") && line.contains("has the hash"), "{hashes:?}: {line}");

        let mut follow = following(&server, &["--trust-hashes", "--wallet", ACCOUNT]);
        follow.says(" 3 (").await;
        server.grow(1);
        follow.says("block 4 (").await;
        let lines = follow.ends().await;
        assert_eq!(count(&lines, "rpc1 answers, but"), 0, "{hashes:?}: {lines:#?}");
        assert_eq!(count(&lines, " fails: "), 0, "{hashes:?}: {lines:#?}");
    }
}

/// The flag does not accept what is wrong on every chain.
#[tokio::test]
async fn a_public_node_with_other_hashes_is_believed_on_demand_too() {
    let server = Misbehaving::start(Modes { hashes: Hashes::AllOtherwise, ..Modes::default() }).await;
    let mut follow = following(&server, &["--trust-hashes", "--public", &server.url()]);
    follow.says("public1 answers").await;
    follow.says(" 3 (").await;
}

/// What nodes answer before the first final block is no trouble, at any look.
#[tokio::test]
async fn before_the_first_final_block_a_node_is_printed_once() {
    for finality in [
        Finality::Null,
        Finality::Error(-32000, "header not found"),
        Finality::Error(-32000, "finalized block not found"),
        Finality::Error(-39001, "Unknown block"),
        Finality::Error(-32602, "invalid argument 0: hex string without 0x prefix"),
        Finality::Error(-32602, "unknown block tag"),
    ] {
        let server = Misbehaving::start(Modes { finality, ..Modes::default() }).await;
        let mut follow = following(&server, &[]);
        follow.says(" 3 (").await;
        for _ in 0..4 {
            server.grow(1);
            server.is_asked(LOOK, 10).await;
        }
        let lines = follow.ends().await;
        let answers: Vec<_> = lines.iter().filter(|line| line.contains("  node    rpc1 answers")).collect();
        let is_known = |line: &&&String| !line.contains("it is not known yet which chain");
        assert_eq!(answers.iter().filter(is_known).count(), 1, "{finality:?}: {answers:#?}");
        assert_eq!(count(&lines, "rpc1 fails"), 0, "{finality:?}: {lines:#?}");
    }
}
