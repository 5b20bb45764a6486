//! The authentication of Python's multiprocessing: somebody who does not know the key, and two ends whose
//! words are changed on their way.

use ductworks::wire::{Answer, Challenge, Handshake, NONCE_LEN};

use crate::input::Input;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";

/// One byte that says which of the two, and its input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 2 {
        0 => stranger(input),
        _ => pair(input),
    }
}

/// A key, and the messages of somebody who has only heard what the end itself says.
fn stranger(mut input: Input<'_>) {
    let listens = input.byte() & 1 != 0;
    let key = input.text().as_bytes();
    let nonce = [0x5a; NONCE_LEN];
    let mut end = match listens {
        true => Challenge::listener(key, nonce),
        false => Challenge::client(key, nonce),
    };
    let mut heard = end.opening();
    assert_eq!(heard.is_some(), listens);
    for number in 0..8 {
        if input.is_empty() {
            return;
        }
        let len = input.byte();
        let mut message = input.take((len & 0x7f).into()).to_vec();
        // What the end has said itself is given back to it.
        if len & 0x80 != 0 {
            message.extend(heard.take().unwrap_or_default());
        }
        let answer = end.answer(&message);
        heard = words(&answer);
        match answer {
            Answer::Accept(_) => panic!("a stranger was let in"),
            Answer::Refuse { .. } => return,
            Answer::Next(reply) if listens => panic!("it answered a stranger: {reply:?}"),
            Answer::Next(reply) => match number {
                0 => check_response(&message, &reply),
                _ => assert!(reply.starts_with(CHALLENGE)),
            },
        }
    }
}

/// What a client says to a challenge.
fn check_response(challenge: &[u8], response: &[u8]) {
    let challenge = challenge
        .strip_prefix(CHALLENGE)
        .expect("it answered something that is no challenge");
    assert!(challenge.len() >= 20, "it answered a short one");
    if challenge.len() == 20 {
        assert_eq!(response.len(), 16, "an old Python expects a bare MD5");
        return;
    }
    let known = [
        ("{md5}", 16),
        ("{sha256}", 32),
        ("{sha384}", 48),
        ("{sha3_256}", 32),
        ("{sha3_384}", 48),
    ];
    let named = known
        .iter()
        .find(|(name, _)| challenge.starts_with(name.as_bytes()));
    let (name, len) = named.expect("it answered with a digest that nobody named");
    assert!(response.starts_with(name.as_bytes()));
    assert_eq!(response.len(), name.len() + len);
}

/// What is changed where in which message, both ends' random bytes, and both ends' keys.
fn pair(mut input: Input<'_>) {
    let [number, place, change] = input.array();
    let is_changed = change != 0 && number < 6;
    let (listener_nonce, client_nonce) = (input.array(), input.array());
    let is_same = input.byte() & 1 == 0;
    let key = input.text().as_bytes();
    let other = if is_same { key } else { input.rest() };
    let mut listener = Challenge::listener(key, listener_nonce);
    let mut client = Challenge::client(other, client_nonce);

    let (mut listener_accepts, mut client_accepts) = (false, false);
    let mut said = listener.opening();
    for turn in 0.. {
        let Some(mut message) = said.take() else {
            break;
        };
        assert!(turn < 6, "it goes on and on");
        if is_changed && turn == number {
            let place = usize::from(place) % message.len();
            message[place] ^= change;
        }
        let (end, accepts) = match turn % 2 {
            0 => (&mut client, &mut client_accepts),
            _ => (&mut listener, &mut listener_accepts),
        };
        let answer = end.answer(&message);
        said = words(&answer);
        *accepts |= matches!(answer, Answer::Accept(_));
        if matches!(answer, Answer::Refuse { .. }) {
            break;
        }
    }
    let accepts = (listener_accepts, client_accepts);
    match (is_changed, as_hmac(key) == as_hmac(other)) {
        (_, false) => assert_eq!(accepts, (false, false), "with another key"),
        (true, true) => assert_ne!(accepts, (true, true), "after a change"),
        (false, true) => assert_eq!(accepts, (true, true), "with the same key"),
    }
}

/// A key as HMAC (RFC 2104) takes it: zeros behind it mean nothing. Of a key that is longer than a
/// block its hash is taken, which no fuzzer finds the like of.
fn as_hmac(key: &[u8]) -> &[u8] {
    let is_padding = |byte: &&u8| **byte == 0;
    match key.len() {
        0..=64 => &key[..key.len() - key.iter().rev().take_while(is_padding).count()],
        _ => key,
    }
}

/// What an answer says to the other end.
fn words(answer: &Answer) -> Option<Vec<u8>> {
    let said = match answer {
        Answer::Next(said) => Some(said),
        Answer::Accept(said) => {
            assert!(said.as_deref().is_none_or(|said| said == WELCOME));
            said.as_ref()
        }
        Answer::Refuse { farewell, reason } => {
            assert!(!reason.is_empty());
            assert!(farewell.is_empty() || *farewell == [FAILURE]);
            farewell.first()
        }
    };
    let said = said?;
    assert!(said.len() <= Challenge::MESSAGE_MAX, "{} bytes", said.len());
    Some(said.clone())
}
