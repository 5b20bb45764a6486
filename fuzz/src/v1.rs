//! The decoder of version 1, beside another one that is written straight from `docs/protocol.md`.

use ductworks::wire::{Framing, V1, Violation};

use crate::decoder::{Case, End, Heard, Said};

/// A limit, cuts, and a stream of version 1.
pub fn run(bytes: &[u8]) {
    let case = Case::of(bytes);
    let heard = case.check(&V1);
    assert_eq!(heard, read(&case.stream, case.limit));

    let mut again = Vec::new();
    for said in &heard.said {
        let Said::Message(message, _) = said else {
            panic!("version 1 has nothing but messages: {said:?}");
        };
        again.extend_from_slice(V1.head(message.len()).expect("it came").as_ref());
        again.extend_from_slice(message);
    }
    assert!(case.stream.starts_with(&again), "it is written otherwise");
}

/// What a stream says, if all of it is there.
fn read(mut stream: &[u8], limit: usize) -> Heard {
    let mut said = Vec::new();
    let end = loop {
        let len = match *stream {
            [] => break End::Between,
            [0x54, a, b, c, d, ..] => u32::from_be_bytes([a, b, c, d]),
            [0x54, ..] => break End::Within(stream.len()),
            [found, ..] => {
                let expected = 0x54;
                break End::Violated(Violation::Magic { expected, found });
            }
        };
        if u64::from(len) > limit as u64 {
            let declared = len.into();
            break End::Violated(Violation::TooLarge { declared, limit });
        }
        let whole = 5 + len as usize;
        let Some((frame, rest)) = stream.split_at_checked(whole) else {
            break End::Within(stream.len());
        };
        said.push(Said::Message(frame[5..].to_vec(), whole));
        stream = rest;
    };
    Heard { said, end }
}
