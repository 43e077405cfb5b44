//! Lines and columns of a text.

/// Where the lines of a text begin.
pub(super) struct Lines<'a> {
    text: &'a str,
    begins: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, begins: std::iter::once(0).chain(after).collect() }
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    pub(super) fn position(&self, byte: usize) -> (usize, usize) {
        let byte = self.text.floor_char_boundary(byte.min(self.text.len()));
        let line = self.begins.partition_point(|begin| *begin <= byte);
        let begin = self.begins[line - 1];
        let before = &self.text[begin..byte];
        // A byte order mark takes no column.
        let mark = usize::from(begin == 0 && before.starts_with('\u{feff}'));
        (line, before.chars().count() + 1 - mark)
    }
}
