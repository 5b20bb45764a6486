//! Two honest ends, and perhaps one byte that is changed on its way from one to the other.

use std::sync::Arc;

use ductworks::wire::{Admission, Answer, Control, Greeting, Handshake, Secured, Terms, Token};

use super::agreement::{is_match, told};
use super::{control, terms, words};
use crate::input::Input;

/// Flags, what is changed where in which message, and the terms of both ends.
pub(super) fn run(mut input: Input<'_>) {
    let flags = input.byte();
    let tokens @ (client_token, server_token) = (flags & 1 != 0, flags & 2 != 0);
    let (is_reusable, is_moved) = (flags & 4 != 0, flags & 8 != 0);
    let [message, place, change] = input.array();
    let is_changed = change != 0 && message < 4;
    let client_terms = terms(&mut input, flags & 16 != 0);
    let server_terms = terms(&mut input, flags & 32 != 0);

    let token = Token::from([7; 32]);
    let admission = Arc::new(Admission::new(token.clone(), is_reusable));
    let mut client = Greeting::client(client_token.then_some(&token), &client_terms, [1; 32]);
    let mut server = Greeting::server(server_token.then_some(&admission), &server_terms, [2; 32]);
    if is_moved {
        client.bind(Secured {
            binding: [3; 32],
            objection: None,
        });
    }

    let change_now = |number: u8, said: &mut [u8]| {
        if is_changed && number == message {
            said[usize::from(place) % said.len()] ^= change;
        }
    };
    let (mut client_accepts, mut server_accepts, mut number) = (false, false, 0);
    let mut said = client.opening();
    while let Some(mut to_server) = said.take() {
        change_now(number, &mut to_server);
        let answer = server.answer(&to_server);
        server_accepts |= matches!(answer, Answer::Accept(_));
        let Some(mut to_client) = words(&answer) else {
            break;
        };
        change_now(number + 1, &mut to_client);
        number += 2;
        let answer = client.answer(&to_client);
        client_accepts |= matches!(answer, Answer::Accept(_));
        said = words(&answer).filter(|_| matches!(answer, Answer::Next(_)));
    }
    if server_accepts {
        server.admitted();
        let is_renewed = admission.token() != token;
        assert_eq!(is_renewed, server_token && !is_reusable);
    }

    let agreed = (client.agreed(), server.agreed());
    assert_eq!(
        (client_accepts, server_accepts),
        (agreed.0.is_some(), agreed.1.is_some())
    );
    for (agreed, own) in [(&agreed.0, &client_terms), (&agreed.1, &server_terms)] {
        if let Some(agreed) = agreed {
            assert!(agreed.limit <= own.limit);
            assert!(is_match(&own.codec, &agreed.codec));
            assert!(own.descriptors || !agreed.descriptors);
        }
    }
    let is_proved = tokens == (true, true);
    if is_proved && (is_changed || is_moved) {
        assert!(!(client_accepts && server_accepts), "{agreed:?}");
        return;
    }
    if is_changed {
        return;
    }
    let fits = client_token == server_token && is_match(&client_terms.codec, &server_terms.codec);
    assert_eq!((client_accepts, server_accepts), (fits, fits), "{agreed:?}");
    if fits {
        let limit = client_terms.limit.min(server_terms.limit);
        let with = |codec: &str| {
            Some(Terms {
                limit,
                codec: told(codec).into(),
                descriptors: client_terms.descriptors && server_terms.descriptors,
            })
        };
        assert_eq!(
            agreed,
            (with(&server_terms.codec), with(&client_terms.codec))
        );
    }
    let late = Greeting::client(None, &Terms::default(), [9; 32]).opening();
    let late = late.expect("the client begins");
    for end in [&mut client, &mut server] {
        let said = words(&end.answer(&late)).expect("it says that it refuses");
        assert_eq!(control(&said), Some(Control::Refused));
    }
}
