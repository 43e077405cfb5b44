//! Child processes for clusters in tests, on Linux: started, signalled, paused and reaped without a race.
//!
//! [`Process`] is a program that dies with its value, and its children with it. [`while_parent_lives`] has the
//! kernel end it also when this process is killed. [`RunDirectory`] is a directory that goes with its value, or,
//! when this process is killed, with the next one that is made.
//!
//! Linux only: it takes pidfds, the signal at a parent's death and `/proc`.
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

mod directory;
mod group;
mod output;
mod parent;
mod process;
mod signal;

pub use rustix::process::Signal;

pub use directory::RunDirectory;
pub use output::ReadyLine;
pub use parent::while_parent_lives;
pub use process::{Exit, Process};
