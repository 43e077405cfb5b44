//! Events as text and as JSON.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use watchkeeper_chain::adapter::ChainIdentity;
use watchkeeper_chain::{Block, Detail, Header, Transaction};
use watchkeeper_chain_ethereum::EthereumTransaction;

use super::watched::Event;

pub(super) struct EventAt<'a>(pub(super) &'a Header);

impl fmt::Display for EventAt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.8})", self.0.height, self.0.hash)
    }
}

type EthereumBlock = Arc<Block<EthereumTransaction>>;

/// The new blocks, and how much of them was read if that is less than `wanted`.
fn committed(new: &[EthereumBlock], wanted: Detail) -> String {
    let which = match new {
        [block] => format!("block {}", EventAt(&block.header)),
        new => {
            let [first, last] = [&new[0], &new[new.len() - 1]].map(|block| EventAt(&block.header));
            format!("blocks {first} to {last}")
        }
    };
    let with = |detail| new.iter().filter(|block| block.detail == detail).count();
    let unread = with(Detail::Header);
    if unread == new.len() {
        return format!("{which} whose transactions could not be read");
    }
    let transactions: usize = new.iter().map(|block| block.transactions.len()).sum();
    let some = match unread {
        0 => String::new(),
        unread => format!("; the transactions of {unread} of them could not be read"),
    };
    let results = match with(Detail::Transactions) {
        0 => String::new(),
        _ if wanted <= Detail::Transactions => String::new(),
        _ if new.len() == 1 => "; their results could not be read".to_owned(),
        unfinished => format!("; the results of {unfinished} of them could not be read"),
    };
    format!("{which} with {transactions} transactions{some}{results}")
}

/// For a person. Blocks were to be read up to `wanted`.
pub(super) fn as_text(event: &Event, wanted: Detail) -> String {
    match event {
        Event::Committed { new } => committed(new, wanted),
        Event::Reorged { old, new, ancestor } => {
            let tip = new.last().map_or(ancestor, |block| &block.header);
            format!(
                "reorg: {} blocks disconnected, {} connected above {}; the tip is {}",
                old.len(),
                new.len(),
                EventAt(ancestor),
                EventAt(tip)
            )
        }
        Event::Reverted { old, ancestor } => {
            format!("{} blocks disconnected; the tip is {}", old.len(), EventAt(ancestor))
        }
        Event::Finalised { block } => format!("final up to {}", EventAt(block)),
        Event::Rivals { tip, rival } => {
            format!("{} and {} weigh the same; the first stays", EventAt(tip), EventAt(rival))
        }
        Event::Lagging { node, behind } => format!("{node} is {behind} blocks behind"),
        Event::CaughtUp { node } => format!("{node} has caught up"),
        Event::Rewound { node, from, to } => {
            format!("{node} went back from {} to {}", EventAt(from), EventAt(to))
        }
        Event::Flapping { node, head, other } => format!(
            "{node} flaps between {} and {}: several nodes seem to answer at its address",
            EventAt(head),
            EventAt(other)
        ),
        Event::FinalityBreached { node, finalised, head } => {
            format!(
                "{node} is at {} without the final block {}: not believed",
                EventAt(head),
                EventAt(finalised)
            )
        }
        Event::IdentityChanged { node, expected, found } => format!(
            "{node} is on chain {} ({:.8}), not on {} ({:.8}): not believed",
            found.id, found.genesis, expected.id, expected.genesis
        ),
        other => format!("{other:?}"),
    }
}

pub(super) fn header(header: &Header) -> Value {
    json!({ "height": header.height, "hash": format!("0x{}", header.hash) })
}

fn identity(identity: &ChainIdentity) -> Value {
    json!({ "id": identity.id, "genesis": format!("0x{}", identity.genesis) })
}

/// A block whose transactions are unknown has `null` instead of a list; `results` is there, as `false`, if only what
/// became of them is unknown, and was wanted.
fn block_as_json(block: &EthereumBlock, wanted: Detail) -> Value {
    let mut shown = header(&block.header);
    shown["transactions"] = match block.detail {
        Detail::Header => Value::Null,
        Detail::Transactions | Detail::Results => {
            block.transactions.iter().map(|transaction| format!("0x{}", transaction.id())).collect()
        }
    };
    if block.detail == Detail::Transactions && wanted > Detail::Transactions {
        shown["results"] = false.into();
    }
    shown
}

/// For a program. Blocks were to be read up to `wanted`.
pub(super) fn as_json(event: &Event, wanted: Detail) -> Value {
    let blocks =
        |new: &[EthereumBlock]| new.iter().map(|block| block_as_json(block, wanted)).collect::<Vec<_>>();
    let headers = |old: &[Header]| old.iter().map(header).collect::<Vec<_>>();
    match event {
        Event::Committed { new } => json!({ "kind": "committed", "new": blocks(new) }),
        Event::Reorged { old, new, ancestor } => {
            json!({ "kind": "reorged", "old": headers(old), "new": blocks(new), "ancestor": header(ancestor) })
        }
        Event::Reverted { old, ancestor } => {
            json!({ "kind": "reverted", "old": headers(old), "ancestor": header(ancestor) })
        }
        Event::Finalised { block } => json!({ "kind": "finalised", "block": header(block) }),
        Event::Rivals { tip, rival } => {
            json!({ "kind": "rivals", "tip": header(tip), "rival": header(rival) })
        }
        Event::Lagging { node, behind } => json!({ "kind": "lagging", "node": &**node, "behind": behind }),
        Event::CaughtUp { node } => json!({ "kind": "caught_up", "node": &**node }),
        Event::Rewound { node, from, to } => {
            json!({ "kind": "rewound", "node": &**node, "from": header(from), "to": header(to) })
        }
        Event::Flapping { node, head, other } => {
            json!({ "kind": "flapping", "node": &**node, "head": header(head), "other": header(other) })
        }
        Event::FinalityBreached { node, finalised, head } => json!({
            "kind": "finality_breached", "node": &**node, "finalised": header(finalised), "head": header(head),
        }),
        Event::IdentityChanged { node, expected, found } => json!({
            "kind": "identity_changed", "node": &**node, "expected": identity(expected), "found": identity(found),
        }),
        other => json!({ "kind": "other", "text": format!("{other:?}") }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use watchkeeper_chain::Hash;

    use super::*;

    #[test]
    fn another_genesis_of_the_same_chain_id_is_another_one_as_json_too() {
        let chain = |genesis| ChainIdentity { id: "1".to_owned(), genesis: Hash([genesis; 32]) };
        let event = Event::IdentityChanged { node: "rpc1".into(), expected: chain(1), found: chain(2) };
        let shown = |genesis: &str| json!({ "id": "1", "genesis": format!("0x{}", genesis.repeat(32)) });
        let expected = json!({
            "kind": "identity_changed", "node": "rpc1", "expected": shown("01"), "found": shown("02"),
        });
        assert_eq!(as_json(&event, Detail::Results), expected);
    }
    fn block(height: u64, detail: Detail) -> EthereumBlock {
        let hash = Hash([u8::try_from(height).unwrap(); 32]);
        Block { detail, ..Block::unread(Header { hash, parent: hash, height, work: 1, time: 0 }) }.into()
    }

    /// What was not read is never printed as "0 transactions".
    #[test]
    fn blocks_that_were_not_read_in_full_are_printed_as_such() {
        use Detail::{Header, Results, Transactions};
        for (details, wanted, text, last) in [
            (
                &[Header][..],
                Transactions,
                "block 0 (00000000) whose transactions could not be read",
                json!({ "transactions": null }),
            ),
            (
                &[Header, Header],
                Results,
                "blocks 0 (00000000) to 1 (01010101) whose transactions could not be read",
                json!({ "transactions": null }),
            ),
            (
                &[Header, Results],
                Results,
                "blocks 0 (00000000) to 1 (01010101) with 0 transactions; the transactions of 1 of them could not be read",
                json!({ "transactions": [] }),
            ),
            (
                &[Transactions],
                Transactions,
                "block 0 (00000000) with 0 transactions",
                json!({ "transactions": [] }),
            ),
            (
                &[Transactions],
                Results,
                "block 0 (00000000) with 0 transactions; their results could not be read",
                json!({ "transactions": [], "results": false }),
            ),
            (&[Results], Results, "block 0 (00000000) with 0 transactions", json!({ "transactions": [] })),
        ] {
            let new: Vec<_> = (0..).zip(details).map(|(height, detail)| block(height, *detail)).collect();
            let event = Event::Committed { new };
            assert_eq!(as_text(&event, wanted), text);
            let mut shown = as_json(&event, wanted)["new"][details.len() - 1].take();
            for key in ["height", "hash"] {
                shown.as_object_mut().unwrap().remove(key).unwrap();
            }
            assert_eq!(shown, last, "{text}");
        }
    }

    #[test]
    fn an_address_that_flaps_is_printed() {
        let [head, other] = [120, 118].map(|height| block(height, Detail::Header).header);
        let event = Event::Flapping { node: "rpc1".into(), head, other };
        assert_eq!(
            as_text(&event, Detail::Results),
            "rpc1 flaps between 120 (78787878) and 118 (76767676): several nodes seem to answer at its address"
        );
        let shown =
            |digits: &str, height| json!({ "height": height, "hash": format!("0x{}", digits.repeat(32)) });
        let expected = json!({
            "kind": "flapping", "node": "rpc1", "head": shown("78", 120), "other": shown("76", 118),
        });
        assert_eq!(as_json(&event, Detail::Results), expected);
    }
}
