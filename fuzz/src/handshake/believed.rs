//! One end that believes every proof, so that a fuzzer, which can make none, gets to the code behind.

use std::sync::Arc;

use ductworks::wire::{
    Admission, Answer, Blocks, Control, Greeting, Handshake, Hello, Incoming, Terms, Token,
};

use super::{agreement, control, terms, words};
use crate::input::Input;
use crate::measured::Measured;

/// Flags, the end's terms, and the stream of frames that it hears, with the length of the pieces in
/// which it comes.
pub(super) fn run(mut input: Input<'_>) {
    let flags = input.byte();
    let (is_server, has_token) = (flags & 1 != 0, flags & 2 != 0);
    let piece_len = usize::from(input.byte()).max(1);
    let ours = terms(&mut input, flags & 8 != 0);
    let stream = input.rest();

    let token = Token::from([7; 32]);
    let admission = Arc::new(Admission::new(token.clone(), flags & 4 != 0));
    let mut end = match is_server {
        true => Greeting::server(has_token.then_some(&admission), &ours, [1; 32]),
        false => Greeting::client(has_token.then_some(&token), &ours, [1; 32]),
    };
    end.believe_every_proof();
    assert_eq!(end.opening().is_none(), is_server);

    let mut frame = Incoming::<Measured>::default();
    let mut hello = None;
    for mut piece in stream.chunks(piece_len) {
        while !piece.is_empty() {
            let Ok(taken) = frame.push(&Blocks, piece, Greeting::MESSAGE_MAX) else {
                assert_eq!(end.agreed(), None);
                return;
            };
            piece = &piece[taken..];
            let Some(message) = frame.take() else {
                continue;
            };
            let message = message.into_vec();
            if let (None, Some(Control::Hello(theirs))) = (hello, control(&message)) {
                hello = Some(theirs);
            }
            let answer = end.answer(&message);
            words(&answer);
            match answer {
                Answer::Next(_) => assert_eq!(end.agreed(), None),
                Answer::Accept(_) => {
                    check_accepted(&end, &ours, hello.as_ref(), &message, has_token);
                    end.admitted();
                    return;
                }
                Answer::Refuse { .. } => {
                    assert_eq!(end.agreed(), None);
                    assert_eq!(admission.token(), token, "a refusal used the token up");
                    return;
                }
            }
        }
    }
    assert_eq!(end.agreed(), None);
}

fn check_accepted(
    end: &Greeting,
    ours: &Terms,
    hello: Option<&Hello>,
    last: &[u8],
    has_token: bool,
) {
    let hello = hello.expect("nobody is accepted without a hello");
    let agreed = end.agreed().expect("it was accepted");
    agreement::check(&agreed, ours, hello);
    let is_last = match control(last) {
        Some(Control::Hello(_)) => !has_token,
        Some(Control::Proof(_) | Control::Accept) => has_token,
        _ => false,
    };
    assert!(is_last, "accepted at the wrong message");
}
