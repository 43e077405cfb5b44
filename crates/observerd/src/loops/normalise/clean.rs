//! One line of visible characters.

/// The text without escape sequences and invisible characters, with single spaces, at most `most` characters.
pub(super) fn clean(text: &str, most: usize) -> Vec<char> {
    let mut clean = Vec::with_capacity(text.len().min(most));
    let mut is_space = false;
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        match char {
            '\u{1b}' | '\u{9b}' => skip_escape(char, &mut rest),
            char if is_invisible(char) => {}
            char if char.is_whitespace() || char.is_control() => is_space = true,
            char => {
                if std::mem::take(&mut is_space) && !clean.is_empty() {
                    clean.push(' ');
                }
                clean.push(char);
            }
        }
        if clean.len() >= most {
            clean.truncate(most);
            break;
        }
    }
    while clean.last() == Some(&' ') {
        clean.pop();
    }
    clean
}

/// Characters of format: they have no width, or turn the direction of a line.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Skips what comes after an escape character. What is not complete ends at the line's end, as in a terminal.
fn skip_escape(escape: char, rest: &mut std::str::Chars<'_>) {
    let mut peek = rest.clone();
    let kind = if escape == '\u{9b}' { Some('[') } else { peek.next() };
    match kind {
        Some('[') => {
            // Parameters, then one final character.
            while let Some(char) = peek.next() {
                if !matches!(char, ' '..='?') {
                    if matches!(char, '@'..='~') {
                        rest.clone_from(&peek);
                    }
                    return;
                }
                rest.clone_from(&peek);
            }
        }
        // A title or a link: up to the bell, or to the string terminator.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(char) = peek.next() {
                match char {
                    '\u{7}' | '\u{9c}' => {
                        rest.clone_from(&peek);
                        return;
                    }
                    '\u{1b}' => {
                        if peek.clone().next() == Some('\\') {
                            peek.next();
                            rest.clone_from(&peek);
                        }
                        return;
                    }
                    '\n' | '\r' => return,
                    _ => rest.clone_from(&peek),
                }
            }
        }
        Some('@'..='~') => rest.clone_from(&peek),
        _ => {}
    }
}
