//! Why a member was ejected, or was not.

use std::fmt;

/// Why a member was ejected: the rule that fired, its figures and its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", tag = "rule"))]
#[non_exhaustive]
pub enum EjectionReason {
    /// A run of failures.
    #[non_exhaustive]
    FailuresInRow {
        /// The length of the run.
        failures: u32,
        /// The length that ejects. It depends on the configuration and on how often other members failed. It is less for a
        /// suspect, see [`suspect_failures`](crate::OutlierBuilder::suspect_failures).
        threshold: u32,
        /// The [label](crate::Attempt::failure_labelled) of the last one, if it had one.
        label: Option<&'static str>,
    },
    /// A run of failures, the last of which had no answer at all.
    #[non_exhaustive]
    Unresponsive {
        /// The length of the run.
        failures: u32,
        /// The length that ejects, as above.
        threshold: u32,
    },
    /// Too many failures within 10 s.
    #[non_exhaustive]
    FailureRate {
        /// Successes and failures in that time.
        requests: u32,
        /// Failures in that time.
        failures: u32,
        /// The share of failures that ejects, in percent.
        threshold_percentage: u32,
        /// The [label](crate::Attempt::failure_labelled) of the last one, if it had one.
        label: Option<&'static str>,
    },
    /// Ejected by hand, with [`Control::eject`](crate::Control::eject).
    Manual,
}

impl fmt::Display for EjectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailuresInRow {
                failures,
                threshold,
                label,
            } => {
                write!(f, "{failures} failures in a row")?;
                write_label(f, *label)?;
                write!(f, " (threshold {threshold})")
            }
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
                label,
            } => {
                write!(f, "{failures} of {requests} requests failed")?;
                write_label(f, *label)?;
                write!(f, " (threshold {threshold_percentage} %)")
            }
            Self::Manual => f.write_str("by hand"),
        }
    }
}

fn write_label(f: &mut fmt::Formatter<'_>, label: Option<&str>) -> fmt::Result {
    match label {
        Some(label) => write!(f, ", the last: {label}"),
        None => Ok(()),
    }
}

/// Why an outlier stays in play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Withheld {
    /// The ejection cap is reached.
    ByCap,
    /// [`shadow`](crate::OutlierBuilder::shadow) is on.
    InShadow,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByCap => "the ejection cap is reached",
            Self::InShadow => "ejection is in shadow",
        })
    }
}
