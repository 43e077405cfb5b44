//! Child processes for clusters in tests, on Linux: started, signalled, paused and reaped without a race.
//!
//! Dropping a [`Process`] kills it and its children. With [`while_parent_lives`] the kernel also kills it when this
//! process is killed. Dropping a [`RunDirectory`] removes the directory; if this process is killed, the next run removes
//! it.
//!
//! Linux only: it needs pidfds, the signal at a parent's death and `/proc`. The libraries, `watchkeeper-fsm`,
//! `watchkeeper`, `watchkeeper-scenario`, `watchkeeper-cucumber`, `watchkeeper-pipeline` and `watchkeeper-journal`, build on
//! macOS and Windows too.
//!
//! ```
//! use std::process::Command;
//! use watchkeeper_process::{Process, while_parent_lives};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut program = Command::new("sh");
//! program.args(["-c", "echo starting; echo listening on 1234; exec sleep 60"]);
//! let (process, ready) = Process::start(while_parent_lives(&program), "listening on ")?;
//! assert_eq!(ready.line().await.as_deref(), Ok("listening on 1234"));
//! process.pause()?;
//! assert!(process.is_paused());
//! # Ok(())
//! # }
//! ```

#[cfg(not(target_os = "linux"))]
compile_error!(
    "watchkeeper-process, and the examples that start processes, are for Linux only: they need pidfds, the signal at a \
     parent's death and /proc. The libraries build on macOS and Windows too: \
     `cargo build -p watchkeeper-fsm -p watchkeeper -p watchkeeper-scenario -p watchkeeper-cucumber \
     -p watchkeeper-pipeline -p watchkeeper-journal`."
);

#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(target_os = "linux")]
mod directory;
#[cfg(target_os = "linux")]
mod group;
mod log;
#[cfg(target_os = "linux")]
mod output;
#[cfg(target_os = "linux")]
mod parent;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod signal;

#[cfg(target_os = "linux")]
pub use crate::{
    directory::RunDirectory,
    output::ReadyLine,
    parent::while_parent_lives,
    process::{Exit, Process},
};
#[cfg(target_os = "linux")]
pub use rustix::process::Signal;
