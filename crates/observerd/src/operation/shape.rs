//! What is JSON, and could not be read by many of its readers.

use super::OperationError;

/// The deepest nesting of arrays and objects: a page of operations adds a few, and some readers stop at 128.
const MOST_DEPTH: usize = 64;

/// A number that is shorter, and has no exponent, has a place in a double.
const SHORT: usize = 300;

/// Refuses JSON that would spoil the page it is on: nested too deep, with half a surrogate pair in a string, or with a number that is
/// beyond what a double can hold.
pub(super) fn check(json: &str) -> Result<(), OperationError> {
    let (bytes, mut at, mut depth) = (json.as_bytes(), 0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string(bytes, at)?,
            b'-' | b'0'..=b'9' => at = number(json, at)?,
            _ => {}
        }
        if depth > MOST_DEPTH {
            return Err(OperationError::TooDeep { most: MOST_DEPTH });
        }
    }
    Ok(())
}

/// The position after a string that begins before `at`.
fn string(bytes: &[u8], mut at: usize) -> Result<usize, OperationError> {
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => return Ok(at),
            b'\\' => {
                let escaped = unit(bytes, at);
                match escaped {
                    None => at += 1,
                    Some(0xd800..=0xdbff) => {
                        let is_pair = bytes.get(at + 5) == Some(&b'\\')
                            && matches!(unit(bytes, at + 6), Some(0xdc00..=0xdfff));
                        if !is_pair {
                            return Err(OperationError::HalfPair);
                        }
                        at += 11;
                    }
                    Some(0xdc00..=0xdfff) => return Err(OperationError::HalfPair),
                    Some(_) => at += 5,
                }
            }
            _ => {}
        }
    }
    Ok(at)
}

/// The position after a number that begins before `at`.
fn number(json: &str, at: usize) -> Result<usize, OperationError> {
    let rest = &json[at..];
    let is_inner = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let length = rest.bytes().take_while(is_inner).count();
    let number = &json[at - 1..at + length];
    let may_be_huge = length > SHORT || number.contains(['e', 'E']);
    if may_be_huge && number.parse().is_ok_and(f64::is_infinite) {
        return Err(OperationError::HugeNumber);
    }
    Ok(at + length)
}

/// The value of `uXXXX` at a position.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 5)?.strip_prefix(b"u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_cannot_read_is_refused() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(&nested(64)), Ok(()));
        assert_eq!(check(&nested(65)), Err(OperationError::TooDeep { most: 64 }));
        assert_eq!(check(&format!("[{}]", ["[]"; 1_000].join(","))), Ok(()));
        for (text, is_fine) in [
            (r#""\\""#, true),
            (r#""[[[\"[[[""#, true),
            (r#""\u0041\ud83d\ude00""#, true),
            (r#""\\ud800""#, true),
            (r#""\ud800""#, false),
            (r#""\ud800x""#, false),
            (r#""\ud800\u0041""#, false),
            (r#""\ude00""#, false),
            (r#"{"\uDBFF":1}"#, false),
            ("[1e308, -1E+308, 1e-400, 0.1, 0e999]", true),
            ("[1e309]", false),
            (r#"{"x":-1E+999}"#, false),
            (r#"["1e999"]"#, true),
            (&"1".repeat(308), true),
            (&"1".repeat(310), false),
        ] {
            assert_eq!(check(text).is_ok(), is_fine, "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(text).is_ok(), is_fine, "{text}");
        }
    }
}
