//! The observer without a runtime: its events fold to its snapshot, and an interruption loses none.

use std::slice::from_ref;
use std::time::Duration;

use watchkeeper::check::Check;
use watchkeeper::{ObservationConfig, ObservedSource};
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{ChainEvent, ChainObserver, ChainSource, ChainView};

use crate::common::{Event, Node, SECOND, Tree, config, fold, hash, local, name};

/// The branch and its last final block, folded from the events; genesis has no event.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Followed {
    branch: Vec<String>,
    finalised: String,
}

impl Default for Followed {
    fn default() -> Self {
        Self { branch: vec!["g".to_owned()], finalised: "g".to_owned() }
    }
}

impl Followed {
    fn shown(view: &ChainView) -> Self {
        let (Some(graph), Some(tip), Some(finalised)) = (&view.graph, view.tip, view.finalised) else {
            return Self::default();
        };
        let mut branch: Vec<String> = graph.down(&tip.hash, 0).map(|header| name(header.hash)).collect();
        branch.push("g".to_owned());
        branch.reverse();
        Self { branch, finalised: name(finalised.hash) }
    }

    fn take(&mut self, event: &Event) {
        fold(&mut self.branch, from_ref(event));
        if let ChainEvent::Finalised { block } = event {
            self.finalised = name(block.hash);
        }
    }
}

/// What a node does besides having this head.
#[derive(Clone, Copy)]
enum Does {
    Answer,
    Finalise(&'static str),
    Fail(&'static str),
    Hang(&'static str),
}

fn node(tree: &Tree, head: &str, does: Does) -> Node {
    let node = tree.node(head);
    let mut script = node.script();
    // Each answer is awaited.
    script.latency = Duration::from_millis(5);
    match does {
        Does::Answer => {}
        Does::Finalise(block) => script.finalised = Some(hash(block)),
        Does::Fail(method) => {
            let error =
                ChainError::Refused { endpoint: "node".to_owned(), method, reason: "scripted".to_owned() };
            script.fails.insert(method, error);
        }
        Does::Hang(method) => script.hangs.push(method),
    }
    drop(script);
    node
}

/// ```text
/// g - a1 - a2 - a3
///       \
///         b2 - b3 - b4 - b5 - b6
/// ```
#[tokio::test(start_paused = true)]
async fn events_fold_to_the_branch_and_no_interruption_loses_one() {
    use Does::{Answer, Fail, Finalise, Hang};
    let tree = Tree::new("g a1 a2 a3\na1 b2 b3 b4 b5 b6");
    let script = [
        [("a1", Answer), ("g", Answer)],
        [("a3", Answer), ("b2", Answer)],
        [("a3", Answer), ("b4", Answer)], // a reorg
        [("a3", Fail("")), ("b4", Finalise("b2"))],
        [("b6", Hang("block")), ("b5", Finalise("b3"))], // a block that n1 owes
        [("b6", Fail("block")), ("b6", Fail("header"))],
        [("b5", Answer), ("b5", Finalise("b3"))], // it is reverted
        [("b6", Finalise("b4")), ("b6", Finalise("b4"))],
        // After an interruption answers may come one poll late, and the events that follow from them another poll.
        [("b6", Finalise("b4")), ("b6", Finalise("b4"))],
        [("b6", Finalise("b4")), ("b6", Finalise("b4"))],
    ];
    let timing = ObservationConfig { interval: SECOND, ..ObservationConfig::default() };
    let mut check = Check::new(|| ChainObserver::new(config())).configured(timing);
    for [(one, does), (two, also)] in script {
        let tree = tree.clone();
        check = check.poll(move || -> Vec<ObservedSource<ChainSource<Node>>> {
            local(&[("n1", &node(&tree, one, does)), ("n2", &node(&tree, two, also))])
        });
    }
    let checked = check.folding(Followed::shown, Followed::take).run().await.unwrap();
    assert_eq!((checked.succeeded, checked.failed), (10, 0));
    assert!(checked.events >= 8 && checked.interruptions >= 8, "{checked:?}");
}
