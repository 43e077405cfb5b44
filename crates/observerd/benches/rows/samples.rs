//! Medians and percentiles.

pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// Of sorted samples. `share` is 0 to 1.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> u64 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// Microseconds as text that is easy to compare.
pub(crate) fn micros(micros: f64) -> String {
    if micros < 1_000.0 { format!("{micros:.0} us") } else { format!("{:.1} ms", micros / 1_000.0) }
}

pub(crate) fn met(is_met: bool) -> &'static str {
    if is_met { "yes" } else { "**no**" }
}
