//! The handshake of version 2: somebody in between who does not know the token, two honest ends whose
//! words are changed on their way, and, with proofs that are always believed, what lies behind them.

mod agreement;
#[cfg(fuzzing)]
mod believed;
mod between;
mod honest;

use ductworks::wire::{Answer, CONTROL_LEN, Control, Framing, Parsed, Terms, V2};

use crate::input::Input;

/// One byte that says which of the three, and its input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 3 {
        0 => between::run(input),
        1 => honest::run(input),
        // A library that is not built for fuzzing can't be told to believe.
        #[cfg(not(fuzzing))]
        _ => {}
        #[cfg(fuzzing)]
        _ => believed::run(input),
    }
}

/// A limit and a codec's name; whether descriptors are taken is said elsewhere.
fn terms(input: &mut Input<'_>, descriptors: bool) -> Terms {
    Terms {
        limit: input.number(),
        codec: input.text().into(),
        descriptors,
    }
}

/// What an answer says to the other end first, which is always a frame of the handshake.
fn words(answer: &Answer) -> Option<Vec<u8>> {
    let said = match answer {
        Answer::Next(said) => Some(said),
        Answer::Accept(said) => said.as_ref(),
        Answer::Refuse { farewell, reason } => {
            assert!(!reason.is_empty());
            let told: Vec<_> = farewell.iter().map(|word| control(word)).collect();
            assert!(
                matches!(
                    told[..],
                    [] | [Some(Control::Refused)]
                        | [Some(Control::Hello(_)), Some(Control::Refused)]
                ),
                "it tells too much: {told:?}"
            );
            farewell.first()
        }
    };
    let said = said?;
    assert!(said.len() == CONTROL_LEN && control(said).is_some());
    Some(said.clone())
}

fn control(frame: &[u8]) -> Option<Control> {
    match V2.parse(frame) {
        Ok(Parsed::Control(control)) => Some(control),
        _ => None,
    }
}
