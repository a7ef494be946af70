//! Durations as people read them, and as numbers of seconds in JSON.

use std::fmt;
use std::time::Duration;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// A duration rounded to two or three digits: `"5.1 s"`, `"12 ms"`, `"3 min"`.
pub(crate) struct Rounded(pub(crate) Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        let (value, unit) = match seconds {
            _ if seconds == 0.0 => (0.0, "s"),
            _ if seconds < 1e-6 => (seconds * 1e9, "ns"),
            _ if seconds < 1e-3 => (seconds * 1e6, "µs"),
            // Rounds to a whole second.
            _ if seconds < 0.9995 => (seconds * 1e3, "ms"),
            _ if seconds < 2.0 * MINUTE => (seconds, "s"),
            _ if seconds < 2.0 * HOUR => (seconds / MINUTE, "min"),
            _ if seconds < 2.0 * DAY => (seconds / HOUR, "h"),
            _ => (seconds / DAY, "days"),
        };
        let tenths = (value * 10.0).round() / 10.0;
        if tenths < 10.0 && tenths.fract() != 0.0 {
            write!(f, "{tenths:.1} {unit}")
        } else {
            write!(f, "{:.0} {unit}", value.round())
        }
    }
}

/// Writes durations as numbers of seconds.
#[cfg(feature = "serde")]
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::Serializer;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    /// The same for a duration that may be absent.
    pub(crate) mod option {
        use std::time::Duration;

        use serde::{Serialize, Serializer};

        pub(crate) fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            let seconds = duration.as_ref().map(Duration::as_secs_f64);
            seconds.serialize(serializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_rounded_to_the_digits_that_people_read() {
        let rounded = |nanos| Rounded(Duration::from_nanos(nanos)).to_string();
        let told = [
            (0, "0 s"),
            (900, "900 ns"),
            (1_500, "1.5 µs"),
            (12_345_678, "12 ms"),
            (6_000_000, "6 ms"),
            (999_600_000, "1 s"),
            (5_082_210_154, "5.1 s"),
            (9_960_000_000, "10 s"),
            (41_062_324_099, "41 s"),
            (180_000_000_000, "3 min"),
            (3 * 3_600_000_000_000, "3 h"),
            (3 * 86_400_000_000_000, "3 days"),
        ];
        for (nanos, text) in told {
            assert_eq!(rounded(nanos), text);
        }
        assert_eq!(Rounded(Duration::MAX).to_string(), "213503982334601 days");
    }
}
