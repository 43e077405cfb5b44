//! The program `observerd`.

fn main() {}
