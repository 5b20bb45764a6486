//! The limit on the size of messages, at either end.

use std::io::Write;
use std::time::Duration;

use crate::common::*;
use ductworks::engine::{Channel, Deadline, Socket, Wait};
use ductworks::wire::{V1, V2};
use ductworks::{Duct, ErrorKind, Result};

#[test]
fn the_limit_is_64_mib_at_both_ends_unless_it_is_set() {
    let _watchdog = watchdog();
    const MIB_64: usize = 64 * 1024 * 1024;
    let (a, b) = ductworks::pair().unwrap();
    assert_eq!((a.message_limit(), b.message_limit()), (MIB_64, MIB_64));
    let largest = vec![7; MIB_64 + 1];
    assert_eq!(kind(a.send_bytes(&largest)), ErrorKind::TooLarge);
    std::thread::scope(|scope| {
        scope.spawn(|| a.send_bytes(&largest[1..]).unwrap());
        assert!(b.recv_bytes().unwrap() == largest[1..]);
    });
}

type Send = fn(&Duct, &[u8]) -> Result<()>;

#[test]
fn a_message_too_large_to_send_changes_nothing() {
    let _watchdog = watchdog();
    let sends: [Send; 4] = [
        |duct, message| duct.send_bytes(message),
        |duct, message| duct.try_send_bytes(message),
        |duct, message| duct.send_bytes_timeout(message, PATIENCE),
        // As JSON it has two bytes more.
        |duct, message| duct.send(str::from_utf8(&message[2..]).unwrap()),
    ];
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        a.set_message_limit(10);
        for send in sends {
            let error = send(&a, b"elevenbytes").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            let told = error.to_string();
            assert!(
                told.contains("11 bytes") && told.contains("limit is 10"),
                "{told}"
            );
            assert!(!a.is_closed());
            assert!(!b.poll(Duration::ZERO).unwrap());
        }
        for send in sends {
            send(&a, b"ten bytes!").unwrap();
            assert_eq!(b.recv_bytes().unwrap().len(), 10);
        }
    }
}

#[test]
fn the_limits_of_the_two_ends_are_their_own() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.set_message_limit(0);
    a.send_bytes(b"").unwrap();
    assert_eq!(b.recv_bytes().unwrap(), b"");
    assert_eq!(kind(a.send_bytes(b"1")), ErrorKind::TooLarge);
    b.send_bytes(b"1").unwrap();
    assert_eq!(kind(a.recv_bytes()), ErrorKind::TooLarge);
    assert!(a.is_closed());
    assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
}

#[test]
fn a_limit_that_is_changed_holds_from_the_next_message_on() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let (sender, receiver) = b.split();
    for limit in [10, 1000, 5] {
        sender.set_message_limit(limit);
        assert_eq!(receiver.message_limit(), limit);
        a.send_bytes(&pattern(limit)).unwrap();
        assert_eq!(receiver.recv_bytes().unwrap(), pattern(limit));
        assert_eq!(
            kind(sender.send_bytes(&pattern(limit + 1))),
            ErrorKind::TooLarge
        );
    }
    a.send_bytes(&pattern(6)).unwrap();
    assert_eq!(kind(receiver.recv_bytes()), ErrorKind::TooLarge);
}

#[test]
fn a_message_that_has_begun_to_arrive_is_not_cut_by_a_lower_limit() {
    let _watchdog = watchdog();
    let (duct, mut peer) = Transport::Unix.bare_peer();
    let stream = frame(b"begun before");
    peer.write_all(&stream[..7]).unwrap();
    assert_eq!(kind(duct.try_recv_bytes()), ErrorKind::WouldBlock);
    duct.set_message_limit(3);
    peer.write_all(&stream[7..]).unwrap();
    assert_eq!(duct.recv_bytes().unwrap(), b"begun before");
}

#[test]
fn a_length_that_the_wire_cannot_say_is_too_large_whatever_the_limit() {
    let _watchdog = watchdog();
    let (duct, _peer) = Transport::Unix.bare_peer();
    let channel = Channel::<V1>::default();
    channel.set_message_limit(usize::MAX);
    // 4 GiB that need not be there.
    let part = vec![0; 1 << 22];
    let parts = vec![&part[..]; 1 << 10];
    let wait = &mut Wait::until(Deadline::Now);
    let error = channel.send(&Socket(&duct), &parts, wait).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains(&u32::MAX.to_string()), "{error}");
}

#[test]
fn a_message_of_more_parts_than_one_system_call_takes_is_sent_whole() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let channel = Channel::<V2>::default();
    let bytes = pattern(5000);
    let parts: Vec<&[u8]> = bytes.chunks(1).collect();
    let wait = &mut Wait::until(Deadline::Never);
    channel.send(&Socket(&a), &parts, wait).unwrap();
    assert_eq!(b.recv_bytes().unwrap(), bytes);
}
