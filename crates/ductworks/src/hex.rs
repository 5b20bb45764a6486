//! Bytes as hexadecimal digits, and those that are not to be shown.

use std::fmt;

/// Writes two lower-case digits a byte.
pub(crate) fn encode(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// The bytes of a text of exactly so many pairs of digits, of either case.
pub(crate) fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16);
    for (place, [high, low]) in bytes.iter_mut().zip(pairs) {
        // Two digits make a byte.
        *place = (digit(*high)? << 4 | digit(*low)?) as u8;
    }
    Some(bytes)
}

/// More digits in a row than these are not shown in an error: a token may be among them. The name of a private
/// directory has so many.
const SHOWN_MAX: usize = 24;

/// Half of a token: at least so many are left in a row where one character too many has come into it.
const TOKEN_HALF: usize = 32;

/// Where the last sign stands behind which a token is meant, perhaps with a slip in it. Where that is a secret, it
/// is not to be shown in an error.
pub(crate) fn sign_of_token(text: &str) -> Option<usize> {
    let meant = |(sign, _): &(usize, &str)| is_meant_by(&text[sign + 1..]);
    text.rmatch_indices('#').find(meant).map(|(sign, _)| sign)
}

fn is_meant_by(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    text.len() == 2 * TOKEN_HALF
        || (text.len() >= 16 && text.bytes().all(is_digit))
        || runs(text).any(|run| run.len() >= TOKEN_HALF && run.bytes().all(is_digit))
}

/// The text without what may be a token, whole or with a slip, whatever stands before it: so it may be shown in
/// an error. A `pin=` with as many digits as it should have is no secret.
///
/// ```
/// use ductworks::engine::masked;
///
/// let shown = masked(&format!("tcp:host:{}", "0f".repeat(32)));
/// assert_eq!(shown, "tcp:host:(64 digits that are not shown)");
/// ```
#[must_use]
pub fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for run in runs(text) {
        let is_long = run.len() > SHOWN_MAX && run.starts_with(|c: char| c.is_ascii_hexdigit());
        match is_long && !(run.len() == 2 * TOKEN_HALF && shown.ends_with("pin=")) {
            true => shown.push_str(&format!("({} digits that are not shown)", run.len())),
            false => shown.push_str(run),
        }
    }
    shown
}

/// The parts of a text that are all digits, and those that have none, in turn.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    text.as_bytes()
        .chunk_by(|a, b| a.is_ascii_hexdigit() == b.is_ascii_hexdigit())
        .filter_map(|run| std::str::from_utf8(run).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_of_digits_are_masked_but_for_pins_and_private_directories() {
        let digits = "0aF9".repeat(32);
        for (text, shown) in [
            (format!("x{}é", &digits[..24]), None),
            (format!("tls:h:1?pin={}", &digits[..64]), None),
            (
                format!("é{}é", &digits[..25]),
                Some("é(25 digits that are not shown)é"),
            ),
            (
                format!("tls:h:1?pin={}", &digits[..65]),
                Some("tls:h:1?pin=(65 digits that are not shown)"),
            ),
            (
                format!("tcp:h:1{}", &digits[..64]),
                Some("tcp:h:(65 digits that are not shown)"),
            ),
            (
                format!("{0}-{0}", &digits[..64]),
                Some("(64 digits that are not shown)-(64 digits that are not shown)"),
            ),
        ] {
            assert_eq!(masked(&text), shown.unwrap_or(&text));
        }
    }

    #[test]
    fn a_token_with_one_character_too_many_anywhere_is_still_meant() {
        let digits = "ab".repeat(32);
        for place in 0..=digits.len() {
            for slip in ['"', ';', '\'', '\0', ' ', '/', '#', 'é', 'a'] {
                let mut token = digits.clone();
                token.insert(place, slip);
                assert!(
                    sign_of_token(&format!("unix:/x#{token}")).is_some(),
                    "{token:?}"
                );
            }
        }
        assert_eq!(sign_of_token(&format!("/#1#{digits}")), Some(3));
        for path in ["unix:/x#1", "unix:/x#", "unix:/x", "/ab#ab/ab"] {
            assert_eq!(sign_of_token(path), None);
        }
    }
}
