//! One row a figure.

pub(crate) enum Goal {
    /// At least so many times the other.
    Times(f64),
    None,
}

pub(crate) struct Row {
    name: String,
    rate: f64,
    other: String,
    other_rate: f64,
    goal: Goal,
}

impl Row {
    /// Two contestants, by their records a second.
    pub(crate) fn new(name: &str, rate: f64, other: &str, other_rate: f64, goal: Goal) -> Self {
        Self { name: name.to_owned(), rate, other: other.to_owned(), other_rate, goal }
    }
}

pub(crate) fn print(rows: &[Row]) {
    println!("| what | records/s | beside | records/s | times | goal | met |");
    println!("|---|---|---|---|---|---|---|");
    for Row { name, rate, other, other_rate, goal } in rows {
        let times = rate / other_rate;
        let (goal, met) = match goal {
            Goal::Times(goal) if times >= *goal => (format!("{goal}"), "yes"),
            Goal::Times(goal) => (format!("{goal}"), "**no**"),
            Goal::None => (String::new(), ""),
        };
        println!("| {name} | {rate:.0} | {other} | {other_rate:.0} | {times:.2} | {goal} | {met} |");
    }
    println!();
}

pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
