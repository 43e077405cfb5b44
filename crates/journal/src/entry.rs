//! What is appended.

use std::fmt;

use serde::Serialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use watchkeeper::report::debug_as_text;

use crate::line::{MAX_KEY, MAX_POSITION, MAX_RECORD};

/// One record to append: a JSON object, and what rides in the tail of its line.
///
/// # Examples
///
/// ```
/// use watchkeeper_journal::{Entry, EntryError};
///
/// let entry = Entry::new(&serde_json::json!({"endpoint": "/put", "ok": true}))?.with_key("request-17")?;
/// assert_eq!(entry.body(), r#"{"endpoint":"/put","ok":true}"#);
/// assert!(matches!(Entry::from_text("[1]"), Err(EntryError::NotAnObject)));
/// assert!(matches!(Entry::from_text(r#"{"_wk_n":1}"#), Err(EntryError::Reserved)));
/// # Ok::<(), EntryError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    body: String,
    /// JSON text.
    pub(crate) key: Option<String>,
    pub(crate) position: Option<String>,
}

impl Entry {
    /// An entry of a value that serializes to a JSON object.
    ///
    /// # Errors
    ///
    /// [`EntryError`]: the value is no object, has a field whose name begins with `_wk_`, is over 1 MiB, or cannot be
    /// serialized.
    pub fn new(value: &(impl Serialize + ?Sized)) -> Result<Self, EntryError> {
        let text = serde_json::to_string(value).map_err(|_| EntryError::Unserializable)?;
        if is_plain(&text) {
            return Ok(Self { body: text, key: None, position: None });
        }
        Self::from_text(text)
    }

    /// An entry of the text of a JSON object. Line feeds between its parts become spaces; nothing else changes.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), or the text is no JSON.
    pub fn from_text(text: impl Into<String>) -> Result<Self, EntryError> {
        let mut body: String = text.into();
        let rest = body.trim_start();
        if rest.len() < body.len() {
            body = String::from(rest);
        }
        body.truncate(body.trim_end().len());
        if body.len() > MAX_RECORD {
            return Err(EntryError::TooLong { bytes: body.len() });
        }
        if !body.starts_with('{') {
            // What it is, is found below; a number may be visited as an object.
            let is_json = serde_json::from_str::<IgnoredAny>(&body).is_ok();
            if is_json {
                return Err(EntryError::NotAnObject);
            }
        }
        let mut reader = serde_json::Deserializer::from_str(&body);
        let checked = reader.deserialize_any(Object).and_then(|checked| reader.end().map(|()| checked));
        match checked {
            Ok(None) => {}
            Ok(Some(problem)) => return Err(problem),
            Err(error) => {
                return Err(EntryError::NotJson { line: error.line(), column: error.column() });
            }
        }
        if body[1..body.len() - 1].trim_ascii().is_empty() {
            "{}".clone_into(&mut body);
        }
        if body.contains(['\n', '\r']) {
            // Inside of a string they would be escaped.
            body = body.replace(['\n', '\r'], " ");
        }
        Ok(Self { body, key: None, position: None })
    }

    /// The same with an idempotency key, in `_wk_k`: 1 to 256 bytes.
    ///
    /// # Errors
    ///
    /// [`EntryError::InvalidTail`]: the key is empty or too long.
    pub fn with_key(mut self, key: &str) -> Result<Self, EntryError> {
        self.key = Some(tail("key", key, MAX_KEY)?);
        Ok(self)
    }

    /// The same with the position of a tailed file, in `_wk_p`: 1 to 1,024 bytes.
    ///
    /// # Errors
    ///
    /// [`EntryError::InvalidTail`]: the position is empty or too long.
    pub fn with_position(mut self, position: &str) -> Result<Self, EntryError> {
        self.position = Some(tail("position", position, MAX_POSITION)?);
        Ok(self)
    }

    /// The text of the object.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// An upper bound of the bytes of its line.
    pub(crate) fn weight(&self) -> usize {
        let tails = [&self.key, &self.position].into_iter().flatten();
        self.body.len() + 128 + tails.map(|text| text.len() + 16).sum::<usize>()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Whether JSON text that serde has written is an entry as it is: most are. It has no name that begins with `_wk_`, not
/// even an escaped one, and no line feed, as text that a value carries along might have.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let has = |part: &[u8]| memchr::memmem::find(bytes, part).is_some();
    let is_short = text.len() > 2 && text.len() <= MAX_RECORD && text.ends_with('}');
    is_short
        && text.starts_with("{\"")
        && memchr::memchr2(b'\n', b'\r', bytes).is_none()
        && !has(b"_wk_")
        && !has(b"\\u00")
}

fn tail(name: &'static str, value: &str, most: usize) -> Result<String, EntryError> {
    if value.is_empty() || value.len() > most {
        return Err(EntryError::InvalidTail { name, bytes: value.len(), most });
    }
    serde_json::to_string(value).map_err(|_| EntryError::Unserializable)
}

/// Reads an object and keeps nothing of it.
struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = Option<EntryError>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut problem = None;
        while let Some(Name(is_reserved)) = map.next_key()? {
            map.next_value::<IgnoredAny>()?;
            if is_reserved {
                problem = Some(EntryError::Reserved);
            }
        }
        Ok(problem)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(EntryError::NotAnObject))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Some(EntryError::NotAnObject))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Some(EntryError::NotAnObject))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Some(EntryError::NotAnObject))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Some(EntryError::NotAnObject))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Some(EntryError::NotAnObject))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Some(EntryError::NotAnObject))
    }
}

/// The name of a field: whether it is reserved.
struct Name(bool);

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Name, E> {
                Ok(Name(name.starts_with("_wk_")))
            }
        }
        deserializer.deserialize_str(Text).map_err(D::Error::custom)
    }
}

/// Why something cannot be a record. It shows nothing of the value.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The value's own serializer failed, or it has a key that is no string.
    #[error("the value cannot be written as JSON: give it string keys, and a serializer that does not fail")]
    Unserializable,
    /// The text is no JSON.
    #[error("no JSON at line {line}, column {column} of the text: give the text of one JSON object")]
    NotJson {
        /// The line, counted from 1.
        line: usize,
        /// The byte of the line, counted from 1.
        column: usize,
    },
    /// A JSON value that is no object.
    #[error("a JSON value that is no object: a record is one object, so put the value into a field")]
    NotAnObject,
    /// A field whose name begins with `_wk_`.
    #[error("a field's name begins with `_wk_`, which is for the journal's own fields: give it another name")]
    Reserved,
    /// Over 1 MiB.
    #[error(
        "{bytes} bytes of JSON: a record has at most {MAX_RECORD}; split it, or keep the large part elsewhere"
    )]
    TooLong {
        /// The number of bytes.
        bytes: usize,
    },
    /// The idempotency key or the position is empty or too long.
    #[error("the {name} has {bytes} bytes: it must have 1 to {most}")]
    InvalidTail {
        /// `key` or `position`.
        name: &'static str,
        /// The number of bytes.
        bytes: usize,
        /// The most there may be.
        most: usize,
    },
}

debug_as_text!(EntryError);
