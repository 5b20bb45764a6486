//! The authentication of `multiprocessing.connection`: messages in, messages out.

use hmac::{Hmac, KeyInit, Mac, SimpleHmac};
use md5::Md5;
use sha2::{Sha256, Sha384};
use sha3::{Sha3_256, Sha3_384};

use super::Multiprocessing;
use super::handshake::{Answer, Handshake};

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";

/// The digest that our challenges ask for, before the random bytes.
const PREFIX: &[u8] = b"{sha256}";

/// How many random bytes a challenge has.
pub const NONCE_LEN: usize = 40;

/// The challenge of a Python before 3.12, and its answer, which names no digest: HMAC-MD5.
const LEGACY_CHALLENGE_LEN: usize = 20;
const LEGACY_MAC_LEN: usize = 16;

/// One end's part in proving, each to the other, that both know a key.
///
/// The side that listens sends a challenge, and the other answers with its HMAC; then the same the
/// other way round. The digest is SHA-256, and MD5 with a Python before 3.12, which knows no other.
/// All comparisons take the same time whatever they compare.
///
/// ```text
/// listener -> client   #CHALLENGE#{sha256}<40 random bytes>
/// client -> listener   {sha256}<HMAC of what follows #CHALLENGE#>
/// listener -> client   #WELCOME#    (or #FAILURE#, and the end)
/// client -> listener   #CHALLENGE#...
/// listener -> client   {sha256}<HMAC>
/// client -> listener   #WELCOME#
/// ```
///
/// Source: `deliver_challenge` and `answer_challenge` in CPython's `Lib/multiprocessing/connection.py`,
/// versions 3.9 to 3.13.
///
/// ```
/// use ductworks::wire::{Answer, Challenge, Handshake};
///
/// let mut listener = Challenge::listener(b"key", [1; 40]);
/// let mut client = Challenge::client(b"key", [2; 40]);
/// let mut message = listener.opening().expect("the listener begins");
/// loop {
///     message = match client.answer(&message) {
///         Answer::Next(reply) => reply,
///         Answer::Accept(farewell) => {
///             assert_eq!(farewell.as_deref(), Some(&b"#WELCOME#"[..]));
///             break;
///         }
///         other => panic!("{other:?}"),
///     };
///     message = match listener.answer(&message) {
///         // After its welcome the listener waits for the client's own challenge.
///         Answer::Next(reply) => reply,
///         other => panic!("{other:?}"),
///     };
/// }
/// # assert_eq!(listener.answer(b"#WELCOME#"), Answer::Accept(None));
/// ```
pub struct Challenge {
    key: Box<[u8]>,
    /// What the other end has to authenticate.
    message: Vec<u8>,
    role: Role,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Listener,
    Client,
}

enum State {
    /// The other end has to answer our challenge.
    Response,
    /// The other end has to send its challenge.
    Challenge,
    /// The other end has to say what it thinks of our answer.
    Verdict,
}

impl std::fmt::Debug for Challenge {
    /// Shows no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenge").finish_non_exhaustive()
    }
}

impl Challenge {
    /// The part of the side that listens. `nonce` must be random, and new each time.
    #[must_use]
    pub fn listener(key: &[u8], nonce: [u8; NONCE_LEN]) -> Self {
        Self::new(key, nonce, Role::Listener, State::Response)
    }

    /// The part of the side that connects. `nonce` must be random, and new each time.
    #[must_use]
    pub fn client(key: &[u8], nonce: [u8; NONCE_LEN]) -> Self {
        Self::new(key, nonce, Role::Client, State::Challenge)
    }

    /// Random bytes for a challenge.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the system has none.
    pub fn nonce() -> crate::Result<[u8; NONCE_LEN]> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)
            .map_err(|e| crate::Error::os("get random bytes", std::io::Error::other(e)))?;
        Ok(nonce)
    }

    fn new(key: &[u8], nonce: [u8; NONCE_LEN], role: Role, state: State) -> Self {
        Self {
            key: key.into(),
            message: [PREFIX, &nonce].concat(),
            role,
            state,
        }
    }

    fn challenge(&self) -> Vec<u8> {
        [CHALLENGE, &self.message].concat()
    }

    fn judge(&mut self, response: &[u8]) -> Answer {
        let refuse = |reason: &str| Answer::Refuse {
            farewell: vec![FAILURE.into()],
            reason: reason.into(),
        };
        let (digest, mac) = match response.len() {
            LEGACY_MAC_LEN | LEGACY_CHALLENGE_LEN => (Digest::Md5, response),
            _ => match Digest::split(response) {
                Some(named) => named,
                None => return refuse("it answered with a digest that is not known here"),
            },
        };
        if !digest.verifies(&self.key, &self.message, mac) {
            return refuse("digest received was wrong");
        }
        match self.role {
            Role::Listener => {
                self.state = State::Challenge;
                Answer::Next(WELCOME.into())
            }
            Role::Client => Answer::Accept(Some(WELCOME.into())),
        }
    }

    fn respond(&mut self, message: &[u8]) -> Answer {
        let refuse = |reason: &str| Answer::Refuse {
            farewell: Vec::new(),
            reason: reason.into(),
        };
        let Some(message) = message.strip_prefix(CHALLENGE) else {
            return refuse("it sent something else than a challenge");
        };
        if message.len() < LEGACY_CHALLENGE_LEN {
            return refuse("its challenge is too short");
        }
        let response = match message.len() {
            LEGACY_CHALLENGE_LEN => Digest::Md5.mac(&self.key, message),
            _ => match Digest::split(message) {
                Some((digest, _)) => {
                    let mac = digest.mac(&self.key, message);
                    [b"{", digest.name(), b"}", &mac].concat()
                }
                None => return refuse("it asked for a digest that is not known here"),
            },
        };
        self.state = State::Verdict;
        Answer::Next(response)
    }
}

impl Handshake for Challenge {
    type Framing = Multiprocessing;

    /// What `multiprocessing` itself takes at most.
    const MESSAGE_MAX: usize = 256;

    fn opening(&mut self) -> Option<Vec<u8>> {
        match self.role {
            Role::Listener => Some(self.challenge()),
            Role::Client => None,
        }
    }

    fn answer(&mut self, message: &[u8]) -> Answer {
        match self.state {
            State::Response => self.judge(message),
            State::Challenge => self.respond(message),
            State::Verdict if message != WELCOME => Answer::Refuse {
                farewell: Vec::new(),
                reason: "digest sent was rejected".into(),
            },
            State::Verdict => match self.role {
                Role::Listener => Answer::Accept(None),
                Role::Client => {
                    self.state = State::Response;
                    Answer::Next(self.challenge())
                }
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digest {
    Md5,
    Sha256,
    Sha384,
    Sha3_256,
    Sha3_384,
}

impl Digest {
    const ALL: [Self; 5] = [
        Self::Md5,
        Self::Sha256,
        Self::Sha384,
        Self::Sha3_256,
        Self::Sha3_384,
    ];

    fn name(self) -> &'static [u8] {
        match self {
            Self::Md5 => b"md5",
            Self::Sha256 => b"sha256",
            Self::Sha384 => b"sha384",
            Self::Sha3_256 => b"sha3_256",
            Self::Sha3_384 => b"sha3_384",
        }
    }

    /// Takes the name of a digest off the beginning of a message.
    fn split(message: &[u8]) -> Option<(Self, &[u8])> {
        let named = message.strip_prefix(b"{")?;
        Self::ALL.into_iter().find_map(|digest| {
            let rest = named.strip_prefix(digest.name())?.strip_prefix(b"}")?;
            Some((digest, rest))
        })
    }

    fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => mac::<Hmac<Md5>>(key, message),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, message),
            Self::Sha384 => mac::<Hmac<Sha384>>(key, message),
            Self::Sha3_256 => mac::<SimpleHmac<Sha3_256>>(key, message),
            Self::Sha3_384 => mac::<SimpleHmac<Sha3_384>>(key, message),
        }
    }

    fn verifies(self, key: &[u8], message: &[u8], mac: &[u8]) -> bool {
        match self {
            Self::Md5 => verifies::<Hmac<Md5>>(key, message, mac),
            Self::Sha256 => verifies::<Hmac<Sha256>>(key, message, mac),
            Self::Sha384 => verifies::<Hmac<Sha384>>(key, message, mac),
            Self::Sha3_256 => verifies::<SimpleHmac<Sha3_256>>(key, message, mac),
            Self::Sha3_384 => verifies::<SimpleHmac<Sha3_384>>(key, message, mac),
        }
    }
}

/// An HMAC takes a key of any length, so this never gives nothing.
fn keyed<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Option<M> {
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    mac.update(message);
    Some(mac)
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    keyed::<M>(key, message)
        .map(|mac| mac.finalize().into_bytes().to_vec())
        .unwrap_or_default()
}

fn verifies<M: Mac + KeyInit>(key: &[u8], message: &[u8], expected: &[u8]) -> bool {
    keyed::<M>(key, message).is_some_and(|mac| mac.verify_slice(expected).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_digest_is_the_one_of_that_name_in_python() {
        // hmac.new(b"key", b"message", name).hexdigest()
        let vectors = [
            (Digest::Md5, "4e4748e62b463521f6775fbf921234b5"),
            (
                Digest::Sha256,
                "6e9ef29b75fffc5b7abae527d58fdadb2fe42e7219011976917343065f58ed4a",
            ),
        ];
        for (digest, expected) in vectors {
            assert_eq!(hex(&digest.mac(b"key", b"message")), expected, "{digest:?}");
        }
        for (digest, len) in Digest::ALL.into_iter().zip([16, 32, 48, 32, 48]) {
            let mac = digest.mac(b"key", b"message");
            assert_eq!(mac.len(), len);
            assert!(digest.verifies(b"key", b"message", &mac));
            assert!(!digest.verifies(b"other", b"message", &mac));
            assert!(!digest.verifies(b"key", b"message", &mac[..len - 1]));
        }
    }

    #[test]
    fn an_answer_without_a_name_is_an_old_pythons() {
        let mut listener = Challenge::listener(b"key", NONCE);
        let challenge = listener.opening().unwrap();
        let mac = Digest::Md5.mac(b"key", &challenge[CHALLENGE.len()..]);
        assert_eq!(listener.answer(&mac), Answer::Next(WELCOME.into()));
    }

    #[test]
    fn a_challenge_without_a_name_is_answered_as_an_old_python_expects() {
        let mut client = Challenge::client(b"key", NONCE);
        let challenge = [CHALLENGE, &[9; 20]].concat();
        let expected = Digest::Md5.mac(b"key", &[9; 20]);
        assert_eq!(client.answer(&challenge), Answer::Next(expected));
    }

    #[test]
    fn whatever_does_not_prove_the_key_is_refused() {
        type Client<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
        let echo = |challenge: &[u8]| challenge.to_vec();
        let wrong = |challenge: &[u8]| {
            let mac = Digest::Sha256.mac(b"wrong", &challenge[CHALLENGE.len()..]);
            [b"{sha256}", &mac[..]].concat()
        };
        let unknown = |_: &[u8]| b"{sha1}01234567890123456789".to_vec();
        let empty = |_: &[u8]| Vec::new();
        let cases: [Client<'_>; 4] = [&echo, &wrong, &unknown, &empty];
        for case in cases {
            let mut listener = Challenge::listener(b"key", NONCE);
            let challenge = listener.opening().unwrap();
            let answer = listener.answer(&case(&challenge));
            assert!(
                matches!(&answer, Answer::Refuse { farewell, .. } if *farewell == [FAILURE]),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn a_listener_answers_no_challenge_before_its_own_is_met() {
        let mut listener = Challenge::listener(b"key", NONCE);
        listener.opening().unwrap();
        let reflected = [CHALLENGE, b"{sha256}", &[1; 40]].concat();
        assert!(matches!(listener.answer(&reflected), Answer::Refuse { .. }));
    }

    #[test]
    fn the_debug_form_shows_no_key() {
        let shown = format!("{:?}", Challenge::client(b"secret", NONCE));
        assert!(
            !shown.contains("secret") && !shown.contains("115"),
            "{shown}"
        );
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_messages_are_answered_or_refused_without_a_panic(
            messages in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), 0..4),
            listens: bool,
        ) {
            let mut end = match listens {
                true => Challenge::listener(b"key", NONCE),
                false => Challenge::client(b"key", NONCE),
            };
            end.opening();
            for message in messages {
                proptest::prop_assert!(!matches!(end.answer(&message), Answer::Accept(_)));
            }
        }
    }
}
