//! Times of RFC 3339.

use jiff::Timestamp;

/// A time of RFC 3339, and nothing of what ISO 8601 allows besides.
#[must_use]
pub fn rfc3339(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    if bytes.len() <= shape.len() || bytes.len() > 64 {
        return None;
    }
    let fits = shape.iter().zip(bytes).all(|(shape, byte)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't'),
        other => byte == other,
    });
    let mut rest = &bytes[shape.len()..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        rest = &fraction[digits..];
    }
    let has_offset = match rest {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    if !(fits && has_offset) {
        return None;
    }
    // Digits beyond nanoseconds are allowed, and say nothing that is kept.
    let mut text = text.to_ascii_uppercase();
    if let Some(point) = text.find('.') {
        let digits = text[point + 1..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 9 {
            text.replace_range(point + 10..point + 1 + digits, "");
        }
    }
    text.parse().ok()
}

/// Whether a time of RFC 3339 is as each reader takes it: UTC, in capitals, without a leap second.
pub(super) fn is_plain_utc(text: &str) -> bool {
    text.ends_with('Z') && !text.contains('t') && !text.contains(":60")
}
