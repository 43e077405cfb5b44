//! Values of JSON in the forms that chains write them.

use std::borrow::Cow;
use std::fmt;

use alloy::primitives::{Address, B256, Bytes, U256, hex};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A value that may be missing, null, or in another form than Ethereum's. What cannot be read as asked is `None`.
#[derive(Clone, Debug, Default)]
pub(super) enum Odd<'a> {
    #[default]
    Missing,
    Number(u64),
    Text(Cow<'a, str>),
    /// Neither number, truth value nor text.
    Other,
}

impl Odd<'_> {
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// A number, also with leading zeros or in decimal digits.
    pub(super) fn number(&self) -> Option<U256> {
        match self {
            Self::Number(number) => Some(U256::from(*number)),
            Self::Text(text) => match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some("") => Some(U256::ZERO),
                Some(digits) => U256::from_str_radix(digits, 16).ok(),
                None if text.is_empty() => None,
                None => U256::from_str_radix(text, 10).ok(),
            },
            Self::Missing | Self::Other => None,
        }
    }

    /// The same, and zero for what is missing.
    pub(super) fn number_or_zero(&self) -> Option<U256> {
        if self.is_missing() { Some(U256::ZERO) } else { self.number() }
    }

    pub(super) fn small(&self) -> Option<u64> {
        self.number()?.try_into().ok()
    }

    pub(super) fn hash(&self) -> Option<B256> {
        let Self::Text(text) = self else { return None };
        text.parse().ok()
    }

    pub(super) fn address(&self) -> Option<Address> {
        let Self::Text(text) = self else { return None };
        text.parse().ok()
    }

    pub(super) fn bytes(&self) -> Option<Bytes> {
        let Self::Text(text) = self else { return None };
        hex::decode(&**text).ok().map(Bytes::from)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Odd<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OddVisitor)
    }
}

struct OddVisitor;

impl<'de> Visitor<'de> for OddVisitor {
    type Value = Odd<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Odd::Number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Odd::Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Odd::Text(text.to_owned().into()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Odd::Missing)
    }

    /// Some servers write the status of a receipt so.
    fn visit_bool<E>(self, is_so: bool) -> Result<Self::Value, E> {
        Ok(Odd::Number(is_so.into()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Odd::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Odd::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Odd::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Odd::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_in_any_form() {
        for (json, expected) in [
            ("\"0x2a\"", Some(42)),
            ("\"0x002A\"", Some(42)),
            ("\"0X2a\"", Some(42)),
            ("\"42\"", Some(42)),
            ("42", Some(42)),
            ("\"0x\"", Some(0)),
            ("\"\"", None),
            ("\"0xno\"", None),
            ("null", None),
            ("-1", None),
            ("1.5", None),
            ("true", Some(1)),
            ("false", Some(0)),
            ("[1,[2]]", None),
            ("{\"a\":{\"b\":1}}", None),
        ] {
            let odd: Odd<'_> = serde_json::from_str(json).unwrap();
            assert_eq!(odd.small(), expected, "{json}");
            assert_eq!(odd.is_missing(), json == "null", "{json}");
        }
        let large: Odd<'_> = serde_json::from_str("\"0x10000000000000000\"").unwrap();
        assert_eq!((large.small(), large.number()), (None, Some(U256::from(1_u128 << 64))));
    }
}
