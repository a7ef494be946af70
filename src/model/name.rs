//! The validated names that targets and registrations are made of: [`Role`], [`EndpointName`], [`Boundary`].

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::runtime::text::{excerpt, parsed_from_text, text_newtype};

/// A named group of interchangeable instances, such as `worker`.
///
/// One DNS label: 1 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(Arc<str>);

/// A named port of a role, such as `http`; never one instance of it.
///
/// One DNS label, like [`Role`], that has a letter: a port number is not a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName(Arc<str>);

/// The roles that may reach each other's internal endpoints, such as one deployment.
///
/// One DNS label, like [`Role`]. The [`Default`] is `default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boundary(Arc<str>);

impl Role {
    /// A role of this name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the text is not one DNS label.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        label("role", name.as_ref()).map(Self)
    }
}

impl EndpointName {
    /// An endpoint of this name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the text is not one DNS label or has no letter.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        const FIELD: &str = "endpoint name";
        let name = label(FIELD, name.as_ref())?;
        if name.bytes().any(|byte| byte.is_ascii_lowercase()) {
            Ok(Self(name))
        } else {
            Err(NameError {
                field: FIELD,
                value: excerpt(&name),
                rule: Rule::NoLetter,
            })
        }
    }
}

impl Boundary {
    /// A boundary of this name.
    ///
    /// # Errors
    ///
    /// [`NameError`] if the text is not one DNS label.
    pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
        label("boundary", name.as_ref()).map(Self)
    }
}

impl Default for Boundary {
    /// `default`: the boundary of callers and instances that name none.
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

text_newtype!(Role);
text_newtype!(EndpointName);
text_newtype!(Boundary);
parsed_from_text!(Role, NameError);
parsed_from_text!(EndpointName, NameError);
parsed_from_text!(Boundary, NameError);

/// RFC 1123 §2.1 and RFC 1035 §2.3.4: the longest label of a DNS name.
const LONGEST_LABEL: usize = 63;

fn label(field: &'static str, text: &str) -> Result<Arc<str>, NameError> {
    let foreign = |c: &char| !matches!(c, 'a'..='z' | '0'..='9' | '-');
    let broken = if text.is_empty() {
        Rule::Empty
    } else if text.trim() != text {
        Rule::SpaceAtEdge
    } else if let Some(c) = text.chars().find(foreign) {
        Rule::Character(c)
    } else if text.len() > LONGEST_LABEL {
        Rule::TooLong(text.len())
    } else if text.starts_with('-') || text.ends_with('-') {
        Rule::HyphenAtEdge
    } else {
        return Ok(Arc::from(text));
    };
    Err(NameError {
        field,
        value: excerpt(text),
        rule: broken,
    })
}

/// An invalid role, endpoint or boundary name: its kind, its value and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    field: &'static str,
    value: Box<str>,
    rule: Rule,
}

impl NameError {
    /// The kind of name: `"role"`, `"endpoint name"` or `"boundary"`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was refused, escaped and cut to 80 characters.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rule == Rule::Empty
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid {} \"{}\": {}",
            self.field, self.value, self.rule
        )
    }
}

impl StdError for NameError {}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Empty,
    TooLong(usize),
    Character(char),
    SpaceAtEdge,
    HyphenAtEdge,
    NoLetter,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty; a name has 1 to {LONGEST_LABEL} characters"),
            Self::TooLong(len) => {
                write!(
                    f,
                    "it has {len} characters; a name has at most {LONGEST_LABEL}"
                )
            }
            Self::Character(c) => {
                let hint = match c {
                    c if c.is_uppercase() => "; names are lower case",
                    '.' => "; a name is one label, without dots",
                    '_' | ' ' => "; separate words by '-'",
                    ':' | '/' => "; only a target is written boundary/role:endpoint",
                    _ => "",
                };
                write!(f, "{c:?} is none of a-z, 0-9 and '-'{hint}")
            }
            Self::SpaceAtEdge => f.write_str("it begins or ends with a space; remove it"),
            Self::HyphenAtEdge => f.write_str("it begins or ends with '-'"),
            Self::NoLetter => f.write_str(
                "it has no letter; an endpoint has a name such as \"http\", not a port number: \
                 discovery knows the port",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role_error(name: &str) -> String {
        Role::new(name).unwrap_err().to_string()
    }

    #[test]
    fn names_are_single_dns_labels() {
        for good in ["a", "0", "worker", "gpu-2", "a--b", &"x".repeat(63)] {
            assert_eq!(Role::new(good).unwrap().as_str(), good);
            assert_eq!(Boundary::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "a-",
            "-",
            "a.b",
            "Worker",
            "a_b",
            "é",
            "a b",
            "a\0",
            &"x".repeat(64),
        ] {
            assert!(Role::new(bad).is_err(), "{bad:?} passed as a role");
            assert!(
                EndpointName::new(bad).is_err(),
                "{bad:?} passed as an endpoint name"
            );
            assert!(Boundary::new(bad).is_err(), "{bad:?} passed as a boundary");
        }
    }

    #[test]
    fn name_errors_say_kind_value_and_rule() {
        assert_eq!(
            role_error(""),
            "invalid role \"\": it is empty; a name has 1 to 63 characters"
        );
        assert_eq!(
            role_error("Worker"),
            "invalid role \"Worker\": 'W' is none of a-z, 0-9 and '-'; names are lower case"
        );
        for edge in [" a", "a ", "a\n"] {
            assert!(role_error(edge).ends_with("begins or ends with a space; remove it"));
        }
        assert!(role_error("a b").ends_with("separate words by '-'"));
        assert!(role_error("a.b").ends_with("a name is one label, without dots"));
        assert!(
            role_error(&"x".repeat(64)).ends_with("it has 64 characters; a name has at most 63")
        );
        assert!(
            role_error("x\ny").contains("\"x\\ny\""),
            "control characters are escaped"
        );
        assert!(
            role_error(&"X".repeat(100_000)).len() < 300,
            "long values are cut"
        );
        let error = Boundary::new("-x").unwrap_err();
        assert_eq!((error.field(), error.value()), ("boundary", "-x"));
    }

    #[test]
    fn a_port_number_is_no_endpoint_name() {
        for digits in ["8080", "0", "80-80"] {
            let error = EndpointName::new(digits).unwrap_err().to_string();
            assert!(error.contains("not a port number"), "{error}");
        }
        assert!(EndpointName::new("h2").is_ok());
    }
}
