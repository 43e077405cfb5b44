//! Lines about the WebSocket connections.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::Instant;
use watchkeeper_chain_ethereum::{HeadsState, HeadsStates, NewHeads};

use super::condition::{Condition, Conditions};
use super::report::Reporter;

/// Prints when a connection is lost and when it is back. They are named by their flag and position.
pub(super) async fn follow(heads: &[NewHeads], interval: Duration, reporter: &Reporter) -> Infallible {
    let each = (1..).zip(heads).map(|(nth, heads)| {
        let (name, states) = (format!("ws{nth}"), heads.states());
        async move { print(&name, states, interval, reporter).await }
    });
    join_all(each).await;
    pending().await
}

async fn print(name: &str, mut states: HeadsStates, interval: Duration, reporter: &Reporter) {
    let mut conditions = Conditions::every(interval);
    let mut state = Some(states.current());
    while let Some(now) = state {
        let is_lost = matches!(now, HeadsState::Lost(_));
        let printed = conditions.note(Instant::now(), &Condition::heads(is_lost, now.to_string()));
        // That all is well is printed only after a failure.
        if let Some(is) = printed.filter(|_| is_lost || conditions.has_changed()) {
            reporter.report("ws", &format!("{name} {is}"), || json!({ "ws": name, "is": is }));
        }
        state = states.changed().await;
    }
}
