//! `follow --table` on a terminal.

use super::LOOK;
use crate::misbehaving::{Misbehaving, Modes};
use crate::screen::Screen;

#[tokio::test]
async fn a_terminal_has_the_table_and_then_the_lines_of_meanwhile() {
    let server = Misbehaving::start(Modes::default()).await;
    let url = server.url();
    let flags = ["follow", "--table", "--interval", "20ms", "--from", "0", "--rpc", &url];
    let mut screen = Screen::start(env!("CARGO_BIN_EXE_chain"), &flags, &[]);
    screen.shows("rpc1").await;
    server.grow(1);
    server.is_asked(LOOK, 3).await;
    assert!(!screen.text().contains("  chain   block"), "{}", screen.text());
    let after = screen.interrupted().await;
    // What each frame ends with.
    let (table, lines) = after.rsplit_once("\x1b[J").expect("frames come as long as it runs");
    assert!(!table.contains("  chain   block"), "{after}");
    assert!(lines.contains("  chain   block") && lines.contains(" 4 ("), "{after}");
    assert!(lines.contains("  ended   "), "{after}");
}
