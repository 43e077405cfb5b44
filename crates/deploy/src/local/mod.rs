//! Nodes as child processes on this machine.
