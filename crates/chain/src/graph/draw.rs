//! Branches as text, for reports.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Graph;
use crate::{Hash, Header, Height};

/// A branch's column.
struct Column {
    tip: Header,
    /// The column from which it forks, and at which height; `None` for the first one.
    forks_from: Option<(usize, Height)>,
}

impl Column {
    fn is_above_fork(&self, row: Height) -> bool {
        self.forks_from.is_none_or(|(_, fork)| fork < row)
    }
}

/// How many heights are drawn above and below one where a branch begins or ends.
const AROUND: Height = 3;

impl Graph {
    /// The branches whose tips are above `height`, newest block on top, that of `tip` in the first column.
    ///
    /// A star is a block; its hash is at the right, in the order of the columns. A line connects two branches at their
    /// fork. Heights that are more than three away from where a branch begins or ends are not drawn: a line has their
    /// number. So there are at most sixteen lines for each branch and eight more. Empty for a tip that is not in the
    /// graph. It compares all branches with each other, as [`branches_above`](Self::branches_above) does.
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
        let forks = columns.iter().filter_map(|column| Some(column.forks_from?.1));
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

    /// The cells of a row, and its hashes.
    fn row(&self, columns: &[Column], row: Height) -> (String, String) {
        let mut cells = vec![' '; columns.len() * 2];
        let mut names = String::new();
        for (nth, column) in columns.iter().enumerate() {
            if let Some((from, fork)) = column.forks_from
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
        let first = self.get(tip).map(|tip| Column { tip, forks_from: None });
        let mut columns: Vec<Column> = first.into_iter().collect();
        if columns.is_empty() {
            return columns;
        }
        for branch in self.branches_above(height) {
            let forks = columns.iter().enumerate().filter_map(|(nth, column)| {
                let fork = self.common_ancestor(&column.tip.hash, &branch.tip.hash)?.height;
                Some((nth, fork))
            });
            // Of columns that share the fork, the others fork from the first one.
            let forks_from = forks.rev().max_by_key(|(_, fork)| *fork);
            if forks_from.is_none_or(|(_, fork)| fork < branch.tip.height) {
                columns.push(Column { tip: branch.tip, forks_from });
            }
        }
        in_order(&columns)
    }
}

/// A branch is right of the one from which it forks; branches that fork higher up are between the two. So no line
/// crosses a branch.
fn in_order(columns: &[Column]) -> Vec<Column> {
    let mut order: Vec<usize> = Vec::new();
    for (nth, column) in columns.iter().enumerate() {
        let Some((from, fork)) = column.forks_from else {
            order.push(nth);
            continue;
        };
        // Right of all branches that fork above this fork: those of the parent, and their own.
        let start = order.iter().position(|at| *at == from).map_or(0, |at| at + 1);
        let above = |at: &&usize| columns[**at].forks_from.is_some_and(|(_, other)| other >= fork);
        let skipped = order[start..].iter().take_while(above).count();
        order.insert(start + skipped, nth);
    }
    let place = |nth: usize| order.iter().position(|at| *at == nth).unwrap_or_default();
    let tip = |nth: usize| columns[nth].tip;
    let moved = |nth: usize| columns[nth].forks_from.map(|(from, fork)| (place(from), fork));
    order.iter().map(|nth| Column { tip: tip(*nth), forks_from: moved(*nth) }).collect()
}
