//! Takes frames apart, however the bytes arrive.

use std::io;
use std::mem::MaybeUninit;

use super::{Body, Control, Framing, HEAD_MAX, Parsed, Violation};

/// Memory for a payload never exceeds twice what has arrived plus this, in bytes, whatever length
/// the other end declares.
const HEADROOM: usize = 64 * 1024;

/// The largest buffer that is kept for the next message, in bytes: fresh memory of that size costs
/// more than what it is filled with.
const KEPT: usize = 2 * 1024 * 1024;

const NO_CARRIER: Violation = Violation::Malformed {
    kind: super::V2::MESSAGE,
    fault: "the byte that descriptors come with is not zero",
};

/// How reading into an [`Incoming`] went.
#[derive(Debug)]
pub enum Step {
    /// This many bytes of the frame were read; zero is the end of the stream.
    Read(usize),
    /// The reader failed. What had been read before is kept.
    Failed(io::Error),
    /// The bytes break the protocol.
    Violated(Violation),
}

/// The frame that is being received: as much of it as has arrived.
///
/// It survives any interruption: reading goes on where it stopped.
///
/// ```
/// use ductworks::wire::{Incoming, V1};
///
/// let mut frame = Incoming::<Vec<u8>>::default();
/// let stream = b"\x54\x00\x00\x00\x02hi\x54...";
/// assert_eq!(frame.push(&V1, &stream[..3], 1024), Ok(3)); // any split will do
/// assert_eq!(frame.push(&V1, &stream[3..], 1024), Ok(4)); // never beyond the frame's end
/// assert_eq!(frame.take(), Some(b"hi".to_vec()));
/// ```
#[derive(Debug)]
pub struct Incoming<B = Vec<u8>> {
    head: [u8; HEAD_MAX],
    head_len: usize,
    /// The payload's length, once it is known.
    len: Option<usize>,
    payload: B,
    /// How many bytes are known to lie ready in the stream.
    ready: usize,
    /// The frame is no message.
    control: Option<Control>,
    /// How many descriptors come with the byte behind the frame, until that is here.
    carrier: Option<u8>,
}

impl<B: Body> Default for Incoming<B> {
    fn default() -> Self {
        Self {
            head: [0; HEAD_MAX],
            head_len: 0,
            len: None,
            payload: B::default(),
            ready: 0,
            control: None,
            carrier: None,
        }
    }
}

impl<B: Body> Incoming<B> {
    /// Whether no byte of a frame has been read yet.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.head_len == 0
    }

    /// Whether the whole frame is here, ready to [`take`](Self::take).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.has_payload() && self.carrier.is_none()
    }

    fn has_payload(&self) -> bool {
        self.len == Some(self.payload.len())
    }

    /// How many descriptors come with the next byte, the whole payload being here.
    #[must_use]
    pub fn awaited_descriptors(&self) -> Option<u8> {
        self.carrier.filter(|_| self.has_payload())
    }

    /// The payload's declared length in bytes, once the head is complete.
    #[must_use]
    pub fn declared(&self) -> Option<usize> {
        self.len
    }

    /// The part of the payload that has arrived.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.payload.as_slice()
    }

    /// Sets the memory for the payload. What has been read of it moves there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::OutOfMemory`] if it has no room for that, with everything as it was.
    pub fn place_in(&mut self, mut memory: B) -> io::Result<()> {
        append(&mut memory, self.payload.as_slice())?;
        self.payload = memory;
        Ok(())
    }

    /// Moves the payload so far out of memory that was lent for one call; see [`Body::vacate`].
    pub fn vacate(&mut self) {
        self.payload.vacate();
    }

    /// How many bytes the next [`fill`](Self::fill) asks for at most: what the current head, or
    /// else the payload, still lacks.
    #[must_use]
    pub fn missing(&self, framing: &impl Framing) -> usize {
        match self.len {
            Some(len) => len - self.payload.len() + usize::from(self.carrier.is_some()),
            None => match framing.parse(&self.head[..self.head_len]) {
                Ok(Parsed::Need(need)) => need.min(HEAD_MAX) - self.head_len,
                Ok(Parsed::Payload { .. } | Parsed::Control(_)) | Err(_) => 0,
            },
        }
    }

    /// Lets `read` write into the place where the frame's next bytes belong, which has room for at
    /// most `most` bytes and never for more than the current frame lacks. `read` returns the part
    /// of it that it filled.
    pub fn fill<R>(&mut self, framing: &impl Framing, limit: usize, most: usize, read: R) -> Step
    where
        R: for<'a> FnOnce(&'a mut [MaybeUninit<u8>]) -> io::Result<&'a mut [u8]>,
    {
        let missing = self.missing(framing).min(most);
        if self.len.is_none() {
            let mut place = [MaybeUninit::uninit(); HEAD_MAX];
            return match read(&mut place[..missing]) {
                Ok(got) => {
                    let end = self.head_len + got.len();
                    self.head[self.head_len..end].copy_from_slice(got);
                    self.head_len = end;
                    let count = got.len();
                    match self.parse_head(framing, limit) {
                        Ok(Ok(())) => Step::Read(count),
                        Ok(Err(error)) => Step::Failed(error),
                        Err(violation) => Step::Violated(violation),
                    }
                }
                Err(error) => Step::Failed(error),
            };
        }
        if self.awaited_descriptors().is_some() {
            let mut place = [MaybeUninit::uninit()];
            return match read(&mut place) {
                Ok(&mut [0]) => {
                    self.carrier = None;
                    Step::Read(1)
                }
                Ok([]) => Step::Read(0),
                Ok(_) => Step::Violated(NO_CARRIER),
                Err(error) => Step::Failed(error),
            };
        }
        if let Err(error) = self.make_room() {
            return Step::Failed(error);
        }
        let lacking = self.len.unwrap_or_default() - self.payload.len();
        let place = self.payload.spare();
        let missing = missing.min(lacking).min(place.len());
        let place = &mut place[..missing];
        let address = place.as_ptr().cast::<u8>();
        match read(place) {
            Ok(got) => {
                assert!(
                    std::ptr::eq(got.as_ptr(), address) && got.len() <= missing,
                    "the reader returned another slice than the one that it was given"
                );
                let got = got.len();
                // SAFETY: `got` was a `&mut [u8]` that begins where the spare memory begins and lies
                // within it, as just checked, so these bytes are initialised.
                unsafe { self.payload.filled(got) };
                Step::Read(got)
            }
            Err(error) => Step::Failed(error),
        }
    }

    /// Takes as many of `bytes` as belong to the current frame and returns how many those were.
    ///
    /// # Errors
    ///
    /// [`Violation`] if the bytes break the protocol, or declare more than `limit` bytes.
    pub fn push(
        &mut self,
        framing: &impl Framing,
        bytes: &[u8],
        limit: usize,
    ) -> Result<usize, Violation> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_complete() && self.control.is_none() {
            let rest = &bytes[taken..];
            let step = self.fill(framing, limit, rest.len(), |place| {
                // All of `place` is written: it is no longer than `rest`.
                let filled = place.len().min(rest.len());
                Ok(place[..filled].write_copy_of_slice(&rest[..filled]))
            });
            match step {
                Step::Read(count) => taken += count,
                Step::Violated(violation) => return Err(violation),
                Step::Failed(_) => {
                    return Err(Violation::TooLarge {
                        declared: self.len.unwrap_or_default() as u64,
                        limit,
                    });
                }
            }
        }
        Ok(taken)
    }

    /// Whether the frame would be a complete message with `byte` as its next one. It is not consumed.
    ///
    /// # Errors
    ///
    /// [`Violation`] if that byte would break the protocol.
    pub fn completes_with(&self, framing: &impl Framing, byte: u8) -> Result<bool, Violation> {
        if self.awaited_descriptors().is_some() {
            return match byte {
                0 => Ok(true),
                _ => Err(NO_CARRIER),
            };
        }
        if let Some(len) = self.len {
            return Ok(self.carrier.is_none() && self.payload.len() + 1 == len);
        }
        let mut head = self.head;
        head[self.head_len] = byte;
        let read = self.head_len + 1;
        Ok(match framing.parse(&head[..read])? {
            Parsed::Payload { len, head } => {
                len <= (read - head) as u64 && framing.descriptors(&self.head) == 0
            }
            Parsed::Need(_) | Parsed::Control(_) => false,
        })
    }

    /// Takes the payload and makes ready for the next frame, if the frame is complete.
    #[must_use]
    pub fn take(&mut self) -> Option<B> {
        if !self.is_complete() {
            return None;
        }
        self.head_len = 0;
        self.len = None;
        Some(std::mem::take(&mut self.payload))
    }

    /// Takes what the frame says to this end's duct, and makes ready for the next frame, if it is a
    /// complete one of that kind.
    #[must_use]
    pub fn take_control(&mut self) -> Option<Control> {
        let control = self.control.take()?;
        self.head_len = 0;
        Some(control)
    }

    /// Offers the memory of an earlier payload for the next one. It is kept if it is of that
    /// payload's order of size, and given back to the system otherwise.
    pub fn recycle(&mut self, mut memory: B) {
        let fits = memory.capacity() <= HEADROOM.max(2 * memory.len()).min(KEPT);
        if fits && self.len.is_none() && self.payload.capacity() < memory.capacity() {
            memory.clear();
            self.payload = memory;
        }
    }

    /// Whether the payload is so large that its memory grows as it arrives.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.len.is_some_and(|len| len > HEADROOM)
    }

    /// Tells that this many bytes lie ready in the stream, for which there may be memory at once.
    pub fn expect(&mut self, ready: usize) {
        self.ready = ready;
    }

    fn parse_head(
        &mut self,
        framing: &impl Framing,
        limit: usize,
    ) -> Result<io::Result<()>, Violation> {
        let (declared, head) = match framing.parse(&self.head[..self.head_len])? {
            Parsed::Payload { len, head } => (len, head),
            Parsed::Need(_) => return Ok(Ok(())),
            Parsed::Control(control) => {
                self.control = Some(control);
                return Ok(Ok(()));
            }
        };
        match usize::try_from(declared) {
            Ok(len) if len <= limit => {
                let end = self.head_len.min(head.saturating_add(len));
                self.len = Some(len);
                self.carrier = Some(framing.descriptors(&self.head)).filter(|count| *count > 0);
                Ok(append(&mut self.payload, &self.head[head..end]))
            }
            _ => Err(Violation::TooLarge { declared, limit }),
        }
    }

    fn make_room(&mut self) -> io::Result<()> {
        let received = self.payload.len();
        if received < self.payload.capacity() {
            return Ok(());
        }
        let len = self.len.unwrap_or_default();
        let doubled = received.saturating_mul(2).saturating_add(HEADROOM);
        let target = len.min(doubled.max(received.saturating_add(self.ready)));
        self.payload.reserve(target)
    }
}

fn append<B: Body>(memory: &mut B, bytes: &[u8]) -> io::Result<()> {
    let total = memory.len() + bytes.len();
    if total > memory.capacity() {
        memory.reserve(total)?;
    }
    let place = memory
        .spare()
        .get_mut(..bytes.len())
        .ok_or(io::ErrorKind::OutOfMemory)?;
    let count = place.write_copy_of_slice(bytes).len();
    // SAFETY: these have just been written, at the beginning of the spare memory.
    unsafe { memory.filled(count) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Multiprocessing, V1, V2};
    use super::*;

    fn stream_of(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Vec::new();
        for message in messages {
            stream.extend_from_slice(V1.head(message.len()).unwrap().as_ref());
            stream.extend_from_slice(message);
        }
        stream
    }

    proptest! {
        #[test]
        fn every_split_of_a_stream_decodes_alike(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
            cuts in prop::collection::vec(1usize..40, 1..200),
        ) {
            let stream = stream_of(&messages);
            let mut cuts = cuts.iter().cycle();
            let mut frame = Incoming::<Vec<u8>>::default();
            let mut decoded = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let piece = &rest[..rest.len().min(*cuts.next().unwrap())];
                let taken = frame.push(&V1, piece, 1024).unwrap();
                rest = &rest[taken..];
                if let Some(message) = frame.take() {
                    decoded.push(message);
                }
            }
            prop_assert!(frame.is_fresh());
            prop_assert_eq!(decoded, messages);
        }

        #[test]
        fn a_frame_never_takes_a_byte_of_the_next(message in prop::collection::vec(any::<u8>(), 0..300), tail in prop::collection::vec(any::<u8>(), 0..50)) {
            let mut stream = stream_of(&[message]);
            let end = stream.len();
            stream.extend_from_slice(&tail);
            let mut frame = Incoming::<Vec<u8>>::default();
            prop_assert_eq!(frame.push(&V1, &stream, 1024), Ok(end));
            prop_assert!(frame.is_complete());
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_never_exceed_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..400), limit in 0usize..100) {
            let mut frame = Incoming::<Vec<u8>>::default();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                match frame.push(&V1, rest, limit) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(_) => break,
                }
                if let Some(message) = frame.take() {
                    prop_assert!(message.len() <= limit);
                }
            }
        }

        #[test]
        fn memory_follows_what_has_arrived(arrived in 0usize..400_000) {
            let mut frame = Incoming::<Vec<u8>>::default();
            frame.push(&V1, V1.head(1 << 30).unwrap().as_ref(), 1 << 30).unwrap();
            for chunk in vec![7; arrived].chunks(10_000) {
                frame.push(&V1, chunk, 1 << 30).unwrap();
                prop_assert!(frame.payload.capacity() <= 2 * frame.payload.len() + HEADROOM);
            }
        }
    }

    #[test]
    fn a_wrong_magic_byte_is_refused_at_once() {
        let mut frame = Incoming::<Vec<u8>>::default();
        let violation = frame.push(&V1, b"G", 10).unwrap_err();
        assert_eq!(
            violation,
            Violation::Magic {
                expected: 0x54,
                found: b'G'
            }
        );
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_any_memory_is_taken() {
        let mut frame = Incoming::<Vec<u8>>::default();
        let violation = frame.push(&V1, b"\x54\xff\xff\xff\xff", 10).unwrap_err();
        assert_eq!(
            violation,
            Violation::TooLarge {
                declared: u32::MAX.into(),
                limit: 10
            }
        );
        assert_eq!(frame.payload.capacity(), 0);
    }

    #[test]
    fn the_longest_length_of_all_is_an_incomplete_message_where_there_is_no_limit() {
        let mut frame = Incoming::<Vec<u8>>::default();
        let head = [0xff; 12];
        assert_eq!(frame.push(&Multiprocessing, &head, usize::MAX), Ok(12));
        assert_eq!(frame.declared(), Some(usize::MAX));

        let mut frame = Incoming::<Vec<u8>>::default();
        let mut short = V2.head(usize::MAX).unwrap().as_ref().to_vec();
        short.resize(HEAD_MAX, b'a');
        assert_eq!(frame.push(&V2, &short, usize::MAX), Ok(HEAD_MAX));
        assert_eq!(frame.payload(), [b'a'; HEAD_MAX - 16]);
    }

    #[test]
    fn the_byte_that_would_complete_a_frame_is_known_before_it_is_read() {
        let mut frame = Incoming::<Vec<u8>>::default();
        frame.push(&V1, b"\x54\0\0\0", 10).unwrap();
        assert_eq!(frame.completes_with(&V1, 0), Ok(true));
        assert_eq!(frame.completes_with(&V1, 2), Ok(false));
        frame.push(&V1, b"\x02a", 10).unwrap();
        assert_eq!(frame.completes_with(&V1, b'b'), Ok(true));
    }
}
