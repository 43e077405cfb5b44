#![doc = include_str!("../README.md")]

mod collect;
mod fit;
mod frame;
mod lines;
mod render;
mod screen;
mod table;
mod timeline;

pub use frame::{Frame, Kind, Latencies, Row, RowState};
pub use render::{Size, render};
pub use screen::{Look, Screen, Stdout};
pub use table::Table;
pub use timeline::{Style, Timeline};
