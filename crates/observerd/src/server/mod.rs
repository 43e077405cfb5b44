//! HTTP: connections, who may call, and what is answered.

pub mod problem;
