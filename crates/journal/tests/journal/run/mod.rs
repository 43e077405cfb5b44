//! Runs of observations: recorded, resumed, replayed.

mod app;
mod judged;
mod recording;
mod resuming;
mod sources;
