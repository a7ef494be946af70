use std::fmt;

/// The reason that is expected of an ejection. Only the library makes an `EjectionReason`, so the texts are compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reason {
    FailuresInRow {
        failures: u32,
        threshold: u32,
    },
    Unresponsive {
        failures: u32,
        threshold: u32,
    },
    FailureRate {
        requests: u32,
        failures: u32,
        threshold_percentage: u32,
    },
    Manual,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailuresInRow {
                failures,
                threshold,
            } => write!(f, "{failures} failures in a row (threshold {threshold})"),
            Self::Unresponsive {
                failures,
                threshold,
            } => write!(
                f,
                "unresponsive, {failures} requests in a row without an answer (threshold {threshold})"
            ),
            Self::FailureRate {
                requests,
                failures,
                threshold_percentage,
            } => write!(
                f,
                "{failures} of {requests} requests failed (threshold {threshold_percentage} %)"
            ),
            Self::Manual => f.write_str("by hand"),
        }
    }
}
