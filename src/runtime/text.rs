//! Newtypes over text, and how errors and log lines quote foreign text.

use std::fmt::{self, Write as _};

/// Reading, comparing and showing a newtype over `Arc<str>`.
macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                *self.0 == *other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                *self.0 == **other
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

/// Every way from text into a type that has `new(impl AsRef<str>) -> Result<Self, $error>`.
macro_rules! parsed_from_text {
    ($name:ident, $error:ty) => {
        impl std::str::FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = $error;

            fn try_from(text: &str) -> Result<Self, $error> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                Self::new(text)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Self::new(text).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {parsed_from_text, text_newtype};

/// A number of things: `"1 instance"`, `"2 instances"`.
pub(crate) struct Counted<N>(pub(crate) N, pub(crate) &'static str);

impl<N: fmt::Display + PartialEq + From<u8>> fmt::Display for Counted<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, noun) = self;
        let plural = if *number == N::from(1) { "" } else { "s" };
        write!(f, "{number} {noun}{plural}")
    }
}

/// Whether a character is invisible or changes how others are shown: zero-width characters and direction marks.
pub(crate) fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

const LONGEST_EXCERPT: usize = 80;
const LONGEST_MESSAGE: usize = 400;

/// A foreign value as an error may show it: escaped, so that it cannot forge log lines, and cut to 80 characters.
pub(crate) fn excerpt(value: &str) -> Box<str> {
    let mut escaped = value.escape_debug();
    let mut text: String = escaped.by_ref().take(LONGEST_EXCERPT).collect();
    if escaped.next().is_some() {
        text.push('…');
    }
    text.into_boxed_str()
}

/// The same for a URI or a part of one, without its password.
pub(crate) fn uri_excerpt(uri: &str) -> Box<str> {
    // What comes after the first user is no authority of its own.
    let before_user = uri.split('@').next().unwrap_or(uri);
    let authority = before_user.find("//").map_or(0, |at| at + 2);
    let Some(end) = uri[authority..].rfind('@').map(|at| authority + at) else {
        return excerpt(uri);
    };
    match uri[authority..end].find(':').map(|at| authority + at + 1) {
        Some(password) => excerpt(&format!("{}…{}", &uri[..password], &uri[end..])),
        None => excerpt(uri),
    }
}

/// A foreign message as an error or a log line may show it: control characters escaped, and cut to 400 characters.
///
/// Messages quote what they are about, which can be any text of any length.
pub(crate) fn legible(text: impl fmt::Display) -> String {
    struct Legible {
        text: String,
        room: usize,
    }

    impl fmt::Write for Legible {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            for char in part.chars() {
                if self.room == 0 {
                    return Err(fmt::Error);
                }
                self.room -= 1;
                if char.is_control() {
                    self.text.extend(char.escape_debug());
                } else if is_invisible(char) {
                    self.text.extend(char.escape_unicode());
                } else {
                    self.text.push(char);
                }
            }
            Ok(())
        }
    }

    let mut legible = Legible {
        text: String::new(),
        room: LONGEST_MESSAGE,
    };
    if write!(legible, "{text}").is_err() {
        legible.text.push('…');
    }
    legible.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legible_escapes_only_what_does_harm() {
        assert_eq!(legible("a \"b\"\n\u{1b}[31m"), "a \"b\"\\n\\u{1b}[31m");
        assert_eq!(legible("a\u{202e}b\u{200b}c"), "a\\u{202e}b\\u{200b}c");
        assert_eq!(
            legible("x".repeat(1 << 20)).chars().count(),
            LONGEST_MESSAGE + 1
        );
    }

    #[test]
    fn excerpt_escapes_control_characters() {
        assert_eq!(&*excerpt("a\n\u{1b}[31mb\u{7}"), "a\\n\\u{1b}[31mb\\u{7}");
    }

    #[test]
    fn uri_excerpt_shows_no_password() {
        for (uri, shown) in [
            ("etcd://me:secret@a:2379/x", "etcd://me:…@a:2379/x"),
            ("etcd://a:2379,me:se@cret@b:2379", "etcd://a:…@b:2379"),
            ("me:secret@a:2379", "me:…@a:2379"),
            ("etcd/me:secret@a//b:2379", "etcd/me:…@a//b:2379"),
            ("me:secret@a//you:secret@b", "me:…@b"),
            ("etcd://me@a:2379", "etcd://me@a:2379"),
            ("list:127.0.0.1:80", "list:127.0.0.1:80"),
        ] {
            assert_eq!(&*uri_excerpt(uri), shown);
        }
    }

    #[test]
    fn excerpt_cuts_long_values_and_shows_that_it_did() {
        let cut = excerpt(&"é".repeat(1000));
        assert_eq!(cut.chars().count(), LONGEST_EXCERPT + 1);
        assert!(cut.ends_with('…'));
        let whole = "x".repeat(LONGEST_EXCERPT);
        assert_eq!(&*excerpt(&whole), whole);
    }
}
