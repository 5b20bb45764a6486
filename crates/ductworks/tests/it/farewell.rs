//! The end of a duct that speaks version 2: a close is told from a death, one direction can end
//! before the other, and a sender can wait until everything has been received.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::engine::{self, Mark};
use ductworks::wire::{Control, Framing, V2};
use ductworks::{Duct, ErrorKind, Listener};
use proptest::prelude::*;

pub(crate) const ROLES: &[Role<'_>] = &[
    ("close", |_| inherited().close()),
    ("drop", |_| drop(inherited())),
    ("exit", |_| {
        let duct = inherited();
        duct.send_bytes(b"last").unwrap();
        std::process::exit(0)
    }),
    ("wait to be killed", |_| {
        let duct = inherited();
        duct.send_bytes(b"here").unwrap();
        duct.recv_bytes().unwrap_err();
    }),
    ("pour, inherited", |_| {
        let duct = inherited();
        for number in 0u32.. {
            duct.send_bytes(&numbered(number)).unwrap();
        }
    }),
];

fn inherited() -> Duct {
    // SAFETY: nothing in this process reads its standard input.
    unsafe { Duct::from_inherited(0) }.unwrap()
}

/// One end of a pair here, the other one in a process that plays the role.
fn start(role: &str) -> (Duct, Child) {
    let (ours, theirs) = ductworks::pair().unwrap();
    let theirs = Stdio::from(theirs.into_descriptor().unwrap());
    let child = process(role, "").stdin(theirs).spawn().unwrap();
    (ours, child)
}

/// A duct that speaks version 2, and what a peer that writes bytes of its own has in its hand.
fn bare_peer() -> (Duct, File) {
    let (a, b) = Transport::Unix.sockets();
    Mark::V2.put(&a).unwrap();
    (Duct::try_from(a).unwrap(), File::from(b))
}

fn said(control: Control) -> [u8; 128] {
    V2.control(&control).unwrap()
}

const SHORT: std::time::Duration = std::time::Duration::from_millis(20);

const FAREWELL: Control = Control::End {
    shared: false,
    finish: false,
    process: 1,
    received: 0,
};

#[test]
fn a_close_is_told_from_a_death() {
    let _watchdog = watchdog();
    for role in ["close", "drop"] {
        let (duct, child) = start(role);
        assert_eq!(kind(duct.recv_bytes()), ErrorKind::Disconnected, "{role}");
        assert_success(child);
    }
    let (duct, child) = start("exit");
    assert_eq!(duct.recv_bytes().unwrap(), b"last");
    assert_eq!(kind(duct.recv_bytes()), ErrorKind::PeerDied);
    assert_success(child);

    let (duct, mut child) = start("wait to be killed");
    assert_eq!(duct.recv_bytes().unwrap(), b"here");
    child.kill().unwrap();
    for _ in 0..3 {
        assert_eq!(kind(duct.recv_bytes()), ErrorKind::PeerDied);
        assert!(duct.poll(Duration::ZERO).unwrap());
    }
    child.wait().unwrap();
}

#[test]
fn a_duct_that_is_handed_on_goes_on_as_what_it_was() {
    let _watchdog = watchdog();
    for listener in [
        Listener::bind_private().unwrap(),
        Listener::bind("tcp:127.0.0.1:0").unwrap(),
    ] {
        for _ in 0..2 {
            let (a, b) = enter(&listener);
            let b = Duct::try_from(b.into_descriptor().unwrap()).unwrap();
            a.send(&1).unwrap();
            assert_eq!(b.recv::<u8>().unwrap(), 1);
            drop(b);
            assert_eq!(kind(a.recv::<u8>()), ErrorKind::Disconnected);
        }
        let (a, b) = enter(&listener);
        drop(File::from(b.into_descriptor().unwrap()));
        assert_eq!(kind(a.recv::<u8>()), ErrorKind::PeerDied);
    }
}

#[test]
fn a_killed_sender_yields_a_prefix_and_then_says_how_it_ended() {
    let _watchdog = watchdog();
    let (duct, mut child) = start("pour, inherited");
    for number in 0..50 {
        assert!(duct.recv_bytes().unwrap() == numbered(number));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut number = 50;
    let end = loop {
        match duct.recv_bytes() {
            Ok(message) => assert!(message == numbered(number)),
            Err(error) => break error.kind(),
        }
        number += 1;
    };
    assert!(
        matches!(end, ErrorKind::PeerDied | ErrorKind::Truncated),
        "{end:?}"
    );
}

#[test]
fn an_end_without_a_farewell_is_a_death_at_every_byte_of_the_stream() {
    let _watchdog = watchdog();
    let mut message = V2.head(4).unwrap().as_ref().to_vec();
    message.extend_from_slice(b"ping");
    message.resize(128, 0);
    let stream = [&message[..], &said(FAREWELL)].concat();
    for cut in 0..=stream.len() {
        let (duct, mut peer) = bare_peer();
        peer.write_all(&stream[..cut]).unwrap();
        drop(peer);
        let mut outcome = duct.recv_bytes();
        if cut >= 128 {
            assert_eq!(outcome.unwrap(), b"ping");
            outcome = duct.recv_bytes();
        }
        let expected = match cut {
            0 | 128 => ErrorKind::PeerDied,
            256 => ErrorKind::Disconnected,
            _ => ErrorKind::Truncated,
        };
        assert_eq!(kind(outcome), expected, "after {cut} bytes");
    }
}

#[test]
fn a_farewell_finds_its_way_past_a_full_socket() {
    let _watchdog = watchdog();
    for len in [0, 1, 100, 1000, 40_000, 1_000_000] {
        let (a, b) = ductworks::pair().unwrap();
        let mut sent = 0;
        while a.try_send_bytes(&LARGE[..len]).is_ok() {
            sent += 1;
        }
        let reader = thread::spawn(move || {
            let mut received = 0;
            loop {
                match b.recv_bytes() {
                    Ok(message) => assert!(message == LARGE[..len]),
                    Err(end) => return (received, end.kind()),
                }
                received += 1;
            }
        });
        // The last one may be under way, which a farewell never cuts.
        a.flush(PATIENCE).unwrap();
        a.close();
        let (received, end) = reader.join().unwrap();
        assert_eq!((received, end), (sent, ErrorKind::Disconnected), "{len}");
    }
}

#[test]
fn a_sender_that_closes_right_after_a_large_message_has_said_farewell() {
    let _watchdog = watchdog();
    for len in (0..40).map(|step| 200_000 + 37_777 * step) {
        let (a, b) = ductworks::pair().unwrap();
        let reader = thread::spawn(move || (b.recv_bytes().unwrap().len(), kind(b.recv_bytes())));
        a.send_bytes(&LARGE[..len]).unwrap();
        drop(a);
        assert_eq!(reader.join().unwrap(), (len, ErrorKind::Disconnected));
    }
}

#[test]
fn an_end_that_closes_with_something_unread_is_no_death() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.send_bytes(b"never read").unwrap();
    b.send_bytes(b"all the same").unwrap();
    drop(b);
    assert_eq!(a.recv_bytes().unwrap(), b"all the same");
    assert_eq!(kind(a.recv_bytes()), ErrorKind::Reset);
}

#[test]
fn a_close_is_a_reset_only_where_a_message_lies_unread() {
    let _watchdog = watchdog();
    let question = said(Control::Drain { id: 1 });
    for is_reset in [false, true] {
        let (duct, mut peer) = bare_peer();
        peer.write_all(&question).unwrap();
        peer.write_all(&question).unwrap();
        if is_reset {
            let head = V2.head_with(300, 0).unwrap();
            peer.write_all(&[head.as_ref(), &[7; 300]].concat())
                .unwrap();
        }
        duct.close();
        let ended = peer.read_to_end(&mut Vec::new());
        assert_eq!(ended.is_err(), is_reset, "{ended:?}");
    }
}

#[test]
fn an_end_that_closes_itself_over_a_violation_is_no_death() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.set_message_limit(1);
    b.send_bytes(b"too large").unwrap();
    assert_eq!(kind(a.recv_bytes()), ErrorKind::TooLarge);
    assert!(a.is_closed());
    assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
}

#[test]
fn a_finished_end_receives_and_the_other_one_reads_to_the_end() {
    let _watchdog = watchdog();
    for (a, b) in [
        ductworks::pair().unwrap(),
        Transport::Unix.ducts(),
        Transport::Tcp.ducts(),
    ] {
        a.send(&1).unwrap();
        a.finish().unwrap();
        a.finish().unwrap();
        let error = a.send(&2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("finished"), "{error}");
        assert!(!a.is_closed());
        assert_eq!(b.recv::<u8>().unwrap(), 1);
        for _ in 0..2 {
            assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
            b.send(&3).unwrap();
            assert_eq!(a.recv::<u8>().unwrap(), 3);
        }
        b.close();
        assert_eq!(kind(a.recv_bytes()), ErrorKind::Disconnected);
    }
}

#[test]
fn finishing_waits_until_everything_accepted_is_out() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.send_bytes_timeout(&LARGE, Duration::ZERO).unwrap();
    thread::scope(|scope| {
        let finishing = asleep(scope, || a.finish());
        assert!(b.recv_bytes().unwrap() == *LARGE);
        finishing.join().unwrap().unwrap();
    });
    assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
}

/// Fills the way from `a` with whole messages, until no frame has room. Says how many there are.
fn fill(a: &Duct) -> usize {
    // Least frames last: where one of them has no room, neither has a farewell.
    let fill_with = |len: usize| {
        let message = vec![0; len];
        (0..)
            .take_while(|_| a.try_send_bytes(&message).is_ok())
            .count()
    };
    fill_with(1000) + fill_with(1)
}

#[test]
fn a_close_beside_a_finish_that_waits_is_no_death() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let sent = fill(&a);
    thread::scope(|scope| {
        let finishing = asleep(scope, || a.finish());
        a.close();
        assert_eq!(kind(finishing.join().unwrap()), ErrorKind::Closed);
    });
    for _ in 0..sent {
        b.recv_bytes().unwrap();
    }
    assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
}

#[test]
fn a_finish_that_times_out_beside_another_is_no_death() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let sent = fill(&a);
    let short = Duration::from_millis(20);
    thread::scope(|scope| {
        let first = asleep(scope, || a.finish_timeout(short));
        let second = asleep(scope, || a.finish());
        assert_eq!(kind(first.join().unwrap()), ErrorKind::TimedOut);
        for _ in 0..sent {
            b.recv_bytes().unwrap();
        }
        second.join().unwrap().unwrap();
    });
    assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
    b.send(&1).unwrap();
    assert_eq!(a.recv::<u8>().unwrap(), 1);
}

#[test]
fn once_told_that_the_other_end_is_gone_a_send_fails_at_once() {
    let _watchdog = watchdog();
    let mut addresses = vec!["tcp:127.0.0.1:0"];
    if cfg!(feature = "tls") {
        addresses.push("tls:127.0.0.1:0");
    }
    for address in addresses {
        let (a, b) = enter(&Listener::bind(address).unwrap());
        a.finish().unwrap();
        assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
        b.send("it still receives").unwrap();
        a.close();

        let (a, b) = enter(&Listener::bind(address).unwrap());
        a.close();
        assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
        assert_eq!(kind(b.send(&1)), ErrorKind::Disconnected, "{address}");
        assert_eq!(b.stats().sent.messages, 0, "{address}");
    }
}

#[test]
fn draining_returns_when_the_other_end_has_received_everything_and_not_before() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.drain(Duration::ZERO).unwrap(); // nothing was sent
    for number in 0..10 {
        a.send(&number).unwrap();
    }
    for left in (1..=10).rev() {
        let error = a.drain(Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Undrained);
        assert_eq!(
            error.unreceived(),
            Some(10),
            "an upper bound: nothing was confirmed yet"
        );
        assert_eq!(b.recv::<u8>().unwrap(), 10 - left);
    }
    thread::scope(|scope| {
        let draining = asleep(scope, || a.drain(PATIENCE));
        // Looking for the next message is what tells that the last one has been received.
        assert!(!b.poll(Duration::ZERO).unwrap());
        draining.join().unwrap().unwrap();
    });
    a.send(&1).unwrap();
    let error = a.drain(Duration::ZERO).unwrap_err();
    assert_eq!(error.unreceived(), Some(1));
    assert!(error.to_string().contains("up to 1 had not"), "{error}");
}

#[test]
fn an_end_that_has_finished_is_told_when_everything_has_been_received() {
    let _watchdog = watchdog();
    for listener in [
        Listener::bind_private().unwrap(),
        Listener::bind("tcp:127.0.0.1:0").unwrap(),
    ] {
        let (a, b) = enter(&listener);
        for number in 0..3u8 {
            a.send(&number).unwrap();
        }
        a.finish().unwrap();
        let error = a.drain(SHORT).unwrap_err();
        assert_eq!(
            (error.kind(), error.unreceived()),
            (ErrorKind::Undrained, Some(3))
        );
        thread::scope(|scope| {
            let drained = scope.spawn(|| a.drain(PATIENCE));
            for number in 0..3u8 {
                assert_eq!(b.recv::<u8>().unwrap(), number);
            }
            assert_eq!(kind(b.recv::<u8>()), ErrorKind::Disconnected);
            drained.join().unwrap().unwrap();
        });
        b.send(&9).unwrap();
        assert_eq!(a.recv::<u8>().unwrap(), 9);
        a.drain(SHORT).unwrap();
    }
}

#[test]
fn an_end_that_has_finished_cannot_answer_a_drain_and_the_error_says_so() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.finish().unwrap();
    b.send(&1).unwrap();
    assert_eq!(a.recv::<u8>().unwrap(), 1);
    let error = b.drain(PATIENCE).unwrap_err();
    assert_eq!(
        (error.kind(), error.unreceived()),
        (ErrorKind::Undrained, Some(1))
    );
    assert!(error.to_string().contains("finished sending"), "{error}");
    assert!(!error.to_string().contains("went away"), "{error}");
}

#[test]
fn two_ends_that_drain_at_the_same_time_answer_each_other() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    thread::scope(|scope| {
        for end in [&a, &b] {
            scope.spawn(|| {
                for number in 0..300 {
                    end.send(&number).unwrap();
                    thread::scope(|scope| {
                        let draining = scope.spawn(|| end.drain(PATIENCE));
                        assert_eq!(end.recv::<u32>().unwrap(), number);
                        draining.join().unwrap().unwrap();
                    });
                }
            });
        }
    });
}

#[test]
fn a_drain_leaves_the_messages_of_the_other_direction_to_whoever_receives() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    const ROUNDS: u32 = 300;
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..ROUNDS {
                assert_eq!(b.recv::<u32>().unwrap(), number);
                b.send(&number).unwrap();
            }
            b.close();
        });
        scope.spawn(|| {
            for number in 0..ROUNDS {
                assert_eq!(a.recv::<u32>().unwrap(), number);
            }
            assert_eq!(kind(a.recv_bytes()), ErrorKind::Disconnected);
        });
        for number in 0..ROUNDS {
            a.send(&number).unwrap();
            a.drain(PATIENCE).unwrap();
        }
    });
}

#[test]
fn a_farewell_says_how_much_was_received_even_without_an_answer() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.send(&1).unwrap();
    assert_eq!(b.recv::<u8>().unwrap(), 1);
    b.close();
    // The question can no longer be sent, and is answered all the same.
    a.drain(PATIENCE).unwrap();

    let (a, b) = ductworks::pair().unwrap();
    a.send(&1).unwrap();
    a.send(&2).unwrap();
    thread::scope(|scope| {
        let draining = asleep(scope, || a.drain(PATIENCE));
        assert_eq!(b.recv::<u8>().unwrap(), 1);
        b.close();
        let error = draining.join().unwrap().unwrap_err();
        assert_eq!(
            (error.kind(), error.unreceived()),
            (ErrorKind::Undrained, Some(1))
        );
    });
}

#[test]
fn a_closed_end_has_no_direction_to_finish() {
    let _watchdog = watchdog();
    let (a, _b) = ductworks::pair().unwrap();
    // Only a part of it is taken, and the close throws the rest away.
    a.try_send_bytes(&LARGE).unwrap();
    a.close();
    assert_eq!(kind(a.finish()), ErrorKind::Closed);
}

#[test]
fn version_1_has_no_word_for_draining() {
    let _watchdog = watchdog();
    let (a, _b) = Transport::Unix.ducts();
    assert_eq!(kind(a.drain(PATIENCE)), ErrorKind::InvalidInput);
}

#[test]
fn a_flood_of_control_frames_keeps_nobody_beyond_the_deadline() {
    let _watchdog = watchdog();
    let (duct, mut peer) = bare_peer();
    let flood = said(FAREWELL).repeat(1000);
    thread::spawn(move || while peer.write_all(&flood).is_ok() {});
    assert_eq!(
        kind(duct.recv_bytes_timeout(Duration::from_millis(50))),
        ErrorKind::TimedOut
    );
    assert!(!duct.poll(Duration::from_millis(50)).unwrap());
    duct.try_recv_bytes().unwrap_err();
    duct.close();
}

#[test]
fn a_control_frame_that_has_no_place_closes_the_duct() {
    let _watchdog = watchdog();
    let misplaced = [said(Control::Proof([1; 32])), said(Control::Accept)];
    for frame in misplaced {
        let (duct, mut peer) = bare_peer();
        peer.write_all(&frame).unwrap();
        assert_eq!(kind(duct.recv_bytes()), ErrorKind::Protocol);
        assert!(duct.is_closed());
        // It is a close and no death.
        let mut last = Vec::new();
        peer.read_to_end(&mut last).unwrap();
        assert_eq!((last.len(), &last[..2]), (128, &b"\xd2\x10"[..]));
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn control_frames_between_messages_never_touch_these(
        script in prop::collection::vec((0u8..3, 0usize..300), 1..40),
        cut in 1usize..200,
    ) {
        let (a, b) = engine::socket_pair().unwrap();
        Mark::V2.put(&b).unwrap();
        let duct = Duct::try_from(b).unwrap();
        let mut stream = Vec::new();
        let mut messages = Vec::new();
        for (number, (what, len)) in script.into_iter().enumerate() {
            match what {
                0 => stream.extend(said(FAREWELL)),
                1 => stream.extend(said(Control::Drain { id: number as u64 + 1 })),
                _ => {
                    let message = pattern(len);
                    let start = stream.len();
                    stream.extend_from_slice(V2.head(len).unwrap().as_ref());
                    stream.extend_from_slice(&message);
                    stream.resize(stream.len().max(start + 128), 0);
                    messages.push(message);
                }
            }
        }
        let mut peer = File::from(a.try_clone().unwrap());
        let mut received = Vec::new();
        for piece in stream.chunks(cut) {
            peer.write_all(piece).unwrap();
            // A waiting message makes the descriptor readable, whatever was heard before.
            while duct.poll(Duration::ZERO).unwrap() {
                prop_assert!(is_readable(&duct));
                received.push(duct.try_recv_bytes().unwrap());
            }
            prop_assert!(duct.try_recv_bytes().is_err());
        }
        prop_assert_eq!(received, messages);
    }
}
