//! The wire formats: bytes in, frames out. No socket and no clock.
//!
//! A [`Framing`] says what stands before a message's payload. [`Incoming`] takes frames apart
//! however the bytes are split, and never asks for a byte beyond the end of the current frame;
//! [`Outgoing`] keeps what is left of a frame of which only a part could be written.

mod admission;
mod body;
#[cfg(feature = "multiprocessing")]
mod challenge;
mod connection;
mod control;
mod greeting;
mod handshake;
mod incoming;
mod outgoing;
mod pipe;
mod token;
mod v1;
mod v2;
mod version;

use std::fmt;

pub use admission::Admission;
pub use body::Body;
#[cfg(feature = "multiprocessing")]
pub use challenge::{Challenge, NONCE_LEN};
pub use connection::Multiprocessing;
pub use control::{CODEC_NAME_MAX, CONTROL_LEN, Control, Hello, Mode};
pub use greeting::{Blocks, Greeting, Terms};
pub use handshake::{Answer, Handshake, Secured};
pub use incoming::{Incoming, Step};
pub use outgoing::Outgoing;
pub use pipe::Pipe;
pub use token::Token;
pub use v1::V1;
pub use v2::V2;
pub use version::Version;

/// The most that is read of a frame before its length is known, in bytes.
pub const HEAD_MAX: usize = 128;

/// What stands before the payload of each message.
///
/// ```
/// use ductworks::wire::{Framing, Parsed, V1};
///
/// let head = V1.head(5).expect("5 bytes fit");
/// assert_eq!(head.as_ref(), b"\x54\x00\x00\x00\x05");
/// assert_eq!(V1.parse(head.as_ref()), Ok(Parsed::Payload { len: 5, head: 5 }));
/// assert_eq!(V1.parse(&head.as_ref()[..2]), Ok(Parsed::Need(5)));
/// ```
pub trait Framing {
    /// The longest payload that the format can express, in bytes.
    fn payload_max(&self) -> u64;

    /// The least length of a frame in bytes, head included, and [`HEAD_MAX`] at most: a shorter one is
    /// padded with zeros. A receiver asks for so many at once, so that a short message takes one read.
    fn frame_min(&self) -> usize {
        0
    }

    /// The head of a payload of `len` bytes, or nothing if the format cannot express that length.
    fn head(&self, len: usize) -> Option<Head>;

    /// The head of a payload of `len` bytes that so many descriptors come with, or nothing if the format
    /// cannot express that.
    ///
    /// Behind such a frame follows one more byte, the carrier: a zero, to which the descriptors are
    /// attached (`SCM_RIGHTS`, `unix(7)`).
    fn head_with(&self, len: usize, descriptors: usize) -> Option<Head> {
        match descriptors {
            0 => self.head(len),
            _ => None,
        }
    }

    /// How many descriptors come with the message that has this head.
    fn descriptors(&self, head: &[u8]) -> u8 {
        let _ = head;
        0
    }

    /// Reads the beginning of a frame. `bytes` may be any prefix of a frame, even an empty one, and
    /// never holds more than an earlier answer asked for.
    ///
    /// # Errors
    ///
    /// [`Violation`] as soon as the bytes cannot be the beginning of any frame.
    fn parse(&self, bytes: &[u8]) -> Result<Parsed, Violation>;

    /// The frame that says this to the other end's duct, if the format has any for it.
    fn control(&self, control: &Control) -> Option<[u8; CONTROL_LEN]> {
        let _ = control;
        None
    }

    /// Whether an end that closes says farewell, so that an end without one is a death.
    fn says_farewell(&self) -> bool {
        false
    }
}

/// What [`Framing::parse`] made of the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// At least this many bytes have to be there, and are not yet.
    Need(usize),
    /// The length is known.
    Payload {
        /// The bytes of the payload.
        len: u64,
        /// The bytes before it. What has been read beyond them is its beginning, and padding.
        head: usize,
    },
    /// This is no message but a whole frame from the other end's duct to this one.
    Control(Control),
}

/// An encoded head.
#[derive(Clone, Copy)]
pub struct Head {
    bytes: [u8; Self::LEN_MAX],
    len: usize,
}

impl Head {
    const LEN_MAX: usize = 16;

    fn new(head: &[u8]) -> Self {
        let mut bytes = [0; Self::LEN_MAX];
        bytes[..head.len()].copy_from_slice(head);
        Self {
            bytes,
            len: head.len(),
        }
    }
}

impl AsRef<[u8]> for Head {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Head").field(&self.as_ref()).finish()
    }
}

/// Bytes that no peer which speaks the protocol sends. There is no way to find the next frame after
/// one, so a duct is closed by it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The first byte of a frame is not the one that begins every frame.
    Magic {
        /// The byte that begins every frame.
        expected: u8,
        /// The byte that came.
        found: u8,
    },
    /// The head declares a payload over the receiver's limit.
    TooLarge {
        /// The declared length of the payload, in bytes.
        declared: u64,
        /// The receiver's limit, in bytes.
        limit: usize,
    },
    /// The head declares a length below zero.
    Negative {
        /// The length that came.
        found: i32,
    },
    /// The frame is of a kind that nobody has defined, or holds what its kind does not allow.
    Malformed {
        /// The kind of the frame.
        kind: u8,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The stream has found that it is not what the other end has written.
    Stream {
        /// What is wrong with it.
        fault: String,
    },
    /// The other end has refused this one.
    Refused,
    /// The frame has no place at this point of the conversation.
    Unexpected {
        /// What came.
        found: &'static str,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic { expected, found } => {
                let why = match (*expected, *found) {
                    (V2::MAGIC, V1::MAGIC) => "version 1 of the protocol; allow it with v1 on this side",
                    (V1::MAGIC, V2::MAGIC) => "version 2 of the protocol; leave v1 out on this side",
                    (_, 0x16) => "TLS; use a tls: address on this side",
                    _ => "is no duct, or is out of step",
                };
                let verb = if why.starts_with("is ") { "" } else { "speaks " };
                write!(
                    f,
                    "expected a message to begin with the magic byte 0x{expected:02x}, got \
                     0x{found:02x}: the other end {verb}{why}"
                )
            }
            Self::TooLarge { declared, limit } => write!(
                f,
                "the other end announced a message of {declared} bytes, and the limit is {limit}; \
                 raise the limit on both ends if this is wanted"
            ),
            Self::Negative { found } => write!(
                f,
                "expected the length of a message, got {found}: the other end is no connection, or \
                 is out of step"
            ),
            Self::Malformed { kind, fault } => write!(
                f,
                "expected a frame of the protocol, got one of kind 0x{kind:02x}, in which {fault}: \
                 the other end is out of step, or newer than it said"
            ),
            Self::Stream { fault } => f.write_str(fault),
            Self::Refused => f.write_str(
                "the other end refused this one: the ticket may be used up or another one's, or the \
                 two do not fit together; the other end's log says more",
            ),
            Self::Unexpected { found } => write!(
                f,
                "the other end sent {found} at a point where the protocol has no place for it"
            ),
        }
    }
}

impl std::error::Error for Violation {}
