//! The details of a status, which tonic's clients decode, and panic at when they are badly encoded (grpc-rust, pull request
//! 2618). No instance shall bring its callers down.

use http::header::{HeaderMap, HeaderName};

const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Leaves details out that are no base64.
pub(super) fn check(headers: &mut HeaderMap) {
    let is_bad = |details: &http::HeaderValue| !is_base64(details.as_bytes());
    if headers.get(DETAILS).is_some_and(is_bad) {
        headers.remove(DETAILS);
    }
}

/// By RFC 4648, section 4, also without its padding, and with no bits left over.
fn is_base64(text: &[u8]) -> bool {
    let end = text.iter().rposition(|&byte| byte != b'=');
    let (digits, padding) = text.split_at(end.map_or(0, |last| last + 1));
    let is_padded = padding.is_empty() || (padding.len() < 3 && text.len().is_multiple_of(4));
    let spare_bits = match digits.len() % 4 {
        0 => 0,
        2 => 4,
        3 => 2,
        _ => return false,
    };
    let mut values = digits.iter().map(|&digit| value(digit));
    let last = values.next_back().unwrap_or(Some(0));
    let is_whole = last.is_some_and(|last| last & ((1 << spare_bits) - 1) == 0);
    is_padded && is_whole && values.all(|value| value.is_some())
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_known_with_and_without_padding() {
        for text in [
            "", "aGVsbG8", "aGVsbG8=", "aGVsbA", "aGVsbA==", "aGVs", "+/+/",
        ] {
            assert!(is_base64(text.as_bytes()), "{text}");
        }
        for text in [
            "a",
            "aG=",
            "aGVsbA=",
            "aGVs=",
            "aGVs====",
            "=",
            "==",
            "aG=V",
            "aGVsbB",
            "aGVsbG9",
            "aGV sbG8",
            "aG-_",
            "aGVsbG8\n",
            "é",
        ] {
            assert!(!is_base64(text.as_bytes()), "{text}");
        }
    }

    /// Whatever passes is decoded by tonic.
    #[test]
    fn tonic_decodes_what_passes() {
        let digits = b"AQgw05/+=-";
        let mut text = [0; 4];
        for number in 0..10_usize.pow(4) {
            for length in 0..=text.len() {
                let digit = digits[number / 10_usize.pow(length as u32) % 10];
                if is_base64(&text[..length]) {
                    let details = http::HeaderValue::from_bytes(&text[..length]).unwrap();
                    let status = ("grpc-status".parse().unwrap(), "2".parse().unwrap());
                    let headers = HeaderMap::from_iter([status, (DETAILS, details)]);
                    tonic::Status::from_header_map(&headers).unwrap();
                }
                if let Some(place) = text.get_mut(length) {
                    *place = digit;
                }
            }
        }
    }
}
