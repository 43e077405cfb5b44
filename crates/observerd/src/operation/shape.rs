//! What is JSON, and could not be read by many of its readers.

use super::OperationError;

/// The deepest nesting of arrays and objects: a page of operations adds a few, and some readers stop at 128.
const MOST_DEPTH: usize = 64;

/// Refuses JSON that would spoil the page it is on: nested too deep, or with half a surrogate pair in a string.
pub(super) fn check(json: &str) -> Result<(), OperationError> {
    let (bytes, mut at, mut depth) = (json.as_bytes(), 0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string(bytes, at)?,
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
        ] {
            assert_eq!(check(text).is_ok(), is_fine, "{text}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(text).is_ok(), is_fine, "{text}");
        }
    }
}
