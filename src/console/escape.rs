//! Foreign text in HTML.

use std::fmt::{self, Write};

use crate::runtime::text::is_invisible;

/// The most characters that are shown of one text.
const LONGEST: usize = 400;
/// The same of an id or an address in a table. Of a longer one both ends are shown: the end tells pods apart.
const LONGEST_NAME: usize = 64;
/// How many of these are from the beginning.
const BEGINNING: usize = 24;

/// A text of at most 400 characters, as element content or as the value of a quoted attribute. What is not seen is written
/// as its code, such as `\u{202e}`.
pub(super) struct Escaped<T>(pub(super) T);

/// The same of an id or an address, at most 64 characters.
pub(super) struct Name<'a>(pub(super) &'a str);

/// The value of a quoted attribute that comes back unchanged in a form.
pub(super) struct Value<'a>(pub(super) &'a str);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut visible = Visible {
            to: f,
            room: LONGEST,
        };
        // Fails at the limit, so that the rest of a long text is not even read.
        let written = write!(visible, "{}", self.0);
        let is_cut = written.is_err() && visible.room == 0;
        if is_cut { f.write_char('…') } else { written }
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0;
        // No text of so few bytes has more characters.
        if text.len() <= LONGEST_NAME || text.chars().nth(LONGEST_NAME).is_none() {
            return Escaped(text).fmt(f);
        }
        let mut from_end = text.char_indices().rev();
        let end = from_end.nth(LONGEST_NAME - BEGINNING - 2);
        let start = text.char_indices().nth(BEGINNING);
        let at = |found: Option<(usize, char)>| found.map_or(0, |(at, _)| at);
        Escaped(&text[..at(start)]).fmt(f)?;
        f.write_char('…')?;
        Escaped(&text[at(end)..]).fmt(f)
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            if char.is_control() || is_invisible(char) {
                write!(f, "&#{};", u32::from(char))?;
            } else {
                write_char(f, char)?;
            }
        }
        Ok(())
    }
}

struct Visible<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    room: usize,
}

impl fmt::Write for Visible<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
            if char.is_control() || is_invisible(char) {
                write!(self.to, "{}", char.escape_unicode())?;
            } else {
                write_char(self.to, char)?;
            }
        }
        Ok(())
    }
}

fn write_char(f: &mut fmt::Formatter<'_>, char: char) -> fmt::Result {
    match char {
        '&' => f.write_str("&amp;"),
        '<' => f.write_str("&lt;"),
        '>' => f.write_str("&gt;"),
        '"' => f.write_str("&quot;"),
        '\'' => f.write_str("&#39;"),
        char => f.write_char(char),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_and_invisible_characters_are_written_as_text() {
        let hostile = "<script>alert('1')</script>&\"\u{202e}\n\u{0}";
        assert_eq!(
            Escaped(hostile).to_string(),
            "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\\u{202e}\\u{a}\\u{0}"
        );
        assert_eq!(Value("a\"b\u{202e}\n").to_string(), "a&quot;b&#8238;&#10;");
    }

    #[test]
    fn a_long_text_is_cut_and_the_cut_is_shown() {
        let long = Escaped("<".repeat(1 << 20)).to_string();
        assert_eq!(long, format!("{}…", "&lt;".repeat(LONGEST)));
        let whole = "x".repeat(LONGEST);
        assert_eq!(Escaped(&whole).to_string(), whole);
    }

    #[test]
    fn both_ends_of_a_long_name_are_shown() {
        let id = format!("deployment-{}-7d9f8b6c5d-x2x4z", "é".repeat(1 << 20));
        let shown = Name(&id).to_string();
        assert_eq!(shown.chars().count(), LONGEST_NAME);
        assert!(shown.starts_with("deployment-é"), "{shown}");
        assert!(shown.ends_with("é-7d9f8b6c5d-x2x4z"), "{shown}");
        let whole = "é".repeat(LONGEST_NAME);
        assert_eq!(Name(&whole).to_string(), whole);
    }
}
