//! The Ethereum adapter on real nodes. Run by `cargo xtask test --only chains`.

mod adapter;
