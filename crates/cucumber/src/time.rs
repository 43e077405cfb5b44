//! Times as people write them.

use std::time::Duration;

use watchkeeper::runtime::MAX_DURATION;

use crate::StepError;
use crate::shown::quoted;

/// Of a word that is shown.
const WORD: usize = 60;
/// More than any time; a sum of two does not overflow.
const FAR: u128 = u128::MAX / 4;

/// How each unit is written, in lower case, and its nanoseconds.
const UNITS: [(&[&str], u128); 10] = [
    (&["ns", "nsec", "nanosecond", "nanoseconds"], 1),
    (&["us", "µs", "μs", "usec", "microsecond", "microseconds"], 1_000),
    (&["ms", "msec", "msecs", "millisecond", "milliseconds"], 1_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["m", "min", "mins", "minute", "minutes"], 60_000_000_000),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600_000_000_000),
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["w", "week", "weeks"], 604_800_000_000_000),
    (&["month", "months"], 2_592_000_000_000_000),
    (&["y", "yr", "year", "years"], 31_557_600_000_000_000),
];

/// Parses a time as the steps do, for your own steps: `5 seconds`, `500 ms`, `1.5 s`, `1m 5s`,
/// `1 minute and 5 seconds`.
///
/// The units are `ns`, `us`, `ms`, `s`, `m` or `min`, `h` and `d`, also in full, in any case.
///
/// # Errors
///
/// [`StepError::Duration`]: it is zero, over 24 h, or no time; the error names the wrong word.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use watchkeeper_cucumber::parse_duration;
///
/// assert_eq!(parse_duration("1 Minute and 5 seconds").unwrap(), Duration::from_secs(65));
/// assert_eq!(parse_duration("250 MS").unwrap(), Duration::from_millis(250));
/// let error = parse_duration("5 parsecs").unwrap_err().to_string();
/// assert!(error.contains("\"parsecs\" is no unit of time"), "{error}");
/// ```
pub fn parse_duration(given: &str) -> Result<Duration, StepError> {
    let parsed = nanoseconds(given).and_then(|nanos| {
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        match Duration::from_nanos(nanos) {
            Duration::ZERO => Err("it is zero; it must be more than zero".to_owned()),
            duration if duration > MAX_DURATION => Err("it is over 24 h; it must be at most 24 h".to_owned()),
            duration => Ok(duration),
        }
    });
    parsed.map_err(|mistake| StepError::Duration { given: given.to_owned(), mistake })
}

fn nanoseconds(given: &str) -> Result<u128, String> {
    let mut rest = given.trim();
    let mut sum = 0_u128;
    let mut last = "";
    loop {
        let (number, after) = number(rest, last)?;
        if let Some(word) = not_only_digits(rest, after) {
            return Err(format!(
                "{} is no number: use digits alone, and a point before a fraction",
                quoted(word, WORD)
            ));
        }
        let (unit, after) = split(after.trim_start(), char::is_alphabetic);
        if unit.is_empty() {
            return Err(format!("there is no unit after {}", quoted(number, WORD)));
        }
        let part =
            times(number, size(unit)?).ok_or_else(|| format!("{} is no number", quoted(number, WORD)))?;
        sum = sum.saturating_add(part).min(FAR);
        let mut next = after.trim_start();
        if next.is_empty() {
            return Ok(sum);
        }
        last = unit;
        for joint in [",", "and"] {
            let (word, after) = next.split_at_checked(joint.len()).unwrap_or((next, ""));
            if word.eq_ignore_ascii_case(joint) && !(joint == "and" && after.starts_with(char::is_alphabetic))
            {
                last = joint;
                next = after.trim_start();
            }
        }
        rest = next;
    }
}

/// The number that `rest` begins with; `last` is the word before it.
fn number<'a>(rest: &'a str, last: &str) -> Result<(&'a str, &'a str), String> {
    let (number, after) = split(rest, |each| each.is_ascii_digit() || each == '.');
    if number.contains(|each: char| each.is_ascii_digit()) {
        return Ok((number, after));
    }
    let word = split(rest, |each| !each.is_whitespace()).0;
    let is_negative = word.starts_with('-') && word[1..].starts_with(|each: char| each.is_ascii_digit());
    let is_unit = size(split(rest, char::is_alphabetic).0).is_ok();
    Err(match (word.is_empty(), last.is_empty()) {
        (true, true) => "it is empty".to_owned(),
        (true, false) => format!("there is nothing after {}", quoted(last, WORD)),
        _ if is_negative => format!("{} is negative", quoted(word, WORD)),
        _ if is_unit => format!("there is no number before {}", quoted(word, WORD)),
        (false, true) => format!("{} is no number: use digits", quoted(word, WORD)),
        (false, false) => {
            format!("{} after {} is neither a number nor the end", quoted(word, WORD), quoted(last, WORD))
        }
    })
}

/// The word that begins as a number and has other signs of one: `1,000`, `1e3`, `1:30`, `0x10`.
fn not_only_digits<'a>(rest: &'a str, after: &str) -> Option<&'a str> {
    let is_digit = |each: char| each.is_ascii_digit();
    let mut following = after.chars();
    let goes_on = match following.next()? {
        'e' | 'E' => following.as_str().trim_start_matches(['+', '-']).starts_with(is_digit),
        'x' | 'X' => following.as_str().starts_with(|each: char| each.is_ascii_hexdigit()),
        each => !each.is_alphanumeric() && !each.is_whitespace() && following.as_str().starts_with(is_digit),
    };
    goes_on.then(|| split(rest, |each| !each.is_whitespace()).0)
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|each| !belongs(each)).unwrap_or(text.len()))
}

fn size(unit: &str) -> Result<u128, String> {
    let lower = if unit.len() > WORD { String::new() } else { unit.to_lowercase() };
    let found = UNITS.iter().find(|(names, _)| names.contains(&&*lower));
    found.map(|(_, nanos)| *nanos).ok_or_else(|| {
        format!(
            "{} is no unit of time; the units are ms, s, min, h and their like in full",
            quoted(unit, WORD)
        )
    })
}

/// `number` times `unit`. Digits below a nanosecond in every unit are dropped.
fn times(number: &str, unit: u128) -> Option<u128> {
    const DIGITS: usize = 18;
    let (whole, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some((whole, fraction)) => (whole, fraction),
        None => (number, "0"),
    };
    if fraction.contains('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse().unwrap_or(FAR) };
    let fraction = &fraction[..fraction.len().min(DIGITS)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(whole.saturating_mul(unit).min(FAR) + fraction.parse::<u128>().ok()? * unit / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_people_write_it() {
        let cases = [
            ("5 seconds", 5_000),
            ("1 second", 1_000),
            ("500 ms", 500),
            ("500ms", 500),
            ("500 MS", 500),
            ("2 Seconds", 2_000),
            ("1 Min", 60_000),
            ("1 minute", 60_000),
            ("1 minute 30 seconds", 90_000),
            ("1 minute and 5 seconds", 65_000),
            ("1 Minute AND 5 Seconds", 65_000),
            ("1 minute, 5 seconds", 65_000),
            ("1 hour, 1 minute, and 5 seconds", 3_665_000),
            ("1m30s", 90_000),
            ("1m 5s", 65_000),
            ("1M", 60_000),
            ("1.5 s", 1_500),
            ("0.5 hours", 1_800_000),
            (".5 seconds", 500),
            ("2000 us", 2),
            ("2000 µs", 2),
            ("  5   seconds ", 5_000),
            ("24 hours", 86_400_000),
            ("1 day", 86_400_000),
        ];
        for (given, expected) in cases {
            assert_eq!(parse_duration(given).ok(), Some(Duration::from_millis(expected)), "{given:?}");
        }
        assert_eq!(parse_duration("1.000000001 s").unwrap(), Duration::new(1, 1));
    }

    #[test]
    fn a_refusal_names_the_actual_mistake() {
        let unit = |unit: &str| {
            format!("\"{unit}\" is no unit of time; the units are ms, s, min, h and their like in full")
        };
        let over = "it is over 24 h; it must be at most 24 h";
        let cases = [
            ("", "it is empty".to_owned()),
            ("5", "there is no unit after \"5\"".to_owned()),
            ("0", "there is no unit after \"0\"".to_owned()),
            (
                "1,000 ms",
                "\"1,000\" is no number: use digits alone, and a point before a fraction".to_owned(),
            ),
            ("1,5 s", "\"1,5\" is no number: use digits alone, and a point before a fraction".to_owned()),
            (
                "1 min 1_000ms",
                "\"1_000ms\" is no number: use digits alone, and a point before a fraction".to_owned(),
            ),
            ("1e3 ms", "\"1e3\" is no number: use digits alone, and a point before a fraction".to_owned()),
            ("1E+3 ms", "\"1E+3\" is no number: use digits alone, and a point before a fraction".to_owned()),
            ("0x10 ms", "\"0x10\" is no number: use digits alone, and a point before a fraction".to_owned()),
            ("1:30", "\"1:30\" is no number: use digits alone, and a point before a fraction".to_owned()),
            ("1 e", unit("e")),
            ("5 5 seconds", "there is no unit after \"5\"".to_owned()),
            ("0 seconds", "it is zero; it must be more than zero".to_owned()),
            ("0.0000000001 s", "it is zero; it must be more than zero".to_owned()),
            ("24 hours 1 ms", over.to_owned()),
            ("24 hours and 1 ns", over.to_owned()),
            ("2 days", over.to_owned()),
            ("1 month", over.to_owned()),
            ("0.01 years", over.to_owned()),
            ("99999999999999999999999999999999999999999999 s", over.to_owned()),
            ("340282366920938463463374607431768211455 days 1 ms", over.to_owned()),
            ("5 parsecs", unit("parsecs")),
            ("1 minute 5 parsecs", unit("parsecs")),
            ("seconds", "there is no number before \"seconds\"".to_owned()),
            ("1 minute and seconds", "there is no number before \"seconds\"".to_owned()),
            ("-5 seconds", "\"-5\" is negative".to_owned()),
            ("five seconds", "\"five\" is no number: use digits".to_owned()),
            ("soon", "\"soon\" is no number: use digits".to_owned()),
            ("1.2.3 seconds", "\"1.2.3\" is no number".to_owned()),
            ("5. seconds", "\"5.\" is no number".to_owned()),
            ("1 minute and", "there is nothing after \"and\"".to_owned()),
            ("1 minute,", "there is nothing after \",\"".to_owned()),
            ("5 seconds please", "\"please\" after \"seconds\" is neither a number nor the end".to_owned()),
            ("5 seconds.", "\".\" after \"seconds\" is neither a number nor the end".to_owned()),
            ("5 seconds!", "\"!\" after \"seconds\" is neither a number nor the end".to_owned()),
            ("5 seconds and soon", "\"soon\" after \"and\" is neither a number nor the end".to_owned()),
            ("5 \u{1b}[2J", "there is no unit after \"5\"".to_owned()),
        ];
        for (given, expected) in cases {
            match parse_duration(given) {
                Err(StepError::Duration { mistake, .. }) => assert_eq!(mistake, expected, "{given:?}"),
                other => panic!("{given:?}: {other:?}"),
            }
        }
        let long = parse_duration(&"x".repeat(1_000_000)).unwrap_err().to_string();
        assert!(long.len() < 1_000, "{} bytes", long.len());
    }
}
