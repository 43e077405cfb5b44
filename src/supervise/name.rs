//! Short names of events and commands.

use std::fmt::{self, Write};

use crate::panics::catch;

/// Bytes of a name.
const LONGEST: usize = 23;

/// The first word of a value's `Debug`: of an enum the variant. At most 23 bytes.
///
/// It has no fields, so that no secret inside an event is printed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct VariantName {
    bytes: [u8; LONGEST],
    len: u8,
}

impl VariantName {
    /// Formatting stops at the first character that belongs to no word: it costs a few nanoseconds.
    pub(super) fn of(value: &impl fmt::Debug) -> Self {
        let mut name = Self::default();
        // The error only ends the formatting. A `Debug` that panics has named nothing more.
        let _ = catch(|| write!(name, "{value:?}"));
        name
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is written.
        str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl Write for VariantName {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let fits = usize::from(self.len) < LONGEST;
            if !fits || !(byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(fmt::Error);
            }
            self.bytes[usize::from(self.len)] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

impl fmt::Display for VariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.len == 0 { "(unnamed)" } else { self.as_str() })
    }
}

impl fmt::Debug for VariantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_variant_without_its_fields() {
        #[derive(Debug)]
        #[allow(dead_code, reason = "read by Debug alone")]
        enum Event {
            Coin,
            Login { password: &'static str },
            Deliver(u32),
            AVariantWithANameOfManyBytes,
        }
        let names = [
            VariantName::of(&Event::Coin),
            VariantName::of(&Event::Login { password: "secret" }),
            VariantName::of(&Event::Deliver(7)),
            VariantName::of(&Event::AVariantWithANameOfManyBytes),
            VariantName::of(&"text"),
        ];
        let names = names.map(|name| name.to_string());
        assert_eq!(names, ["Coin", "Login", "Deliver", "AVariantWithANameOfMany", "(unnamed)"]);
    }
}
