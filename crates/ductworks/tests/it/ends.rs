//! How a duct ends: what had arrived comes first, and then what kind of an end it was.

use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{Duct, ErrorKind, connect};
use rustix::net::sockopt;

pub(crate) const ROLES: &[Role<'_>] = &[("pour", pour)];

/// Numbered messages of all sizes, for as long as this process lives.
fn pour(ticket: &str) {
    let duct = connect(ticket).unwrap();
    for number in 0u32.. {
        duct.send_bytes(&numbered(number)).unwrap();
    }
}

/// Receives in every way that there is, and returns the kind of the end, which must be the same for
/// all of them and stay so.
#[track_caller]
fn kind_of_end(duct: &Duct) -> ErrorKind {
    let mut place = [0; 100];
    let mut ends = vec![kind(duct.recv_bytes())];
    for _ in 0..2 {
        assert!(
            duct.poll(Duration::ZERO).unwrap(),
            "an end is no reason to wait"
        );
        assert!(is_readable(duct));
        ends.push(kind(duct.recv_bytes()));
        ends.push(kind(duct.try_recv_bytes()));
        ends.push(kind(duct.recv_bytes_timeout(PATIENCE)));
        ends.push(kind(duct.recv_into(&mut place)));
        ends.push(kind(duct.try_recv::<u8>()));
    }
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    assert!(
        !duct.is_closed(),
        "closing this end is its owner's business"
    );
    ends[0]
}

#[test]
fn a_clean_end_comes_after_the_last_message() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        b.send(&1).unwrap();
        b.send_bytes(b"").unwrap();
        b.close();
        assert_eq!(a.recv::<u8>().unwrap(), 1);
        assert!(a.poll(PATIENCE).unwrap());
        assert_eq!(a.recv_bytes().unwrap(), b"");
        assert_eq!(kind_of_end(&a), ErrorKind::Disconnected);
        // The first send after it may still seem to succeed over TCP.
        while a.send(&2).is_ok() {}
        assert_eq!(kind(a.send(&2)), ErrorKind::Disconnected);
    }
}

#[test]
fn an_end_is_told_from_a_truncation_at_every_byte() {
    let _watchdog = watchdog();
    let whole = frame(b"whole");
    let stream = [&whole[..], &frame(b"part")].concat();
    for transport in TRANSPORTS {
        for cut in 0..=stream.len() {
            let (duct, mut peer) = transport.bare_peer();
            peer.write_all(&stream[..cut]).unwrap();
            drop(peer);
            let messages = [&b"whole"[..], b"part"];
            let complete = [whole.len(), stream.len()].map(|end| end <= cut);
            for (message, _) in messages.iter().zip(complete).filter(|(_, there)| *there) {
                assert_eq!(duct.recv_bytes().unwrap(), *message);
            }
            let clean = cut == 0 || cut == whole.len() || cut == stream.len();
            let expected = match clean {
                true => ErrorKind::Disconnected,
                false => ErrorKind::Truncated,
            };
            assert_eq!(kind_of_end(&duct), expected, "{transport:?}, {cut} bytes");
        }
    }
}

#[test]
fn a_truncation_is_one_also_where_a_part_was_received_before() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for cut in [1, 5, 7] {
            let (duct, mut peer) = transport.bare_peer();
            peer.write_all(&frame(b"part")[..cut]).unwrap();
            wait_until_readable(&duct);
            assert!(is_late(&duct.try_recv_bytes().unwrap_err()));
            assert!(!duct.poll(Duration::ZERO).unwrap());
            drop(peer);
            let error = duct.recv_bytes().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Truncated);
            if cut == 7 {
                let told = error.to_string();
                assert!(told.contains("after 2 of its 4 bytes"), "{told}");
            }
            assert_eq!(kind_of_end(&duct), ErrorKind::Truncated);
        }
    }
}

/// A peer that ends with a reset and no clean end.
fn reset(transport: Transport, duct: &Duct, peer: File) {
    match transport {
        // What was sent to it and never read.
        Transport::Unix => duct.send_bytes(b"unread").unwrap(),
        Transport::Tcp => sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap(),
    }
    drop(peer);
}

#[test]
fn a_reset_between_messages_is_told_from_a_clean_end() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (duct, mut peer) = transport.bare_peer();
        peer.write_all(&frame(b"before")).unwrap();
        wait_until_readable(&duct);
        reset(transport, &duct, peer);
        assert_eq!(duct.recv_bytes().unwrap(), b"before", "{transport:?}");
        assert_eq!(kind_of_end(&duct), ErrorKind::Reset, "{transport:?}");
    }
}

#[test]
fn a_reset_is_one_whoever_is_told_of_it_first() {
    let _watchdog = watchdog();
    let first: [fn(&Duct); 4] = [
        |duct| assert!(duct.poll(PATIENCE).unwrap()),
        |duct| {
            assert!(duct.poll(PATIENCE).unwrap());
            assert!(duct.poll(PATIENCE).unwrap());
        },
        |duct| assert_eq!(kind(duct.recv_into(&mut [])), ErrorKind::Reset),
        |duct| {
            while duct.send_bytes(b"").is_ok() {}
        },
    ];
    for transport in TRANSPORTS {
        for (at, look) in first.into_iter().enumerate() {
            let (duct, peer) = transport.bare_peer();
            reset(transport, &duct, peer);
            look(&duct);
            assert_eq!(
                kind(duct.recv_bytes()),
                ErrorKind::Reset,
                "{transport:?}, {at}"
            );
        }
    }
}

#[test]
fn a_reset_in_the_middle_of_a_message_truncates_it() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for cut in [2, 5, 6] {
            let (duct, mut peer) = transport.bare_peer();
            peer.write_all(&frame(b"part")[..cut]).unwrap();
            wait_until_readable(&duct);
            reset(transport, &duct, peer);
            assert_eq!(
                kind_of_end(&duct),
                ErrorKind::Truncated,
                "{transport:?}, {cut}"
            );
        }
    }
}

#[test]
fn a_failed_send_hides_nothing_that_can_be_received() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        for number in 0..100u8 {
            b.send(&number).unwrap();
        }
        a.send_bytes(b"never read").unwrap();
        drop(b);
        while a.send_bytes(&[0; 1000]).is_ok() {}
        for number in 0..100u8 {
            assert_eq!(kind(a.send(&number)), ErrorKind::Disconnected);
            assert!(a.poll(Duration::ZERO).unwrap());
            assert_eq!(a.recv::<u8>().unwrap(), number);
        }
        assert_eq!(kind_of_end(&a), ErrorKind::Reset, "{transport:?}");
    }
}

#[test]
fn a_killed_peer_leaves_an_exact_prefix() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for before in [0, 1, 50] {
            let (duct, mut process) = transport.start("pour");
            for number in 0..before {
                assert!(duct.recv_bytes().unwrap() == numbered(number));
            }
            process.kill().unwrap();
            process.wait().unwrap();
            let mut number = before;
            let end = loop {
                match duct.recv_bytes() {
                    Ok(message) => assert!(message == numbered(number), "message {number}"),
                    Err(error) => break error.kind(),
                }
                number += 1;
            };
            let ends = [ErrorKind::Truncated, ErrorKind::PeerDied];
            assert!(ends.contains(&end), "{end:?}");
        }
    }
}

#[test]
fn a_killed_peer_is_noticed_by_whoever_waits() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (duct, mut process) = transport.start("echo");
        // It has inherited no copy of the other end, which would keep that alive.
        let (other, bystander) = transport.start("echo");
        thread::scope(|scope| {
            let receiving = asleep(scope, || kind(duct.recv_bytes()));
            let next = asleep(scope, || kind(duct.recv_bytes()));
            process.kill().unwrap();
            assert_eq!(receiving.join().unwrap(), ErrorKind::PeerDied);
            assert_eq!(next.join().unwrap(), ErrorKind::PeerDied);
        });
        process.wait().unwrap();
        other.send(&1).unwrap();
        assert_eq!(other.recv::<u8>().unwrap(), 1);
        drop(other);
        assert_success(bystander);
    }
}

#[test]
fn a_sender_that_waits_notices_the_end() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        b.send(&7).unwrap();
        thread::scope(|scope| {
            let sending = asleep(scope, || kind(a.send_bytes(&LARGE)));
            drop(b);
            assert_eq!(sending.join().unwrap(), ErrorKind::Disconnected);
        });
        assert_eq!(a.recv::<u8>().unwrap(), 7);
        // A reset that meets a send which has got something out is lost in the system.
        let end = kind_of_end(&a);
        assert!(matches!(end, ErrorKind::Reset | ErrorKind::Disconnected));
    }
}

/// A connection that the system gave up is one whose other end is gone. It is no deadline of the
/// caller's, who would try again for ever.
#[test]
fn a_connection_that_the_system_gave_up_has_not_timed_out() {
    let _watchdog = watchdog();
    let (a, _b) = Transport::Tcp.ducts();
    // With a peer that does not read, this is the quickest way to such an end (tcp(7)).
    sockopt::set_tcp_user_timeout(&a, 100).unwrap();
    a.try_send_bytes(&LARGE).unwrap();
    assert_eq!(kind(a.send(&1)), ErrorKind::Disconnected);
    assert_eq!(kind(a.send(&1)), ErrorKind::Disconnected);
}
