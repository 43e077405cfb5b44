//! A second request where the first one may be lost.

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

/// A request is not sent again before this time, and at last after the other.
const LEAST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(2);

/// A request that takes so many times as long as the last answer may be lost.
const TIMES: u32 = 8;

/// How long a request waits before it is sent again, to a node whose last answer took `usual`.
pub(super) fn patience(usual: Duration) -> Duration {
    usual.saturating_mul(TIMES).clamp(LEAST, MOST)
}

/// The first answer of one call, or of two if the first one takes longer than `patience`.
pub(super) async fn hedged<V, F: Future<Output = V>>(patience: Duration, call: impl Fn() -> F) -> V {
    let mut first = pin!(call());
    tokio::select! {
        biased;
        answer = &mut first => return answer,
        () = sleep(patience) => {}
    }
    let second = pin!(call());
    tokio::select! {
        biased;
        answer = first => answer,
        answer = second => answer,
    }
}
