//! `follow --table` on a terminal.

use serde::de::IgnoredAny;
use watchkeeper_chain::projection::checkpoint::Checkpoint;

use super::LOOK;
use crate::misbehaving::{Misbehaving, Modes};
use crate::screen::Screen;

#[tokio::test]
async fn a_terminal_has_the_table_and_then_the_lines_of_meanwhile() {
    let server = Misbehaving::start(Modes::default()).await;
    let url = server.url();
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("chain.checkpoint");
    let flags = ["follow", "--table", "--interval", "20ms", "--from", "0", "--rpc", &url, "--checkpoint"];
    let flags = [&flags[..], &[path.to_str().unwrap()]].concat();
    let mut screen = Screen::start(env!("CARGO_BIN_EXE_chain"), &flags, &[]);
    screen.shows("rpc1").await;
    server.grow(1);
    // The file has a block only after its line was held back.
    let is_held = async {
        while Checkpoint::<IgnoredAny>::load(&path)
            .unwrap()
            .is_none_or(|kept| kept.headers.last().unwrap().height < 4)
        {
            server.is_asked(LOOK, 1).await;
        }
    };
    // A terminal that is not read stops the program that writes to it.
    tokio::select! {
        () = is_held => {}
        () = screen.shows("  chain   block") => {}
    }
    assert!(!screen.text().contains("  chain   block"), "{}", screen.text());
    let after = screen.interrupted().await;
    // What each frame ends with.
    let (table, lines) = after.rsplit_once("\x1b[J").expect("frames come as long as it runs");
    assert!(!table.contains("  chain   block"), "{after}");
    assert!(lines.contains("  chain   block") && lines.contains(" 4 ("), "{after}");
    assert!(lines.contains("  ended   "), "{after}");
}
