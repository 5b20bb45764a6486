//! The wire of `multiprocessing.connection`, Python's own.

use super::{Framing, Head, Parsed, Violation};

/// The framing of Python's `multiprocessing.connection.Connection`: a big-endian `i32` length, or
/// `-1` and a big-endian `u64` length, then the payload.
///
/// ```text
/// +-----------------+---------------- - - -
/// | length, i32, BE | payload: length bytes                      up to 0x7fffffff bytes
/// +-----------------+-----------------+---------------- - - -
/// |  -1, i32, BE    | length, u64, BE | payload: length bytes    above
/// +-----------------+-----------------+---------------- - - -
/// ```
///
/// Source: `Connection._send_bytes` and `_recv_bytes` in CPython's `Lib/multiprocessing/connection.py`,
/// the same from Python 3.3 to 3.14 (`struct.pack("!i", n)`, `struct.pack("!Q", n)`).
///
/// ```
/// use ductworks::wire::{Framing, Multiprocessing, Parsed};
///
/// let head = Multiprocessing.head(5).expect("5 bytes fit");
/// assert_eq!(head.as_ref(), b"\x00\x00\x00\x05");
/// let long = b"\xff\xff\xff\xff\x00\x00\x00\x00\x80\x00\x00\x00";
/// assert_eq!(Multiprocessing.parse(long), Ok(Parsed::Payload { len: 1 << 31, head: 12 }));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Multiprocessing;

impl Multiprocessing {
    /// The bytes before a payload that an `i32` can measure.
    pub const SHORT_HEAD_LEN: usize = 4;

    /// The bytes before a longer one.
    pub const LONG_HEAD_LEN: usize = 12;

    /// Stands for "the length follows".
    const LONG: i32 = -1;
}

impl Framing for Multiprocessing {
    fn payload_max(&self) -> u64 {
        u64::MAX
    }

    fn head(&self, len: usize) -> Option<Head> {
        if let Ok(len) = i32::try_from(len) {
            return Some(Head::new(&len.to_be_bytes()));
        }
        let mut head = [0; Self::LONG_HEAD_LEN];
        head[..4].copy_from_slice(&Self::LONG.to_be_bytes());
        head[4..].copy_from_slice(&u64::try_from(len).ok()?.to_be_bytes());
        Some(Head::new(&head))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Parsed, Violation> {
        let Some((short, rest)) = bytes.split_first_chunk::<4>() else {
            return Ok(Parsed::Need(Self::SHORT_HEAD_LEN));
        };
        match i32::from_be_bytes(*short) {
            Self::LONG => match rest.first_chunk::<8>() {
                Some(long) => Ok(Parsed::Payload {
                    len: u64::from_be_bytes(*long),
                    head: Self::LONG_HEAD_LEN,
                }),
                None => Ok(Parsed::Need(Self::LONG_HEAD_LEN)),
            },
            found => match u64::try_from(found) {
                Ok(len) => Ok(Parsed::Payload {
                    len,
                    head: Self::SHORT_HEAD_LEN,
                }),
                Err(_) => Err(Violation::Negative { found }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_an_i32_holds_has_the_short_head_and_any_other_the_long_one() {
        for (len, head_len) in [(0, 4), (1, 4), (0x7fff_ffff, 4), (0x8000_0000, 12)] {
            let head = Multiprocessing.head(len).unwrap();
            assert_eq!(head.as_ref().len(), head_len, "{len}");
            let parsed = Multiprocessing.parse(head.as_ref());
            let (len, head) = (len as u64, head_len);
            assert_eq!(parsed, Ok(Parsed::Payload { len, head }));
        }
    }

    #[test]
    fn every_prefix_of_a_head_asks_for_the_rest() {
        let long = Multiprocessing.head(1 << 33).unwrap();
        for end in 0..12 {
            let need = if end < 4 { 4 } else { 12 };
            let parsed = Multiprocessing.parse(&long.as_ref()[..end]);
            assert_eq!(parsed, Ok(Parsed::Need(need)));
        }
    }

    #[test]
    fn a_negative_length_is_refused() {
        for found in [-2, i32::MIN] {
            let parsed = Multiprocessing.parse(&found.to_be_bytes());
            assert_eq!(parsed, Err(Violation::Negative { found }));
        }
    }
}
