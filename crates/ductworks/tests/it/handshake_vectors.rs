//! The handshakes and tickets in docs/vectors, which a second implementation has written: ours says
//! exactly those bytes, and derives the same keys and proofs.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::vector_files::{Hex, vectors};
use ductworks::wire::{Admission, Answer, Greeting, Handshake, Hello, Secured, Terms, Token};
use ductworks::{ErrorKind, Ticket};
use hkdf::Hkdf;
use serde::Deserialize;
use sha2::{Digest, Sha256};

// Handshakes.

#[derive(Deserialize)]
struct Exchange {
    name: String,
    honest: String,
    client: Side,
    server: Side,
    messages: Vec<Spoken>,
    derived: Option<Derived>,
    outcome: String,
    agreed: Option<Agreed>,
}

#[derive(Deserialize)]
struct Side {
    token: Option<Hex>,
    limit: u64,
    codec: String,
    capabilities: u16,
    nonce: Hex,
    binding: Hex,
}

#[derive(Deserialize)]
struct Spoken {
    from: String,
    is: String,
    hex: Hex,
}

#[derive(Deserialize)]
struct Derived {
    key: Hex,
    transcript: Hex,
    server_proof: Hex,
    client_proof: Hex,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Agreed {
    limit: u64,
    descriptors: bool,
}

impl Side {
    fn token(&self) -> Option<Token> {
        self.token.as_ref().map(|token| token.array().into())
    }

    /// This end as it should be.
    fn greeting(&self, role: &str) -> Greeting {
        assert_eq!(self.capabilities & !Hello::DESCRIPTORS, 0);
        let terms = Terms {
            limit: self.limit,
            codec: self.codec.clone(),
            descriptors: self.capabilities == Hello::DESCRIPTORS,
        };
        let (token, nonce) = (self.token(), self.nonce.array());
        let mut greeting = match role {
            "client" => Greeting::client(token.as_ref(), &terms, nonce),
            _ => {
                let admission = token.map(|token| Arc::new(Admission::new(token, false)));
                Greeting::server(admission.as_ref(), &terms, nonce)
            }
        };
        greeting.bind(Secured {
            binding: self.binding.array(),
            objection: None,
        });
        greeting
    }
}

/// Lets an honest end hear what the other one says, and compares what it says itself.
fn play(vector: &Exchange, role: &str) {
    let side = match role {
        "client" => &vector.client,
        _ => &vector.server,
    };
    let mut end = side.greeting(role);
    let mut said: VecDeque<_> = end.opening().into_iter().collect();
    let mut last = None;
    for message in &vector.messages {
        let told = format!("{}: the {role}", vector.name);
        if message.from == role {
            assert_eq!(
                said.pop_front(),
                Some(message.hex.0.clone()),
                "{told}, {}",
                message.is
            );
            continue;
        }
        assert_eq!(said, [[0; 0]; 0], "{told} says too much");
        let answer = end.answer(&message.hex.0);
        said = match &answer {
            Answer::Next(said) => [said.clone()].into(),
            Answer::Accept(said) => said.iter().cloned().collect(),
            // Whoever has been refused may say so or not.
            Answer::Refuse { .. } if message.is == "refused" => VecDeque::new(),
            Answer::Refuse { farewell, .. } => farewell.clone().into(),
        };
        last = Some(answer);
    }
    assert_eq!(
        said, [[0; 0]; 0],
        "{}: the {role} says too much",
        vector.name
    );
    let agreed = end.agreed().map(|terms| Agreed {
        limit: terms.limit,
        descriptors: terms.descriptors,
    });
    assert_eq!(agreed, vector.agreed, "{}: the {role}", vector.name);
    match (vector.outcome.as_str(), last.unwrap()) {
        ("accepted", Answer::Accept(_)) => {}
        ("refused by the client" | "refused by the server", Answer::Refuse { .. }) => {}
        (outcome, last) => panic!("{}: {outcome}, but the {role}: {last:?}", vector.name),
    }
}

#[test]
fn an_honest_end_says_what_stands_in_the_vectors_to_whatever_it_hears() {
    for vector in vectors::<Exchange>("handshake.json") {
        let roles: &[&str] = match vector.honest.as_str() {
            "both" => &["client", "server"],
            "client" => &["client"],
            "server" => &["server"],
            other => panic!("{other}"),
        };
        roles.iter().for_each(|role| play(&vector, role));
    }
}

#[test]
fn keys_transcripts_and_proofs_are_derived_as_the_vectors_say() {
    let mut complete = 0;
    for vector in vectors::<Exchange>("handshake.json") {
        let (Some(derived), Some(token)) = (&vector.derived, &vector.server.token) else {
            continue;
        };
        let said = |role: &str, is: &str| {
            let said = vector
                .messages
                .iter()
                .find(|each| each.from == role && each.is == is);
            said.map(|message| message.hex.0.clone())
        };
        let mut key = [0; 32];
        let hkdf = Hkdf::<Sha256>::new(Some(b"ductworks v2"), &token.0);
        hkdf.expand(b"proofs", &mut key).unwrap();
        assert_eq!(derived.key.array(), key, "{}", vector.name);
        if vector.outcome != "accepted" {
            continue;
        }
        let (client, server) = (
            said("client", "hello").unwrap(),
            said("server", "hello").unwrap(),
        );
        let unproved = [&server[..96], &[0; 32]].concat();
        let transcript =
            Sha256::digest([client, unproved, vector.server.binding.0.clone()].concat());
        assert_eq!(derived.transcript.0, transcript.to_vec(), "{}", vector.name);
        assert_eq!(derived.server_proof.0, &server[96..], "{}", vector.name);
        let proof = said("client", "proof").unwrap();
        assert_eq!(derived.client_proof.0, &proof[16..48], "{}", vector.name);
        complete += 1;
    }
    assert!(complete >= 5);
}

// Tickets.

#[derive(Deserialize)]
struct Text {
    name: String,
    text: String,
    #[serde(default)]
    refused: bool,
    address: Option<Place>,
    token: Option<Hex>,
    canonical: Option<String>,
}

#[derive(Deserialize)]
struct Place {
    scheme: String,
    path: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    pin: Option<Hex>,
}

#[test]
fn tickets_are_read_and_written_as_the_vectors_say() {
    for vector in vectors::<Text>("tickets.json") {
        let name = &vector.name;
        let ticket = match vector.text.parse::<Ticket>() {
            Ok(ticket) => ticket,
            Err(error) => {
                assert!(vector.refused, "{name}: {error}");
                assert_eq!(error.kind(), ErrorKind::InvalidAddress);
                continue;
            }
        };
        assert!(!vector.refused, "{name}");
        let (address, place) = (ticket.address(), vector.address.unwrap());
        let text = address.to_string();
        assert_eq!(text.split_once(':').unwrap().0, place.scheme, "{name}");
        let path = address.path().map(|path| path.to_str().unwrap());
        assert_eq!(path, place.path.as_deref(), "{name}");
        assert_eq!(address.host(), place.host.as_deref(), "{name}");
        assert_eq!(address.port(), place.port, "{name}");
        let pin = address.pin().map(|pin| Hex(pin.as_bytes().to_vec()));
        assert_eq!(pin, place.pin, "{name}");
        let token = vector.token.map(|token| Token::from(token.array()));
        assert_eq!(ticket.token(), token.as_ref(), "{name}");
        assert_eq!(ticket.to_string(), vector.canonical.unwrap(), "{name}");
    }
}
