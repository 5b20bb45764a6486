//! Bytes as hexadecimal digits.

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

/// Whether 64 digits are meant, perhaps with one too few or too many. Where that is a secret, it is not to be
/// shown in an error.
pub(crate) fn is_meant_by(text: &str) -> bool {
    let is_long = text.len() >= 16;
    text.len() == 64 || (is_long && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
