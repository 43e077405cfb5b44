//! Starts the misbehaving server of the tests, to follow it by hand: `-- grows fork`, or `-- --list`.
//!
//! Modes may be combined. It runs until Ctrl-C.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "shared with the tests of endpoints, which need more of it"
)]

#[path = "../../tests/endpoints/fake.rs"]
mod fake;
#[path = "server/mod.rs"]
mod misbehaving;

use std::process::ExitCode;

use misbehaving::{ACCOUNT, Misbehaving, Modes, NAMED};

#[tokio::main]
async fn main() -> ExitCode {
    let mut modes = Modes { blocks: 70, ..Modes::default() };
    for argument in std::env::args().skip(1) {
        if argument == "--list" {
            for (name, what, _) in NAMED {
                println!("{name:<18} {what}");
            }
            return ExitCode::SUCCESS;
        }
        let Some((.., set)) = NAMED.iter().find(|(name, ..)| *name == argument) else {
            eprintln!("there is no mode {argument:?}: --list prints all");
            return ExitCode::FAILURE;
        };
        set(&mut modes);
    }
    let server = Misbehaving::start(modes).await;
    println!("it answers at {}; its account is {ACCOUNT}", server.url());
    let _ = tokio::signal::ctrl_c().await;
    ExitCode::SUCCESS
}
