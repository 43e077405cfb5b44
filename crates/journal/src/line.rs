//! The text of one record: the operation's own JSON object with a tail of fixed width.
//!
//! ```text
//! {"op":"put","_wk_b":"<20 digits>+<6 digits>","_wk_k":"key","_wk_p":"position","_wk_n":"<20 digits>","_wk_c":"<8 hex>"}
//! ```
//!
//! `_wk_n` is the record's number. `_wk_c` is the CRC-32 (ISO-HDLC) of the line's bytes before the comma in front of
//! `_wk_c`. The other three are there only if the record has them: `_wk_b` names the first record and the number of
//! records of the record's batch, `_wk_k` is an idempotency key, `_wk_p` the position of a tailed file.
//!
//! Number and checksum are found from the end of the line, without parsing. The others are too: in JSON text the
//! bytes `,"_wk_k":"` cannot be a part of a string, where the quotation marks are escaped.

use std::ops::Range;

/// The longest body of a record, in bytes: 1 MiB.
pub const MAX_RECORD: usize = 1024 * 1024;
/// The longest idempotency key, in bytes.
pub const MAX_KEY: usize = 256;
/// The longest position of a tailed file, in bytes.
pub const MAX_POSITION: usize = 1024;
/// The most records of a batch.
pub const MAX_BATCH: usize = 100_000;
/// The most bytes of a batch, and the most that are written before a sync: 4 MiB.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The longest line with its line feed. Each byte of a key or a position has at most 6 bytes as JSON.
pub(crate) const MAX_LINE: usize = MAX_RECORD + 6 * (MAX_KEY + MAX_POSITION) + 256;

/// The quoted name of a field of the tail, with its colon.
const NAME_LENGTH: usize = 8;
const DIGITS: usize = 20;
const COUNT_DIGITS: usize = 6;
const NUMBER: &[u8] = b"\"_wk_n\":\"";
const CHECK: &[u8] = b",\"_wk_c\":\"";
/// From the comma before `_wk_c` to the closing brace.
const CHECK_LENGTH: usize = CHECK.len() + 8 + 2;
/// `_wk_n` with its value, without the comma before it.
const NUMBER_LENGTH: usize = NUMBER.len() + DIGITS + 1;
/// The shortest line: `{` or a comma before the two.
pub(crate) const MIN_LINE: usize = 1 + NUMBER_LENGTH + CHECK_LENGTH;

/// The batch of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The number of its first record.
    pub first: u64,
    /// How many records it has. Its last record is the commit mark.
    pub count: u64,
}

impl Batch {
    /// The number after its last record.
    #[must_use]
    pub fn end(self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// What a line's tail has besides number and checksum.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras<'a> {
    pub(crate) batch: Option<Batch>,
    /// JSON text, with its quotation marks.
    pub(crate) key: Option<&'a str>,
    pub(crate) position: Option<&'a str>,
}

/// Appends the line of `body`, which is the text of an object, with its line feed. An empty object is `{}`.
pub(crate) fn encode(line: &mut Vec<u8>, body: &str, extras: Extras<'_>, number: u64) {
    let start = line.len();
    line.extend_from_slice(&body.as_bytes()[..body.len() - 1]);
    let mut separator: &[u8] = if body == "{}" { b"" } else { b"," };
    if let Some(Batch { first, count }) = extras.batch {
        line.extend_from_slice(separator);
        line.extend_from_slice(b"\"_wk_b\":\"");
        push_number(line, first, DIGITS);
        line.push(b'+');
        push_number(line, count, COUNT_DIGITS);
        line.push(b'"');
        separator = b",";
    }
    for (name, value) in [(b"\"_wk_k\":", extras.key), (b"\"_wk_p\":", extras.position)] {
        if let Some(value) = value {
            line.extend_from_slice(separator);
            line.extend_from_slice(name);
            line.extend_from_slice(value.as_bytes());
            separator = b",";
        }
    }
    line.extend_from_slice(separator);
    line.extend_from_slice(NUMBER);
    push_number(line, number, DIGITS);
    line.push(b'"');
    let check = crc32fast::hash(&line[start..]);
    line.extend_from_slice(CHECK);
    for shift in (0..8).rev() {
        line.push(b"0123456789abcdef"[(check >> (4 * shift)) as usize & 15]);
    }
    line.extend_from_slice(b"\"}\n");
}

fn push_number(line: &mut Vec<u8>, number: u64, digits: usize) {
    let start = line.len();
    line.resize(start + digits, b'0');
    let mut rest = number;
    for place in line[start..].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let (first, eights) = digits.split_at(digits.len() % 8);
    let mut number = 0_u64;
    for digit in first {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = 10 * number + u64::from(digit);
    }
    for eight in eights.chunks_exact(8) {
        number = number.checked_mul(100_000_000)?.checked_add(eight_digits(eight.try_into().ok()?)?)?;
    }
    Some(number)
}

/// Eight digits at once: pairs, then fours, then all.
fn eight_digits(digits: [u8; 8]) -> Option<u64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    let word = u64::from_le_bytes(digits);
    // Each byte is 0x30 to 0x3f, and it is that with 6 more: at most 0x39.
    if word & HIGH != ZEROS || (word + 0x0606_0606_0606_0606) & HIGH != ZEROS {
        return None;
    }
    let ones = word - ZEROS;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

fn hex(digits: &[u8]) -> Option<u32> {
    /// The value of each digit, and 255 for other bytes.
    const VALUES: [u8; 256] = {
        let (mut values, mut value) = ([255; 256], 0);
        while value < 16 {
            values[b"0123456789abcdef"[value as usize] as usize] = value;
            value += 1;
        }
        values
    };
    let (mut number, mut all) = (0_u32, 0);
    for digit in digits {
        let value = VALUES[*digit as usize];
        all |= value;
        number = number << 4 | u32::from(value & 15);
    }
    (all < 16).then_some(number)
}

/// A valid line, in bytes of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) number: u64,
    /// The end of the body, if the byte before it is replaced by a closing brace.
    pub(crate) body_end: usize,
    pub(crate) batch: Option<Batch>,
    /// JSON text, with its quotation marks.
    pub(crate) key: Option<Range<usize>>,
    pub(crate) position: Option<Range<usize>>,
}

/// Reads a line without its line feed; `None` if it is no valid record. Whether it is UTF-8 is not checked.
pub(crate) fn parse(line: &[u8]) -> Option<Parsed> {
    let end = line.len();
    if !(MIN_LINE..MAX_LINE).contains(&end) || line[0] != b'{' || !line.ends_with(b"\"}") {
        return None;
    }
    let check_start = end - CHECK_LENGTH;
    let (checked, check) = line.split_at(check_start);
    if !check.starts_with(CHECK) || hex(&check[CHECK.len()..CHECK.len() + 8])? != crc32fast::hash(checked) {
        return None;
    }
    let number_start = check_start - NUMBER_LENGTH;
    let tail = &checked[number_start..];
    if !tail.starts_with(NUMBER) || tail[NUMBER_LENGTH - 1] != b'"' {
        return None;
    }
    // After the largest number there is no position.
    let number = number(&tail[NUMBER.len()..NUMBER.len() + DIGITS]).filter(|number| *number < u64::MAX)?;
    let mut parsed = Parsed { number, body_end: number_start, batch: None, key: None, position: None };
    // Each step goes back over one field. `body_end` is after the separator of the first field of the tail.
    let mut last = field_before(line, parsed.body_end);
    let mut step = |name: &[u8], parsed: &mut Parsed| {
        let (start, value) = last.clone().filter(|(start, value)| &line[*start..value.start] == name)?;
        parsed.body_end = start;
        last = field_before(line, start);
        Some(value)
    };
    parsed.position = step(b"\"_wk_p\":", &mut parsed);
    parsed.key = step(b"\"_wk_k\":", &mut parsed);
    if let Some(value) = step(b"\"_wk_b\":", &mut parsed) {
        parsed.batch = Some(batch(&line[value])?);
    }
    if parsed.body_end == 1 {
        // `{` alone: the byte after it becomes the brace.
        parsed.body_end = 2;
        return Some(parsed);
    }
    (line[parsed.body_end - 1] == b',').then_some(parsed)
}

/// The begin and the value of the field that ends before the comma at `end - 1`, if it may be one of the journal.
fn field_before(line: &[u8], end: usize) -> Option<(usize, Range<usize>)> {
    let last = end.checked_sub(2)?;
    if line[end - 1] != b',' || line[last] != b'"' {
        return None;
    }
    let mut from = last;
    loop {
        let quote = memchr::memrchr(b'"', &line[..from])?;
        let slashes = line[..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
        if slashes % 2 == 0 {
            let start = quote.checked_sub(NAME_LENGTH)?;
            // `{` for a body without fields of its own.
            let is_first = start == 1 || (start > 1 && line[start - 1] == b',');
            return (is_first && line[start..].starts_with(b"\"_wk_")).then_some((start, quote..last + 1));
        }
        from = quote;
    }
}

fn batch(value: &[u8]) -> Option<Batch> {
    if value.len() != DIGITS + COUNT_DIGITS + 3 || value[DIGITS + 1] != b'+' {
        return None;
    }
    let first = number(&value[1..=DIGITS])?;
    let count = number(&value[DIGITS + 2..value.len() - 1])?;
    Some(Batch { first, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(body: &str, extras: Extras<'_>, number: u64) -> Vec<u8> {
        let mut line = Vec::new();
        encode(&mut line, body, extras, number);
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    fn body(line: &[u8], parsed: &Parsed) -> String {
        let mut body = line[..parsed.body_end].to_vec();
        body[parsed.body_end - 1] = b'}';
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn the_text_is_this() {
        let batch = Some(Batch { first: 7, count: 2 });
        let text = line("{\"a\":1}", Extras { batch, key: Some("\"k\""), position: None }, 8);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"a\":1,\"_wk_b\":\"00000000000000000007+000002\",\"_wk_k\":\"k\",\
             \"_wk_n\":\"00000000000000000008\",\"_wk_c\":\"87ff3abd\"}"
        );
    }

    #[test]
    fn what_was_written_is_read() {
        let bodies = [
            "{}",
            "{\"a\":\"x\"}",
            "{\"a\":{\"_wk_p\":\"nested\"}}",
            "{\"a\":\"quoted \\\",\\\"_wk_p\\\":\\\"x\"}",
            "{\"a\":\"\\\\\"}",
            "{\"a\":\"\\\\\\\"\"}",
            "{\"\":\"\"}",
            "{\"a\":[{\"_wk_p\":\"x\"},\"y\"]}",
        ];
        let extras = [None, Some("\"\""), Some("\"a\\\"b\""), Some("\"\\\\\"")];
        for body_text in bodies {
            for key in extras {
                for position in extras {
                    for batch in [None, Some(Batch { first: 3, count: 999_999 })] {
                        let line = line(body_text, Extras { batch, key, position }, u64::MAX - 1);
                        let parsed =
                            parse(&line).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&line)));
                        let text = |range: &Option<Range<usize>>| {
                            range.clone().map(|range| std::str::from_utf8(&line[range]).unwrap())
                        };
                        assert_eq!((parsed.number, parsed.batch), (u64::MAX - 1, batch));
                        assert_eq!((text(&parsed.key), text(&parsed.position)), (key, position));
                        let own: serde_json::Value = serde_json::from_str(&body(&line, &parsed)).unwrap();
                        assert_eq!(own, serde_json::from_str::<serde_json::Value>(body_text).unwrap());
                        let whole: serde_json::Value = serde_json::from_slice(&line).unwrap();
                        assert_eq!(whole["_wk_n"], "18446744073709551614");
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_are_digits_and_fit() {
        for text in ["0", "7", "12345678", "00000000000000000042", "18446744073709551615"] {
            assert_eq!(number(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for place in 0..20 {
            for byte in (0..=255).filter(|byte: &u8| !byte.is_ascii_digit()) {
                let mut digits = *b"01234567890123456789";
                digits[place] = byte;
                assert_eq!(number(&digits), None, "byte {byte} at {place}");
            }
        }
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"99999999999999999999"), None);
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_found() {
        let line = line("{\"a\":1}", Extras { key: Some("\"k\""), ..Extras::default() }, 5);
        assert!(parse(&line).is_some());
        for place in 0..line.len() {
            assert_eq!(parse(&line[..place]), None, "cut at {place}");
            for bit in 0..8 {
                let mut other = line.clone();
                other[place] ^= 1 << bit;
                assert_eq!(parse(&other), None, "bit {bit} of byte {place}");
            }
        }
    }
}
