//! A peer that does not keep to the protocol: it is told apart, costs no memory, and is not listened
//! to again.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::wire::Violation;
use ductworks::{Duct, ErrorKind};
use proptest::prelude::*;

pub(crate) const ROLES: &[Role<'_>] = &[
    ("refuse giants", refuse_giants),
    ("await a giant", await_a_giant),
];

/// Every way to receive, and to send, fails with the same kind from now on.
#[track_caller]
fn assert_over(duct: &Duct, expected: ErrorKind) {
    let mut place = [0; 100];
    assert!(duct.is_closed());
    for _ in 0..2 {
        assert_eq!(kind(duct.recv_bytes()), expected);
        assert_eq!(kind(duct.try_recv_bytes()), expected);
        assert_eq!(kind(duct.recv_bytes_timeout(PATIENCE)), expected);
        assert_eq!(kind(duct.recv_into(&mut place)), expected);
        assert_eq!(kind(duct.send(&1)), expected);
        assert_eq!(kind(duct.try_send(&1)), expected);
        assert_eq!(kind(duct.flush(PATIENCE)), expected);
    }
    duct.close();
    assert_eq!(kind(duct.recv_bytes()), expected);
}

#[test]
fn a_wrong_first_byte_ends_the_duct() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for wrong in [
            &b"G"[..],
            b"GET / HTTP/1.1\r\n",
            b"\0",
            b"\xff\x54\0\0\0\x01a",
        ] {
            let (duct, mut peer) = transport.bare_peer();
            peer.write_all(&frame(b"fine")).unwrap();
            peer.write_all(wrong).unwrap();
            // What would be a message if anybody looked for the next one.
            peer.write_all(&frame(b"hidden")).unwrap();

            assert_eq!(duct.recv_bytes().unwrap(), b"fine");
            let error = duct.recv_bytes().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            let told = error.to_string();
            let found = format!("0x{:02x}", wrong[0]);
            assert!(told.contains("0x54") && told.contains(&found), "{told}");
            let source = error.into_source().unwrap();
            let expected = Violation::Magic {
                expected: 0x54,
                found: wrong[0],
            };
            assert_eq!(source.downcast_ref(), Some(&expected));
            assert_over(&duct, ErrorKind::Protocol);
        }
    }
}

#[test]
fn a_length_over_the_limit_ends_the_duct() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for (limit, declared) in [(64 << 20, u32::MAX), (64 << 20, (64 << 20) + 1), (10, 11)] {
            let (duct, mut peer) = transport.bare_peer();
            duct.set_message_limit(limit);
            peer.write_all(b"\x54").unwrap();
            peer.write_all(&declared.to_be_bytes()).unwrap();
            peer.write_all(&frame(b"hidden")).unwrap();
            let error = duct.recv_bytes().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            let told = error.to_string();
            assert!(told.contains(&declared.to_string()), "{told}");
            assert!(told.contains(&limit.to_string()), "{told}");
            assert_over(&duct, ErrorKind::TooLarge);
        }
    }
}

#[test]
fn a_violation_is_found_at_its_first_byte_by_whatever_looks() {
    let _watchdog = watchdog();
    let looks: [fn(&Duct) -> bool; 4] = [
        |duct| kind(duct.try_recv_bytes()) == ErrorKind::Protocol,
        |duct| kind(duct.recv_bytes_timeout(PATIENCE)) == ErrorKind::Protocol,
        |duct| kind(duct.recv_into(&mut [])) == ErrorKind::Protocol,
        |duct| duct.poll(PATIENCE).unwrap(),
    ];
    for transport in TRANSPORTS {
        for look in looks {
            let (duct, mut peer) = transport.bare_peer();
            peer.write_all(b"G").unwrap();
            wait_until_readable(&duct);
            assert!(look(&duct));
            // A receive would not wait, also the second time.
            assert!(duct.poll(Duration::ZERO).unwrap());
            assert_over(&duct, ErrorKind::Protocol);
            assert!(duct.poll(Duration::ZERO).unwrap());
        }
    }
}

#[test]
fn the_peer_sees_the_end_at_once() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (duct, mut peer) = transport.bare_peer();
        peer.write_all(b"\x54\xff\xff\xff\xff").unwrap();
        assert_eq!(kind(duct.recv_bytes()), ErrorKind::TooLarge);
        // Although the duct is still there.
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
        drop(duct);
    }
}

#[test]
fn a_violation_wakes_whoever_waits_and_says_why() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (duct, mut peer) = transport.bare_peer();
        thread::scope(|scope| {
            let waiting = [
                asleep(scope, || kind(duct.send_bytes(&LARGE))),
                asleep(scope, || kind(duct.send_bytes(b"after that"))),
                asleep(scope, || kind(duct.recv_bytes())),
                asleep(scope, || kind(duct.recv_bytes())),
            ];
            peer.write_all(b"G").unwrap();
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), ErrorKind::Protocol);
            }
        });
    }
}

// Memory. What has been reserved counts, and not only what of it has been used.

#[test]
fn a_header_that_announces_a_giant_takes_no_memory() {
    let _watchdog = watchdog();
    assert_success(process("refuse giants", "").spawn().unwrap());
}

const MIB: usize = 1024 * 1024;

fn refuse_giants(_: &str) {
    // What the first use of all this takes once.
    let refuse = || {
        let (duct, mut peer) = Transport::Unix.bare_peer();
        peer.write_all(b"\x54\xff\xff\xff\xff").unwrap();
        assert_eq!(kind(duct.recv_bytes()), ErrorKind::TooLarge);
    };
    refuse();
    let before = memory("VmPeak");
    for _ in 0..1000 {
        refuse();
    }
    // Far less than was announced even once; the allocator takes 64 MiB for a new thread.
    assert!(memory("VmPeak") - before < 256 * MIB);
}

#[test]
fn memory_follows_what_has_arrived_and_not_what_was_announced() {
    let _watchdog = watchdog();
    assert_success(process("await a giant", "").spawn().unwrap());
}

fn await_a_giant(_: &str) {
    for transport in TRANSPORTS {
        for wait in [
            |duct: &Duct| assert!(is_late(&duct.try_recv_bytes().unwrap_err())),
            |duct: &Duct| assert!(!duct.poll(Duration::ZERO).unwrap()),
        ] {
            let (duct, mut peer) = transport.bare_peer();
            duct.set_message_limit(usize::MAX);
            let before = memory("VmData");
            peer.write_all(b"\x54\xff\xff\xff\xff").unwrap();
            for received in (0..3 * MIB).step_by(30_000) {
                wait(&duct);
                // Other threads of this process may have given something back.
                let taken = memory("VmData").saturating_sub(before);
                // Twice what the library promises: the allocator keeps the old memory for a while.
                let most = 2 * (2 * received + 64 * 1024) + MIB;
                assert!(taken <= most, "{taken} bytes for {received} received");
                peer.write_all(&[7; 30_000]).unwrap();
            }
        }
    }
}

// Arbitrary bytes.

/// What a receiver must make of a stream that ends: the messages, and the kind of the end.
fn decode(mut stream: &[u8], limit: usize) -> (Vec<&[u8]>, ErrorKind) {
    let mut messages = Vec::new();
    loop {
        let end = match *stream {
            [] => ErrorKind::Disconnected,
            [first, ..] if first != 0x54 => ErrorKind::Protocol,
            [_, a, b, c, d, ref rest @ ..] => {
                let len = u32::from_be_bytes([a, b, c, d]) as usize;
                if len <= limit && len <= rest.len() {
                    messages.push(&rest[..len]);
                    stream = &rest[len..];
                    continue;
                }
                match len > limit {
                    true => ErrorKind::TooLarge,
                    false => ErrorKind::Truncated,
                }
            }
            _ => ErrorKind::Truncated,
        };
        return (messages, end);
    }
}

/// Mostly what looks like frames, for bytes at random fail with the first.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..12);
    let piece = prop_oneof![
        6 => bytes().prop_map(|payload| frame(&payload)),
        2 => (0..40u8).prop_map(|len| vec![0x54, 0, 0, 0, len]),
        1 => bytes(),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_bytes_are_messages_up_to_the_first_fault_and_then_that(
        stream in streams(),
        limit in 8usize..40,
        looks in prop::collection::vec(0..5u8, 1..20),
    ) {
        let _watchdog = watchdog();
        let (duct, mut peer) = Transport::Unix.bare_peer();
        duct.set_message_limit(limit);
        peer.write_all(&stream).unwrap();
        drop(peer);
        let (expected, end) = decode(&stream, limit);
        let (mut messages, mut looks) = (Vec::new(), looks.into_iter().cycle());
        let found = loop {
            let mut place = [0; 40];
            let outcome = match looks.next().unwrap() {
                0 => duct.recv_bytes(),
                1 => duct.try_recv_bytes(),
                2 => duct.recv_into(&mut place).map(|len| place[..len].to_vec()),
                3 => duct.recv_bytes_timeout(PATIENCE),
                _ => {
                    prop_assert!(duct.poll(PATIENCE).unwrap());
                    duct.recv_bytes()
                }
            };
            match outcome {
                Ok(message) => messages.push(message),
                // A process that another test starts holds the peer too, until its exec.
                Err(error) if is_late(&error) => {}
                Err(error) => break error.kind(),
            }
        };
        prop_assert_eq!(messages, expected);
        prop_assert_eq!(found, end);
        prop_assert_eq!(kind(duct.recv_bytes()), end);
        prop_assert!(duct.poll(Duration::ZERO).unwrap());
    }
}
