//! What holds for the decoder of every framing, however its bytes arrive.

use std::io;

use ductworks::wire::{Control, Framing, Incoming, Step, Violation};

use crate::input::Input;
use crate::measured::Measured;

/// What a receiver has made of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) said: Vec<Said>,
    pub(crate) end: End,
}

/// What one frame says, and how many bytes it has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Message(Vec<u8>, usize),
    Control(Control, usize),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Behind a whole frame.
    Between,
    /// After so many bytes of a frame.
    Within(usize),
    Violated(Violation),
}

/// How a stream arrives: in pieces of these lengths, from the first again after the last.
pub(crate) struct Cuts([u8; 8]);

/// A limit, how the stream arrives, and the stream: what the inputs of the two decoders hold.
pub(crate) struct Case {
    pub(crate) limit: usize,
    pub(crate) cuts: Cuts,
    pub(crate) stream: Vec<u8>,
}

/// The limits of receivers: those on whose sides something changes, and those that are in use.
const LIMITS: [usize; 10] = [64 << 20, usize::MAX, 0, 1, 5, 111, 112, 113, 1000, 200_000];

impl Case {
    /// The place of a limit in the table, how much to add to the end of the stream, the cuts, and
    /// then the stream.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut input = Input::new(bytes);
        let limit = LIMITS[usize::from(input.byte()) % LIMITS.len()];
        let more = usize::from(input.byte().saturating_sub(0xc0)) * 2048;
        let cuts = Cuts(input.array());
        let mut stream = input.rest().to_vec();
        // A long message from a short input. The byte begins no frame.
        stream.resize(stream.len() + more, b'.');
        Self {
            limit,
            cuts,
            stream,
        }
    }

    /// Checks what holds whatever the framing, and gives what was heard.
    pub(crate) fn check(&self, framing: &impl Framing) -> Heard {
        let whole = self.push(framing, &Cuts([0; 8]));
        let pieces = self.push(framing, &self.cuts);
        assert_eq!(whole, pieces, "another split is heard otherwise");
        let filled = self.fill(framing);
        assert_eq!(whole, filled, "reads that fail are heard otherwise");
        // So many single bytes as that are enough to pass through every state.
        let bytes = &self.stream[..self.stream.len().min(512)];
        self.one_by_one(framing, bytes);
        for said in &whole.said {
            if let Said::Message(message, _) = said {
                assert!(message.len() <= self.limit, "over the limit");
            }
        }
        whole
    }

    /// The stream as it is, piece after piece.
    fn push(&self, framing: &impl Framing, cuts: &Cuts) -> Heard {
        let mut frame = Incoming::<Measured>::default();
        let mut said = Vec::new();
        let (mut rest, mut of_frame) = (&self.stream[..], 0);
        for most in cuts.lens() {
            let mut piece = &rest[..most.min(rest.len())];
            rest = &rest[piece.len()..];
            while !piece.is_empty() {
                let taken = match frame.push(framing, piece, self.limit) {
                    Ok(taken) => taken,
                    Err(violation) => return ended(said, End::Violated(violation)),
                };
                assert!(taken > 0, "nothing of {} bytes was taken", piece.len());
                piece = &piece[taken..];
                of_frame += taken;
                self.note(&mut frame, &mut said, &mut of_frame);
            }
            if rest.is_empty() {
                break;
            }
        }
        let end = End::at(&frame, of_frame);
        ended(said, end)
    }

    /// The same through `fill`, from a reader that gives less than it is asked for, and fails between,
    /// and into memory that has room for more.
    fn fill(&self, framing: &impl Framing) -> Heard {
        let mut frame = Incoming::<Measured>::default();
        let mut said = Vec::new();
        let (mut rest, mut of_frame) = (&self.stream[..], 0);
        for cut in self.cuts.lens() {
            if rest.is_empty() {
                break;
            }
            let ready = if cut % 2 == 0 { rest.len() } else { 0 };
            Measured::expect(ready);
            frame.expect(ready);
            if frame.is_fresh() && cut % 3 == 0 {
                frame.recycle(Measured::roomy());
            }
            if cut % 7 == 0 {
                let (missing, there) = (frame.missing(framing), frame.payload().len());
                let step = frame.fill(framing, self.limit, cut, |_| {
                    Err(io::ErrorKind::Interrupted.into())
                });
                assert!(matches!(step, Step::Failed(_)), "{step:?}");
                assert_eq!(missing, frame.missing(framing), "a failed read lost bytes");
                assert_eq!(there, frame.payload().len(), "a failed read lost a payload");
            }
            let missing = frame.missing(framing);
            assert!(missing > 0, "a frame that lacks nothing is not complete");
            let step = frame.fill(framing, self.limit, cut, |place| {
                assert!(place.len() <= missing.min(cut), "asked for the next frame");
                let count = place.len().min(rest.len());
                Ok(place[..count].write_copy_of_slice(&rest[..count]))
            });
            Measured::expect(0);
            match step {
                Step::Read(count) => {
                    rest = &rest[count..];
                    of_frame += count;
                }
                Step::Violated(violation) => return ended(said, End::Violated(violation)),
                Step::Failed(error) => panic!("{error}"),
            }
            self.note(&mut frame, &mut said, &mut of_frame);
        }
        let end = End::at(&frame, of_frame);
        ended(said, end)
    }

    /// Whether the byte that completes a message is always known before it is taken.
    fn one_by_one(&self, framing: &impl Framing, bytes: &[u8]) {
        let mut frame = Incoming::<Measured>::default();
        for byte in bytes {
            let missing = frame.missing(framing);
            let foreseen = frame.completes_with(framing, *byte);
            match frame.push(framing, &[*byte], self.limit) {
                Ok(taken) => {
                    assert_eq!(taken, 1);
                    assert_eq!(foreseen, Ok(frame.is_complete()), "foreseen otherwise");
                    if frame.is_complete() {
                        assert_eq!(missing, 1, "complete while {missing} bytes were missing");
                    }
                }
                Err(violation @ Violation::TooLarge { .. }) => {
                    assert!(foreseen.is_ok(), "{foreseen:?}, and then {violation:?}");
                    return;
                }
                Err(violation) => {
                    assert_eq!(foreseen, Err(violation));
                    return;
                }
            }
            let control = frame.take_control();
            let message = frame.take();
            assert!(control.is_none() || message.is_none());
            assert!(frame.is_fresh() == (control.is_some() || message.is_some()));
        }
    }

    /// Takes what is complete.
    fn note(&self, frame: &mut Incoming<Measured>, said: &mut Vec<Said>, of_frame: &mut usize) {
        let there = frame.payload().len();
        assert!(there <= self.limit, "{there} bytes are over the limit");
        if let Some(control) = frame.take_control() {
            said.push(Said::Control(control, *of_frame));
        } else if frame.is_complete() {
            let message = frame.take().expect("it is complete");
            said.push(Said::Message(message.into_vec(), *of_frame));
        } else {
            return;
        }
        assert!(frame.is_fresh() && !frame.is_complete());
        *of_frame = 0;
    }
}

impl Cuts {
    /// A zero is a long piece. After the first hundred all are long, or a long stream would take for
    /// ever.
    fn lens(&self) -> impl Iterator<Item = usize> + '_ {
        let lens = self.0.iter().cycle().map(|len| usize::from(*len));
        lens.enumerate().map(|(number, len)| match len {
            0 => usize::MAX,
            len if number < 100 => len,
            len => len * 512 + 1,
        })
    }
}

impl End {
    fn at(frame: &Incoming<Measured>, of_frame: usize) -> Self {
        assert_eq!(frame.is_fresh(), of_frame == 0, "{of_frame} bytes of it");
        match of_frame {
            0 => Self::Between,
            count => Self::Within(count),
        }
    }
}

fn ended(said: Vec<Said>, end: End) -> Heard {
    Heard { said, end }
}
