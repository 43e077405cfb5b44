//! What the service costs beside a handler that stores nothing, and beside one `fdatasync`.
//!
//! `cargo bench -p observerd` prints tables: medians of several rounds, in which the contestants take turns.
//! `OBSERVERD_ROWS=post,batch,stats,readers,start` chooses some of them. `post`, `batch` and `stats` need `wrk`.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded to three digits before anybody reads them"
)]

mod rows;

use std::path::Path;
use std::time::Instant;

use rows::{null, readers, requests, server, start, sync, wrk};

fn main() {
    if null::is_child() {
        return runtime().block_on(null::child());
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("figures are taken from optimised code only: cargo bench -p observerd");
        return;
    }
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(directory).expect("the target directory can be written");
    server::allow_many_files();
    let began = Instant::now();
    runtime().block_on(run(directory));
    eprintln!("{} s", began.elapsed().as_secs());
}

async fn run(directory: &Path) {
    let rows = std::env::var("OBSERVERD_ROWS").unwrap_or_default();
    let rows: Vec<&str> = rows.split(',').map(str::trim).filter(|row| !row.is_empty()).collect();
    let is_wanted = |part: &str| rows.is_empty() || rows.contains(&part);
    println!("One `fdatasync` of 200 bytes: {:.0} us (median).\n", sync::fdatasync(directory));
    let contestants = requests::contestants(&is_wanted);
    if !contestants.is_empty() {
        wrk::is_there();
        requests::run(directory, &contestants).await;
    }
    if is_wanted("readers") {
        readers::run(directory).await;
    }
    if is_wanted("start") {
        start::run(directory).await;
    }
}

/// As the program has it.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}
