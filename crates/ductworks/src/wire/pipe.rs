//! The wire between two ends that are both ours.

use super::{Framing, HEAD_MAX, Head, Multiprocessing, Parsed, Violation};

/// The framing between the ends of the Python package's `Pipe`: that of [`Multiprocessing`], with
/// frames of less than 128 bytes padded to that length.
///
/// A short message then takes one read instead of two, and still nothing is read that belongs to the
/// next one.
///
/// ```
/// use ductworks::wire::{Framing, Parsed, Pipe};
///
/// let mut frame = Pipe.head(5).expect("5 bytes fit").as_ref().to_vec();
/// assert_eq!(Pipe.parse(&frame), Ok(Parsed::Need(128)));
/// frame.resize(128, 0);
/// assert_eq!(Pipe.parse(&frame), Ok(Parsed::Payload { len: 5, head: 4 }));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Pipe;

impl Framing for Pipe {
    fn payload_max(&self) -> u64 {
        Multiprocessing.payload_max()
    }

    fn frame_min(&self) -> usize {
        HEAD_MAX
    }

    fn head(&self, len: usize) -> Option<Head> {
        Multiprocessing.head(len)
    }

    fn parse(&self, bytes: &[u8]) -> Result<Parsed, Violation> {
        match Multiprocessing.parse(bytes)? {
            parsed @ Parsed::Payload { .. } if bytes.len() >= HEAD_MAX => Ok(parsed),
            _ => Ok(Parsed::Need(HEAD_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Incoming;
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = Pipe.head(payload.len()).unwrap().as_ref().to_vec();
        frame.extend_from_slice(payload);
        frame.resize(frame.len().max(HEAD_MAX), 0);
        frame
    }

    #[test]
    fn every_prefix_of_a_short_frame_asks_for_the_whole_of_it() {
        let frame = frame(b"hello");
        assert_eq!(frame.len(), 128);
        for end in 0..128 {
            assert_eq!(Pipe.parse(&frame[..end]), Ok(Parsed::Need(128)));
        }
        assert_eq!(Pipe.parse(&frame), Ok(Parsed::Payload { len: 5, head: 4 }));
    }

    #[test]
    fn a_negative_length_is_refused_as_soon_as_it_is_there() {
        let violation = Pipe.parse(&(-7i32).to_be_bytes()).unwrap_err();
        assert_eq!(violation, Violation::Negative { found: -7 });
    }

    proptest! {
        #[test]
        fn every_split_of_a_stream_decodes_alike(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..12),
            cuts in prop::collection::vec(1usize..200, 1..200),
        ) {
            let stream = messages.iter().flat_map(|message| frame(message)).collect::<Vec<_>>();
            let mut cuts = cuts.iter().cycle();
            let mut frame = Incoming::<Vec<u8>>::default();
            let mut decoded = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let piece = &rest[..rest.len().min(*cuts.next().unwrap())];
                let taken = frame.push(&Pipe, piece, 1024).unwrap();
                rest = &rest[taken..];
                if let Some(message) = frame.take() {
                    decoded.push(message);
                }
            }
            prop_assert!(frame.is_fresh());
            prop_assert_eq!(decoded, messages);
        }

        #[test]
        fn the_byte_that_would_complete_a_frame_is_known_before_it_is_read(message in prop::collection::vec(any::<u8>(), 0..300)) {
            let stream = frame(&message);
            let mut frame = Incoming::<Vec<u8>>::default();
            for byte in stream {
                let completes = frame.completes_with(&Pipe, byte).unwrap();
                frame.push(&Pipe, &[byte], 1024).unwrap();
                prop_assert_eq!(frame.is_complete(), completes);
            }
            prop_assert_eq!(frame.take(), Some(message));
        }
    }
}
