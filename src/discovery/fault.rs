//! What is wrong with a file.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use crate::runtime::text::legible;

/// Names the file, and line and field where there are any; never longer than a few lines, and free of control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::discovery) struct Fault {
    file: String,
    line: Option<usize>,
    field: Option<String>,
    problem: String,
    others: usize,
}

impl Fault {
    pub(in crate::discovery) fn new(path: &Path, problem: impl fmt::Display) -> Self {
        Self {
            file: legible(path.display()),
            line: None,
            field: None,
            problem: legible(problem),
            others: 0,
        }
    }

    pub(in crate::discovery) fn io(path: &Path, doing: &str, error: &io::Error) -> Self {
        Self::new(path, format_args!("{doing}: {error}"))
    }

    #[cfg(feature = "roles-file")]
    pub(in crate::discovery) fn at_line(mut self, line: Option<usize>) -> Self {
        self.line = line;
        self
    }

    #[cfg(feature = "roles-file")]
    pub(in crate::discovery) fn in_field(mut self, field: impl fmt::Display) -> Self {
        self.field = Some(legible(field)).filter(|field| !field.is_empty() && field != ".");
        self
    }

    /// Several at once: the first is told, the others are counted.
    #[cfg(any(all(feature = "folder", unix), feature = "roles-file"))]
    pub(in crate::discovery) fn first_of(faults: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut faults = faults.into_iter();
        let mut first = faults.next()?;
        first.others = faults.count();
        Some(first)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.problem)?;
        match self.others {
            0 => Ok(()),
            others => write!(f, " (and {others} more)"),
        }
    }
}

impl StdError for Fault {}

#[cfg(all(test, feature = "roles-file"))]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_short_and_printable_whatever_it_is_about() {
        let fault = Fault::new(Path::new("a\nb"), "x\u{1b}[31m".repeat(100_000))
            .at_line(Some(3))
            .in_field("y\u{7}".repeat(100_000));
        let text = fault.to_string();
        assert!(text.starts_with("a\\nb:3: y\\u{7}y"), "{text}");
        assert!(text.len() < 8192 && !text.contains(char::is_control));
    }

    #[test]
    fn several_faults_are_one_and_a_number() {
        let faults = ["1", "2", "3"].map(|problem| Fault::new(Path::new("f"), problem));
        assert_eq!(
            Fault::first_of(faults).unwrap().to_string(),
            "f: 1 (and 2 more)"
        );
        assert_eq!(Fault::first_of([]), None);
    }
}
