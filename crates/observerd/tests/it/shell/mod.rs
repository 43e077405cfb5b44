//! The shell on real sockets: clients that are slow, silent, greedy or wrong.

mod app;
mod bodies;
mod client;
mod deadlines;
mod heads;
mod stopping;
