//! Waits until something serves, by the waits of `watchkeeper`.

use std::time::Duration;

use watchkeeper::until;
use watchkeeper::wait::{Unmet, Verdict};

/// The longest that a time-out may be.
#[cfg(any(feature = "compose", feature = "local"))]
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Checks the time-out that the method `setting` of a deployer was given.
#[cfg(any(feature = "compose", feature = "local"))]
pub(crate) fn check_time_out(
    setting: &str,
    within: Duration,
) -> Result<(), watchkeeper_scenario::DeployError> {
    if Duration::ZERO < within && within <= LONGEST {
        return Ok(());
    }
    let problem = format!("{setting} is {within:?}: it must be more than zero and at most 24 h");
    Err(watchkeeper_scenario::DeployError::InvalidDeployment(problem))
}

/// How often a node is asked.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Asks `probe` each 50 ms until it says that the node serves, for at most `within`.
///
/// A probe returns a `bool`, a `Result` whose error is the reason, or a [`Verdict`]. One that hangs is dropped at the end
/// of the window.
///
/// # Errors
///
/// [`Unmet`]: the node did not serve in time; it has the last reason. Also when `within` is zero or over 24 h.
///
/// # Cancel safety
///
/// Dropping it drops the probe and asks no more.
pub async fn ready<C, F, R>(within: Duration, probe: C) -> Result<(), Unmet>
where
    C: FnMut() -> F,
    F: Future<Output = R>,
    R: Into<Verdict>,
{
    until("the node serves", probe).every(ASK_AGAIN).within(within).await
}
