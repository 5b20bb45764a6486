//! Version 2: a wire that tells an end from a death, and that can grow.

use super::control::BODY_LEN;
use super::{CONTROL_LEN, Control, Framing, HEAD_MAX, Head, Parsed, Violation};

/// The bytes before a payload.
pub(super) const HEAD_LEN: usize = 16;

/// Where in the head the number of descriptors stands.
const COUNT: usize = 3;

/// The framing between two ducts of this package, and of whoever else speaks it: a head of 16 bytes,
/// then the payload. A frame of less than 128 bytes is padded with zeros to that length, so that a
/// short message takes one read, and nothing is read that belongs to the next one.
///
/// ```text
/// +------+------+-------+-------+---------+------------------+---------------- - - -
/// | 0xd2 | kind | flags | count | 4 zeros | length, u64, BE  | payload: length bytes
/// +------+------+-------+-------+---------+------------------+---------------- - - -
/// ```
///
/// The kind of a message is `0x20`. All other kinds are [`Control`] frames of exactly 128 bytes.
/// The count is that of the descriptors that come with a message, and zero in every other frame; flags are
/// zero.
///
/// Source: `docs/protocol.md`.
///
/// ```
/// use ductworks::wire::{Framing, Parsed, V2};
///
/// let mut frame = V2.head(5).expect("5 bytes fit").as_ref().to_vec();
/// assert_eq!(frame, b"\xd2\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\x05");
/// assert_eq!(V2.parse(&frame), Ok(Parsed::Need(128)));
/// frame.resize(128, 0);
/// assert_eq!(V2.parse(&frame), Ok(Parsed::Payload { len: 5, head: 16 }));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct V2;

impl V2 {
    /// The byte that begins every frame.
    pub const MAGIC: u8 = 0xd2;

    /// The kind of a frame that holds a message.
    pub const MESSAGE: u8 = 0x20;

    /// The most descriptors that come with one message.
    pub const DESCRIPTORS_MAX: usize = 16;
}

impl Framing for V2 {
    fn payload_max(&self) -> u64 {
        u64::MAX
    }

    fn frame_min(&self) -> usize {
        HEAD_MAX
    }

    fn head(&self, len: usize) -> Option<Head> {
        self.head_with(len, 0)
    }

    fn head_with(&self, len: usize, descriptors: usize) -> Option<Head> {
        let count = u8::try_from(descriptors).ok()?;
        let mut head = head(Self::MESSAGE, u64::try_from(len).ok()?);
        head[COUNT] = count;
        (descriptors <= Self::DESCRIPTORS_MAX).then(|| Head::new(&head))
    }

    fn descriptors(&self, head: &[u8]) -> u8 {
        head.get(COUNT).copied().unwrap_or_default()
    }

    fn parse(&self, bytes: &[u8]) -> Result<Parsed, Violation> {
        let mut start = [0; 8];
        let known = bytes.len().min(8);
        start[..known].copy_from_slice(&bytes[..known]);
        let [found, kind, flags, count, reserved @ ..] = start;
        if known > 0 && found != Self::MAGIC {
            let expected = Self::MAGIC;
            return Err(Violation::Magic { expected, found });
        }
        if known > 1 && kind != Self::MESSAGE && !Control::is_known(kind) {
            let fault = "the kind is unknown";
            return Err(Violation::Malformed { kind, fault });
        }
        // Byte after byte, so that the same is told however they arrive.
        let has_count = count != 0 && kind != Self::MESSAGE;
        let fault = if flags != 0 || has_count {
            Some("a reserved byte of the head is not zero")
        } else if usize::from(count) > Self::DESCRIPTORS_MAX {
            Some("more than 16 descriptors are announced")
        } else if reserved != [0; 4] {
            Some("a reserved byte of the head is not zero")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(Violation::Malformed { kind, fault });
        }
        let Some(frame) = bytes.first_chunk::<CONTROL_LEN>() else {
            return Ok(Parsed::Need(HEAD_MAX));
        };
        let mut len = [0; 8];
        len.copy_from_slice(&frame[8..HEAD_LEN]);
        let len = u64::from_be_bytes(len);
        if kind == Self::MESSAGE {
            let head = HEAD_LEN;
            return Ok(Parsed::Payload { len, head });
        }
        let mut body = [0; BODY_LEN];
        body.copy_from_slice(&frame[HEAD_LEN..]);
        Control::decode(kind, len, &body).map(Parsed::Control)
    }

    fn control(&self, control: &Control) -> Option<[u8; CONTROL_LEN]> {
        let (kind, body, len) = control.encode();
        let mut frame = [0; CONTROL_LEN];
        frame[..HEAD_LEN].copy_from_slice(&head(kind, len as u64));
        frame[HEAD_LEN..].copy_from_slice(&body);
        Some(frame)
    }

    fn says_farewell(&self) -> bool {
        true
    }
}

fn head(kind: u8, len: u64) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    head[..2].copy_from_slice(&[V2::MAGIC, kind]);
    head[8..].copy_from_slice(&len.to_be_bytes());
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Hello, Incoming, Mode};
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = V2.head(payload.len()).unwrap().as_ref().to_vec();
        frame.extend_from_slice(payload);
        frame.resize(frame.len().max(HEAD_MAX), 0);
        frame
    }

    fn any_control() -> impl Strategy<Value = Control> {
        let hello = (
            any::<bool>(),
            any::<u64>(),
            "[a-zé]{0,17}",
            any::<[u8; 32]>(),
        );
        prop_oneof![
            hello.prop_map(|(token, limit, codec, nonce)| {
                let mode = if token { Mode::Token } else { Mode::Open };
                Control::Hello(Hello::new(mode, limit, &codec, nonce))
            }),
            any::<[u8; 32]>().prop_map(Control::Proof),
            Just(Control::Accept),
            Just(Control::Refused),
            any::<(bool, bool, u64, u64)>().prop_map(|(shared, finish, process, received)| {
                Control::End {
                    shared,
                    finish,
                    process,
                    received,
                }
            }),
            any::<u64>().prop_map(|id| Control::Drain { id }),
            any::<(u64, u64)>().prop_map(|(id, received)| Control::Drained { id, received }),
        ]
    }

    #[derive(Clone, Debug, PartialEq)]
    enum Said {
        Message(Vec<u8>),
        Control(Control),
    }

    proptest! {
        #[test]
        fn every_split_of_a_stream_decodes_alike(
            said in prop::collection::vec(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300).prop_map(Said::Message),
                any_control().prop_map(Said::Control),
            ], 0..12),
            cuts in prop::collection::vec(1usize..200, 1..200),
        ) {
            let stream = said.iter().flat_map(|each| match each {
                Said::Message(message) => frame(message),
                Said::Control(control) => V2.control(control).unwrap().to_vec(),
            }).collect::<Vec<_>>();
            let mut cuts = cuts.iter().cycle();
            let mut incoming = Incoming::<Vec<u8>>::default();
            let mut decoded = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let piece = &rest[..rest.len().min(*cuts.next().unwrap())];
                let taken = incoming.push(&V2, piece, 1024).unwrap();
                rest = &rest[taken..];
                decoded.extend(incoming.take_control().map(Said::Control));
                decoded.extend(incoming.take().map(Said::Message));
            }
            prop_assert!(incoming.is_fresh());
            prop_assert_eq!(decoded, said);
        }

        #[test]
        fn the_byte_that_would_complete_a_message_is_known_before_it_is_read(message in prop::collection::vec(any::<u8>(), 0..300)) {
            let stream = frame(&message);
            let mut incoming = Incoming::<Vec<u8>>::default();
            for byte in stream {
                let completes = incoming.completes_with(&V2, byte).unwrap();
                incoming.push(&V2, &[byte], 1024).unwrap();
                prop_assert_eq!(incoming.is_complete(), completes);
            }
            prop_assert_eq!(incoming.take(), Some(message));
        }

        #[test]
        fn arbitrary_control_frames_decode_or_are_refused(kind in any::<u8>(), len in 0u64..130, body in prop::collection::vec(any::<u8>(), 112)) {
            let mut frame = head(kind, len).to_vec();
            frame.extend(body);
            if let Ok(Parsed::Control(control)) = V2.parse(&frame) {
                prop_assert_eq!(V2.control(&control).unwrap().to_vec(), frame);
            }
        }
    }

    #[test]
    fn descriptors_come_with_one_byte_behind_the_frame() {
        for len in [0, 5, 112, 113, 1000] {
            let mut stream = V2.head_with(len, 3).unwrap().as_ref().to_vec();
            stream.resize(stream.len() + len, 7);
            stream.resize(stream.len().max(HEAD_MAX), 0);
            let carrier = stream.len();
            stream.extend([0, 0xd2]);
            let mut incoming = Incoming::<Vec<u8>>::default();
            for (place, byte) in stream[..carrier].iter().enumerate() {
                assert_eq!(incoming.completes_with(&V2, *byte), Ok(false), "{place}");
                incoming.push(&V2, &[*byte], 1024).unwrap();
            }
            assert_eq!(incoming.awaited_descriptors(), Some(3));
            assert_eq!(incoming.missing(&V2), 1);
            assert_eq!(incoming.completes_with(&V2, 0), Ok(true));
            assert!(incoming.completes_with(&V2, 1).is_err());
            assert_eq!(incoming.push(&V2, &stream[carrier..], 1024), Ok(1));
            assert_eq!(incoming.take(), Some(vec![7; len]));
        }
        assert!(V2.head_with(1, 17).is_none());
    }

    #[test]
    fn a_frame_of_another_wire_is_refused_at_its_first_byte() {
        for found in [0x54, 0x00, 0x16, b'G'] {
            let expected = V2::MAGIC;
            assert_eq!(
                V2.parse(&[found]),
                Err(Violation::Magic { expected, found })
            );
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_at_its_byte_and_a_reserved_bit_at_its_own() {
        assert!(matches!(
            V2.parse(b"\xd2\x7f"),
            Err(Violation::Malformed { kind: 0x7f, .. })
        ));
        for head in [
            &b"\xd2\x20\x01"[..],
            b"\xd2\x20\0\x11",
            b"\xd2\x03\0\x01",
            b"\xd2\x20\0\0\x01",
        ] {
            assert!(matches!(V2.parse(head), Err(Violation::Malformed { .. })));
        }
    }

    #[test]
    fn of_two_faults_in_a_head_the_first_is_told_however_the_bytes_arrive() {
        let head = b"\xd2\x20\0\xff\xff\0\0\0";
        assert!(V2.parse(head).is_err());
        assert_eq!(V2.parse(&head[..4]), V2.parse(head));
    }

    #[test]
    fn a_control_frame_that_declares_more_than_its_kind_has_is_refused() {
        let mut frame = V2.control(&Control::Accept).unwrap();
        frame[8] = 1;
        assert!(matches!(
            V2.parse(&frame),
            Err(Violation::Malformed { kind: 3, .. })
        ));
    }

    #[test]
    fn padding_that_is_not_of_zeros_is_refused_in_a_control_frame() {
        let mut frame = V2.control(&Control::Drain { id: 1 }).unwrap();
        frame[127] = 1;
        assert!(V2.parse(&frame).is_err());
    }
}
