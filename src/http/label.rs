//! Labels of failures by status.

use http::StatusCode;

/// All three-digit numbers from 100 on, one after the other.
const NUMBERS: [u8; 2700] = {
    let mut numbers = [0; 2700];
    let mut at = 0;
    while at < 900 {
        let number = 100 + at;
        numbers[3 * at] = b'0' + (number / 100) as u8;
        numbers[3 * at + 1] = b'0' + (number / 10 % 10) as u8;
        numbers[3 * at + 2] = b'0' + (number % 10) as u8;
        at += 1;
    }
    numbers
};

/// The label of a failure by status: its number.
pub(crate) fn label(status: StatusCode) -> &'static str {
    let at = 3 * usize::from(status.as_u16()).saturating_sub(100);
    let number = NUMBERS.get(at..at + 3);
    let number = number.and_then(|number| std::str::from_utf8(number).ok());
    number.unwrap_or("status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_labelled_by_its_number() {
        for number in 100..=999_u16 {
            let status = StatusCode::from_u16(number).unwrap();
            assert_eq!(label(status), number.to_string());
        }
    }
}
