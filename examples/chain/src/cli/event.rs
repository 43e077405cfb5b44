//! Events as text and as JSON.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use watchkeeper_chain::adapter::ChainIdentity;
use watchkeeper_chain::adapter::ethereum::EthereumTransaction;
use watchkeeper_chain::{Block, Header, Transaction};

use super::watched::Event;

struct EventAt<'a>(&'a Header);

impl fmt::Display for EventAt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.8})", self.0.height, self.0.hash)
    }
}

/// For a person.
pub(super) fn as_text(event: &Event) -> String {
    match event {
        Event::Committed { new } => {
            let transactions: usize = new.iter().map(|block| block.transactions.len()).sum();
            match &new[..] {
                [block] => format!("block {} with {transactions} transactions", EventAt(&block.header)),
                new => format!(
                    "blocks {} to {} with {transactions} transactions",
                    EventAt(&new[0].header),
                    EventAt(&new[new.len() - 1].header)
                ),
            }
        }
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

fn header(header: &Header) -> Value {
    json!({ "height": header.height, "hash": format!("0x{}", header.hash) })
}

fn identity(identity: &ChainIdentity) -> Value {
    json!({ "id": identity.id, "genesis": format!("0x{}", identity.genesis) })
}

/// For a program.
pub(super) fn as_json(event: &Event) -> Value {
    let blocks = |new: &[Arc<Block<EthereumTransaction>>]| {
        let block = |block: &Arc<Block<EthereumTransaction>>| {
            let mut shown = header(&block.header);
            let ids = block.transactions.iter().map(|transaction| format!("0x{}", transaction.id()));
            shown["transactions"] = ids.collect::<Vec<_>>().into();
            shown
        };
        new.iter().map(block).collect::<Vec<_>>()
    };
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
        assert_eq!(as_json(&event), expected);
    }
}
