//! What can be wrong with an announced instance.

use std::error::Error as StdError;
use std::fmt;

use crate::runtime::text::{excerpt, is_invisible};

/// The longest DNS name: ids and zones are often host names.
const LONGEST_TEXT: usize = 253;

/// An invalid field of an instance: which one, its value, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceError {
    field: &'static str,
    value: Box<str>,
    reason: &'static str,
}

impl InstanceError {
    pub(crate) fn new(field: &'static str, value: &str, reason: &'static str) -> Self {
        Self {
            field,
            value: excerpt(value),
            reason,
        }
    }

    /// The field: `"id"`, `"address"`, `"peer ip"`, `"zone"` or `"metadata"`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The value that was refused, escaped and cut to 80 characters.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for InstanceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid instance {} \"{}\": {}",
            self.field, self.value, self.reason
        )
    }
}

impl StdError for InstanceError {}

pub(crate) fn check_text(field: &'static str, text: &str) -> Result<(), InstanceError> {
    let reason = if text.is_empty() {
        "it is empty"
    } else if text.len() > LONGEST_TEXT {
        "it is longer than 253 bytes"
    } else if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        "it has whitespace or control characters"
    } else if text.chars().any(is_invisible) {
        "it has characters that are not seen, such as zero-width or direction marks"
    } else {
        return Ok(());
    };
    Err(InstanceError::new(field, text, reason))
}

/// A number or text that is not a [`Weight`](crate::Weight).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightError {
    value: Box<str>,
}

impl WeightError {
    pub(crate) fn new(value: &str) -> Self {
        Self {
            value: excerpt(value),
        }
    }

    /// The value that was refused, escaped and cut to 80 characters.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for WeightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid weight \"{}\": it is no whole number from 0 to 65535",
            self.value
        )
    }
}

impl StdError for WeightError {}
