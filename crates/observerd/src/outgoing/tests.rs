//! Tests of the connector: addresses and spellings as tables, connections with servers on loopback.

mod addresses;
mod connecting;
mod peers;
mod posting;
mod secured;
mod spellings;
