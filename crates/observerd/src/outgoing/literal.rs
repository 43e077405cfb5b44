//! IPv4 addresses as the system's resolver reads them: `127.1`, `0x7f000001`, `017700000001`.

use std::net::Ipv4Addr;

/// What a host is when it is read as an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ipv4Literal {
    /// A name.
    No,
    /// An address, in whichever spelling.
    Yes(Ipv4Addr),
    /// It ends with a number, and is no address: no name does that.
    Malformed,
}

pub(super) fn parse(host: &str) -> Ipv4Literal {
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let is_hexadecimal =
        hexadecimal(last).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if !is_decimal && !is_hexadecimal {
        return Ipv4Literal::No;
    }
    address(host).map_or(Ipv4Literal::Malformed, Ipv4Literal::Yes)
}

/// Of one to four numbers the last one fills all bytes that remain.
fn address(host: &str) -> Option<Ipv4Addr> {
    let numbers: Vec<u32> = host.split('.').map(number).collect::<Option<_>>()?;
    let (last, leading) = numbers.split_last()?;
    if leading.len() > 3 || leading.iter().any(|number| *number > 0xff) {
        return None;
    }
    let mut bits = u64::from(*last);
    if bits >> (8 * (4 - leading.len())) != 0 {
        return None;
    }
    for (at, number) in leading.iter().enumerate() {
        bits |= u64::from(*number) << (8 * (3 - at));
    }
    u32::try_from(bits).ok().map(Ipv4Addr::from_bits)
}

fn number(part: &str) -> Option<u32> {
    let (digits, radix) = match hexadecimal(part) {
        Some("") => return Some(0),
        Some(digits) => (digits, 16),
        None if part.len() > 1 && part.starts_with('0') => (part, 8),
        None => (part, 10),
    };
    // It would take a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number { u32::from_str_radix(digits, radix).ok() } else { None }
}

fn hexadecimal(part: &str) -> Option<&str> {
    part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"))
}
