//! The known keys, which are those of the default settings, and the one that is nearest to an unknown one.

use serde_json::Value;
use watchkeeper::report::one_line;

use super::Config;

/// How alike two names must be, from 0 to 1.
const ALIKE: f64 = 0.7;

/// The default settings as a tree: its objects are the tables, its other values the keys with their types.
pub(super) fn schema() -> Value {
    // Strings, numbers, flags and lists of them.
    serde_json::to_value(Config::default()).unwrap_or_default()
}

/// All keys that are no tables, such as `observerd.limits.head`.
pub(super) fn all(schema: &Value) -> Vec<String> {
    fn walk(value: &Value, path: &str, keys: &mut Vec<String>) {
        let Value::Object(fields) = value else {
            keys.push(path.to_owned());
            return;
        };
        for (name, value) in fields {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            walk(value, &path, keys);
        }
    }
    let mut keys = Vec::new();
    walk(schema, "", &mut keys);
    keys
}

/// What the unknown key at `path` should be.
pub(super) fn advice(schema: &Value, path: &[String]) -> String {
    let Some((name, parents)) = path.split_last() else { return String::new() };
    let mut siblings = Some(schema);
    for parent in parents {
        siblings = siblings.and_then(|value| value.get(parent));
    }
    let names = siblings.and_then(Value::as_object);
    let names: Vec<&str> =
        names.map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default();
    let all = all(schema);
    let elsewhere = all.iter().find(|key| key.rsplit('.').next() == Some(name));
    let joined = path.join(".");
    if path.iter().any(|part| part.contains('.')) && all.contains(&joined) {
        return format!("write `{joined}` without quotation marks, which make one name of it");
    }
    if let Some(near) = nearest(name, names.iter().copied()) {
        let key = if parents.is_empty() { near.to_owned() } else { format!("{}.{near}", dotted(parents)) };
        return format!("did you mean `{key}`?");
    }
    if let Some(key) = elsewhere {
        let table = key.rsplit_once('.').map_or("", |(table, _)| table);
        return format!("`{name}` is a key of [{table}]: move it there");
    }
    let leaves = all.iter().filter_map(|key| key.rsplit('.').next());
    if let Some(near) = nearest(name, leaves)
        && let Some(key) = all.iter().find(|key| key.rsplit('.').next() == Some(near))
    {
        return format!("the nearest known key is `{key}`");
    }
    if names.is_empty() {
        return "remove it".to_owned();
    }
    format!("known here are {}", names.join(", "))
}

/// The name that is most like `name`, if one is alike.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A long one is like none, and would take long.
    if name.len() > 64 {
        return None;
    }
    let folded = name.to_lowercase().replace('-', "_");
    names
        .map(|known| (strsim::normalized_damerau_levenshtein(&folded, known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// A path as a person reads it.
pub(super) fn shown(path: &[String]) -> String {
    one_line(&dotted(path), 100)
}

/// As TOML has it: a part with other characters than those of a bare key is in quotation marks.
fn dotted(path: &[String]) -> String {
    let is_bare = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    };
    let parts = path.iter().map(|part| if is_bare(part) { part.clone() } else { format!("{part:?}") });
    parts.collect::<Vec<_>>().join(".")
}
