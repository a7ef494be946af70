//! Why a dial failed.

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::error::BoxError;
use crate::runtime::causes::{chain, with_causes};
use crate::runtime::local_fault::is_local_fault;
use crate::runtime::text::legible;

/// The longest detail of a [brief](DialError::brief) error in characters.
const LONGEST_DETAIL: usize = 120;

/// Kinds of I/O errors whose label says all.
const KNOWN: [(io::ErrorKind, &str); 4] = [
    (io::ErrorKind::ConnectionRefused, "refused"),
    (io::ErrorKind::ConnectionReset, "reset"),
    (io::ErrorKind::HostUnreachable, "unreachable"),
    (io::ErrorKind::NetworkUnreachable, "unreachable"),
];

/// Why a dial failed: the connector's error, with a short label to count it by.
///
/// Its text is the label, the connector's error and the causes of that, in one line.
///
/// A connector whose error is a `DialError` chooses the label. For any other error the label comes from the first
/// [`io::Error`] among its causes.
#[derive(Debug)]
pub struct DialError {
    label: Cow<'static, str>,
    text: String,
    is_local_fault: bool,
    source: BoxError,
}

impl DialError {
    /// Wraps an error and derives the label from its causes.
    ///
    /// A `DialError` is returned as it is.
    pub fn new(source: impl Into<BoxError>) -> Self {
        match source.into().downcast::<Self>() {
            Ok(error) => *error,
            Err(source) => Self::labelled(label(source.as_ref()), source),
        }
    }

    /// Wraps an error under a label of a few words, such as `"TLS failed"`.
    ///
    /// Labels tell kinds of failures apart: one that contains an address or an id makes every count 1.
    pub fn labelled(label: impl Into<Cow<'static, str>>, source: impl Into<BoxError>) -> Self {
        let (label, source) = (label.into(), source.into());
        Self {
            text: format!("{label}: {}", with_causes(source.as_ref())),
            is_local_fault: is_local_fault(source.as_ref()),
            label,
            source,
        }
    }

    /// The label that a census counts it under: `"refused (111)"`, `"timed out"`, `"outside the networks"`, `"TLS failed"`, `"dial failed"`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether this process lacked file descriptors, local ports or memory, which says nothing about the instance. The next
    /// dial then follows within a second.
    pub fn is_local_fault(&self) -> bool {
        self.is_local_fault
    }

    /// The label, and [what it leaves out](Self::detail): for log lines. `Display` has all causes.
    pub(crate) fn brief(&self) -> String {
        match self.detail() {
            Some(detail) => format!("{}: {detail}", self.label),
            None => self.label.clone().into_owned(),
        }
    }

    /// What the label leaves out, in about 120 characters: all causes if they fit, else the connector's own text. `None` if
    /// the label says all, as that of a refused connection does.
    pub(crate) fn detail(&self) -> Option<String> {
        if KNOWN.iter().any(|(_, known)| self.label.starts_with(known)) {
            return None;
        }
        let all = with_causes(self.source.as_ref());
        let is_short = |text: &str| text.chars().nth(LONGEST_DETAIL).is_none();
        if is_short(&all) {
            return Some(all);
        }
        let own = legible(&self.source);
        if is_short(&own) {
            return Some(own);
        }
        Some(own.chars().take(LONGEST_DETAIL).chain(['…']).collect())
    }

    /// The connector's error.
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        self.source.as_ref()
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DialError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// The label of the first labelled or I/O error in the chain; of an I/O error with the system's number where it has one.
fn label(error: &(dyn std::error::Error + 'static)) -> Cow<'static, str> {
    for error in chain(error) {
        if let Some(labelled) = error.downcast_ref::<DialError>() {
            return labelled.label.clone();
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            let known = KNOWN.iter().find(|(kind, _)| *kind == io.kind());
            let kind = match (known, io.kind()) {
                (Some((_, label)), _) => label,
                (None, io::ErrorKind::TimedOut) => "timed out",
                (None, _) => "dial failed",
            };
            return match io.raw_os_error() {
                Some(number) => format!("{kind} ({number})").into(),
                None => kind.into(),
            };
        }
    }
    "dial failed".into()
}
