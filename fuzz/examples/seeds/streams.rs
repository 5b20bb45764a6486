//! Streams of each framing.

use ductworks::wire::{Control, Framing, Hello, Mode, Multiprocessing, Pipe, V1, V2};

use crate::{Seed, seed};

/// The limit in use and nothing added; read in one piece, and in small ones.
const WHOLE: [u8; 10] = [0; 10];
const PIECES: [u8; 10] = [0, 0, 1, 2, 3, 14, 16, 100, 7, 4];

/// A limit of five bytes.
const FIVE: [u8; 10] = [4, 0, 1, 1, 3, 1, 2, 8, 50, 20];

/// No limit, and a long end.
const FLOOD: [u8; 10] = [1, 0xff, 0, 200, 100, 2, 70, 31, 0, 9];

pub(crate) fn v1() -> impl Iterator<Item = Seed> {
    let streams = messages(&V1).into_iter().chain([
        ("another-wire", b"GET / HTTP/1.1\r\n".to_vec()),
        ("version-2", frame(&V2, b"{}")),
    ]);
    in_every_way("v1", b"", streams)
}

pub(crate) fn connection() -> impl Iterator<Item = Seed> {
    let negative = ("negative", b"\xff\xff\xff\xfe".to_vec());
    let long = (
        "long-head",
        b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi".to_vec(),
    );
    let longest = ("longest", [0xff; 16].to_vec());
    let odd = [negative, long, longest];
    let stock = messages(&Multiprocessing).into_iter().chain(odd.clone());
    let pipe = messages(&Pipe).into_iter().chain(odd);
    let pipe = pipe.map(|(name, mut stream)| {
        stream.resize(stream.len().next_multiple_of(128), 0);
        (name, stream)
    });
    let pipe = in_every_way("connection", b"\x01", pipe).map(|seed| Seed {
        name: format!("pipe-{}", seed.name),
        ..seed
    });
    in_every_way("connection", b"\0", stock).chain(pipe)
}

pub(crate) fn v2() -> impl Iterator<Item = Seed> {
    let mut hello = Hello::new(Mode::Token, 64 << 20, "json", [0x33; 32]);
    let open = Control::Hello(Hello::new(Mode::Open, 1000, "", [0x44; 32]));
    hello.proof = [0x55; 32];
    let end = Control::End {
        shared: true,
        finish: false,
        process: 77,
        received: 3,
    };
    let controls = [
        ("hello", Control::Hello(hello)),
        ("hello-open", open),
        ("proof", Control::Proof([0x66; 32])),
        ("accept", Control::Accept),
        ("refused", Control::Refused),
        ("end", end),
        ("drain", Control::Drain { id: 1 }),
        ("drained", Control::Drained { id: 1, received: 9 }),
    ];
    let control = |control: &Control| V2.control(control).map(Vec::from).unwrap_or_default();
    let mut streams = messages(&V2);
    for (name, said) in &controls {
        streams.push((name, control(said)));
    }
    let mut talk = frame(&V2, b"one");
    talk.extend(control(&Control::Drain { id: 1 }));
    talk.extend(frame(&V2, &[b'2'; 200]));
    talk.extend(control(&end));
    streams.push(("talk", talk));
    for (name, len, carrier) in [
        ("descriptors", 5, 0),
        ("descriptors-long", 200, 0),
        ("no-carrier", 5, 1),
    ] {
        let head = V2.head_with(len, 3);
        let mut stream = head.map_or(Vec::new(), |head| head.as_ref().to_vec());
        stream.resize(stream.len() + len, b'x');
        stream.resize(stream.len().max(128), 0);
        stream.push(carrier);
        stream.extend(frame(&V2, b"next"));
        streams.push((name, stream));
    }
    let changed = |place: usize, to: u8| {
        let mut frame = control(&end);
        frame[place] = to;
        frame
    };
    streams.push(("unknown-kind", changed(1, 0x7f)));
    streams.push(("reserved-byte", changed(6, 1)));
    streams.push(("two-faults", b"\xd2\x20\0\xff\xff\0\0\0".to_vec()));
    streams.push(("wrong-length", changed(15, 16)));
    streams.push(("unknown-flag", changed(16, 4)));
    streams.push(("padding", changed(127, 1)));
    streams.push(("version-1", frame(&V1, b"{}")));
    streams.push((
        "longest",
        [&b"\xd2\x20\0\0\0\0\0\0"[..], &[0xff; 120]].concat(),
    ));
    in_every_way("v2", b"", streams.into_iter())
}

/// Streams of messages that every framing has.
fn messages(framing: &impl Framing) -> Vec<(&'static str, Vec<u8>)> {
    let three = [&b"first"[..], b"", b"{\"a\": [1, 2.5]}"].map(|message| frame(framing, message));
    let mut cut = frame(framing, &[b'x'; 300]);
    cut.truncate(200);
    let mut head = frame(framing, b"hello");
    head.truncate(3);
    let claim = framing.head(0x7fff_fff0);
    vec![
        ("nothing", Vec::new()),
        ("empty", frame(framing, b"")),
        ("three", three.concat()),
        ("five", frame(framing, b"12345")),
        ("six", frame(framing, b"123456")),
        ("cut-payload", cut),
        ("cut-head", head),
        (
            "claim",
            claim.map_or(Vec::new(), |head| head.as_ref().to_vec()),
        ),
    ]
}

fn frame(framing: &impl Framing, payload: &[u8]) -> Vec<u8> {
    let head = framing.head(payload.len());
    let mut frame = head.map_or(Vec::new(), |head| head.as_ref().to_vec());
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(framing.frame_min()), 0);
    frame
}

/// Each stream whole, and some of them in other ways.
fn in_every_way(
    target: &'static str,
    before: &'static [u8],
    streams: impl Iterator<Item = (&'static str, Vec<u8>)>,
) -> impl Iterator<Item = Seed> {
    streams.flat_map(move |(name, stream)| {
        let ways = match name {
            "five" | "six" => &[("-limit", FIVE)][..],
            "three" | "talk" | "two-faults" | "descriptors" | "descriptors-long" => {
                &[("", WHOLE), ("-pieces", PIECES), ("-limit", FIVE)]
            }
            "claim" | "longest" => &[("", WHOLE), ("-flood", FLOOD)],
            _ => &[("", WHOLE)],
        };
        ways.iter()
            .map(|(way, header)| seed(target, format!("{name}{way}"), &[before, header, &stream]))
            .collect::<Vec<_>>()
    })
}
