//! Dates and times.

use super::numbers::{digits, is_digit};
use super::words::is_word;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A date, a time of day, or both. It begins with a digit.
pub(super) fn numeric(text: &[char], at: usize) -> Option<usize> {
    if let Some(end) = compact(text, at).or_else(|| of_log(text, at)).or_else(|| day_month(text, at)) {
        return Some(end);
    }
    let Some(end) = date(text, at) else { return time(text, at) };
    match text.get(end) {
        Some('T' | 't' | ' ' | '_') => {
            time(text, end + 1).or_else(|| (!is_word(text.get(end).copied())).then_some(end))
        }
        next => (!is_word(next.copied())).then_some(end),
    }
}

/// `Mon, 02 Jan 2024 03:04:05 GMT`, `Jan 2 03:04:05`, `Mon Jan 2 03:04:05 2024`. It begins with a letter.
pub(super) fn named(text: &[char], at: usize) -> Option<usize> {
    let Some(mut next) = name(text, at, &DAYS) else { return month_day(text, at) };
    next += usize::from(text.get(next) == Some(&','));
    if text.get(next) != Some(&' ') {
        return None;
    }
    day_month(text, next + 1).or_else(|| month_day(text, next + 1))
}

fn name(text: &[char], at: usize, names: &[&str]) -> Option<usize> {
    let is_it =
        |name: &&str| text.get(at..at + 3).is_some_and(|found| found.iter().copied().eq(name.chars()));
    names.iter().any(is_it).then_some(at + 3)
}

/// `02 Jan 2024 03:04:05 GMT`; also with hyphens.
fn day_month(text: &[char], at: usize) -> Option<usize> {
    let day = digits(text, at, 3);
    let between = *text.get(at + day)?;
    if !(1..=2).contains(&day) || !matches!(between, ' ' | '-') {
        return None;
    }
    let month = name(text, at + day + 1, &MONTHS)?;
    let year = digits(text, month + 1, 5);
    let end = month + 1 + year;
    if text.get(month) != Some(&between) || !matches!(year, 2 | 4) || is_word(text.get(end).copied()) {
        return None;
    }
    Some(if text.get(end) == Some(&' ') { time(text, end + 1).unwrap_or(end) } else { end })
}

/// `Jan 2 03:04:05`, with or without a year after it.
fn month_day(text: &[char], at: usize) -> Option<usize> {
    let month = name(text, at, &MONTHS)?;
    let day = digits(text, month + 1, 3);
    let after = month + 1 + day;
    if text.get(month) != Some(&' ') || !(1..=2).contains(&day) || text.get(after) != Some(&' ') {
        return None;
    }
    let end = time(text, after + 1)?;
    let year = digits(text, end + 1, 5);
    let has_year = text.get(end) == Some(&' ') && year == 4 && !is_word(text.get(end + 5).copied());
    Some(if has_year { end + 5 } else { end })
}

/// `2024-01-02`, `2024/01/02`.
fn date(text: &[char], at: usize) -> Option<usize> {
    let separator = *text.get(at + 4)?;
    let fits = digits(text, at, 5) == 4
        && matches!(separator, '-' | '/')
        && digits(text, at + 5, 3) == 2
        && text.get(at + 7) == Some(&separator)
        && digits(text, at + 8, 3) == 2;
    fits.then_some(at + 10)
}

/// `03:04:05.678`, with its zone.
fn time(text: &[char], at: usize) -> Option<usize> {
    let hours = digits(text, at, 3);
    if !(1..=2).contains(&hours) {
        return None;
    }
    let mut end = at + hours;
    for _ in 0..2 {
        if text.get(end) != Some(&':') || digits(text, end + 1, 3) != 2 {
            return None;
        }
        end += 3;
    }
    if matches!(text.get(end), Some('.' | ',')) && is_digit(text, end + 1) {
        end += 1 + digits(text, end + 1, 32);
    }
    end = zone(text, end);
    (!is_word(text.get(end).copied())).then_some(end)
}

/// The end of `Z`, ` GMT`, `+00:00`, ` -0700`.
fn zone(text: &[char], end: usize) -> usize {
    let start = end + usize::from(text.get(end) == Some(&' '));
    match text.get(start) {
        Some('Z' | 'z') if start == end => end + 1,
        Some('+' | '-') => {
            let hours = digits(text, start + 1, 5);
            let colon = usize::from(hours == 2 && text.get(start + 3) == Some(&':'));
            let all = if colon == 1 { 2 + digits(text, start + 4, 3) } else { hours };
            let after = start + 1 + all + colon;
            if all == 4 && !is_word(text.get(after).copied()) { after } else { end }
        }
        Some('G' | 'U' | 'A' | 'P') => {
            let is_it = ["GMT", "UTC", "AM", "PM"].iter().find(|zone| {
                let found = text.get(start..start + zone.len());
                found.is_some_and(|found| found.iter().copied().eq(zone.chars()))
                    && !is_word(text.get(start + zone.len()).copied())
            });
            is_it.map_or(end, |zone| start + zone.len())
        }
        _ => end,
    }
}

/// `20240102T030405Z`.
fn compact(text: &[char], at: usize) -> Option<usize> {
    let fits = digits(text, at, 9) == 8 && text.get(at + 8) == Some(&'T') && digits(text, at + 9, 7) == 6;
    let end = at + 15 + usize::from(text.get(at + 15) == Some(&'Z'));
    (fits && !is_word(text.get(end).copied())).then_some(end)
}

/// `02/Jan/2024:03:04:05 +0000`.
fn of_log(text: &[char], at: usize) -> Option<usize> {
    if digits(text, at, 3) != 2 || text.get(at + 2) != Some(&'/') {
        return None;
    }
    let month = name(text, at + 3, &MONTHS)?;
    let fits =
        text.get(month) == Some(&'/') && digits(text, month + 1, 5) == 4 && text.get(month + 5) == Some(&':');
    if fits { time(text, month + 6) } else { None }
}
