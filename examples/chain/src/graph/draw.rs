//! Branches as text, for reports.

use std::fmt::Write as _;

use super::Graph;
use crate::{Hash, Header, Height};

/// A branch's column.
struct Column {
    tip: Header,
    /// The column that it leaves, and at which height; the first one leaves none.
    leaves: Option<(usize, Height)>,
}

impl Graph {
    /// The branches whose tips are above `height`, newest block on top, that of `tip` in the first column.
    ///
    /// A star is a block; its hash stands at the right, in the order of the columns. A branch leaves
    /// another one where a line joins them. Empty for a tip that is not in the graph.
    ///
    /// ```text
    ///   8  *    08
    ///   7  * *  07 17
    ///   6  *-'  06
    /// ```
    #[must_use]
    pub fn draw(&self, tip: &Hash, height: Height) -> String {
        let columns = self.columns(tip, height);
        let Some(top) = columns.iter().map(|column| column.tip.height).max() else {
            return String::new();
        };
        let width = top.to_string().len().max(3);
        let mut drawn = String::new();
        let mut rest: Vec<Header> = columns.iter().map(|column| column.tip).collect();
        for row in (height.max(self.root().height)..=top).rev() {
            let mut cells = vec![' '; columns.len() * 2];
            let mut names = String::new();
            for (nth, column) in columns.iter().enumerate() {
                match column.leaves {
                    Some((from, fork)) if fork == row => {
                        let line = &mut cells[from * 2 + 1..nth * 2];
                        line.iter_mut().filter(|cell| **cell == ' ').for_each(|cell| *cell = '-');
                        cells[nth * 2] = '\'';
                    }
                    Some((_, fork)) if fork > row => {}
                    _ if row <= column.tip.height => {
                        cells[nth * 2] = '*';
                        let _ = write!(names, " {:.8}", rest[nth].hash);
                        if let Some(parent) = self.get(&rest[nth].parent) {
                            rest[nth] = parent;
                        }
                    }
                    _ => {}
                }
            }
            let cells: String = cells.iter().collect();
            let _ = writeln!(drawn, "{row:>width$}  {cells}{names}");
        }
        drawn
    }

    fn columns(&self, tip: &Hash, height: Height) -> Vec<Column> {
        let first = self.get(tip).map(|tip| Column { tip, leaves: None });
        let mut columns: Vec<Column> = first.into_iter().collect();
        if columns.is_empty() {
            return columns;
        }
        for branch in self.branches_above(height) {
            let forks = columns.iter().enumerate().filter_map(|(nth, column)| {
                let fork = self.common_ancestor(&column.tip.hash, &branch.tip.hash)?.height;
                Some((nth, fork))
            });
            // Of columns that share the fork, the first one is the one that the others left.
            let leaves = forks.rev().max_by_key(|(_, fork)| *fork);
            if leaves.is_none_or(|(_, fork)| fork < branch.tip.height) {
                columns.push(Column { tip: branch.tip, leaves });
            }
        }
        in_order(&columns)
    }
}

/// A branch stands right of the one that it leaves, and those that leave it higher up between the two: so
/// no line crosses a branch.
fn in_order(columns: &[Column]) -> Vec<Column> {
    let mut order: Vec<usize> = Vec::new();
    for (nth, column) in columns.iter().enumerate() {
        let Some((from, fork)) = column.leaves else {
            order.push(nth);
            continue;
        };
        // Behind all that is above the fork on this side: branches of the parent, and theirs.
        let start = order.iter().position(|at| *at == from).map_or(0, |at| at + 1);
        let above = |at: &&usize| columns[**at].leaves.is_some_and(|(_, other)| other >= fork);
        let skipped = order[start..].iter().take_while(above).count();
        order.insert(start + skipped, nth);
    }
    let place = |nth: usize| order.iter().position(|at| *at == nth).unwrap_or_default();
    let tip = |nth: usize| columns[nth].tip;
    let moved = |nth: usize| columns[nth].leaves.map(|(from, fork)| (place(from), fork));
    order.iter().map(|nth| Column { tip: tip(*nth), leaves: moved(*nth) }).collect()
}
