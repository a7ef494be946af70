//! Why a member gets less than its fair share of requests, in words.

use std::fmt;
use std::time::Duration;

use crate::model::instance::Zone;
use crate::runtime::duration::Rounded;
#[cfg(feature = "serde")]
use crate::runtime::duration::seconds;
use crate::runtime::text::Counted;
use crate::status::EjectionStatus;

/// Why a member gets less than its fair share, or what else is notable about it. `Display` is a part of a sentence.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", tag = "reason"))]
#[non_exhaustive]
pub enum ShareReason {
    /// It is not connected.
    #[non_exhaustive]
    Disconnected {
        /// For how long.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
        /// Why the last dial failed, with causes.
        error: Option<String>,
        /// The time until the next dial.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "seconds::option::serialize")
        )]
        redial_in: Option<Duration>,
    },
    /// It is being dialled.
    #[non_exhaustive]
    Connecting {
        /// How long it has been without a connection.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
        /// Why the last dial failed, with causes.
        error: Option<String>,
    },
    /// It drains.
    #[non_exhaustive]
    Draining {
        /// Its requests that still have to finish.
        in_flight: u32,
    },
    /// It is announced with weight 0.
    ZeroWeight,
    /// It is busy, as it says, and others are available.
    Busy,
    /// It is a backup, and a rank before its own takes all requests.
    #[non_exhaustive]
    Backup {
        /// That rank.
        rank: u8,
        /// The part of that rank's weight that is pickable, or whose first dial is still running.
        pickable: f64,
    },
    /// It is ejected.
    #[non_exhaustive]
    Ejected {
        /// Why, since when, and for how long.
        ejection: EjectionStatus,
        /// Whether picks choose it all the same, because all are out.
        in_panic_mode: bool,
    },
    /// Its ejection is over, and a trial decides.
    #[non_exhaustive]
    Probation {
        /// Why it was ejected.
        ejection: EjectionStatus,
        /// Requests until a trial can begin. Zero: the next one.
        next_trial_in: u32,
        /// Whether picks choose it all the same, because all are out.
        in_panic_mode: bool,
    },
    /// It is in another zone than the caller, and gets requests while the caller's own costs too much.
    #[non_exhaustive]
    OtherZone {
        /// Its zone.
        zone: Zone,
        /// The caller's zone.
        own: Zone,
        /// How many times as much the caller's zone may cost.
        price: f64,
    },
    /// It is in slow start, after an ejection or because it is new.
    #[non_exhaustive]
    SlowStart {
        /// Whether it is new.
        is_new: bool,
        /// The part of its share that it gets, from 0.1 to 1.
        part: f64,
        /// How long it has been back, or connected.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
    },
    /// It said that it is overloaded. Its load counts twenty times.
    #[non_exhaustive]
    Overloaded {
        /// For how long it still counts.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        remaining: Duration,
    },
    /// It has as many requests in flight as `max_in_flight` allows.
    #[non_exhaustive]
    Full {
        /// That many.
        max_in_flight: u32,
    },
    /// Its connection is younger than the figures.
    #[non_exhaustive]
    NewlyConnected {
        /// How old it is.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        since: Duration,
    },
    /// Its load is higher than that of the others.
    #[non_exhaustive]
    HigherLoad {
        /// Its latency as picks see it, if latency is measured.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "seconds::option::serialize")
        )]
        latency: Option<Duration>,
        /// Its requests in flight.
        in_flight: u32,
        /// The fleet's mean latency.
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "seconds::option::serialize")
        )]
        mean_latency: Option<Duration>,
        /// The requests in flight that a member of its weight has in the fleet's mean.
        mean_in_flight: f64,
    },
    /// Its failures raise its latency as picks see it.
    #[non_exhaustive]
    Failures {
        /// Failures of the last 10 s.
        failures: u32,
        /// Successes and failures of the last 10 s.
        requests: u32,
        /// The label of the last one.
        label: Option<&'static str>,
    },
    /// Its load was higher than that of the others and is not now.
    LoadWasHigher,
    /// It failed, or answered late, and gets too little traffic to be judged. A trial decides.
    #[non_exhaustive]
    Suspect {
        /// Its failures in a row; zero: it was late.
        failures_in_row: u32,
        /// The label of its last failure.
        label: Option<&'static str>,
    },
    /// It fails, and is not ejected.
    #[non_exhaustive]
    NotEjected {
        /// Failures of the last 10 s, or in a row if that is more.
        failures: u32,
        /// Successes and failures of the last 10 s, at least `failures`.
        requests: u32,
        /// Why not.
        because: Spared,
    },
    /// Discovery's newest answer lacks it, but is doubted.
    #[non_exhaustive]
    Missing {
        /// For how long it is kept.
        #[cfg_attr(feature = "serde", serde(serialize_with = "seconds::serialize"))]
        remaining: Duration,
    },
}

/// Why a member that fails is not ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case", tag = "kind"))]
#[non_exhaustive]
pub enum Spared {
    /// Ejection is off.
    Off,
    /// Ejection is in shadow.
    Shadow,
    /// It is the only member that is connected and may be picked.
    OnlyMember,
    /// The others fail too.
    #[non_exhaustive]
    OthersFail {
        /// How often, in percent.
        percentage: u32,
    },
    /// As many are out as the cap allows.
    #[non_exhaustive]
    Cap {
        /// How many.
        out: usize,
    },
    /// Its figures do not reach the threshold of any rule.
    BelowThresholds,
}

impl fmt::Display for ShareReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected {
                since,
                error,
                redial_in,
            } => {
                write!(f, "not connected for {}", Rounded(*since))?;
                write_error(f, error.as_deref())?;
                match redial_in {
                    Some(wait) => write!(f, "; dialled again in {}", Rounded(*wait)),
                    None => Ok(()),
                }
            }
            Self::Connecting { since, error } => {
                write!(
                    f,
                    "being dialled, without connection for {}",
                    Rounded(*since)
                )?;
                write_error(f, error.as_deref())
            }
            Self::Draining { in_flight: 0 } => f.write_str("it drains"),
            Self::Draining { in_flight } => {
                write!(f, "it drains, {} in flight to finish", in_flight)
            }
            Self::ZeroWeight => f.write_str("its weight is 0"),
            Self::Backup { rank, pickable } => {
                let pickable = Percent(*pickable);
                write!(
                    f,
                    "it is a backup, and {pickable} of the weight of rank {rank} is usable"
                )
            }
            Self::Busy => f.write_str("it says that it is busy, and others are available"),
            Self::Ejected {
                ejection,
                in_panic_mode,
            } => {
                write_panic_mode(f, *in_panic_mode)?;
                write!(f, "{ejection}")
            }
            Self::Probation {
                ejection,
                next_trial_in,
                in_panic_mode,
            } => {
                write_panic_mode(f, *in_panic_mode)?;
                write!(f, "{ejection}; ")?;
                match next_trial_in {
                    0 => f.write_str("its trial comes with the next request"),
                    requests => write!(f, "its trial comes within {requests} requests"),
                }
            }
            Self::OtherZone { zone, own, price } => write!(
                f,
                "in another zone: {zone} gets requests while {own} costs more than {} times as much",
                Digits(*price)
            ),
            Self::SlowStart {
                is_new,
                part,
                since,
            } => write!(
                f,
                "{} for {}, slow start gives it {} of its share",
                if *is_new { "new" } else { "back" },
                Rounded(*since),
                Percent(*part)
            ),
            Self::Overloaded { remaining } => write!(
                f,
                "it said that it is overloaded, which counts for {} more",
                Rounded(*remaining)
            ),
            Self::Full { max_in_flight } => {
                write!(f, "it is at its limit of {max_in_flight} in flight")
            }
            Self::NewlyConnected { since } => write!(
                f,
                "connected for {}, while the figures span 10 s",
                Rounded(*since)
            ),
            Self::HigherLoad {
                latency: Some(latency),
                in_flight,
                mean_latency: Some(mean_latency),
                mean_in_flight,
            } => write!(
                f,
                "{} × {} ({in_flight} in flight and the next request) against the fleet's {} × {}",
                Rounded(*latency),
                in_flight.saturating_add(1),
                Rounded(*mean_latency),
                Digits(*mean_in_flight + 1.0)
            ),
            Self::HigherLoad {
                in_flight,
                mean_in_flight,
                ..
            } => write!(
                f,
                "{in_flight} in flight against the fleet's {}",
                Digits(*mean_in_flight)
            ),
            Self::Failures {
                failures,
                requests,
                label,
            } => {
                write!(f, "{failures} of {requests} failed")?;
                write_label(f, *label)?;
                f.write_str(", each of which counts as 20 times the mean latency")
            }
            Self::LoadWasHigher => {
                f.write_str("its load is now that of the others, and was higher within 10 s")
            }
            Self::Suspect {
                failures_in_row: 0, ..
            } => f.write_str("suspect, since it answered late; a trial decides"),
            Self::Suspect {
                failures_in_row,
                label,
            } => {
                let failures = Counted(*failures_in_row, "failure");
                write!(f, "suspect after {failures} in a row")?;
                write_label(f, *label)?;
                f.write_str("; a trial decides")
            }
            Self::NotEjected {
                failures,
                requests,
                because,
            } => write!(
                f,
                "not ejected though {failures} of {requests} failed: {because}"
            ),
            Self::Missing { remaining } => write!(
                f,
                "discovery's newest answer lacks it; it is kept for {} more",
                Rounded(*remaining)
            ),
        }
    }
}

impl fmt::Display for Spared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("ejection is off"),
            Self::Shadow => f.write_str("ejection is in shadow"),
            Self::OnlyMember => f.write_str("the only connected instance is never ejected"),
            Self::OthersFail { percentage } => {
                write!(f, "{percentage} % of the others' requests fail too")
            }
            Self::Cap { out } => write!(f, "{out} out already, which is the ejection cap"),
            Self::BelowThresholds => f.write_str("that is below the thresholds"),
        }
    }
}

fn write_error(f: &mut fmt::Formatter<'_>, error: Option<&str>) -> fmt::Result {
    match error {
        Some(error) => write!(f, ", the last dial failed: {error}"),
        None => Ok(()),
    }
}

fn write_label(f: &mut fmt::Formatter<'_>, label: Option<&str>) -> fmt::Result {
    match label {
        Some(label) => write!(f, ", the last: {label}"),
        None => Ok(()),
    }
}

fn write_panic_mode(f: &mut fmt::Formatter<'_>, is_on: bool) -> fmt::Result {
    if is_on {
        f.write_str("picked anyway, since all are out; ")?;
    }
    Ok(())
}

/// A fraction as a percentage of two or three digits.
pub(crate) struct Percent(pub(crate) f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", Digits(self.0 * 100.0))
    }
}

/// A number with one decimal where it is below ten and has any.
struct Digits(f64);

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 10.0).round() / 10.0;
        if tenths < 10.0 && tenths.fract() != 0.0 {
            write!(f, "{tenths:.1}")
        } else {
            write!(f, "{:.0}", self.0)
        }
    }
}
