//! The time that a caller gives a call.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::HeaderMap;
#[cfg(feature = "retry")]
use http::header::HeaderValue;

use crate::runtime::timer::Timer;
use crate::runtime::{clock, timer};

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// When a call's time is over.
#[derive(Debug)]
pub(super) struct Deadline {
    /// How much time it was given.
    pub(super) after: Duration,
    at: Instant,
    /// Wakes the task then; without a timer it is found at the next poll.
    sleep: Option<Pin<Box<Timer>>>,
}

impl Deadline {
    /// What `grpc-timeout` says. One that is badly written is none, as for tonic.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let after = limit(headers)?;
        let at = clock::now().checked_add(after)?;
        let sleep = timer::sleep_until(at);
        Some(Self { after, at, sleep })
    }

    /// Whether it has passed; else the task is woken when it does.
    ///
    /// By the clock, not by the timer, which is late by up to a millisecond: an instance keeps the same time limit, and
    /// would be charged for answering that it has passed.
    pub(super) fn has_passed(&mut self, cx: &mut Context<'_>) -> bool {
        let sleep = self.sleep.as_mut();
        clock::now() >= self.at
            || sleep.is_some_and(|sleep| matches!(sleep.as_mut().poll(cx), Poll::Ready(())))
    }
}

/// How much time a caller gives a call.
pub(crate) fn limit(headers: &HeaderMap) -> Option<Duration> {
    parse(headers.get(GRPC_TIMEOUT)?.as_bytes())
}

/// Gives a call this much time, as exactly as eight digits can say.
#[cfg(feature = "retry")]
pub(crate) fn set_limit(headers: &mut HeaderMap, limit: Duration) {
    const MOST: u128 = 99_999_999;
    let amounts = [
        (limit.as_nanos(), "n"),
        (limit.as_micros(), "u"),
        (limit.as_millis(), "m"),
        (limit.as_secs().into(), "S"),
        (u128::from(limit.as_secs()) / 60, "M"),
        (u128::from(limit.as_secs()) / 3600, "H"),
    ];
    let fits = amounts.into_iter().find(|(amount, _)| *amount <= MOST);
    let (amount, unit) = fits.unwrap_or((MOST, "H"));
    if let Ok(text) = HeaderValue::from_str(&format!("{amount}{unit}")) {
        headers.insert(GRPC_TIMEOUT, text);
    }
}

/// "TimeoutValue TimeoutUnit": at most eight digits, and a unit.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u32 = str::from_utf8(digits).ok()?.parse().ok()?;
    let unit = match unit {
        b'H' => Duration::from_secs(60 * 60),
        b'M' => Duration::from_secs(60),
        b'S' => Duration::from_secs(1),
        b'm' => Duration::from_millis(1),
        b'u' => Duration::from_micros(1),
        b'n' => Duration::from_nanos(1),
        _ => return None,
    };
    Some(unit * amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(
            parse(b"99999999H"),
            Some(Duration::from_secs(359_999_996_400))
        );
        assert_eq!(parse(b"2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse(b"0S"), Some(Duration::ZERO));
        assert_eq!(parse(b"82m"), Some(Duration::from_millis(82)));
        assert_eq!(parse(b"100000u"), Some(Duration::from_millis(100)));
        assert_eq!(parse(b"7n"), Some(Duration::from_nanos(7)));
    }

    #[cfg(feature = "retry")]
    #[test]
    fn timeouts_are_written_so_that_they_are_read_as_they_were() {
        for limit in [
            Duration::ZERO,
            Duration::from_nanos(99_999_999),
            Duration::from_micros(99_999_999),
            Duration::from_millis(99_999_999),
            Duration::from_secs(99_999_999),
            Duration::from_secs(60 * 99_999_999),
            Duration::from_secs(3600 * 99_999_999),
        ] {
            let mut headers = HeaderMap::new();
            set_limit(&mut headers, limit);
            assert_eq!(super::limit(&headers), Some(limit));
        }
        let mut headers = HeaderMap::new();
        set_limit(&mut headers, Duration::MAX);
        assert!(super::limit(&headers).is_some());
    }

    #[test]
    fn a_timeout_that_is_badly_written_is_none() {
        for text in [
            "",
            "S",
            "1",
            "123456789S",
            "1s",
            "+1S",
            "-1S",
            " 1S",
            "1 S",
            "1é",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
