//! The decoders of multiprocessing's wire and of a `Pipe`'s, beside another one that is written straight
//! from `docs/protocol.md`.

use ductworks::wire::{Framing, Multiprocessing, Pipe, Violation};

use crate::decoder::{Case, End, Heard, Said};

/// One byte that says which of the two, a limit, cuts, and a stream.
pub fn run(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 2 {
        0 => compare(&Multiprocessing, bytes),
        _ => compare(&Pipe, bytes),
    }
}

fn compare(framing: &impl Framing, bytes: &[u8]) {
    let case = Case::of(bytes);
    let heard = case.check(framing);
    assert_eq!(heard, read(&case.stream, case.limit, framing.frame_min()));
    for said in &heard.said {
        let Said::Message(message, len) = said else {
            panic!("there is nothing but messages: {said:?}");
        };
        let head = framing.head(message.len()).expect("it came");
        let again = (head.as_ref().len() + message.len()).max(framing.frame_min());
        // A long head may hold a short length; nobody writes it so.
        assert!(again <= *len);
    }
}

/// What a stream says, if all of it is there. No frame is shorter than `least`.
fn read(mut stream: &[u8], limit: usize, least: usize) -> Heard {
    let mut said = Vec::new();
    let end = loop {
        let (len, head): (u64, usize) = match *stream {
            [] => break End::Between,
            [0xff, 0xff, 0xff, 0xff, a, b, c, d, e, f, g, h, ..] => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 12)
            }
            [0xff, 0xff, 0xff, 0xff, ..] => break End::Within(stream.len()),
            [a, b, c, d, ..] if a >= 0x80 => {
                let found = i32::from_be_bytes([a, b, c, d]);
                break End::Violated(Violation::Negative { found });
            }
            [a, b, c, d, ..] => (u32::from_be_bytes([a, b, c, d]).into(), 4),
            _ => break End::Within(stream.len()),
        };
        if stream.len() < least {
            break End::Within(stream.len());
        }
        if len > limit as u64 {
            let declared = len;
            break End::Violated(Violation::TooLarge { declared, limit });
        }
        let whole = head.saturating_add(len as usize).max(least);
        let Some((frame, rest)) = stream.split_at_checked(whole) else {
            break End::Within(stream.len());
        };
        said.push(Said::Message(frame[head..][..len as usize].to_vec(), whole));
        stream = rest;
    };
    Heard { said, end }
}
