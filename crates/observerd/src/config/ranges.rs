//! The ranges of numbers and durations.

use std::time::Duration;

use super::ObserverdConfig;
use crate::loops::recent::MAX_WINDOW;

const MIB: u64 = 1024 * 1024;
const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_hours(24);
/// The loops keep no more.
const WINDOW: u64 = MAX_WINDOW as u64;

/// The lowest and the highest value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Range {
    Number(u64, u64),
    Time(Duration, Duration),
}

/// By the key within `[observerd]`. A test finds a number or a duration that has no range.
pub(super) const RANGES: [(&str, Range); 30] = [
    // Of the journal.
    ("segment_bytes", Range::Number(4_096, 1024 * 1024 * MIB)),
    ("segments", Range::Number(2, 1_000_000)),
    // A start reads as many records.
    ("idempotency_window", Range::Number(1, 1_000_000)),
    ("limits.connections", Range::Number(1, 1_000_000)),
    ("limits.connections_per_address", Range::Number(1, 1_000_000)),
    ("limits.requests_per_second", Range::Number(1, 10_000_000)),
    ("limits.burst", Range::Number(1, 10_000_000)),
    ("limits.bodies", Range::Number(MIB, 64 * 1024 * MIB)),
    ("limits.streams", Range::Number(1, 1_000_000)),
    ("limits.head", Range::Time(MS, DAY)),
    ("limits.body", Range::Time(MS, DAY)),
    ("limits.write", Range::Time(MS, DAY)),
    ("limits.append", Range::Time(MS, DAY)),
    ("limits.drain", Range::Time(MS, DAY)),
    ("corrections.every", Range::Time(MS, DAY)),
    ("errors.every", Range::Time(MS, DAY)),
    ("errors.window", Range::Number(1, WINDOW)),
    ("errors.clusters", Range::Number(1, 100_000)),
    ("playbooks.every", Range::Time(MS, DAY)),
    ("playbooks.window", Range::Number(2, WINDOW)),
    ("playbooks.occurrences", Range::Number(1, WINDOW)),
    ("playbooks.playbooks", Range::Number(1, 100_000)),
    ("playbooks.gap", Range::Time(MS, DAY)),
    ("escalation.threshold", Range::Number(1, WINDOW)),
    ("escalation.cooldown", Range::Time(MS, Duration::from_hours(24 * 30))),
    ("escalation.timeout", Range::Time(MS, Duration::from_hours(1))),
    ("escalation.attempts", Range::Number(1, 1_000)),
    ("escalation.posts_per_hour", Range::Number(1, 100_000)),
    ("escalation.pause", Range::Time(MS, DAY)),
    ("escalation.longest_pause", Range::Time(MS, DAY)),
];

/// The range of a key such as `observerd.limits.head`.
pub(super) fn of(key: &str) -> Option<Range> {
    let key = key.strip_prefix("observerd.")?;
    RANGES.iter().find(|(name, _)| *name == key).map(|(_, range)| *range)
}

impl Range {
    /// `must be from 1 to 10` in words of its kind.
    pub(super) fn wanted(self) -> String {
        match self {
            Self::Number(low, high) => format!("a whole number from {} to {}", grouped(low), grouped(high)),
            Self::Time(low, high) => {
                let shown = humantime::format_duration;
                format!("from \"{}\" to \"{}\"", shown(low), shown(high))
            }
        }
    }
}

/// Digits in groups of three, as TOML takes them.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('_');
        }
        text.push(digit);
    }
    text
}

/// The settings that are out of their range: the key and what it must be.
pub(super) fn outside(config: &ObserverdConfig) -> Vec<(&'static str, String)> {
    let mut config = config.clone();
    // A path that is not UTF-8 is no text.
    for path in [&mut config.persist_path, &mut config.token_file, &mut config.corrections.path] {
        path.clear();
    }
    let Ok(values) = serde_json::to_value(&config) else { return Vec::new() };
    let is_outside = |key: &str, range: Range| {
        let Some(value) = values.pointer(&format!("/{}", key.replace('.', "/"))) else { return false };
        match range {
            Range::Number(low, high) => !value.as_u64().is_some_and(|value| (low..=high).contains(&value)),
            Range::Time(low, high) => {
                let time = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
                !time.is_some_and(|time| (low..=high).contains(&time))
            }
        }
    };
    RANGES
        .iter()
        .filter(|(key, range)| is_outside(key, *range))
        .map(|(key, range)| (*key, format!("must be {}", range.wanted())))
        .collect()
}
