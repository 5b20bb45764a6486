//! Handshakes of version 2.

use ductworks::wire::{Control, Framing, Hello, Mode, V2};

use crate::{Seed, seed};

pub(crate) fn all() -> impl Iterator<Item = Seed> {
    between().chain(honest()).chain(believed())
}

/// A limit, and a codec's name with its length.
const TERMS: &[u8] = b"\0\0\0\0\x04\0\0\0\x04json";
const OTHER_TERMS: &[u8] = b"\0\0\0\0\0\0\x10\0\x07msgpack";
const ANY_TERMS: &[u8] = b"\0\0\0\0\0\0\x10\0\0";

/// Steps of somebody in between. The lower half of a step's byte says what is done, and the upper half to
/// which end.
fn between() -> impl Iterator<Item = Seed> {
    let (server, client, stranger) = (
        &[&b"\0\0"[..], TERMS],
        &[&b"\x01\0"[..], TERMS],
        &[&b"\x02\0"[..], TERMS],
    );
    let (server, client, stranger) = (server.concat(), client.concat(), stranger.concat());
    let relay = &b"\x06\0\x16\x01\x06\x02\x16\x03"[..];
    let all = |name: &str, parts: &[&[u8]]| {
        let parts = [&[&b"\0"[..]], parts].concat();
        seed("handshake", format!("between-{name}"), &parts)
    };
    vec![
        all("relayed", &[b"\x01", &server, &client, relay]),
        all("single-use", &[b"\0", &server, &client, relay]),
        // Two servers of one token, and a client each.
        all(
            "two-at-once",
            &[
                b"\0",
                &server,
                &client,
                &server,
                &client,
                b"\x06\0\x26\x01\x16\x02\x36\x03",
                b"\x06\x04\x26\x05",
            ],
        ),
        all(
            "replayed",
            &[b"\x01", &server, &client, relay, &server, b"\x26\0\x26\x02"],
        ),
        all(
            "reflected",
            &[b"\0", &server, &client, b"\x06\0\x06\x01\x16\x01\x16\0"],
        ),
        all(
            "own-proof",
            &[
                b"\0",
                &server,
                &client,
                b"\x06\0\x04\0\x01\x06\x02\x05\0\x01\x16\x04",
            ],
        ),
        all("changed", &[b"\0", &server, &client, b"\x0c\0\x1c\x01"]),
        all("stranger", &[b"\0", &server, &stranger, relay]),
        all(
            "another-session",
            &[b"\0", &server, b"\x01\x01", TERMS, relay],
        ),
        all(
            "made-up",
            &[b"\0", &server, b"\x03", &hello(Mode::Token), b"\x06\0"],
        ),
        all(
            "late-word",
            &[b"\0", &server, &client, relay, b"\x06\0\x16\0"],
        ),
    ]
    .into_iter()
}

/// Flags, a change, and the terms of both.
fn honest() -> impl Iterator<Item = Seed> {
    let all = |name: &str, flags: u8, change: &[u8; 3], ours: &[u8], theirs: &[u8]| {
        let parts = [&[1, flags][..], change, ours, theirs];
        seed("handshake", format!("honest-{name}"), &parts)
    };
    vec![
        all("token", 3, &[0; 3], TERMS, ANY_TERMS),
        all("token-reusable", 7, &[0; 3], TERMS, TERMS),
        all("descriptors", 0x33, &[0; 3], TERMS, TERMS),
        all("descriptors-at-one-end", 0x13, &[0; 3], TERMS, TERMS),
        all("open", 0, &[0; 3], ANY_TERMS, TERMS),
        all("client-only", 1, &[0; 3], TERMS, TERMS),
        all("server-only", 2, &[0; 3], TERMS, TERMS),
        all("codecs-differ", 3, &[0; 3], TERMS, OTHER_TERMS),
        all("codecs-differ-open", 0, &[0; 3], OTHER_TERMS, TERMS),
        all("another-session", 11, &[0; 3], TERMS, TERMS),
        all("changed-hello", 3, &[0, 27, 1], TERMS, TERMS),
        all("changed-answer", 3, &[1, 100, 1], TERMS, TERMS),
        all("changed-proof", 3, &[2, 20, 1], TERMS, TERMS),
        all("changed-accept", 3, &[3, 1, 7], TERMS, TERMS),
        all("changed-open", 0, &[1, 27, 1], TERMS, TERMS),
    ]
    .into_iter()
}

/// Flags, the length of the pieces, terms, and a stream.
fn believed() -> impl Iterator<Item = Seed> {
    let all = |name: &str, flags: u8, frames: &[Vec<u8>]| {
        let stream = frames.concat();
        let parts = [&[2, flags, 100][..], TERMS, &stream];
        seed("handshake", format!("believed-{name}"), &parts)
    };
    let proof = frame(&Control::Proof([1; 32]));
    let accept = frame(&Control::Accept);
    let refused = frame(&Control::Refused);
    let message = V2.head(0).map(|head| head.as_ref().to_vec());
    let mut message = message.unwrap_or_default();
    message.resize(128, 0);
    vec![
        all("server-token", 3, &[hello(Mode::Token), proof.clone()]),
        all("server-open", 1, &[hello(Mode::Open)]),
        all("server-wrong-mode", 3, &[hello(Mode::Open)]),
        all("server-refused", 3, &[hello(Mode::Token), refused.clone()]),
        all("client-token", 2, &[hello(Mode::Token), accept]),
        all("client-open", 0, &[hello(Mode::Open)]),
        all("client-refused", 2, &[hello(Mode::Token), refused.clone()]),
        all("client-refused-at-once", 0, &[refused]),
        all("proof-first", 3, &[proof]),
        all("message-first", 3, &[message]),
        all("drain-first", 1, &[frame(&Control::Drain { id: 1 })]),
    ]
    .into_iter()
}

fn hello(mode: Mode) -> Vec<u8> {
    frame(&Control::Hello(Hello::new(mode, 500, "json", [9; 32])))
}

fn frame(control: &Control) -> Vec<u8> {
    V2.control(control).map(Vec::from).unwrap_or_default()
}
