//! What a lifecycle knows of its observer and its past.

/// The options of a [`Lifecycle`](crate::Lifecycle).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// The observer's poll is cancel-safe: a time-out keeps the state; a panic loses it. Default: false.
    pub keeps_state_on_timeout: bool,
    /// The generation of the first state to be published. Default: 1.
    pub first_generation: u64,
    /// The number of the first cycle. Default: 0.
    pub first_cycle: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { keeps_state_on_timeout: false, first_generation: 1, first_cycle: 0 }
    }
}
