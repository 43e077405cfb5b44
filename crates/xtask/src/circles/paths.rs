//! The paths in tokens that no parser reads: those of macros.

use proc_macro2::{TokenStream, TokenTree};

/// A path as it is written, and its line.
pub(super) type Path = (Vec<String>, usize);

/// Every path in `tokens`, of one segment or more; not fields, methods, lifetimes, a macro's variables, and what begins
/// with `::`.
pub(super) fn in_tokens(tokens: TokenStream) -> Vec<Path> {
    let mut found = Vec::new();
    collect(tokens, &mut found);
    found
}

fn collect(tokens: TokenStream, found: &mut Vec<Path>) {
    let mut tokens = tokens.into_iter().peekable();
    // The sign before the current token; `:` for `::`, where a path goes on.
    let mut sign = None;
    let mut path: Option<Path> = None;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) => {
                let name = ident.to_string();
                match (&mut path, sign) {
                    (Some((segments, _)), Some("::")) => segments.push(name),
                    (_, Some("::" | "." | "'")) => path = None,
                    (_, Some("$")) if name != "crate" => path = None,
                    _ => {
                        found.extend(path.take());
                        path = Some((vec![name], ident.span().start().line));
                    }
                }
                sign = None;
            }
            TokenTree::Punct(punct) => {
                let is_double = matches!(tokens.peek(), Some(TokenTree::Punct(next)) if next.as_char() == punct.as_char());
                sign = match punct.as_char() {
                    ':' if is_double => Some("::"),
                    '.' if !is_double => Some("."),
                    '\'' => Some("'"),
                    '$' => Some("$"),
                    _ => None,
                };
                if is_double {
                    tokens.next();
                }
                if sign != Some("::") {
                    found.extend(path.take());
                }
            }
            TokenTree::Group(group) => {
                found.extend(path.take());
                collect(group.stream(), found);
                sign = None;
            }
            TokenTree::Literal(_) => {
                found.extend(path.take());
                sign = None;
            }
        }
    }
    found.extend(path);
}
