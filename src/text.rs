//! What all short texts of the model share: one shape for the newtypes, one way to quote them in errors.

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

const LONGEST_EXCERPT: usize = 80;

/// A foreign value as an error may show it: escaped, so that it cannot forge log lines, and cut to 80 characters.
pub(crate) fn excerpt(value: &str) -> Box<str> {
    let mut escaped = value.escape_debug();
    let mut text: String = escaped.by_ref().take(LONGEST_EXCERPT).collect();
    if escaped.next().is_some() {
        text.push('…');
    }
    text.into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_escapes_control_characters() {
        assert_eq!(&*excerpt("a\n\u{1b}[31mb\u{7}"), "a\\n\\u{1b}[31mb\\u{7}");
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
