//! Headers in the forms of chains other than Ethereum.

use serde_json::{Value, json};
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Detail, Hash};

use crate::adapter::failure;
use crate::fake::{FakeNode, forged, hash, result, wire_header};

/// Every field that a chain may leave out, and how.
const OPTIONAL: [&str; 13] = [
    "difficulty",
    "timestamp",
    "gasLimit",
    "gasUsed",
    "extraData",
    "nonce",
    "miner",
    "logsBloom",
    "sha3Uncles",
    "stateRoot",
    "receiptsRoot",
    "mixHash",
    "transactionsRoot",
];

fn without(header: &Value, field: &str) -> Value {
    let mut header = header.clone();
    header.as_object_mut().unwrap().remove(field);
    header
}

async fn answering(header: Value) -> FakeNode {
    FakeNode::answering(move |method, _| {
        result(&if method == "eth_chainId" {
            "0x64".into()
        } else {
            forged(&header, "transactions", json!([]))
        })
    })
    .await
}

#[tokio::test]
async fn only_what_links_a_header_is_required_if_hashes_are_believed() {
    let header = wire_header(3, Hash([1; 32]));
    let asked = hash(&header);
    let lean = json!({ "hash": header["hash"], "parentHash": header["parentHash"], "number": "0x3" });
    let mut forms = vec![lean];
    for field in OPTIONAL {
        let odd = [Value::Null, "?".into(), (-1).into(), json!([1])].map(|odd| forged(&header, field, odd));
        forms.extend(odd);
        forms.push(without(&header, field));
    }
    for form in forms {
        let node = answering(form.clone()).await;
        let client = node.client().trusting_hashes();
        assert_eq!(client.head().await.unwrap().hash, asked, "{form}");
        assert_eq!(client.header(asked).await.unwrap().unwrap().height, 3, "{form}");
        let block = client.block(asked, Detail::Results).await.unwrap().unwrap();
        assert_eq!(block.transactions.len(), 0, "{form}");
    }
    for required in ["hash", "parentHash", "number"] {
        for form in [without(&header, required), forged(&header, required, Value::Null)] {
            let node = answering(form).await;
            let error = failure(node.client().trusting_hashes().head().await);
            assert!(matches!(error, ChainError::Malformed { .. }), "{error:?}");
            assert!(error.to_string().contains(required), "{error}");
        }
    }
}

#[tokio::test]
async fn a_number_is_read_in_any_form_and_still_checked() {
    let header = wire_header(3, Hash([1; 32]));
    for (field, forms) in [
        ("number", [json!("0x0003"), json!(3), json!("3")]),
        ("difficulty", [json!("0x07"), json!(7), json!("7")]),
        ("timestamp", [json!("0x0064"), json!(100), json!("100")]),
        ("gasUsed", [json!("0x"), json!(0), json!("0x00")]),
        ("nonce", [json!("0x0"), json!(0), json!("0x0000000000000000")]),
    ] {
        for form in forms {
            let node = answering(forged(&header, field, form.clone())).await;
            let found = node.client().head().await.unwrap();
            assert_eq!((found.height, found.work, found.time), (3, 7, 100), "{field} {form}");
        }
    }
}

/// What is missing and zero anyway changes no hash.
#[tokio::test]
async fn a_missing_field_is_no_error_if_the_hash_is_right_without_it() {
    let header = wire_header(3, Hash([1; 32]));
    for field in ["gasUsed", "nonce", "mixHash", "logsBloom", "extraData", "gasLimit"] {
        for form in [without(&header, field), forged(&header, field, Value::Null)] {
            let node = answering(form).await;
            assert_eq!(node.client().head().await.unwrap().hash, hash(&header), "{field}");
        }
    }
}

#[tokio::test]
async fn a_hash_that_cannot_be_checked_names_the_cause_and_the_flag() {
    let header = wire_header(3, Hash([1; 32]));
    for field in ["difficulty", "stateRoot", "sha3Uncles"] {
        for form in [without(&header, field), forged(&header, field, Value::Null)] {
            let node = answering(form).await;
            let error = failure(node.client().head().await);
            assert!(matches!(error, ChainError::Malformed { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains(&format!("no readable {field}")), "{text}");
            assert!(text.ends_with("use --trust-hashes (EthereumClient::trusting_hashes))"), "{text}");
        }
    }
    // However much is missing, the flag is named.
    let lean = json!({ "hash": header["hash"], "parentHash": header["parentHash"], "number": "0x3" });
    let text = failure(answering(lean).await.client().head().await).to_string();
    assert!(
        text.contains("mixHash") && text.ends_with("use --trust-hashes (EthereumClient::trusting_hashes))"),
        "{text}"
    );
    let node = answering(forged(&header, "gasLimit", "0x1")).await;
    let error = failure(node.client().head().await);
    assert!(matches!(error, ChainError::Untrue { .. }), "{error:?}");
    assert!(error.to_string().ends_with("use --trust-hashes (EthereumClient::trusting_hashes))"), "{error}");
}

/// A field that only newer headers have is in the hash if it is there: the node does not lie, it writes otherwise.
#[tokio::test]
async fn an_unreadable_field_of_newer_headers_is_no_lie() {
    let header = wire_header(3, Hash([1; 32]));
    for field in [
        "baseFeePerGas",
        "withdrawalsRoot",
        "blobGasUsed",
        "excessBlobGas",
        "parentBeaconBlockRoot",
        "requestsHash",
        "blockAccessListHash",
        "slotNumber",
    ] {
        let other = forged(&header, "hash", format!("0x{}", "7".repeat(64)));
        let node = answering(forged(&other, field, json!({ "a": 1 }))).await;
        let error = failure(node.client().head().await);
        assert!(matches!(error, ChainError::Malformed { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("no readable {field}")), "{error}");
        let node = answering(forged(&other, field, Value::Null)).await;
        let error = failure(node.client().head().await);
        assert!(matches!(error, ChainError::Untrue { .. }), "{error:?}");
    }
}

/// On Gnosis only the first headers are hashed otherwise; on others all are.
#[tokio::test]
async fn an_identity_needs_the_hash_of_block_0_or_trust_in_it() {
    let genesis = forged(&wire_header(0, Hash([0; 32])), "hash", format!("0x{}", "7".repeat(64)));
    let node = answering(genesis.clone()).await;
    let error = failure(node.client().identity().await);
    assert!(matches!(error, ChainError::Untrue { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("at height 0 has the hash"), "{text}");
    assert!(text.contains("(block 0 of some chains is hashed otherwise: "), "{text}");
    assert!(text.ends_with("use --trust-hashes (EthereumClient::trusting_hashes))"), "{text}");

    let identity = node.client().trusting_hashes().identity().await.unwrap();
    assert_eq!((&*identity.id, identity.genesis), ("100", Hash([0x77; 32])));
    let lean = json!({ "hash": genesis["hash"], "parentHash": genesis["parentHash"], "number": 0 });
    let node = answering(lean).await;
    assert_eq!(node.client().trusting_hashes().identity().await.unwrap(), identity);
}

#[tokio::test]
async fn a_header_question_asks_for_the_header_alone() {
    let header = wire_header(3, Hash([1; 32]));
    let asked = hash(&header);
    let node = FakeNode::answering(move |method, parameters| {
        assert_eq!((method, &parameters[1]), ("eth_getBlockByHash", &json!(false)));
        result(&header)
    })
    .await;
    let block = node.client().block(asked, Detail::Header).await.unwrap().unwrap();
    assert_eq!((block.header.hash, block.detail), (asked, Detail::Header));
}
