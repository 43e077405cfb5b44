//! Transactions that nobody signed: what they mint, pay and replace.

use serde_json::{Value, json};
use watchkeeper_chain::Transaction;
use watchkeeper_chain_ethereum::{EthereumTransaction, U256};

use crate::blocks::{address, block_of, read, receipt, transaction, word};
use crate::fake::{forged, wire_header};
use watchkeeper_chain::Hash;

/// A transaction with these fields changed, as it is read with a receipt that has a price and a success.
async fn found(fields: &Value) -> EthereumTransaction {
    let a = word('a');
    let mut sent = transaction(&a, "0x0");
    (sent["to"], sent["value"]) = (address('2').into(), "0x9".into());
    for (name, value) in fields.as_object().unwrap() {
        sent[name] = value.clone();
    }
    let block = block_of(&[sent]);
    let receipt = forged(&receipt(&a, &block), "status", "0x1");
    read(&block, &json!([receipt])).await.unwrap().transactions[0].clone()
}

#[tokio::test]
async fn what_nobody_signed_has_no_replacement() {
    let mut unsigned: Vec<Value> = [0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x7e, 0x7f, 0xfe, 0xff]
        .map(|kind| json!({ "type": kind }))
        .into();
    unsigned.extend([
        json!({ "type": "0x7e", "r": null, "s": null }),
        json!({ "type": "0x0", "from": address('0') }),
        json!({ "type": "0x0", "r": "0x0", "s": "0x0" }),
        json!({ "type": null, "r": "0x00", "s": word('0') }),
    ]);
    for fields in unsigned {
        let found = found(&fields).await;
        assert!(!found.signed && found.conflicts().is_empty(), "{fields}");
    }
    for fields in [
        json!({}),
        json!({ "type": null, "r": null, "s": null }),
        json!({ "type": "0x4" }),
        json!({ "type": "0x0", "r": "0x0" }),
        // An account that is a contract signs in its own way.
        json!({ "type": "0x71", "r": "0x0", "s": "0x0" }),
    ] {
        let found = found(&fields).await;
        assert!(found.signed && found.conflicts().len() == 1, "{fields}");
    }
}

/// What `from` has after it, beside what it had: what is minted, without value and fee.
#[tokio::test]
async fn deposits_mint_and_their_gas_costs_nothing() {
    let number = |text: &str| -> U256 { text.parse().unwrap() };
    for (fields, minted, fee) in [
        // OP stack: any amount is minted, some of it is sent on.
        (json!({ "type": "0x7e", "mint": "0x64" }), 100, 0),
        (json!({ "type": "0x7e", "mint": null }), 0, 0),
        (json!({ "type": "0x7e" }), 0, 0),
        // Arbitrum: the value is minted and passed on, or comes out of escrow.
        (json!({ "type": "0x64" }), 9, 0),
        (json!({ "type": "0x68" }), 9, 0),
        // A ticket: all of it leaves again.
        (json!({ "type": "0x69", "value": "0x0", "depositValue": "0x64" }), 100, 100),
        (json!({ "type": "0x69", "value": "0x0" }), 0, 0),
        (json!({ "type": "0x6a" }), 0, 0),
        // Of a contract of the parent chain, which pays for gas as others do.
        (json!({ "type": "0x66" }), 0, 15),
        (json!({ "type": "0x7f", "value": "0x0" }), 0, 0),
        (json!({ "type": "0xff" }), 9, 0),
        (json!({ "type": "0x0", "from": address('0'), "value": "0x0" }), 0, 0),
        // A signed transaction mints nothing, whatever it says.
        (json!({ "type": "0x2", "mint": "0x64", "depositValue": "0x64" }), 0, 15),
    ] {
        let found = found(&fields).await;
        assert_eq!(found.minted, Some(number(&minted.to_string())), "{fields}");
        assert_eq!(found.fee, Some(number(&fee.to_string())), "{fields}");
    }
}

/// What is unknown is not zero.
#[tokio::test]
async fn an_amount_that_cannot_be_read_is_unknown() {
    let some = Some(U256::from(100));
    let ticket = |deposit: &str, refund_to: Value| json!({ "type": "0x69", "value": "0x0", "depositValue": deposit, "refundTo": refund_to });
    for (fields, minted, fee) in [
        (json!({ "type": "0x7e", "mint": "?" }), None, Some(U256::ZERO)),
        (json!({ "type": "0x7e", "mint": { "a": 1 } }), None, Some(U256::ZERO)),
        (json!({ "type": "0x64", "value": "?" }), None, Some(U256::ZERO)),
        (ticket("?", address('2').into()), None, None),
        // What a ticket pays too much goes to another account, or back to the sender: nothing says how much.
        (ticket("0x64", address('2').into()), some, some),
        (ticket("0x64", address('1').into()), some, None),
        (ticket("0x64", "?".into()), some, None),
        (ticket("0x0", address('1').into()), Some(U256::ZERO), Some(U256::ZERO)),
        // On Celo gas may be paid in a token.
        (json!({ "type": "0x7b", "feeCurrency": address('3') }), Some(U256::ZERO), None),
        (json!({ "type": "0x7b", "feeCurrency": null }), Some(U256::ZERO), Some(U256::from(15))),
        (json!({ "from": null }), Some(U256::ZERO), None),
    ] {
        let found = found(&fields).await;
        assert_eq!((found.minted, found.fee), (minted, fee), "{fields}");
    }
}

/// The value of a retry goes back into escrow, that of a deposit to its address for refunds.
#[tokio::test]
async fn what_failed_keeps_what_is_minted_only_on_the_op_stack() {
    for (kind, minted) in [(0x7e, 100), (0x68, 0), (0xff, 0)] {
        let a = word('a');
        let mut sent = transaction(&a, "0x0");
        (sent["type"], sent["mint"]) = (kind.into(), "0x64".into());
        let block = block_of(&[sent]);
        let read = read(&block, &json!([receipt(&a, &block)])).await.unwrap();
        let found = &read.transactions[0];
        assert_eq!((found.succeeded, found.minted), (Some(false), Some(U256::from(minted))), "{kind:#x}");
    }
}

/// Polygon before PIP-74: the transaction of a state sync is listed, and neither in the root nor in the receipts.
#[tokio::test]
async fn a_state_sync_may_be_listed_beside_an_empty_root() {
    let sync = json!({
        "hash": word('b'), "type": "0x0", "from": address('0'), "to": address('0'), "value": "0x0", "nonce": "0x0",
        "gasPrice": "0x0",
    });
    let mut block = wire_header(3, Hash([1; 32]));
    block["transactions"] = json!([sync]);
    for receipts in [json!([]), json!([receipt(&word('b'), &block)]), json!([receipt(&word('d'), &block)])] {
        let read = read(&block, &receipts).await.unwrap();
        let [found] = &read.transactions[..] else { panic!("{read:?}") };
        assert!(!found.signed && found.fee == Some(U256::ZERO), "{found:?}");
    }
    let both = block_of(&[transaction(&word('a'), "0x7"), sync]);
    let read = read(&both, &json!([receipt(&word('a'), &both)])).await.unwrap();
    let [one, two] = &read.transactions[..] else { panic!("{read:?}") };
    assert_eq!((one.succeeded, two.succeeded), (Some(false), None), "unknown is not false");
}
