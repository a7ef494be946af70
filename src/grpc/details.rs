//! The details of a status, which tonic's clients decode, and panic at when they are badly encoded (grpc-rust, pull request
//! 2618). No instance shall bring its callers down.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{HeaderMap, HeaderName};

const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Leaves details out that are no base64.
pub(super) fn check(headers: &mut HeaderMap) {
    let is_bad = |details: &http::HeaderValue| !is_base64(details.as_bytes());
    if headers.get(DETAILS).is_some_and(is_bad) {
        headers.remove(DETAILS);
    }
}

/// As tonic decodes it: the standard alphabet, with its padding or without.
fn is_base64(text: &[u8]) -> bool {
    const PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&STANDARD, PADDING).decode(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_known_with_and_without_padding() {
        for text in [
            "", "aGVsbG8", "aGVsbG8=", "aGVsbA", "aGVsbA==", "aGVsbA=", "aGVs", "+/+/",
        ] {
            assert!(is_base64(text.as_bytes()), "{text}");
        }
        for text in [
            "a",
            "aG=",
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
