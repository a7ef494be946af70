//! The names of a worker's environment variables.

/// A variable, and an example of a value.
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
}

impl Variable {
    pub(super) const fn new(name: &'static str, example: &'static str) -> Self {
        Self { name, example }
    }
}
