//! The parts of the figures.

pub(crate) mod null;
pub(crate) mod operation;
pub(crate) mod readers;
pub(crate) mod requests;
pub(crate) mod samples;
pub(crate) mod server;
pub(crate) mod start;
pub(crate) mod stream;
pub(crate) mod sync;
pub(crate) mod writer;
pub(crate) mod wrk;
