//! The handshake of version 2.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    Admission, Answer, CONTROL_LEN, Control, Framing, Handshake, Head, Hello, Mode, Parsed,
    Secured, Token, V2, Violation,
};
use crate::error::Result;

/// Frames of [`V2`] that are no messages, taken as the messages of a handshake.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocks;

impl Framing for Blocks {
    fn payload_max(&self) -> u64 {
        CONTROL_LEN as u64
    }

    fn frame_min(&self) -> usize {
        CONTROL_LEN
    }

    fn head(&self, len: usize) -> Option<Head> {
        (len == CONTROL_LEN).then(|| Head::new(&[]))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Parsed, Violation> {
        match V2.parse(bytes)? {
            Parsed::Control(_) => Ok(Parsed::Payload {
                len: CONTROL_LEN as u64,
                head: 0,
            }),
            Parsed::Payload { .. } => Err(Violation::Unexpected {
                found: "a message before the handshake was over",
            }),
            Parsed::Need(need) => Ok(Parsed::Need(need)),
        }
    }
}

/// One end's part in the handshake of version 2.
///
/// With a token, each proves to the other that it knows it, and nothing is accepted from anybody who
/// has not. Without one, the two only tell each other their limits and codecs.
///
/// ```text
/// client -> server   HELLO(mode, limit, codec, nonce)
/// server -> client   HELLO(mode, limit, codec, nonce, proof)        (REFUSED, and the end)
/// client -> server   PROOF(proof)                                   with a token only
/// server -> client   ACCEPT                                         with a token only
/// ```
///
/// A proof is HMAC-SHA256, under a key that HKDF-SHA256 derives from the token, of the prover's role
/// and the SHA-256 of both hellos and of the session of TLS that they came through. So the proof of
/// one role is none of the other, that of one handshake is none of the next, and nobody in between
/// can change a hello.
///
/// Source: `docs/handshake.md`.
///
/// ```
/// use ductworks::wire::{Admission, Answer, Greeting, Handshake, Terms, Token};
/// use std::sync::Arc;
///
/// let token = Token::from([7; 32]);
/// let terms = Terms { limit: 1 << 20, codec: "json".into(), descriptors: false };
/// let admission = Arc::new(Admission::new(token.clone(), false));
/// let mut server = Greeting::server(Some(&admission), &terms, [2; 32]);
/// let mut client = Greeting::client(Some(&token), &terms, [1; 32]);
///
/// let hello = client.opening().expect("the client begins");
/// let Answer::Next(hello) = server.answer(&hello) else { panic!() };
/// let Answer::Next(proof) = client.answer(&hello) else { panic!() };
/// let Answer::Accept(Some(accept)) = server.answer(&proof) else { panic!() };
/// assert_eq!(client.answer(&accept), Answer::Accept(None));
/// assert_eq!(server.agreed().expect("it is over").limit, 1 << 20);
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Debug)]
pub struct Greeting {
    role: Role,
    state: State,
    key: Option<Key>,
    admission: Option<(Arc<Admission>, u64)>,
    ours: Hello,
    theirs: Option<Hello>,
    /// The session of TLS below, or zeros.
    session: Secured,
    #[cfg(fuzzing)]
    is_credulous: bool,
}

/// What one end brings into the handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The largest message that it receives, in bytes.
    pub limit: u64,
    /// The name of its codec; empty where that is not to be compared.
    pub codec: String,
    /// Whether it receives descriptors.
    pub descriptors: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl Role {
    fn label(self) -> &'static [u8] {
        match self {
            Self::Client => b"ductworks v2 client",
            Self::Server => b"ductworks v2 server",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Hello,
    Proof,
    Verdict,
    Over,
}

struct Key(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Greeting {
    /// The end that connects. `nonce` is random and never used before.
    #[must_use]
    pub fn client(token: Option<&Token>, terms: &Terms, nonce: [u8; 32]) -> Self {
        let key = token.map(|token| Key(token.key()));
        Self::new(Role::Client, key, None, terms, nonce)
    }

    /// The end that listens.
    #[must_use]
    pub fn server(admission: Option<&Arc<Admission>>, terms: &Terms, nonce: [u8; 32]) -> Self {
        let current = admission.map(|admission| {
            let (token, generation) = admission.current();
            (Key(token.key()), (Arc::clone(admission), generation))
        });
        let (key, admission) = current.unzip();
        Self::new(Role::Server, key, admission, terms, nonce)
    }

    fn new(
        role: Role,
        key: Option<Key>,
        admission: Option<(Arc<Admission>, u64)>,
        terms: &Terms,
        nonce: [u8; 32],
    ) -> Self {
        let mode = match key {
            Some(_) => Mode::Token,
            None => Mode::Open,
        };
        let mut ours = Hello::new(mode, terms.limit, &terms.codec, nonce);
        if terms.descriptors {
            ours.capabilities |= Hello::DESCRIPTORS;
        }
        Self {
            role,
            state: State::Hello,
            key,
            admission,
            ours,
            theirs: None,
            session: Secured::default(),
            #[cfg(fuzzing)]
            is_credulous: false,
        }
    }

    /// Takes every proof for a good one from now on, so that a fuzzer, which can guess none, gets to
    /// what lies behind. There is no such thing in an ordinary build.
    #[cfg(fuzzing)]
    pub fn believe_every_proof(&mut self) {
        self.is_credulous = true;
    }

    /// A nonce for one of the constructors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the system has no randomness.
    pub fn nonce() -> Result<[u8; 32]> {
        super::token::random()
    }

    /// What the two have agreed on, when it is over: the smaller limit, the other end's codec, and
    /// descriptors if both receive them.
    #[must_use]
    pub fn agreed(&self) -> Option<Terms> {
        let theirs = self.theirs.filter(|_| self.state == State::Over)?;
        Some(Terms {
            limit: self.ours.limit.min(theirs.limit),
            codec: theirs.codec().into(),
            descriptors: self.ours.capabilities & theirs.capabilities & Hello::DESCRIPTORS != 0,
        })
    }

    fn heard_hello(&mut self, theirs: Hello) -> Answer {
        if let Some(objection) = self.session.objection.take() {
            return self.refuse(objection);
        }
        if theirs.mode != self.ours.mode {
            return self.refuse(match (self.role, self.ours.mode) {
                (Role::Server, Mode::Token) => "it brought no token: it knew the address only",
                (Role::Server, Mode::Open) => "it brought a token, and this listener has none",
                (Role::Client, Mode::Token) => "the other end did not ask for the token",
                (Role::Client, Mode::Open) => {
                    "the other end asks for a token: connect with its ticket"
                }
            });
        }
        self.theirs = Some(theirs);
        match (self.role, self.ours.mode) {
            (Role::Server, Mode::Token) => {
                self.ours.proof = self.proof(Role::Server);
                self.state = State::Proof;
                Answer::Next(block(Control::Hello(self.ours)))
            }
            (Role::Client, Mode::Token) if !self.verifies(Role::Server, &theirs.proof) => {
                self.refuse("the other end does not know the token of this ticket")
            }
            (Role::Client, Mode::Token) => {
                self.state = State::Verdict;
                Answer::Next(block(Control::Proof(self.proof(Role::Client))))
            }
            (Role::Server, Mode::Open) => {
                let hello = Control::Hello(self.ours);
                let mut answer = self.accept(Some(hello));
                if let Answer::Refuse { farewell, .. } = &mut answer {
                    // It tells the client what the two do not agree on.
                    farewell.insert(0, block(hello));
                }
                answer
            }
            (Role::Client, Mode::Open) => self.accept(None),
        }
    }

    fn heard_proof(&mut self, proof: &[u8; 32]) -> Answer {
        if !self.verifies(Role::Client, proof) {
            return self.refuse("it does not know the token");
        }
        let used =
            |(admission, generation): &(Arc<Admission>, u64)| !admission.is_current(*generation);
        if self.admission.as_ref().is_some_and(used) {
            return self.refuse("the token has been used by somebody else meanwhile");
        }
        self.accept(Some(Control::Accept))
    }

    fn accept(&mut self, reply: Option<Control>) -> Answer {
        if let Some(mismatch) = self.mismatch() {
            return self.refuse(mismatch);
        }
        self.state = State::Over;
        Answer::Accept(reply.map(block))
    }

    /// One generic frame for whoever is refused, and the reason for this end's user.
    fn refuse(&mut self, reason: impl Into<String>) -> Answer {
        self.state = State::Over;
        self.theirs = None;
        Answer::Refuse {
            farewell: vec![block(Control::Refused)],
            reason: reason.into(),
        }
    }

    fn mismatch(&self) -> Option<String> {
        let (ours, theirs) = (self.ours.codec(), self.theirs.as_ref()?.codec());
        (!ours.is_empty() && !theirs.is_empty() && ours != theirs).then(|| {
            format!("the codecs differ: {ours:?} at this end, and {theirs:?} at the other one")
        })
    }

    /// What a refusal means to a client.
    fn refused(&self) -> String {
        match (self.mismatch(), self.ours.mode) {
            (Some(mismatch), _) => mismatch,
            (None, Mode::Token) => {
                "the other end refused the connection: the ticket is of another listener or has been used, \
                 or a certificate is asked for that it was not shown; the other end's log tells"
                    .into()
            }
            (None, Mode::Open) => {
                "the other end refused the connection: it asks for a token or a certificate that it was \
                 not shown; connect with its ticket instead of its address. The other end's log tells"
                    .into()
            }
        }
    }

    fn mac(&self, prover: Role) -> Option<Hmac<Sha256>> {
        let theirs = self.theirs.as_ref()?;
        let (client, server) = match self.role {
            Role::Client => (&self.ours, theirs),
            Role::Server => (theirs, &self.ours),
        };
        let mut unproved = *server;
        unproved.proof = [0; 32];
        let mut transcript = Sha256::new();
        transcript.update(block(Control::Hello(*client)));
        transcript.update(block(Control::Hello(unproved)));
        transcript.update(self.session.binding);
        // HMAC takes keys of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key.as_ref()?.0).ok()?;
        mac.update(prover.label());
        mac.update(&transcript.finalize());
        Some(mac)
    }

    fn proof(&self, prover: Role) -> [u8; 32] {
        self.mac(prover)
            .map_or([0; 32], |mac| mac.finalize().into_bytes().into())
    }

    fn verifies(&self, prover: Role, proof: &[u8; 32]) -> bool {
        #[cfg(fuzzing)]
        if self.is_credulous {
            return true;
        }
        self.mac(prover)
            .is_some_and(|mac| mac.verify_slice(proof).is_ok())
    }
}

impl Handshake for Greeting {
    type Framing = Blocks;

    const MESSAGE_MAX: usize = CONTROL_LEN;

    fn opening(&mut self) -> Option<Vec<u8>> {
        match self.role {
            Role::Client => Some(block(Control::Hello(self.ours))),
            Role::Server => None,
        }
    }

    fn bind(&mut self, session: Secured) {
        self.session = session;
    }

    fn answer(&mut self, message: &[u8]) -> Answer {
        let control = match V2.parse(message) {
            Ok(Parsed::Control(control)) => control,
            _ => return self.refuse("it does not speak the protocol"),
        };
        match (self.state, control) {
            (State::Hello, Control::Hello(theirs)) => self.heard_hello(theirs),
            (State::Proof, Control::Proof(proof)) if self.role == Role::Server => {
                self.heard_proof(&proof)
            }
            (State::Verdict, Control::Accept) => self.accept(None),
            (State::Hello | State::Verdict, Control::Refused) if self.role == Role::Client => {
                let reason = self.refused();
                self.state = State::Over;
                self.theirs = None;
                Answer::Refuse {
                    farewell: Vec::new(),
                    reason,
                }
            }
            (_, Control::Refused) => {
                self.refuse("it refused: its ticket is of another listener, or has been used")
            }
            (_, other) => {
                let reason = format!("it sent {} where the handshake has none", other.name());
                self.refuse(reason)
            }
        }
    }

    fn admitted(&mut self) {
        if let Some((admission, _)) = &self.admission {
            admission.used();
        }
    }
}

fn block(control: Control) -> Vec<u8> {
    V2.control(&control).map(Vec::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(limit: u64, codec: &str) -> Terms {
        let codec = codec.into();
        Terms {
            limit,
            codec,
            descriptors: false,
        }
    }

    fn token() -> Token {
        Token::from([7; 32])
    }

    fn server(token: Option<Token>, terms: &Terms) -> Greeting {
        let admission = token.map(|token| Arc::new(Admission::new(token, false)));
        Greeting::server(admission.as_ref(), terms, [2; 32])
    }

    fn client(token: Option<&Token>, terms: &Terms) -> Greeting {
        Greeting::client(token, terms, [1; 32])
    }

    /// Lets two ends talk until one of them comes to an end; the answers that ended it.
    fn talk(client: &mut Greeting, server: &mut Greeting) -> (Option<Answer>, Option<Answer>) {
        let mut message = client.opening();
        let (mut client_end, mut server_end) = (None, None);
        while let Some(said) = message.take() {
            let answer = server.answer(&said);
            let reply = said_in(&answer);
            if !matches!(answer, Answer::Next(_)) {
                server_end = Some(answer);
            }
            let Some(reply) = reply.filter(|_| client_end.is_none()) else {
                break;
            };
            let answer = client.answer(&reply);
            message = said_in(&answer).filter(|_| server_end.is_none());
            if !matches!(answer, Answer::Next(_)) {
                client_end = Some(answer);
            }
        }
        (client_end, server_end)
    }

    fn said_in(answer: &Answer) -> Option<Vec<u8>> {
        match answer {
            Answer::Next(said) => Some(said.clone()),
            Answer::Accept(said) => said.clone(),
            Answer::Refuse { farewell, .. } => farewell.first().cloned(),
        }
    }

    fn reason(answer: Option<Answer>) -> String {
        match answer {
            Some(Answer::Refuse { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_that_know_the_token_agree_on_the_smaller_limit() {
        let (mut a, mut b) = (
            client(Some(&token()), &terms(10, "json")),
            server(Some(token()), &terms(20, "")),
        );
        let ends = talk(&mut a, &mut b);
        assert!(matches!(
            ends,
            (Some(Answer::Accept(None)), Some(Answer::Accept(Some(_))))
        ));
        assert_eq!(a.agreed(), Some(terms(10, "")));
        assert_eq!(b.agreed(), Some(terms(10, "json")));
    }

    #[test]
    fn two_without_a_token_agree_as_well() {
        let (mut a, mut b) = (client(None, &terms(30, "")), server(None, &terms(20, "")));
        let ends = talk(&mut a, &mut b);
        assert!(matches!(
            ends,
            (Some(Answer::Accept(None)), Some(Answer::Accept(Some(_))))
        ));
        assert_eq!(a.agreed(), Some(terms(20, "")));
    }

    #[test]
    fn codecs_that_differ_are_refused_at_both_ends_with_both_names() {
        for token in [None, Some(token())] {
            let mut a = client(token.as_ref(), &terms(1, "json"));
            let mut b = server(token, &terms(1, "msgpack"));
            let (client_end, server_end) = talk(&mut a, &mut b);
            let server_said = reason(server_end);
            assert!(server_said.contains("json") && server_said.contains("msgpack"));
            if client_end.is_some() {
                let client_said = reason(client_end);
                let names = a.ours.mode == Mode::Open || client_said.contains("msgpack");
                assert!(names, "{client_said}");
            }
            assert!(a.agreed().is_none() && b.agreed().is_none());
        }
    }

    #[test]
    fn a_wrong_token_is_noticed_by_the_client_before_it_proves_anything() {
        let wrong = Token::from([8; 32]);
        let mut a = client(Some(&wrong), &terms(1, ""));
        let mut b = server(Some(token()), &terms(1, ""));
        let (client_end, server_end) = talk(&mut a, &mut b);
        assert!(reason(client_end).contains("does not know the token"));
        assert!(reason(server_end).contains("has been used"));
    }

    #[test]
    fn a_client_that_guesses_a_proof_is_refused() {
        let mut b = server(Some(token()), &terms(1, ""));
        let mut honest = client(Some(&token()), &terms(1, ""));
        b.answer(&honest.opening().unwrap());
        assert!(reason(Some(b.answer(&block(Control::Proof([9; 32]))))).contains("token"));
    }

    #[test]
    fn a_proof_of_another_handshake_is_refused() {
        let terms = terms(1, "");
        let mut recorded = client(Some(&token()), &terms);
        let hello = recorded.opening().unwrap();
        let mut first = server(Some(token()), &terms);
        let reply = said_in(&first.answer(&hello)).unwrap();
        let proof = said_in(&recorded.answer(&reply)).unwrap();

        let admission = Arc::new(Admission::new(token(), true));
        let mut second = Greeting::server(Some(&admission), &terms, [3; 32]);
        second.answer(&hello);
        assert!(matches!(second.answer(&proof), Answer::Refuse { .. }));
    }

    #[test]
    fn a_server_s_own_words_reflected_at_it_are_refused() {
        let terms = terms(1, "");
        let mut b = server(Some(token()), &terms);
        let mut honest = client(Some(&token()), &terms);
        let said = said_in(&b.answer(&honest.opening().unwrap())).unwrap();
        let Ok(Parsed::Control(Control::Hello(hello))) = V2.parse(&said) else {
            panic!("a hello");
        };
        let reflected = block(Control::Proof(hello.proof));
        assert!(matches!(b.answer(&reflected), Answer::Refuse { .. }));
        let mut again = server(Some(token()), &terms);
        again.answer(&said);
        assert!(matches!(again.answer(&reflected), Answer::Refuse { .. }));
    }

    #[test]
    fn a_hello_that_was_changed_on_its_way_is_noticed() {
        let terms = terms(1 << 20, "json");
        for place in 16..96 {
            let mut a = client(Some(&token()), &terms);
            let mut b = server(Some(token()), &terms);
            let mut hello = a.opening().unwrap();
            hello[place] ^= 1;
            let answer = b.answer(&hello);
            if let Some(reply) = said_in(&answer) {
                assert!(
                    matches!(a.answer(&reply), Answer::Refuse { .. }),
                    "byte {place}"
                );
            }
        }
    }

    #[test]
    fn another_session_of_tls_below_is_noticed() {
        let terms = terms(1, "");
        let mut a = client(Some(&token()), &terms);
        a.bind(Secured {
            binding: [1; 32],
            objection: None,
        });
        let mut b = server(Some(token()), &terms);
        let (client_end, _) = talk(&mut a, &mut b);
        assert!(reason(client_end).contains("does not know the token"));
    }

    #[test]
    fn a_single_use_token_admits_one_of_two_that_prove_it_at_the_same_time() {
        let terms = terms(1, "");
        let admission = Arc::new(Admission::new(token(), false));
        let mut ends: Vec<_> = (1..=2)
            .map(|number| {
                let mut a = Greeting::client(Some(&token()), &terms, [number; 32]);
                let mut b = Greeting::server(Some(&admission), &terms, [3; 32]);
                let reply = said_in(&b.answer(&a.opening().unwrap())).unwrap();
                (said_in(&a.answer(&reply)).unwrap(), b)
            })
            .collect();
        let (proof, second) = ends.pop().map(|(proof, b)| (proof, Some(b))).unwrap();
        let (first_proof, mut first) = ends.pop().unwrap();
        assert!(matches!(first.answer(&first_proof), Answer::Accept(_)));
        first.admitted();
        let refused = reason(second.map(|mut second| second.answer(&proof)));
        assert!(refused.contains("has been used"), "{refused}");
        assert_ne!(admission.token(), token());
    }
}
