//! What [`NodeControl`] documents for each action, tried on one node. Every deployer that has the actions runs this.

use std::error::Error;
use std::time::Duration;

use watchkeeper_scenario::{NodeAction, NodeControl, NodeControlError};

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Runs,
    Paused,
    Down,
}

/// The result of an action: the state of the node, or a part of the error.
type Answer = Result<State, &'static str>;

const TABLE: [(State, NodeAction, Answer); 18] = {
    use NodeAction::{Kill, Pause, Restart, Resume, Start, Stop};
    use State::{Down, Paused, Runs};
    [
        (Runs, Start, Ok(Runs)),
        (Runs, Stop, Ok(Down)),
        (Runs, Restart, Ok(Runs)),
        (Runs, Kill, Ok(Down)),
        (Runs, Pause, Ok(Paused)),
        (Runs, Resume, Ok(Runs)),
        (Paused, Start, Err("paused")),
        (Paused, Stop, Err("paused: resume it first, or kill it")),
        (Paused, Restart, Err("paused: resume it first, or kill it")),
        (Paused, Kill, Ok(Down)),
        (Paused, Pause, Ok(Paused)),
        (Paused, Resume, Ok(Runs)),
        (Down, Start, Ok(Runs)),
        (Down, Stop, Ok(Down)),
        (Down, Restart, Ok(Runs)),
        (Down, Kill, Err("")),
        (Down, Pause, Err("does not run")),
        (Down, Resume, Err("does not run")),
    ]
};

const ACTIONS: [NodeAction; 6] = {
    use NodeAction::{Kill, Pause, Restart, Resume, Start, Stop};
    [Start, Stop, Restart, Kill, Pause, Resume]
};

/// The limit for answers that are to come at once.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Tries each action on `node` in each state, and on an unknown node. `is` returns whether the node is in a state. The
/// node runs at the beginning and at the end.
pub(crate) async fn holds(control: &dyn NodeControl, node: &str, is: impl AsyncFn(State) -> bool) {
    for (state, action, expected) in TABLE {
        let what = format!("{action} of a node that is {state:?}");
        match state {
            State::Runs => {}
            State::Paused => act(control, NodeAction::Pause, node).await.unwrap(),
            State::Down => act(control, NodeAction::Kill, node).await.unwrap(),
        }
        assert!(is(state).await, "before the {what}");
        let then = match (act(control, action, node).await, expected) {
            (Ok(()), Ok(then)) => then,
            (Err(error), Err(words)) => {
                assert!(matches!(error, NodeControlError::Failed { .. }), "{what}: {error}");
                let reason = error.source().map(ToString::to_string).unwrap_or_default();
                assert!(reason.contains(words), "{what}: {reason}");
                state
            }
            (answered, expected) => panic!("{what}: answered {answered:?}, and not {expected:?}"),
        };
        assert!(is(then).await, "it is not {then:?} after the {what}");
        match then {
            State::Runs => {}
            State::Paused => act(control, NodeAction::Resume, node).await.unwrap(),
            State::Down => act(control, NodeAction::Start, node).await.unwrap(),
        }
        assert!(is(State::Runs).await, "it does not run at the end of the {what}");
    }
    for action in ACTIONS {
        is_unknown(act(control, action, "no-such-node").await, node, &format!("{action}"));
    }
    is_unknown(control.wait_ready("no-such-node", AT_ONCE).await, node, "a wait");
}

fn is_unknown(answered: Result<(), NodeControlError>, there_is: &str, what: &str) {
    match answered {
        Err(NodeControlError::UnknownNode { node, known }) => {
            assert_eq!(node, "no-such-node", "{what}");
            assert!(known.iter().any(|known| known == there_is), "{what}: {known:?}");
        }
        other => panic!("{what} of an unknown node: answered {other:?}"),
    }
}

/// Tries each action on `node` after the cluster was shut down.
pub(crate) async fn holds_after_the_end(control: &dyn NodeControl, node: &str) {
    for action in ACTIONS {
        match act(control, action, node).await {
            Err(NodeControlError::Failed { source, .. }) => {
                let reason = source.to_string();
                assert!(reason.contains("was shut down"), "{action} after the end: {reason}");
            }
            other => panic!("{action} after the end: answered {other:?}"),
        }
    }
    let waited = tokio::time::timeout(AT_ONCE, control.wait_ready(node, AT_ONCE * 10)).await;
    match waited.expect("a wait after the end is answered at once") {
        Err(NodeControlError::NotReady { last, .. }) => assert!(last.contains("was shut down"), "{last}"),
        other => panic!("a wait after the end: answered {other:?}"),
    }
}

async fn act(control: &dyn NodeControl, action: NodeAction, node: &str) -> Result<(), NodeControlError> {
    match action {
        NodeAction::Start => control.start(node).await,
        NodeAction::Stop => control.stop(node).await,
        NodeAction::Restart => control.restart(node).await,
        NodeAction::Kill => control.kill(node).await,
        NodeAction::Pause => control.pause(node).await,
        NodeAction::Resume => control.resume(node).await,
        other => unreachable!("{other} is not in the table"),
    }
}
