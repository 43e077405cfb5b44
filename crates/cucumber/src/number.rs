//! Numbers that are compared by their digits, not as floats.

use serde_json::Number;

/// An exact JSON number: 2, 2.0 and 20e-1 are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// Without zeros at either end; empty for zero.
    digits: String,
    /// Of the last digit.
    exponent: i64,
}

impl Decimal {
    /// Parses a JSON number. `None` if its exponent does not fit into 64 bits.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let significant = all.trim_end_matches('0');
        let shift =
            i64::try_from(all.len() - significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let digits = significant.trim_start_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Self { negative: false, digits, exponent: 0 });
        }
        Some(Self { negative, digits, exponent: exponent.checked_add(shift)? })
    }

    /// Whether a number in a snapshot equals this one. Whole numbers are compared digit by digit, also those that a
    /// float cannot distinguish. A fraction also equals the float nearest to it.
    pub(crate) fn is(&self, found: &Number) -> bool {
        if Self::of(&found.to_string()).is_some_and(|found| found == *self) {
            return true;
        }
        let rounded = || format!("{}{}e{}", if self.negative { "-" } else { "" }, self.digits, self.exponent);
        let bits = |float: f64| float.to_bits();
        self.exponent < 0 && found.is_f64() && rounded().parse().ok().map(bits) == found.as_f64().map(bits)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn numbers_are_equal_as_numbers() {
        let same: [(&str, Value); 14] = [
            ("2", json!(2)),
            ("2.0", json!(2)),
            ("2", json!(2.0)),
            ("20e-1", json!(2)),
            ("1e3", json!(1000)),
            ("1E+3", json!(1000.0)),
            ("-0", json!(0)),
            ("0.000", json!(0)),
            ("0.1", json!(0.1)),
            ("0.1000000000000000055511151231257827", json!(0.1)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("100000000000000000000000", json!(1e23)),
            ("9007199254740993", json!(9_007_199_254_740_993_u64)),
        ];
        for (text, number) in same {
            assert!(Decimal::of(text).unwrap().is(number.as_number().unwrap()), "{text} is {number}");
        }
    }

    #[test]
    fn large_numbers_that_one_float_stands_for_differ() {
        let different: [(&str, Value); 9] = [
            ("3", json!(2)),
            ("-2", json!(2)),
            ("2.01", json!(2)),
            ("18446744073709551614", json!(u64::MAX)),
            ("18446744073709551616", json!(u64::MAX)),
            ("9007199254740992", json!(9_007_199_254_740_993_u64)),
            ("9007199254740993", json!(9_007_199_254_740_992.0)),
            ("9223372036854775807", json!(i64::MAX - 1)),
            (
                "340282366920938463463374607431768211455",
                json!(340_282_366_920_938_463_463_374_607_431_768_211_456.0),
            ),
        ];
        for (text, number) in different {
            assert!(!Decimal::of(text).unwrap().is(number.as_number().unwrap()), "{text} is not {number}");
        }
        assert_ne!(
            Decimal::of("340282366920938463463374607431768211455"),
            Decimal::of("340282366920938463463374607431768211454")
        );
    }

    #[test]
    fn an_exponent_beyond_all_bounds_is_no_number() {
        assert_eq!(Decimal::of("1e99999999999999999999"), None);
        assert!(Decimal::of("1e400").is_some());
    }
}
