//! The vectors in docs/vectors, which a second implementation has written: a decoder reads those bytes,
//! however they are split, and what is sent is exactly them.

use crate::vector_files::{Hex, vectors};
use ductworks::wire::{Control, Framing, Hello, Incoming, Mode, V1, V2, Violation};
use serde::Deserialize;

#[derive(Deserialize)]
struct Stream {
    name: String,
    hex: Hex,
    #[serde(default = "default_limit")]
    limit: usize,
    frames: Vec<Frame>,
    violation: Option<String>,
    refused_at: Option<usize>,
    cuts: Vec<Vec<usize>>,
}

fn default_limit() -> usize {
    64 << 20
}

#[derive(Deserialize)]
struct Frame {
    ends_at: usize,
    #[serde(flatten)]
    said: Meaning,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Meaning {
    Message {
        message: Hex,
        #[serde(default)]
        descriptors: usize,
    },
    Control(Said),
}

#[derive(Deserialize)]
#[serde(tag = "control", rename_all = "lowercase")]
enum Said {
    Hello {
        mode: String,
        capabilities: u16,
        limit: u64,
        nonce: Hex,
        codec: String,
        proof: Hex,
    },
    Proof {
        proof: Hex,
    },
    Accept,
    Refused,
    End {
        shared: bool,
        finish: bool,
        process: u64,
        received: u64,
    },
    Drain {
        id: u64,
    },
    Drained {
        id: u64,
        received: u64,
    },
}

impl Said {
    fn control(&self) -> Control {
        match self {
            Self::Hello {
                mode,
                capabilities,
                limit,
                nonce,
                codec,
                proof,
            } => {
                let mode = match mode.as_str() {
                    "open" => Mode::Open,
                    "token" => Mode::Token,
                    other => panic!("{other} is no mode"),
                };
                let mut hello = Hello::new(mode, *limit, codec, nonce.array());
                hello.capabilities = *capabilities;
                hello.proof = proof.array();
                assert_eq!(hello.codec(), codec);
                Control::Hello(hello)
            }
            Self::Proof { proof } => Control::Proof(proof.array()),
            Self::Accept => Control::Accept,
            Self::Refused => Control::Refused,
            &Self::End {
                shared,
                finish,
                process,
                received,
            } => Control::End {
                shared,
                finish,
                process,
                received,
            },
            &Self::Drain { id } => Control::Drain { id },
            &Self::Drained { id, received } => Control::Drained { id, received },
        }
    }
}

/// What came out of a decoder.
#[derive(Clone, Debug, PartialEq)]
enum Decoded {
    Message(Vec<u8>),
    Control(Control),
    /// What was wrong, and with how many bytes of the piece read.
    Violation(Violation),
    /// The end of the bytes, in the middle of a frame.
    Partial,
}

fn decode<F: Framing>(framing: &F, pieces: &[&[u8]], limit: usize) -> Vec<Decoded> {
    let mut incoming = Incoming::<Vec<u8>>::default();
    let mut decoded = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match incoming.push(framing, rest, limit) {
                Ok(taken) => rest = &rest[taken..],
                Err(violation) => {
                    decoded.push(Decoded::Violation(violation));
                    return decoded;
                }
            }
            decoded.extend(incoming.take_control().map(Decoded::Control));
            decoded.extend(incoming.take().map(Decoded::Message));
        }
    }
    if !incoming.is_fresh() {
        decoded.push(Decoded::Partial);
    }
    decoded
}

impl Stream {
    /// The frames up to so many bytes, and whether there is a part of another one.
    fn expected(&self, up_to: usize) -> Vec<Decoded> {
        let whole = self.frames.iter().filter(|frame| frame.ends_at <= up_to);
        let mut decoded: Vec<_> = whole
            .map(|frame| match &frame.said {
                Meaning::Message { message, .. } => Decoded::Message(message.0.clone()),
                Meaning::Control(said) => Decoded::Control(said.control()),
            })
            .collect();
        if self.frames.iter().all(|frame| frame.ends_at != up_to) && up_to > 0 {
            decoded.push(Decoded::Partial);
        }
        decoded
    }

    /// Where a decoder refuses; what only a duct can refuse is a good frame to it.
    fn refused_at(&self) -> Option<usize> {
        let listed = self.frames.last().map_or(0, |frame| frame.ends_at);
        self.refused_at.filter(|at| *at > listed)
    }

    fn check(&self, decoded: &[Decoded], how: &str) {
        let Some(at) = self.refused_at() else {
            assert_eq!(
                decoded,
                self.expected(self.hex.0.len()),
                "{}, {how}",
                self.name
            );
            return;
        };
        let Some((Decoded::Violation(violation), frames)) = decoded.split_last() else {
            panic!("{}, {how}: {decoded:?}", self.name);
        };
        let mut expected = self.expected(at);
        assert_eq!(expected.pop(), Some(Decoded::Partial));
        assert_eq!(frames, expected, "{}, {how}", self.name);
        let kind = match violation {
            Violation::Magic { .. } => "magic",
            Violation::TooLarge { limit, .. } => {
                assert_eq!(*limit, self.limit);
                "too large"
            }
            Violation::Malformed { .. } => "malformed",
            other => panic!("{}, {how}: {other}", self.name),
        };
        assert_eq!(
            self.violation.as_deref(),
            Some(kind),
            "{}, {how}",
            self.name
        );
    }
}

fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let (starts, ends) = ([&[0], cuts].concat(), [cuts, &[bytes.len()]].concat());
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| &bytes[*start..end])
        .collect()
}

fn decode_all<F: Framing>(framing: &F, file: &str) {
    for vector in vectors::<Stream>(file) {
        let bytes = &vector.hex.0;
        let decode = |pieces: &[&[u8]]| decode(framing, pieces, vector.limit);
        vector.check(&decode(&[bytes]), "whole");
        vector.check(
            &decode(&bytes.chunks(1).collect::<Vec<_>>()),
            "byte by byte",
        );
        let everywhere = (1..bytes.len()).map(|cut| vec![cut]);
        for cuts in everywhere.chain(vector.cuts.iter().cloned()) {
            vector.check(&decode(&pieces(bytes, &cuts)), &format!("cut at {cuts:?}"));
        }
    }
}

#[test]
fn version_1_decodes_alike_whole_at_every_split_and_byte_by_byte() {
    decode_all(&V1, "v1-frames.json");
}

#[test]
fn version_2_decodes_alike_whole_at_every_split_and_byte_by_byte() {
    decode_all(&V2, "v2-frames.json");
}

fn truncate_everywhere<F: Framing>(framing: &F, file: &str) {
    for vector in vectors::<Stream>(file) {
        let refused_at = vector.refused_at();
        for len in 0..=vector.hex.0.len() {
            let decoded = decode(framing, &[&vector.hex.0[..len]], vector.limit);
            match refused_at {
                Some(at) if len >= at => vector.check(&decoded, &format!("{len} bytes")),
                _ => assert_eq!(
                    decoded,
                    vector.expected(len),
                    "{}, {len} bytes",
                    vector.name
                ),
            }
        }
    }
}

#[test]
fn every_prefix_of_version_1_is_whole_frames_and_a_truncation_or_is_refused_at_the_byte_that_is_told()
 {
    truncate_everywhere(&V1, "v1-frames.json");
}

#[test]
fn every_prefix_of_version_2_is_whole_frames_and_a_truncation_or_is_refused_at_the_byte_that_is_told()
 {
    truncate_everywhere(&V2, "v2-frames.json");
}

fn encode_all<F: Framing>(framing: &F, file: &str) {
    for vector in vectors::<Stream>(file) {
        let mut start = 0;
        for frame in &vector.frames {
            let bytes = &vector.hex.0[start..frame.ends_at];
            start = frame.ends_at;
            let written = match &frame.said {
                Meaning::Control(said) => framing.control(&said.control()).unwrap().to_vec(),
                Meaning::Message {
                    message,
                    descriptors,
                } => {
                    let head = framing.head_with(message.0.len(), *descriptors).unwrap();
                    let mut frame = [head.as_ref(), &message.0].concat();
                    frame.resize(frame.len().max(framing.frame_min()), 0);
                    frame.resize(frame.len() + usize::from(*descriptors > 0), 0);
                    frame
                }
            };
            // A receiver takes more than a sender writes.
            if vector.name != "padding that is not of zeros" {
                assert_eq!(written, bytes, "{}", vector.name);
            }
        }
    }
}

#[test]
fn every_frame_is_written_as_it_stands_in_the_vectors() {
    encode_all(&V1, "v1-frames.json");
    encode_all(&V2, "v2-frames.json");
}
