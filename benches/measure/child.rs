//! Measures in a separate process, whose heap and CPU time nothing else has touched.

use std::process::Command;

/// The first argument of a process that measures.
pub(crate) const CHILD: &str = "--child";

/// Runs this program once more, with `arguments`, and returns the figures that it prints.
pub(crate) fn figures<const N: usize>(arguments: &[&str]) -> [f64; N] {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program).arg(CHILD).args(arguments).output().expect("it runs once more");
    let printed = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = printed.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    let figures = figures.try_into();
    figures.unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Prints the figures for the process that started this one.
pub(crate) fn print(figures: &[f64]) {
    for figure in figures {
        println!("{figure}");
    }
}
