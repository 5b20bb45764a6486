//! Version 1: the wire of the original Python library, byte for byte.

use super::{Framing, Head, Parsed, Violation};

/// The original's framing: the byte `0x54`, a big-endian `u32` length, then the payload.
///
/// ```text
/// +------+-------------------+---------------- - - -
/// | 0x54 | length, u32, BE   | payload: length bytes
/// +------+-------------------+---------------- - - -
/// ```
///
/// Source: `ductworks` 0.0.1a4 on PyPI, `message_duct.py` (`struct.pack('!cL', ...)`).
#[derive(Clone, Copy, Debug, Default)]
pub struct V1;

impl V1 {
    /// The byte that begins every frame.
    pub const MAGIC: u8 = 0x54;

    /// The bytes before the payload.
    pub const HEAD_LEN: usize = 5;
}

impl Framing for V1 {
    fn payload_max(&self) -> u64 {
        u32::MAX.into()
    }

    fn head(&self, len: usize) -> Option<Head> {
        let len = u32::try_from(len).ok()?.to_be_bytes();
        Some(Head::new(&[Self::MAGIC, len[0], len[1], len[2], len[3]]))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Parsed, Violation> {
        match *bytes {
            [found, ..] if found != Self::MAGIC => Err(Violation::Magic {
                expected: Self::MAGIC,
                found,
            }),
            [_, a, b, c, d, ..] => Ok(Parsed::Payload {
                len: u32::from_be_bytes([a, b, c, d]).into(),
                head: Self::HEAD_LEN,
            }),
            _ => Ok(Parsed::Need(Self::HEAD_LEN)),
        }
    }
}
