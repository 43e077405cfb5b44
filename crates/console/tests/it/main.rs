//! One binary: screens as text, the loop that draws them, and a real terminal.

#![allow(clippy::unwrap_used, reason = "tests")]

mod group;
mod hanging;
mod loops;
mod screens;
#[cfg(target_os = "linux")]
mod terminal;
mod timeline;
