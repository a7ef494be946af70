//! Range checks of configuration fields, and the error that names the field.

use std::error::Error;
use std::fmt;

/// Checks that a field is within `min..=max`.
pub(crate) fn within<T: PartialOrd + fmt::Debug>(
    field: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if (&min..=&max).contains(&&value) {
        return Ok(());
    }
    Err(ConfigError {
        field,
        value: format!("{value:?}"),
        range: format!("{min:?}..={max:?}"),
    })
}

/// Like [`within`], but another field is the minimum, and the error names both.
pub(crate) fn at_least<T: PartialOrd + fmt::Debug + Copy>(
    field: &'static str,
    value: T,
    (other, least): (&'static str, T),
    max: T,
) -> Result<(), ConfigError> {
    within(field, value, least, max).map_err(|error| ConfigError {
        range: format!("{least:?} ({other})..={max:?}"),
        ..error
    })
}

/// The error of a configuration field that is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    value: String,
    range: String,
}

impl ConfigError {
    /// The name of the field.
    pub fn field(&self) -> &str {
        self.field
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            value,
            range,
        } = self;
        write!(f, "{field} is {value}, but must be within {range}")
    }
}

impl Error for ConfigError {}
