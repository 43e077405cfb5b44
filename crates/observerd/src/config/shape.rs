//! The types of the known keys: those of the default settings.

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value of the wrong type.
pub(super) struct Misfit {
    /// Its key.
    pub(super) path: Vec<String>,
    /// The first byte of the value, or of its entry.
    pub(super) byte: usize,
    pub(super) problem: String,
}

/// The values of known keys that have another type than the default.
pub(super) fn misfits(table: &DeTable<'_>, schema: &Value) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    in_table(table, schema, &mut Vec::new(), &mut misfits);
    misfits
}

fn in_table(table: &DeTable<'_>, schema: &Value, path: &mut Vec<String>, misfits: &mut Vec<Misfit>) {
    for (name, value) in table {
        let name = name.get_ref().as_ref();
        if let Some(known) = schema.get(name) {
            path.push(name.to_owned());
            in_value(value, known, path, misfits);
            path.pop();
        }
    }
}

fn in_value(value: &Spanned<DeValue<'_>>, known: &Value, path: &mut Vec<String>, misfits: &mut Vec<Misfit>) {
    let key = path.join(".");
    let wanted = match (known, value.get_ref()) {
        (Value::Object(_), DeValue::Table(table)) => return in_table(table, known, path, misfits),
        (Value::String(_), DeValue::String(_))
        | (Value::Number(_), DeValue::Integer(_))
        | (Value::Bool(_), DeValue::Boolean(_)) => return,
        (Value::Array(_), DeValue::Array(items)) => return in_list(items, &key, path, misfits),
        (Value::Object(_), _) => format!("a table, [{key}]"),
        (Value::String(_), _) => "a string in quotation marks".to_owned(),
        (Value::Number(_), _) => "a whole number without quotation marks".to_owned(),
        (Value::Bool(_), _) => "true or false, without quotation marks".to_owned(),
        _ => "a list of strings, such as [\"a\", \"b\"]".to_owned(),
    };
    let problem = format!("`{key}` must be {wanted}, and is {}", kind(value.get_ref()));
    misfits.push(Misfit { path: path.clone(), byte: value.span().start, problem });
}

/// All lists are lists of strings.
fn in_list(items: &[Spanned<DeValue<'_>>], key: &str, path: &[String], misfits: &mut Vec<Misfit>) {
    for (place, item) in items.iter().enumerate() {
        if matches!(item.get_ref(), DeValue::String(_)) {
            continue;
        }
        let (place, kind) = (place + 1, kind(item.get_ref()));
        let problem = format!("entry {place} of `{key}` must be a string in quotation marks, and is {kind}");
        misfits.push(Misfit { path: path.to_vec(), byte: item.span().start, problem });
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a flag",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
