//! For how long an instance asks to be given less to do.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

/// What less would be no relief is counted as: "at once" is no reason to send as much again.
const SHORTEST: Duration = Duration::from_secs(1);
/// What more is counted as: no instance talks itself out of work for longer.
const LONGEST: Duration = Duration::from_secs(60);

/// The `Retry-After` of a response, from 1 s to 60 s; `None` if there is none that can be understood.
///
/// A date is counted from the response's own `Date`, so that the clocks need not agree, and is not understood without.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = digits(text).or_else(|| {
        let until = httpdate::parse_http_date(text).ok()?;
        let date = headers.get(DATE)?.to_str().ok()?;
        let wait = until.duration_since(httpdate::parse_http_date(date).ok()?);
        Some(wait.unwrap_or_default().as_secs())
    })?;
    Some(bounded(Duration::from_secs(seconds)))
}

/// What is made of a time that an instance asks for.
pub(crate) fn bounded(asked: Duration) -> Duration {
    asked.clamp(SHORTEST, LONGEST)
}

/// A number without a sign, as large as it may be.
fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(retry_after: &[u8], date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_bytes(retry_after).unwrap();
        headers.insert(RETRY_AFTER, value);
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        super::retry_after(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_read_within_their_bounds() {
        for (text, seconds) in [
            ("7", 7),
            ("007", 7),
            ("0", 1),
            ("61", 60),
            ("18446744073709551616", 60),
            (&"9".repeat(10_000), 60),
        ] {
            assert_eq!(read(text.as_bytes(), None), Some(seconds), "{text:.30}");
        }
    }

    #[test]
    fn what_is_no_number_and_no_date_is_no_answer() {
        for text in ["", " ", "-1", "+1", "1.5", "1e3", "1 s", "١", "soon", "\t"] {
            assert_eq!(read(text.as_bytes(), None), None, "{text:?}");
        }
        assert_eq!(read(b"\xff\xfe", None), None);
    }

    #[test]
    fn a_date_counts_from_the_date_of_the_response() {
        let noon = "Sun, 06 Nov 1994 12:00:00 GMT";
        for (date, seconds) in [
            (Some("Sun, 06 Nov 1994 11:59:50 GMT"), Some(10)),
            (Some("Sun, 06 Nov 1994 11:00:00 GMT"), Some(60)),
            (Some("Sun, 06 Nov 1994 12:30:00 GMT"), Some(1)),
            (Some("yesterday"), None),
            (None, None),
        ] {
            assert_eq!(read(noon.as_bytes(), date), seconds, "{date:?}");
        }
    }
}
