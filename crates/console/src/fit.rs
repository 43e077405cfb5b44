//! Text in so many columns.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    // By character, as a terminal counts; `str` counts sequences that many terminals do not join.
    text.chars().map(|character| character.width().unwrap_or(0)).sum::<usize>().max(text.width())
}

/// `text`, truncated to `columns`; what is cut shows as `…`.
pub(crate) fn truncated(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut shown = String::new();
    for character in text.chars() {
        let length = shown.len();
        shown.push(character);
        if width(&shown) + 1 > columns {
            shown.truncate(length);
            break;
        }
    }
    if columns > 0 {
        shown.push('…');
    }
    shown
}

/// `text`, cut in its middle to `columns`: addresses differ at their ends.
pub(crate) fn shortened(text: &str, columns: usize) -> String {
    let all = width(text);
    if all <= columns || columns < 3 {
        return truncated(text, columns);
    }
    let tail = (columns - 1) / 2;
    let mut from = text.len();
    for (at, character) in text.char_indices().rev() {
        // A mark that combines stays with its letter.
        if character.width().unwrap_or(0) > 0 && width(&text[at..]) > tail {
            break;
        }
        if character.width().unwrap_or(0) > 0 {
            from = at;
        }
    }
    let tail = &text[from..];
    truncated(&text[..from], columns - width(tail)) + tail
}

/// `text` in exactly `columns`, filled with blanks on the right.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    let mut text = truncated(text, columns);
    let blanks = columns.saturating_sub(width(&text));
    text.extend(std::iter::repeat_n(' ', blanks));
    text
}

/// `0.3 s`, `75 s`, `12 min`, `30 h`.
pub(crate) fn age(age: Duration) -> String {
    match age.as_secs() {
        0..10 => format!("{:.1} s", age.as_secs_f64()),
        seconds @ 10..600 => format!("{seconds} s"),
        seconds @ 600..36_000 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

/// `0.1 ms`, `12 ms`, `3.2 s`.
pub(crate) fn latency(latency: Duration) -> String {
    match latency.as_millis() {
        0..10 => format!("{:.1} ms", latency.as_secs_f64() * 1_000.0),
        millis @ 10..1_000 => format!("{millis} ms"),
        _ => age(latency),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_takes_the_columns_that_it_is_given() {
        let cases = [
            ("node", 6, "node  "),
            ("node", 4, "node"),
            ("nodes", 4, "nod…"),
            ("nodes", 1, "…"),
            ("nodes", 0, ""),
            ("節点一", 6, "節点一"),
            ("節点一", 5, "節点…"),
            ("節点一", 4, "節… "),
            ("節点一", 1, "…"),
            ("e\u{301}te\u{301}", 3, "e\u{301}te\u{301}"),
            ("e\u{301}te\u{301}s", 3, "e\u{301}t…"),
            ("👩\u{200d}👩\u{200d}👧x", 5, "👩\u{200d}👩\u{200d}…"),
        ];
        for (text, columns, expected) in cases {
            assert_eq!(padded(text, columns), expected, "{text:?} in {columns}");
            assert_eq!(width(&padded(text, columns)), columns, "{text:?} in {columns}");
        }
    }

    #[test]
    fn what_differs_at_its_end_is_cut_in_its_middle() {
        let cases = [
            ("http://node:8545/eu-1", 12, "http:/…/eu-1"),
            ("http://node:8545/eu-2", 12, "http:/…/eu-2"),
            ("n1", 2, "n1"),
            ("nodes", 2, "n…"),
            ("節点一二三", 6, "節…三"),
            ("abcde\u{301}fge\u{301}", 5, "ab…ge\u{301}"),
        ];
        for (text, columns, expected) in cases {
            assert_eq!(shortened(text, columns), expected, "{text:?} in {columns}");
        }
    }

    #[test]
    fn times_are_short() {
        let of = |millis| (age(Duration::from_millis(millis)), latency(Duration::from_millis(millis)));
        let owned = |age: &str, latency: &str| (age.to_owned(), latency.to_owned());
        assert_eq!(of(0), owned("0.0 s", "0.0 ms"));
        assert_eq!(of(12), owned("0.0 s", "12 ms"));
        assert_eq!(of(3_210), owned("3.2 s", "3.2 s"));
        assert_eq!(of(75_000), owned("75 s", "75 s"));
        assert_eq!(of(700_000), owned("11 min", "11 min"));
        assert_eq!(of(40_000_000), owned("11 h", "11 h"));
    }
}
