//! Somebody in between, who hears everything, and may hold back, repeat, mix up, change and make up what
//! is said, but does not know the token.

use std::num::NonZero;
use std::sync::Arc;

use ductworks::wire::{
    Admission, Answer, CONTROL_LEN, Control, Framing, Greeting, Handshake, Secured, Terms, Token,
    V2,
};

use super::{agreement, control, terms, words};
use crate::input::Input;

const ENDS_MAX: usize = 8;
const STEPS_MAX: usize = 32;

/// One honest end, or one of the attacker's own, with a token that is not the one.
struct End {
    greeting: Greeting,
    is_server: bool,
    is_honest: bool,
    terms: Terms,
    /// Which of two sessions of TLS it talks through.
    session: u8,
    /// What it was told and what it said, in turn, from its opening on.
    heard: Vec<Vec<u8>>,
    said: Vec<Vec<u8>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Talking,
    Accepted,
    Over,
}

/// A listener's token, and all that goes on around it.
struct World {
    token: Token,
    admission: Arc<Admission>,
    is_reusable: bool,
    ends: Vec<End>,
    /// Everything that anybody has said.
    words: Vec<Vec<u8>>,
}

/// A flag, and then steps.
pub(super) fn run(mut input: Input<'_>) {
    let token = Token::from([7; 32]);
    let is_reusable = input.byte() & 1 != 0;
    let mut world = World {
        admission: Arc::new(Admission::new(token.clone(), is_reusable)),
        token,
        is_reusable,
        ends: Vec::new(),
        words: Vec::new(),
    };
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.check_admissions();
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        let step = input.byte();
        match step & 0x0f {
            kind @ 0..=2 => self.add(kind, input),
            3 => {
                let mut made_up = input.take(CONTROL_LEN).to_vec();
                made_up.resize(CONTROL_LEN, 0);
                self.words.push(made_up);
            }
            kind @ (4 | 5) => {
                let [hello, other] = input.array().map(usize::from);
                self.forge(kind == 4, hello, other);
            }
            kind => {
                let (to, which) = (usize::from(step >> 4), usize::from(input.byte()));
                if self.words.is_empty() || self.ends.is_empty() {
                    return;
                }
                let mut message = self.words[which % self.words.len()].clone();
                if kind >= 12 {
                    let [place, change] = input.array();
                    message[usize::from(place) % CONTROL_LEN] ^= change;
                }
                self.tell(to % self.ends.len(), message);
            }
        }
    }

    /// Somebody's proof as a proof of one's own: in a proof, or in a hello that somebody has said.
    fn forge(&mut self, is_proof: bool, hello: usize, other: usize) {
        let Some(count) = NonZero::new(self.words.len()) else {
            return;
        };
        let proof = match control(&self.words[other % count]) {
            Some(Control::Hello(hello)) => hello.proof,
            Some(Control::Proof(proof)) => proof,
            _ => return,
        };
        let forged = match control(&self.words[hello % count]) {
            _ if is_proof => Control::Proof(proof),
            Some(Control::Hello(mut hello)) => {
                hello.proof = proof;
                Control::Hello(hello)
            }
            _ => return,
        };
        self.words.extend(V2.control(&forged).map(Vec::from));
    }

    fn add(&mut self, kind: u8, input: &mut Input<'_>) {
        if self.ends.len() == ENDS_MAX {
            return;
        }
        let number = self.ends.len() as u8;
        let flags = input.byte();
        let session = flags & 1;
        let terms = terms(input, flags & 2 != 0);
        let wrong = Token::from([8; 32]);
        let mut greeting = match kind {
            0 => Greeting::server(Some(&self.admission), &terms, [number; 32]),
            1 => Greeting::client(Some(&self.token), &terms, [number; 32]),
            _ => Greeting::client(Some(&wrong), &terms, [number; 32]),
        };
        greeting.bind(Secured {
            binding: [session; 32],
            objection: None,
        });
        let opening = greeting.opening();
        self.words.extend(opening.clone());
        self.ends.push(End {
            greeting,
            is_server: kind == 0,
            is_honest: kind != 2,
            terms,
            session,
            heard: Vec::new(),
            said: opening.into_iter().collect(),
            state: State::Talking,
        });
    }

    fn tell(&mut self, to: usize, message: Vec<u8>) {
        let end = &mut self.ends[to];
        let answer = end.greeting.answer(&message);
        let reply = words(&answer);
        if end.state != State::Talking {
            assert!(matches!(answer, Answer::Refuse { .. }), "it was over");
            return;
        }
        end.heard.push(message);
        end.said.extend(reply.clone());
        self.words.extend(reply);
        match answer {
            Answer::Next(_) => assert_eq!(end.greeting.agreed(), None),
            Answer::Refuse { .. } => {
                end.state = State::Over;
                assert_eq!(end.greeting.agreed(), None);
            }
            Answer::Accept(_) => {
                end.state = State::Accepted;
                end.greeting.admitted();
                self.check_accepted(to);
            }
        }
    }

    /// Who was accepted is an honest end that has heard and said the very same.
    fn check_accepted(&self, accepted: usize) {
        let end = &self.ends[accepted];
        let Some(Control::Hello(theirs)) = control(&end.heard[0]) else {
            panic!("accepted without a hello");
        };
        let agreed = end.greeting.agreed().expect("it was accepted");
        agreement::check(&agreed, &end.terms, &theirs);
        let is_peer = |other: &&End| match end.is_server {
            // Its hello, the answer to it, and its proof. Anybody may have told it anything since.
            true => other.said.starts_with(&end.heard) && other.heard.first() == end.said.first(),
            // The hello, and the answer with the proof in it.
            false => {
                other.heard.first() == end.said.first() && other.said.first() == end.heard.first()
            }
        };
        let peers = self
            .ends
            .iter()
            .filter(|other| other.is_server != end.is_server && other.session == end.session)
            .filter(is_peer)
            .collect::<Vec<_>>();
        assert_eq!(peers.len(), 1, "nobody, or not one only, has proved this");
        assert!(peers[0].is_honest, "accepted without the token");
        assert!(end.is_honest, "the attacker's own end found somebody");
    }

    /// A token for one admits one.
    fn check_admissions(&self) {
        let servers = self.ends.iter().filter(|end| end.is_server);
        let admitted = servers.filter(|end| end.state == State::Accepted).count();
        assert!(self.is_reusable || admitted <= 1, "{admitted} were let in");
        let is_current = self.admission.token() == self.token;
        assert_eq!(is_current, self.is_reusable || admitted == 0);
    }
}
