//! Messages of which the system takes only a part at first: the rest goes out before anything else,
//! whatever the sender does next.

use std::fs::File;
use std::io::Read;
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{Duct, ErrorKind};
use proptest::prelude::*;
use rustix::net::{RecvFlags, sockopt};

#[derive(Clone, Debug)]
enum Step {
    Try(usize),
    Timeout(usize),
    Flush,
    /// Something that does not send, and helps the rest out all the same.
    Receive,
    PeerReads(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = || prop_oneof![3 => 0..200usize, 1 => 3_000..60_000usize];
    let step = prop_oneof![
        4 => len().prop_map(Step::Try),
        1 => len().prop_map(Step::Timeout),
        1 => Just(Step::Flush),
        1 => Just(Step::Receive),
        4 => (1..20_000usize).prop_map(Step::PeerReads),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn the_peer_gets_exactly_what_was_accepted(steps in steps()) {
        let _watchdog = watchdog();
        let (duct, mut peer) = Transport::Unix.bare_peer();
        sockopt::set_socket_send_buffer_size(&duct, 4096).unwrap();
        let (mut accepted, mut got) = (Vec::new(), Vec::new());
        for (number, step) in steps.into_iter().enumerate() {
            let message = |len| [&[number as u8][..], &pattern(len)].concat();
            let sent = match step {
                Step::Try(len) => (message(len), duct.try_send_bytes(&message(len))),
                Step::Timeout(len) => {
                    let moment = Duration::from_micros(50);
                    (message(len), duct.send_bytes_timeout(&message(len), moment))
                }
                Step::Flush => {
                    if let Err(error) = duct.flush(Duration::ZERO) {
                        prop_assert!(is_late(&error), "{error}");
                    }
                    continue;
                }
                Step::Receive => {
                    prop_assert_eq!(kind(duct.try_recv_bytes()), ErrorKind::WouldBlock);
                    continue;
                }
                Step::PeerReads(most) => {
                    read_what_is_there(&mut peer, most, &mut got);
                    continue;
                }
            };
            match sent {
                (message, Ok(())) => accepted.extend(frame(&message)),
                (_, Err(error)) => prop_assert!(is_late(&error), "{error}"),
            }
        }
        while let Err(error) = duct.flush(Duration::ZERO) {
            prop_assert!(is_late(&error), "{error}");
            read_what_is_there(&mut peer, usize::MAX, &mut got);
        }
        drop(duct);
        peer.read_to_end(&mut got).unwrap();
        prop_assert!(got == accepted);
    }
}

/// Returns whether there was anything.
fn read_what_is_there(peer: &mut File, most: usize, got: &mut Vec<u8>) -> bool {
    let mut left = most;
    let mut place = [0; 4096];
    while left > 0 {
        let room = left.min(place.len());
        match rustix::net::recv(&*peer, &mut place[..room], RecvFlags::DONTWAIT) {
            Ok((count, _)) => got.extend_from_slice(&place[..count]),
            Err(_) => break,
        }
        left = most - got.len().min(most);
    }
    left < most
}

/// A duct that has accepted a large message of which the most part waits, and its other end.
fn with_a_rest(transport: Transport) -> (Duct, Duct) {
    let (a, b) = transport.ducts();
    a.try_send_bytes(&LARGE).unwrap();
    assert!(is_late(&a.flush(Duration::ZERO).unwrap_err()));
    (a, b)
}

#[test]
fn the_rest_goes_out_before_the_next_message() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = with_a_rest(transport);
        for error in [
            a.try_send(&2).unwrap_err(),
            a.send_timeout(&3, Duration::from_millis(1)).unwrap_err(),
            a.flush(Duration::from_millis(1)).unwrap_err(),
        ] {
            assert!(is_late(&error), "{error}");
        }
        thread::scope(|scope| {
            scope.spawn(|| a.send(&4).unwrap());
            assert!(b.recv_bytes().unwrap() == *LARGE);
            // What was refused was refused whole.
            assert_eq!(b.recv::<u8>().unwrap(), 4);
        });
        assert_eq!(kind(b.try_recv_bytes()), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_send_of_which_not_a_byte_went_out_is_not_sent() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        let mut accepted = 0u32;
        let full = loop {
            match a.try_send_bytes(&accepted.to_be_bytes()) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock, "{full}");
        let moment = Duration::from_millis(1);
        let late = a.send_bytes_timeout(b"late", moment);
        assert_eq!(kind(late), ErrorKind::TimedOut);
        thread::scope(|scope| {
            scope.spawn(|| {
                a.flush(PATIENCE).unwrap();
                a.send_bytes(b"the end").unwrap();
            });
            for number in 0..accepted {
                assert_eq!(b.recv_bytes().unwrap(), number.to_be_bytes());
            }
            assert_eq!(b.recv_bytes().unwrap(), b"the end");
        });
    }
}

/// The peer answers only when it has the whole message: whoever waits for the answer must push.
#[test]
fn the_rest_goes_out_while_the_sender_only_receives() {
    let _watchdog = watchdog();
    let ways: [fn(&Duct) -> u8; 6] = [
        |duct| duct.recv().unwrap(),
        |duct| duct.recv_timeout(PATIENCE).unwrap(),
        |duct| {
            let mut place = [0];
            assert_eq!(duct.recv_into(&mut place).unwrap(), 1);
            place[0] - b'0'
        },
        |duct| {
            assert!(duct.poll(PATIENCE).unwrap());
            duct.try_recv().unwrap()
        },
        |duct| {
            loop {
                match duct.try_recv() {
                    Ok(got) => return got,
                    Err(error) => assert!(is_late(&error), "{error}"),
                }
            }
        },
        |duct| {
            while !duct.poll(Duration::ZERO).unwrap() {}
            duct.recv().unwrap()
        },
    ];
    for transport in TRANSPORTS {
        for receive in ways {
            let (a, b) = with_a_rest(transport);
            thread::scope(|scope| {
                scope.spawn(|| answer(&b));
                assert_eq!(receive(&a), 7);
            });
        }
    }
}

fn answer(duct: &Duct) {
    assert!(duct.recv_bytes().unwrap() == *LARGE);
    duct.send(&7).unwrap();
}

#[test]
fn a_thread_that_waits_already_helps_the_rest_out() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for receive in [
            |duct: &Duct| duct.recv::<u8>(),
            |duct: &Duct| {
                assert!(duct.poll(PATIENCE)?);
                duct.try_recv()
            },
        ] {
            let (a, b) = transport.ducts();
            thread::scope(|scope| {
                let waiting = asleep(scope, || receive(&a));
                a.try_send_bytes(&LARGE).unwrap();
                answer(&b);
                assert_eq!(waiting.join().unwrap().unwrap(), 7);
            });
        }
    }
}

#[test]
fn senders_that_give_up_leave_the_waiting_thread_at_its_help() {
    let _watchdog = watchdog();
    let (a, b) = with_a_rest(Transport::Unix);
    thread::scope(|scope| {
        let waiting = asleep(scope, || a.recv::<u8>().unwrap());
        let give_up = || {
            for _ in 0..50 {
                let late = a.send_timeout(&1, Duration::from_micros(100));
                assert!(is_late(&late.unwrap_err()));
            }
        };
        let senders = [(); 3].map(|()| scope.spawn(give_up));
        for sender in senders {
            sender.join().unwrap();
        }
        answer(&b);
        assert_eq!(waiting.join().unwrap(), 7);
    });
}

#[test]
fn flush_returns_when_the_last_byte_is_out() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = with_a_rest(transport);
        thread::scope(|scope| {
            let flushing = asleep(scope, || a.flush(PATIENCE).unwrap());
            assert!(b.recv_bytes().unwrap() == *LARGE);
            flushing.join().unwrap();
        });
        // Nothing is left, so nothing has to wait.
        a.flush(Duration::ZERO).unwrap();
    }
}

#[test]
fn the_end_of_the_peer_does_not_hang_a_flush() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = with_a_rest(transport);
        b.send(&7).unwrap();
        thread::scope(|scope| {
            let flushing = asleep(scope, || kind(a.flush(PATIENCE)));
            drop(b);
            assert_eq!(flushing.join().unwrap(), ErrorKind::Disconnected);
        });
        // And what it said before is still to be had.
        assert_eq!(a.recv::<u8>().unwrap(), 7);
        let end = kind(a.recv::<u8>());
        assert!(matches!(end, ErrorKind::Reset | ErrorKind::Disconnected));
    }
}

#[test]
fn close_and_drop_send_the_rest_where_there_is_room() {
    let _watchdog = watchdog();
    for finish in [drop, |duct: Duct| duct.close()] {
        let (duct, mut peer) = Transport::Unix.bare_peer();
        // Room of one's own choice is left alone. The system counts more than the bytes, so this does not
        // fit, and half of it would.
        sockopt::set_socket_send_buffer_size(&duct, 1 << 20).unwrap();
        let size = sockopt::socket_send_buffer_size(&duct).unwrap();
        duct.try_send_bytes(&pattern(size)).unwrap();
        assert!(is_late(&duct.flush(Duration::ZERO).unwrap_err()));
        let mut got = Vec::new();
        assert!(read_what_is_there(&mut peer, usize::MAX, &mut got));
        finish(duct);
        peer.read_to_end(&mut got).unwrap();
        assert!(got == frame(&pattern(size)));
    }
}
