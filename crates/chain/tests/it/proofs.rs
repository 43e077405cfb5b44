//! When a node has to prove its chain again.

use watchkeeper_chain::adapter::ChainIdentity;

use crate::common::{Tree, Watched, branch, config, hash, local, long, show};

/// A development chain is reset, and is as high as before, or one block higher, at the next look.
///
/// ```text
/// g - a1 - ... - a100
/// h - z1 - ... - z101
/// ```
#[tokio::test(start_paused = true)]
async fn a_chain_that_is_reset_between_two_looks_is_asked_for_its_identity() {
    let tree = Tree::new(&format!("{}\n{}", long("a", 100), branch("h", "z", 1..=101)));
    for head in ["z100", "z101"] {
        let n1 = tree.node("a100");
        let mut watched = Watched::start(config(), local(&[("n1", &n1)])).await;
        watched.events().await;
        watched.events().await;
        n1.script().identity = ChainIdentity { id: "other".to_owned(), genesis: hash("h") };
        tree.advance(&n1, head);
        assert_eq!(watched.events().await, ["n1 is on other"], "{head}");
        assert_eq!(show(watched.last_view().node("n1").unwrap().head), "-", "{head}");
    }
}
