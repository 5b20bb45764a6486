//! What the two ducts say to each other, beside the messages of their users.

use std::fmt;

use super::{HEAD_MAX, Violation};

/// The length of a frame that is no message, in bytes, head included.
pub const CONTROL_LEN: usize = HEAD_MAX;

/// The bytes of such a frame behind its head.
pub(super) const BODY_LEN: usize = CONTROL_LEN - super::v2::HEAD_LEN;

/// The longest name of a codec that a [`Hello`] has room for, in bytes.
pub const CODEC_NAME_MAX: usize = 35;

/// What one duct says to the other. It never reaches a user, and has a frame of [`CONTROL_LEN`] bytes.
///
/// Source: the table of frames in `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// Who I am, and what I can do.
    Hello(Hello),
    /// I know the token: the client's proof.
    Proof([u8; 32]),
    /// You are in.
    Accept,
    /// You are not.
    Refused,
    /// I am closing this end, or am done with sending.
    End {
        /// Another process may hold a copy of the end and go on with it.
        shared: bool,
        /// Nothing else follows in this direction; the other one goes on.
        finish: bool,
        /// The process that says so: a random number of its own.
        process: u64,
        /// How many messages it had received.
        received: u64,
    },
    /// Answer this when all messages before it have been received.
    Drain {
        /// Counts upwards from one.
        id: u64,
    },
    /// All messages before that have been received.
    Drained {
        /// Which.
        id: u64,
        /// How many messages had been received.
        received: u64,
    },
}

/// Who must prove what before the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody anything: the address alone admits.
    Open,
    /// Both sides that they know the same token.
    Token,
}

/// The first frame of each side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What has to be proved.
    pub mode: Mode,
    /// What this side can do beyond the version's own: [`DESCRIPTORS`](Self::DESCRIPTORS), and zeros.
    pub capabilities: u16,
    /// The largest message that this side receives, in bytes.
    pub limit: u64,
    /// Random bytes, never used before.
    pub nonce: [u8; 32],
    /// The server's proof that it knows the token; zeros in every other hello.
    pub proof: [u8; 32],
    codec: [u8; CODEC_NAME_MAX],
    codec_len: u8,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("mode", &self.mode)
            .field("limit", &self.limit)
            .field("codec", &self.codec())
            .finish_non_exhaustive()
    }
}

impl Hello {
    /// The version of the protocol that it speaks.
    pub const VERSION: u8 = 2;

    /// The capability to receive descriptors.
    pub const DESCRIPTORS: u16 = 0x0001;

    /// A hello without a proof. Of a codec's name as much is told as there is room for.
    #[must_use]
    pub fn new(mode: Mode, limit: u64, codec: &str, nonce: [u8; 32]) -> Self {
        let name = &codec[..codec.floor_char_boundary(CODEC_NAME_MAX)];
        let mut bytes = [0; CODEC_NAME_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Self {
            mode,
            capabilities: 0,
            limit,
            nonce,
            proof: [0; 32],
            codec: bytes,
            // It is no longer than `CODEC_NAME_MAX`.
            codec_len: name.len() as u8,
        }
    }

    /// The name of this side's codec; empty where it does not say.
    #[must_use]
    pub fn codec(&self) -> &str {
        std::str::from_utf8(&self.codec[..usize::from(self.codec_len)]).unwrap_or_default()
    }

    fn write(&self, body: &mut [u8; BODY_LEN]) {
        body[0] = Self::VERSION;
        body[1] = match self.mode {
            Mode::Open => 0,
            Mode::Token => 1,
        };
        body[2..4].copy_from_slice(&self.capabilities.to_be_bytes());
        body[4..12].copy_from_slice(&self.limit.to_be_bytes());
        body[12..44].copy_from_slice(&self.nonce);
        body[44] = self.codec_len;
        body[45..80].copy_from_slice(&self.codec);
        body[80..112].copy_from_slice(&self.proof);
    }

    fn read(body: &[u8; BODY_LEN]) -> Result<Self, &'static str> {
        if body[0] != Self::VERSION {
            return Err("the version is not 2");
        }
        let mode = match body[1] {
            0 => Mode::Open,
            1 => Mode::Token,
            _ => return Err("the mode is neither 0 nor 1"),
        };
        let (name, rest) = body[45..80]
            .split_at_checked(body[44].into())
            .ok_or("the codec's name has more than 35 bytes")?;
        if std::str::from_utf8(name).is_err() || rest.iter().any(|byte| *byte != 0) {
            return Err("the codec's name is not UTF-8 that zeros follow");
        }
        Ok(Self {
            mode,
            capabilities: u16::from_be_bytes(array(&body[2..4])),
            limit: u64::from_be_bytes(array(&body[4..12])),
            nonce: array(&body[12..44]),
            proof: array(&body[80..112]),
            codec: array(&body[45..80]),
            codec_len: body[44],
        })
    }
}

/// The flags of [`Control::End`].
const SHARED: u8 = 1;
const FINISH: u8 = 2;

impl Control {
    pub(super) const HELLO: u8 = 0x01;
    const PROOF: u8 = 0x02;
    const ACCEPT: u8 = 0x03;
    const REFUSED: u8 = 0x04;
    const END: u8 = 0x10;
    const DRAIN: u8 = 0x11;
    const DRAINED: u8 = 0x12;

    /// What it is called in an error.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "a hello",
            Self::Proof(_) => "a proof",
            Self::Accept => "an acceptance",
            Self::Refused => "a refusal",
            Self::End { .. } => "a farewell",
            Self::Drain { .. } => "a drain request",
            Self::Drained { .. } => "a drain answer",
        }
    }

    /// The number of the frame's kind, its body, and how much of that is used.
    pub(super) fn encode(&self) -> (u8, [u8; BODY_LEN], usize) {
        let mut body = [0; BODY_LEN];
        let (kind, len) = match self {
            Self::Hello(hello) => {
                hello.write(&mut body);
                (Self::HELLO, BODY_LEN)
            }
            Self::Proof(proof) => {
                body[..32].copy_from_slice(proof);
                (Self::PROOF, 32)
            }
            Self::Accept => (Self::ACCEPT, 0),
            Self::Refused => (Self::REFUSED, 0),
            Self::End {
                shared,
                finish,
                process,
                received,
            } => {
                body[0] = if *shared { SHARED } else { 0 } | if *finish { FINISH } else { 0 };
                body[1..9].copy_from_slice(&process.to_be_bytes());
                body[9..17].copy_from_slice(&received.to_be_bytes());
                (Self::END, 17)
            }
            Self::Drain { id } => {
                body[..8].copy_from_slice(&id.to_be_bytes());
                (Self::DRAIN, 8)
            }
            Self::Drained { id, received } => {
                body[..8].copy_from_slice(&id.to_be_bytes());
                body[8..16].copy_from_slice(&received.to_be_bytes());
                (Self::DRAINED, 16)
            }
        };
        (kind, body, len)
    }

    /// Whether a kind's number is that of a control frame.
    pub(super) fn is_known(kind: u8) -> bool {
        matches!(kind, Self::HELLO..=Self::REFUSED | Self::END..=Self::DRAINED)
    }

    pub(super) fn decode(kind: u8, len: u64, body: &[u8; BODY_LEN]) -> Result<Self, Violation> {
        let number = |at: usize| u64::from_be_bytes(array(&body[at..at + 8]));
        let decoded = match kind {
            Self::HELLO => Hello::read(body).map(Self::Hello),
            Self::PROOF => Ok(Self::Proof(array(&body[..32]))),
            Self::ACCEPT => Ok(Self::Accept),
            Self::REFUSED => Ok(Self::Refused),
            Self::END if body[0] & !(SHARED | FINISH) != 0 => Err("an unknown flag is set"),
            Self::END => Ok(Self::End {
                shared: body[0] & SHARED != 0,
                finish: body[0] & FINISH != 0,
                process: number(1),
                received: number(9),
            }),
            Self::DRAIN => Ok(Self::Drain { id: number(0) }),
            Self::DRAINED => Ok(Self::Drained {
                id: number(0),
                received: number(8),
            }),
            _ => Err("the kind is unknown"),
        };
        let control = decoded.map_err(|fault| Violation::Malformed { kind, fault })?;
        let (_, _, expected) = control.encode();
        if len != expected as u64 {
            let fault = "the length is not that of its kind";
            return Err(Violation::Malformed { kind, fault });
        }
        if body[expected..].iter().any(|byte| *byte != 0) {
            let fault = "the padding is not of zeros";
            return Err(Violation::Malformed { kind, fault });
        }
        Ok(control)
    }
}

/// The bytes of a slice that has this many.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}
