#![doc = include_str!("../README.md")]

mod collect;
mod fit;
mod frame;
mod news;
mod render;
mod screen;
mod table;
mod timeline;
mod writer;

pub use frame::{Frame, Kind, Latencies, Row, RowState};
pub use render::{Size, render};
pub use screen::{Look, Screen, Stdout};
pub use table::Table;
pub use timeline::{Hold, Lines, Style};
