//! What is tested.

use std::fmt;

/// What is tested: the types that a deployer and a test share. It needs no values.
pub trait Application: Send + Sync + 'static {
    /// What a deployer needs to know: how many nodes there are, and their settings.
    type Deployment: Clone + fmt::Debug + Send + Sync + 'static;
    /// A client of one node.
    type NodeClient: Clone + Send + Sync + 'static;
}
