//! Endpoints that lack methods or batches, and answers that lack fields.

use super::{ACCOUNT, balance_at_4, count, following};
use crate::misbehaving::{Batches, Content, Misbehaving, Modes, Receipts};

const BY_BLOCK: &str = "eth_getBlockReceipts";
const BY_TRANSACTION: &str = "eth_getTransactionReceipt";
/// 2 ether, and of each of four blocks 1 ether, without 0.5 and 0.000021 for gas.
const RIGHT: &str = "3.999916 ether at block 4";

fn payments() -> Modes {
    Modes { contents: vec![Content::Payment, Content::Spend], ..Modes::default() }
}

#[tokio::test]
async fn without_wallets_no_receipts_are_asked_for() {
    for receipts in [Receipts::ByBlock, Receipts::ByTransaction, Receipts::None] {
        let server = Misbehaving::start(Modes { receipts, ..payments() }).await;
        let mut follow = following(&server, &[]);
        follow.says(" 3 (").await;
        server.grow(1);
        let line = follow.says("block 4 (").await;
        assert!(line.ends_with(" with 2 transactions"), "{line}");
        let lines = follow.ends().await;
        assert_eq!((server.calls(BY_BLOCK), server.calls(BY_TRANSACTION)), (0, 0), "{lines:#?}");
    }
}

#[tokio::test]
async fn receipts_are_asked_for_by_transaction_if_they_are_not_returned_by_block() {
    let modes = Modes { receipts: Receipts::ByTransaction, ..payments() };
    assert_eq!(balance_at_4(modes, &[]).await, RIGHT);
    assert_eq!(balance_at_4(payments(), &[]).await, RIGHT);
}

/// Each once, and after that one by one.
#[tokio::test]
async fn an_endpoint_without_batches_is_asked_one_by_one() {
    for batches in [
        Batches::Refused(-32600, "batch requests are not supported"),
        Batches::Refused(-32601, "method not found"),
        Batches::Refused(-32600, "Invalid Request"),
        Batches::Status(413),
        Batches::Status(400),
        Batches::FirstAlone,
    ] {
        for receipts in [Receipts::ByBlock, Receipts::ByTransaction] {
            let balance = balance_at_4(Modes { receipts, batches, ..payments() }, &[]).await;
            assert_eq!(balance, RIGHT, "{batches:?} {receipts:?}");
        }
    }
}

/// Only the wallet needs receipts: the chain is followed without them, and the wallet is not wrong.
#[tokio::test]
async fn receipts_that_are_wrong_or_missing_hold_up_no_block() {
    for receipts in [Receipts::None, Receipts::OneShort, Receipts::OneTooMany, Receipts::Null] {
        // One of a transaction that the block does not have is ignored.
        let is_enough = receipts == Receipts::OneTooMany;
        let server = Misbehaving::start(Modes { receipts, ..payments() }).await;
        let mut follow = following(&server, &["--wallet", ACCOUNT]);
        follow.says(" 3 (").await;
        for height in 4..8 {
            server.grow(1);
            follow.says(&format!(" {height} (")).await;
        }
        let lines = follow.ends().await;
        assert_eq!(count(&lines, " with 0 transactions"), 0, "{receipts:?}: {lines:#?}");
        let last = lines.iter().rfind(|line| line.contains("  wallet  ")).unwrap();
        assert_eq!(last.contains(" ether at block 7"), is_enough, "{receipts:?}: {last}");
    }
}

/// The price of gas is then the transaction's; the rest is not needed for the balance.
#[tokio::test]
async fn fields_that_are_missing_or_null_do_not_matter_where_they_are_not_needed() {
    for field in ["effectiveGasPrice", "nonce", "type", "contractAddress", "logs"] {
        let omitted = Modes { omitted: vec![field], ..payments() };
        assert_eq!(balance_at_4(omitted, &[]).await, RIGHT, "no {field}");
        let null = Modes { null: vec![field], ..payments() };
        assert_eq!(balance_at_4(null, &[]).await, RIGHT, "{field} is null");
    }
}

#[tokio::test]
async fn fields_that_wallets_need_hold_up_no_block() {
    for field in ["value", "gasUsed", "status", "from"] {
        for modes in [Modes { omitted: vec![field], ..payments() }, Modes { null: vec![field], ..payments() }]
        {
            let server = Misbehaving::start(modes).await;
            for wallet in [&[][..], &["--wallet", ACCOUNT]] {
                let mut follow = following(&server, wallet);
                follow.says(" 3 (").await;
            }
        }
    }
}
