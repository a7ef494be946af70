//! Parameters of a query or of a form: `target=jobs&id=pay-1`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The value of the first parameter of that name, decoded. A parameter without `=` has an empty value.
///
/// Returns `None` also for a value that is no UTF-8.
pub(super) fn parameter(text: &str, name: &str) -> Option<String> {
    text.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key)? == name {
            decoded(value)
        } else {
            None
        }
    })
}

/// Undoes what browsers do to the values of forms.
fn decoded(text: &str) -> Option<String> {
    if !text.contains(['%', '+']) {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = rest.split_at_checked(2)?;
                rest = after;
                let digit = |at: usize| char::from(digits[at]).to_digit(16);
                u8::try_from(digit(0)? * 16 + digit(1)?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// A value for a query, in a quoted attribute as well.
pub(super) fn encoded(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if text.bytes().all(is_plain) {
        return text.into();
    }
    let mut encoded = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        for text in ["jobs", "a b&c=d%\"<é>", "", "+"] {
            let query = format!("x=1&target={}&all", encoded(text));
            assert_eq!(parameter(&query, "target").as_deref(), Some(text));
            assert_eq!(parameter(&query, "all").as_deref(), Some(""));
            assert_eq!(parameter(&query, "none"), None);
        }
        assert_eq!(parameter("id=a+b%2Bc", "id").as_deref(), Some("a b+c"));
    }

    #[test]
    fn malformed_values_are_absent() {
        for query in ["id=%", "id=%4", "id=%zz", "id=%ff", "id=%+1", "%=x"] {
            assert_eq!(parameter(query, "id"), None, "{query}");
        }
        assert_eq!(parameter("%zz=1&id=2", "id").as_deref(), Some("2"));
    }
}
