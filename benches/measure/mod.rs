//! Takes figures and compares them.

pub(crate) mod child;
mod machine;
mod table;

use std::time::Duration;

pub(crate) use machine::{cpu_time, resident_bytes};
pub(crate) use table::{Medians, Row, Table, Unit};

/// One figure, taken several times.
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn new(mut taken: Vec<f64>) -> Self {
        assert!(!taken.is_empty(), "a figure is taken at least once");
        taken.sort_by(f64::total_cmp);
        Self(taken)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value below which the share `q` of all samples lies.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let place = q * (self.0.len() - 1) as f64;
        let (below, above) = (self.0[place.floor() as usize], self.0[place.ceil() as usize]);
        below + (above - below) * place.fract()
    }

    /// Half the distance of the quartiles, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        (self.quantile(0.75) - self.quantile(0.25)) / 2.0 / self.median().abs()
    }
}

/// Takes both figures `times` times, alternating, so that other load on the machine disturbs both alike.
pub(crate) fn alternate(
    times: usize,
    mut old: impl FnMut() -> f64,
    mut new: impl FnMut() -> f64,
) -> (Samples, Samples) {
    let (mut olds, mut news) = (Vec::with_capacity(times), Vec::with_capacity(times));
    for _ in 0..times {
        olds.push(old());
        news.push(new());
    }
    (Samples::new(olds), Samples::new(news))
}

/// Takes the figures of one part in separate processes, alternating between the old side and the new one. The layout of
/// memory, and with it the time that things take, differs from process to process.
pub(crate) fn processes<const N: usize>(times: usize, part: &str, count: &str) -> [(Samples, Samples); N] {
    let take = |side| child::figures::<N>(&[part, side, count]);
    let taken: Vec<[[f64; N]; 2]> = (0..times).map(|_| [take("old"), take("new")]).collect();
    let samples =
        |side: usize, row: usize| Samples::new(taken.iter().map(|taken| taken[side][row]).collect());
    std::array::from_fn(|row| (samples(0, row), samples(1, row)))
}

/// The median of `times` figures.
pub(crate) fn median(times: usize, take: impl FnMut() -> f64) -> f64 {
    Samples::new(std::iter::repeat_with(take).take(times).collect()).median()
}

/// The CPU seconds that one of many runs of `work` takes, running it for about `budget`.
pub(crate) fn time_each<T>(budget: Duration, mut work: impl FnMut() -> T) -> f64 {
    let mut runs = 1_u32;
    loop {
        let began = cpu_time();
        for _ in 0..runs {
            std::hint::black_box(work());
        }
        let took = cpu_time().saturating_sub(began);
        // Enough runs for one measurement are found by doubling; the last one counts.
        if took >= budget / 2 || runs >= 1 << 30 {
            return took.as_secs_f64() / f64::from(runs);
        }
        runs *= 2;
    }
}
