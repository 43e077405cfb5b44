//! Branches as text, for reports.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Graph;
use crate::{Hash, Header, Height};

/// A branch's column.
struct Column {
    tip: Header,
    /// The column that it leaves, and at which height; the first one leaves none.
    leaves: Option<(usize, Height)>,
}

impl Column {
    fn is_above_fork(&self, row: Height) -> bool {
        self.leaves.is_none_or(|(_, fork)| fork < row)
    }
}

/// How many heights are drawn above and below one where a branch begins or ends.
const AROUND: Height = 3;

impl Graph {
    /// The branches whose tips are above `height`, newest block on top, that of `tip` in the first column.
    ///
    /// A star is a block; its hash stands at the right, in the order of the columns. A branch leaves
    /// another one where a line joins them. Heights that are more than three away from where a branch begins or
    /// ends are not drawn: a line says how many there are, so that there are at most sixteen lines for each branch
    /// and eight more. Empty for a tip that is not in the graph. It compares all branches with each other, as
    /// [`branches_above`](Self::branches_above) does.
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
        let bottom = height.max(self.root().height);
        let forks = columns.iter().filter_map(|column| Some(column.leaves?.1));
        let tips = columns.iter().map(|column| column.tip.height);
        let ends: BTreeSet<Height> =
            forks.chain(tips).chain([bottom]).filter(|end| (bottom..=top).contains(end)).collect();
        let width = top.to_string().len().max(3);
        let mut drawn = String::new();
        let mut next = top;
        for end in ends.into_iter().rev() {
            let first = end.saturating_add(AROUND).min(next);
            let between = next - first;
            if between > 1 {
                let has = |column: &Column| next <= column.tip.height && column.is_above_fork(next);
                let cells: String =
                    columns.iter().map(|column| if has(column) { ": " } else { "  " }).collect();
                let _ = writeln!(drawn, "{:width$}  {cells} {between} more", "");
                next = first;
            }
            let last = end.saturating_sub(AROUND).max(bottom);
            for row in (last..=next).rev() {
                let (cells, names) = self.row(&columns, row);
                let _ = writeln!(drawn, "{row:>width$}  {cells}{names}");
            }
            if last == bottom {
                break;
            }
            next = last - 1;
        }
        drawn
    }

    /// Its cells, and the hashes.
    fn row(&self, columns: &[Column], row: Height) -> (String, String) {
        let mut cells = vec![' '; columns.len() * 2];
        let mut names = String::new();
        for (nth, column) in columns.iter().enumerate() {
            if let Some((from, fork)) = column.leaves
                && fork == row
            {
                let line = &mut cells[from * 2 + 1..nth * 2];
                line.iter_mut().filter(|cell| **cell == ' ').for_each(|cell| *cell = '-');
                cells[nth * 2] = '\'';
            } else if column.is_above_fork(row)
                && let Some(block) = self.ancestor_at(&column.tip.hash, row)
            {
                cells[nth * 2] = '*';
                let _ = write!(names, " {:.8}", block.hash);
            }
        }
        (cells.into_iter().collect(), names)
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
