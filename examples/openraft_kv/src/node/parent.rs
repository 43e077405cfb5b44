//! Dying with the parent process.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Why this process cannot be made to die with its parent.
#[derive(thiserror::Error)]
pub enum ParentError {
    /// The kernel refused.
    #[error("cannot ask the kernel for a signal at the parent's death: leave --exit-with-parent out")]
    Refused(#[source] std::io::Error),
    /// Another process is the parent.
    #[error(
        "process {0} is not the parent, or has died: --exit-with-parent takes the id of the process that starts the node"
    )]
    NotTheParent(u32),
}

crate::errors::debug_is_the_text!(ParentError);

/// Has the kernel kill this process when its parent, which must be `pid`, dies.
///
/// The kernel sends `SIGKILL`, also when the parent itself was killed or this process is paused. For
/// Linux the parent is the thread that started this process: that thread must live as long as the node
/// should.
///
/// # Errors
///
/// [`ParentError`]; the parent may have died before the kernel was asked.
pub fn exit_with_parent(pid: u32) -> Result<(), ParentError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| ParentError::Refused(errno.into()))?;
    let parent = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // Asked after the signal is armed: a parent that died before shows as another parent now.
    if parent.is_some() && getppid() == parent { Ok(()) } else { Err(ParentError::NotTheParent(pid)) }
}
