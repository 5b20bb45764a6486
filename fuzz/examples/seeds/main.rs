//! Writes the inputs that fuzzing begins with into `corpus/`: what honest ends say, whole and cut off,
//! and some of what they never say.

mod handshake;
mod streams;

use std::fs;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let seeds = streams::v1()
        .chain(streams::v2())
        .chain(streams::connection())
        .chain(handshake::all())
        .chain(challenge())
        .chain(texts("address", &ADDRESSES))
        .chain(texts("ticket", &ADDRESSES))
        .chain(tickets());
    for seed in seeds {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(seed.target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(seed.name), seed.bytes)?;
    }
    Ok(())
}

/// An input of a target.
struct Seed {
    target: &'static str,
    name: String,
    bytes: Vec<u8>,
}

fn seed(target: &'static str, name: impl Into<String>, parts: &[&[u8]]) -> Seed {
    Seed {
        target,
        name: name.into(),
        bytes: parts.concat(),
    }
}

fn challenge() -> impl Iterator<Item = Seed> {
    let key: &[u8] = b"\x06secret";
    let to_client = |name: &str, message: &[u8]| {
        let told = [&b"\0\0"[..], key, &[message.len() as u8], message];
        seed("challenge", format!("client-{name}"), &told)
    };
    let to_listener = |name: &str, message: &[u8]| {
        let told = [&b"\0\x01"[..], key, &[message.len() as u8], message];
        seed("challenge", format!("listener-{name}"), &told)
    };
    let nonces = [0x11; 80];
    let change = |message: u8, place: u8| [1, message, place, 1];
    let pair = |name: &str, change: [u8; 4], rest: &[u8]| {
        let parts = [&change[..], &nonces, rest];
        seed("challenge", format!("pair-{name}"), &parts)
    };
    let nonce = &[0x22; 40];
    vec![
        to_client("md5", &[b"#CHALLENGE#{md5}", &nonce[..]].concat()),
        to_client("sha256", &[b"#CHALLENGE#{sha256}", &nonce[..]].concat()),
        to_client("sha384", &[b"#CHALLENGE#{sha384}", &nonce[..]].concat()),
        to_client("sha3_256", &[b"#CHALLENGE#{sha3_256}", &nonce[..]].concat()),
        to_client("sha3_384", &[b"#CHALLENGE#{sha3_384}", &nonce[..]].concat()),
        to_client(
            "unknown-digest",
            &[b"#CHALLENGE#{sha1}", &nonce[..]].concat(),
        ),
        to_client("short", b"#CHALLENGE#123"),
        seed(
            "challenge",
            "listener-reflected",
            &[b"\0\x01", key, b"\x80"],
        ),
        to_listener("wrong-bare", &nonce[..16]),
        to_listener("wrong-md5", &[b"{md5}", &nonce[..16]].concat()),
        to_listener("wrong-sha256", &[b"{sha256}", &nonce[..32]].concat()),
        to_listener("wrong-sha384", &[b"{sha384}", &[3; 48][..]].concat()),
        to_listener("wrong-sha3_256", &[b"{sha3_256}", &nonce[..32]].concat()),
        to_listener("wrong-sha3_384", &[b"{sha3_384}", &[3; 48][..]].concat()),
        seed(
            "challenge",
            "client-welcome-and-answer",
            &[
                b"\0\0",
                key,
                b"\x3b#CHALLENGE#{sha256}",
                nonce,
                b"\x09#WELCOME#\x80",
            ],
        ),
        pair("same-key", [1, 0, 0, 0], b"\0\x06secret"),
        pair("empty-key", [1, 0, 0, 0], b"\0\0"),
        pair("other-key", [1, 0, 0, 0], b"\x01\x06secretsecreT"),
        pair("changed-challenge", change(0, 30), b"\0\x06secret"),
        pair("changed-digest", change(0, 13), b"\0\x06secret"),
        pair("changed-answer", change(1, 20), b"\0\x06secret"),
        pair("changed-welcome", change(2, 0), b"\0\x06secret"),
        pair("changed-last", change(5, 3), b"\0\x06secret"),
    ]
    .into_iter()
}

const ADDRESSES: [(&str, &str); 14] = [
    ("path", "/run/user/1000/ductworks-0123/duct"),
    ("unix", "unix:/run/duct"),
    ("unix-relative", "unix:duct"),
    ("unix-sign", "unix:/run/duct#1"),
    ("unix-words", "unix:/run/a b/ü"),
    ("tcp-name", "tcp:localhost:4000"),
    ("tcp-v4", "tcp:127.0.0.1:0"),
    ("tcp-v6", "tcp:[fe80::1%eth0]:65535"),
    ("tcp-open-bracket", "tcp:[::1:80"),
    ("tcp-no-port", "tcp:host"),
    ("tcp-large-port", "tcp:host:65536"),
    ("tls-name", "tls:example.com:443"),
    (
        "tls-pin",
        "tls:[::1]:443?pin=abababababababababababababababababababababababababababababababab",
    ),
    ("tls-bad-pin", "tls:host:1?pin=00"),
];

fn texts(target: &'static str, texts: &'static [(&str, &str)]) -> impl Iterator<Item = Seed> {
    texts
        .iter()
        .map(move |(name, text)| seed(target, *name, &[text.as_bytes()]))
}

fn tickets() -> impl Iterator<Item = Seed> {
    let token = "0f3C".repeat(16);
    let good = ["unix:/run/duct", "/a#b", "tcp:[::1]:80", "tls:host:443"]
        .into_iter()
        .enumerate()
        .map(|(number, address)| (format!("token-{number}"), format!("{address}#{token}")));
    let good = good.collect::<Vec<_>>().into_iter();
    good.chain([
        ("token-short".into(), format!("tcp:host:1#{}", &token[1..])),
        (
            "token-twice".into(),
            format!("tcp:host:1#{token}tcp:host:1#{token}"),
        ),
        (
            "token-no-digit".into(),
            format!("unix:/run/duct#{}", "g".repeat(64)),
        ),
        ("token-bad-scheme".into(), format!("udp:host:1#{token}")),
        (
            "token-and-pin".into(),
            format!("tls:host:1?pin={}#{token}", "ab".repeat(32)),
        ),
    ])
    .map(|(name, text)| seed("ticket", name, &[text.as_bytes()]))
}
