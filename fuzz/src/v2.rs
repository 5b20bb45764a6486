//! The decoder of version 2, beside another one that is written straight from its table of frames.

use ductworks::wire::{Framing, V2, Violation};

use crate::decoder::{Case, End, Said};

/// A limit, cuts, and a stream of version 2.
pub fn run(bytes: &[u8]) {
    let case = Case::of(bytes);
    let heard = case.check(&V2);

    let mut rest = &case.stream[..];
    for said in &heard.said {
        let frame = match said {
            Said::Message(message, len) => {
                let frame;
                (frame, rest) = rest.split_at(*len);
                let count = V2.descriptors(frame);
                assert_eq!(count, frame[3]);
                let head = V2.head_with(message.len(), count.into());
                assert_eq!(&frame[..16], head.expect("it came").as_ref());
                assert_eq!(&frame[16..16 + message.len()], message);
                frame
            }
            Said::Control(control, len) => {
                let frame;
                (frame, rest) = rest.split_at(*len);
                let again = V2.control(control).expect("it came");
                assert_eq!(frame, again, "it is written otherwise");
                frame
            }
        };
        assert_eq!(verdict(frame, case.limit), Verdict::Whole(frame.len()));
    }
    match (verdict(rest, case.limit), heard.end) {
        (Verdict::Part, End::Within(count)) => assert_eq!(count, rest.len()),
        (Verdict::Part, End::Between) => assert!(rest.is_empty()),
        (Verdict::Magic, End::Violated(Violation::Magic { found, .. })) => {
            assert_eq!(found, rest[0]);
        }
        (Verdict::Malformed, End::Violated(Violation::Malformed { kind, .. })) => {
            assert_eq!(kind, rest[1]);
        }
        (Verdict::TooLarge, End::Violated(Violation::TooLarge { declared, limit })) => {
            assert!(limit == case.limit && declared > limit as u64);
        }
        (verdict, end) => panic!("expected {verdict:?}, got {end:?}"),
    }
}

/// What the bytes from the beginning of a frame are.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// The first so many of them are a frame.
    Whole(usize),
    /// They may become one.
    Part,
    Magic,
    Malformed,
    TooLarge,
}

fn verdict(bytes: &[u8], limit: usize) -> Verdict {
    let at = |place: usize| bytes.get(place).copied();
    if at(0).is_some_and(|magic| magic != 0xd2) {
        return Verdict::Magic;
    }
    let kinds = [0x20, 0x01, 0x02, 0x03, 0x04, 0x10, 0x11, 0x12];
    if at(1).is_some_and(|kind| !kinds.contains(&kind)) {
        return Verdict::Malformed;
    }
    let is_zero = |place: usize| at(place).is_none_or(|byte| byte == 0);
    let most = if at(1) == Some(0x20) { 16 } else { 0 };
    let descriptors = at(3).unwrap_or_default();
    if !is_zero(2) || descriptors > most || !(4..8).all(is_zero) {
        return Verdict::Malformed;
    }
    if bytes.len() < 128 {
        return Verdict::Part;
    }
    let len = u64::from_be_bytes(bytes[8..16].try_into().expect("8 bytes"));
    if bytes[1] == 0x20 {
        if len > limit as u64 {
            return Verdict::TooLarge;
        }
        let whole = len.saturating_add(16).max(128);
        let place = usize::try_from(whole).unwrap_or(usize::MAX);
        // Descriptors come with a zero of their own, behind the frame.
        return match (descriptors, at(place)) {
            (0, _) if bytes.len() >= place => Verdict::Whole(place),
            (1.., Some(0)) => Verdict::Whole(place + 1),
            (1.., Some(_)) => Verdict::Malformed,
            _ => Verdict::Part,
        };
    }
    let body = &bytes[16..128];
    let (used, is_sound) = match bytes[1] {
        0x01 => (112, is_hello(body)),
        0x02 => (32, true),
        0x10 => (17, body[0] < 4),
        0x11 => (8, true),
        0x12 => (16, true),
        _ => (0, true),
    };
    if len != used as u64 || !is_sound || body[used..] != [0; 112][used..] {
        return Verdict::Malformed;
    }
    Verdict::Whole(128)
}

fn is_hello(body: &[u8]) -> bool {
    let name_len = usize::from(body[44]);
    body[0] == 2
        && body[1] < 2
        && name_len <= 35
        && std::str::from_utf8(&body[45..45 + name_len]).is_ok()
        && body[45 + name_len..80].iter().all(|byte| *byte == 0)
}
