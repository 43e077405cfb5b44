//! The value in a step, compared with the value in a snapshot.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use watchkeeper::report::one_line;

use crate::number::Decimal;
use crate::shown::{json, quoted};
use crate::words::unescaped;

/// Of a value in a hint.
const SHOWN: usize = 100;

/// The value in a step: JSON if it parses, else text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Null,
    Bool(bool),
    /// With its text.
    Number(Decimal, String),
    Text(String),
    Array(Vec<Wanted>),
    Object(BTreeMap<String, Wanted>),
}

impl Wanted {
    /// Parses the words between the quotes of a step: JSON, or JSON with escaped quotes, or text.
    pub(crate) fn of(raw: &str) -> Self {
        let plain = unescaped(raw);
        let read = Self::from_json(raw).or_else(|| Self::from_json(&plain));
        read.unwrap_or(Self::Text(plain))
    }

    fn from_json(text: &str) -> Option<Self> {
        // Refuses JSON that is nested too deeply.
        serde_json::from_str::<Value>(text).ok()?;
        Self::parsed(serde_json::from_str(text).ok()?)
    }

    /// Keeps all digits of numbers; a [`Value`] rounds numbers with many digits.
    fn parsed(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        Some(match text.as_bytes().first()? {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                Self::Array(elements.into_iter().map(Self::parsed).collect::<Option<_>>()?)
            }
            b'{' => {
                let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
                let fields = fields.into_iter().map(|(key, field)| Some((key, Self::parsed(field)?)));
                Self::Object(fields.collect::<Option<_>>()?)
            }
            _ => Self::Number(Decimal::of(text)?, text.to_owned()),
        })
    }

    /// Whether the snapshot has this value.
    pub(crate) fn is(&self, found: &Value) -> bool {
        match (self, found) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(wanted), Value::Bool(found)) => wanted == found,
            (Self::Number(wanted, _), Value::Number(found)) => wanted.is(found),
            (Self::Text(wanted), Value::String(found)) => wanted == found,
            (Self::Array(wanted), Value::Array(found)) => {
                wanted.len() == found.len()
                    && wanted.iter().zip(found).all(|(wanted, found)| wanted.is(found))
            }
            (Self::Object(wanted), Value::Object(found)) => {
                let field =
                    |(key, wanted): (&String, &Self)| found.get(key).is_some_and(|found| wanted.is(found));
                wanted.len() == found.len() && wanted.iter().all(field)
            }
            _ => false,
        }
    }

    /// Whether the snapshot has another value. Null, also as a part, is not another value: it may mean unknown.
    pub(crate) fn differs(&self, found: &Value) -> bool {
        self.differs_from(found, true)
    }

    /// As [`differs`](Self::differs), for the value of an earlier snapshot, where null may mean unknown as well.
    pub(crate) fn has_changed_to(&self, found: &Value) -> bool {
        self.differs_from(found, false)
    }

    fn differs_from(&self, found: &Value, null_is_meant: bool) -> bool {
        let differs = |wanted: &Self, found: &Value| wanted.differs_from(found, null_is_meant);
        match (self, found) {
            (Self::Null, found) => null_is_meant && !found.is_null(),
            (_, Value::Null) => false,
            (Self::Array(wanted), Value::Array(found)) => {
                wanted.len() != found.len()
                    || wanted.iter().zip(found).any(|(wanted, found)| differs(wanted, found))
            }
            (Self::Object(wanted), Value::Object(found)) => {
                let field = |(key, wanted): (&String, &Self)| {
                    found.get(key).is_none_or(|found| differs(wanted, found))
                };
                wanted.len() != found.len() || wanted.iter().any(field)
            }
            _ => !self.is(found),
        }
    }

    /// Fills in the unknown parts from a value that has not changed.
    pub(crate) fn learn(&mut self, found: &Value) {
        match (self, found) {
            (unknown @ Self::Null, found) => *unknown = found.into(),
            (Self::Array(known), Value::Array(found)) => {
                known.iter_mut().zip(found).for_each(|(known, found)| known.learn(found));
            }
            (Self::Object(known), Value::Object(found)) => {
                for (key, known) in known {
                    found.get(key).into_iter().for_each(|found| known.learn(found));
                }
            }
            _ => {}
        }
    }

    /// Whether the value in the step has a mistake: see [`hint`](Self::hint).
    pub(crate) fn is_misspelt(&self, raw: &str, found: &Value) -> bool {
        self.misquoted(found).is_some() || (!found.is_string() && slip(self, raw).is_some())
    }

    /// The mistake in the step: too many or too few quotes, or invalid JSON. `verb` is that of the step.
    pub(crate) fn hint(&self, verb: &str, raw: &str, found: &Value) -> Option<String> {
        // In an array or an object the hint shows JSON, else the words of the step.
        let becomes = |part: &Self, text: &str| {
            let is_inside = !std::ptr::eq(part, self);
            if is_inside { text.to_owned() } else { format!("{verb} {}", quoted(text, SHOWN)) }
        };
        match self.misquoted(found) {
            Some((wanted @ Self::Text(text), found)) => {
                let (has, wanted_text) = (shown(found)?, quoted(text, SHOWN));
                let write = becomes(wanted, &one_line(text, SHOWN));
                Some(format!(
                    "the snapshot has {has}, the step has the string {wanted_text}: write it without quotes, {write}"
                ))
            }
            Some((wanted, found)) => {
                let has = json(found, SHOWN);
                let wanted_text = one_line(&format!("{}{}", wanted.kind()?, wanted.text()), SHOWN);
                let write = becomes(wanted, &one_line(&wanted.as_string(found), SHOWN));
                Some(format!(
                    "the snapshot has the string {has}, the step has {wanted_text}: write it with quotes, {write}"
                ))
            }
            None => slip(self, raw)
                .map(|slip| format!("the step's value is text, because it is not JSON ({slip})")),
        }
    }

    /// The first part that can never be equal, because one side is a string and the other the value that it spells.
    fn misquoted<'a>(&'a self, found: &'a Value) -> Option<(&'a Self, &'a Value)> {
        let looks_like = |text: &str, kind: Option<&str>| {
            kind.is_some() && Self::from_json(text).is_some_and(|value| value.kind() == kind)
        };
        match (self, found) {
            (Self::Text(_), Value::String(_)) => None,
            (Self::Text(text), found) => looks_like(text, kind(found)).then_some((self, found)),
            (_, Value::String(text)) => looks_like(text, self.kind()).then_some((self, found)),
            (Self::Array(wanted), Value::Array(found)) => {
                wanted.iter().zip(found).find_map(|(wanted, found)| wanted.misquoted(found))
            }
            (Self::Object(wanted), Value::Object(found)) => {
                wanted.iter().find_map(|(key, wanted)| wanted.misquoted(found.get(key)?))
            }
            _ => None,
        }
    }

    /// The words before its text, if it can be confused with a string.
    fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Number(..) => Some("the number "),
            Self::Bool(_) => Some("the boolean "),
            Self::Null => Some(""),
            Self::Array(_) => Some("the array "),
            Self::Object(_) => Some("the object "),
            Self::Text(_) => None,
        }
    }

    /// As JSON.
    fn text(&self) -> String {
        let listed = |parts: Vec<String>| parts.join(",");
        let string = |text: &str| Value::from(text).to_string();
        match self {
            Self::Number(_, text) => text.clone(),
            Self::Bool(value) => value.to_string(),
            Self::Null => "null".to_owned(),
            Self::Text(text) => string(text),
            Self::Array(elements) => format!("[{}]", listed(elements.iter().map(Self::text).collect())),
            Self::Object(fields) => {
                let field = |(key, value): (&String, &Self)| format!("{}:{}", string(key), value.text());
                format!("{{{}}}", listed(fields.iter().map(field).collect()))
            }
        }
    }

    /// The JSON string that spells this: the one found, if it is the same array or object except for spaces.
    fn as_string(&self, found: &Value) -> String {
        let is_long = matches!(self, Self::Array(_) | Self::Object(_));
        let is_same = |found: &&str| is_long && Self::from_json(found).is_some_and(|found| found == *self);
        let same = found.as_str().filter(is_same);
        Value::from(same.map_or_else(|| self.text(), str::to_owned)).to_string()
    }
}

impl From<&Value> for Wanted {
    fn from(value: &Value) -> Self {
        // A value that is nested too deeply counts as unknown.
        Self::from_json(&value.to_string()).unwrap_or(Self::Null)
    }
}

/// The mistake in JSON that was read as text.
fn slip(wanted: &Wanted, raw: &str) -> Option<String> {
    let plain = unescaped(raw);
    let slip = serde_json::from_str::<Value>(&plain).err()?;
    let is_slip = matches!(wanted, Wanted::Text(_)) && plain.starts_with(['{', '[', '"']);
    is_slip.then(|| one_line(&slip.to_string(), SHOWN))
}

/// As [`Wanted::kind`].
fn kind(found: &Value) -> Option<&'static str> {
    match found {
        Value::Number(_) => Some("the number "),
        Value::Bool(_) => Some("the boolean "),
        Value::Null => Some(""),
        Value::Array(_) => Some("the array "),
        Value::Object(_) => Some("the object "),
        Value::String(_) => None,
    }
}

fn shown(found: &Value) -> Option<String> {
    Some(format!("{}{}", kind(found)?, json(found, SHOWN)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_json_if_it_can_be() {
        let cases = [
            ("n2", json!("n2")),
            ("2", json!(2)),
            (" 2.0 ", json!(2)),
            ("\"2\"", json!("2")),
            (r#"\"2\""#, json!("2")),
            ("null", json!(null)),
            ("true", json!(true)),
            ("[1, 2.0]", json!([1, 2])),
            (r#"{"leader": "n2", "term": 1e1}"#, json!({"leader": "n2", "term": 10})),
            (r#"{\"leader\": \"n2\"}"#, json!({"leader": "n2"})),
            (r#"{"said": "a \"b\""}"#, json!({"said": "a \"b\""})),
            (r#"a "quoted" word"#, json!("a \"quoted\" word")),
            (r#"a \"quoted\" word"#, json!("a \"quoted\" word")),
            (r"C:\dir", json!(r"C:\dir")),
            ("1e400", json!("1e400")),
            ("", json!("")),
        ];
        for (raw, found) in cases {
            assert!(Wanted::of(raw).is(&found), "{raw} is {found}");
        }
        let cases = [
            ("2", json!("2")),
            ("\"2\"", json!(2)),
            ("[1]", json!([1, 2])),
            ("{}", json!({"a": 1})),
            (r#"{"a": 1}"#, json!({"b": 1})),
            ("null", json!("null")),
            (r#"{"term": 18446744073709551614}"#, json!({"term": u64::MAX})),
        ];
        for (raw, found) in cases {
            assert!(!Wanted::of(raw).is(&found), "{raw} is not {found}");
        }
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_text() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(Wanted::of(&deep), Wanted::Text(deep.clone()));
    }

    fn hint(raw: &str, found: &Value) -> Option<String> {
        Wanted::of(raw).hint("becomes", raw, found)
    }

    #[test]
    fn a_hint_says_which_quotes_are_missing_or_too_many() {
        let cases = [
            (
                "\"2\"",
                json!(2),
                Some(
                    r#"the snapshot has the number 2, the step has the string "2": write it without quotes, becomes "2""#,
                ),
            ),
            (
                "2",
                json!("2"),
                Some(
                    r#"the snapshot has the string "2", the step has the number 2: write it with quotes, becomes "\"2\"""#,
                ),
            ),
            (
                "2",
                json!("2.0"),
                Some(
                    r#"the snapshot has the string "2.0", the step has the number 2: write it with quotes, becomes "\"2\"""#,
                ),
            ),
            (
                "true",
                json!("true"),
                Some(
                    r#"the snapshot has the string "true", the step has the boolean true: write it with quotes, becomes "\"true\"""#,
                ),
            ),
            (
                r#"\"null\""#,
                json!(null),
                Some(
                    r#"the snapshot has null, the step has the string "null": write it without quotes, becomes "null""#,
                ),
            ),
            (
                r#"{"term": "2"}"#,
                json!({"term": 2}),
                Some(
                    r#"the snapshot has the number 2, the step has the string "2": write it without quotes, 2"#,
                ),
            ),
            (
                "[1, 2]",
                json!([1, "2"]),
                Some(
                    r#"the snapshot has the string "2", the step has the number 2: write it with quotes, "2""#,
                ),
            ),
            (
                r#"\"[1, 2]\""#,
                json!([1, 2]),
                Some(
                    r#"the snapshot has the array [1,2], the step has the string "[1, 2]": write it without quotes, becomes "[1, 2]""#,
                ),
            ),
            (
                "[1, 2]",
                json!("[1, 2]"),
                Some(
                    r#"the snapshot has the string "[1, 2]", the step has the array [1,2]: write it with quotes, becomes "\"[1, 2]\"""#,
                ),
            ),
            (
                r#"{"a": "b"}"#,
                json!("{\"a\":\"b\"}"),
                Some(
                    r#"the snapshot has the string "{\"a\":\"b\"}", the step has the object {"a":"b"}: write it with quotes, becomes "\"{\\\"a\\\":\\\"b\\\"}\"""#,
                ),
            ),
            ("[1]", json!("{}"), None),
            (
                r#"{"leader": n2}"#,
                json!({"leader": "n2"}),
                Some("the step's value is text, because it is not JSON (expected ident at line 1 column 13)"),
            ),
            (
                "5",
                json!("4"),
                Some(
                    r#"the snapshot has the string "4", the step has the number 5: write it with quotes, becomes "\"5\"""#,
                ),
            ),
            (
                r#"\"5\""#,
                json!(4),
                Some(
                    r#"the snapshot has the number 4, the step has the string "5": write it without quotes, becomes "5""#,
                ),
            ),
            ("2", json!(3), None),
            ("2", json!("n2"), None),
            ("2", json!("true"), None),
            ("n2", json!("n1"), None),
            ("[1]", json!([2]), None),
        ];
        for (raw, found, expected) in cases {
            assert_eq!(hint(raw, &found).as_deref(), expected, "{raw} against {found}");
        }
    }

    #[test]
    fn null_may_mean_unknown_and_is_not_another_value() {
        let cases = [
            ("n1", json!("n2"), true),
            ("n1", json!("n1"), false),
            ("n1", json!(null), false),
            ("null", json!("n1"), true),
            ("null", json!(null), false),
            ("2", json!(2.0), false),
            ("2", json!(3), true),
            (r#"{"leader": "n1"}"#, json!({"leader": null}), false),
            (r#"{"leader": "n1"}"#, json!({"leader": "n2"}), true),
            (r#"{"leader": "n1"}"#, json!({"leader": "n1", "term": 2}), true),
            (r#"{"leader": "n1"}"#, json!({}), true),
            ("[1, 2]", json!([1, null]), false),
            ("[1, 2]", json!([1]), true),
            ("n1", json!({"leader": "n1"}), true),
        ];
        for (raw, found, expected) in cases {
            assert_eq!(Wanted::of(raw).differs(&found), expected, "{raw} and {found}");
        }
    }

    #[test]
    fn an_unknown_value_is_learned_before_it_changes() {
        let mut before = Wanted::from(&json!({"n1": null, "n2": ["n1", null]}));
        for (found, has_changed) in [
            (json!({"n1": "n1", "n2": null}), false),
            (json!({"n1": null, "n2": ["n1", 2]}), false),
            (json!({"n1": null, "n2": ["n1", 3]}), true),
            (json!({"n1": "n2", "n2": null}), true),
            (json!(null), false),
        ] {
            assert_eq!(before.has_changed_to(&found), has_changed, "{found}");
            if !has_changed {
                before.learn(&found);
            }
        }
    }
}
