//! Closing an end that other threads are using.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{Duct, ErrorKind, Listener, Result};

/// Every call that can wait, on a duct whose other end neither reads nor writes. The first of two
/// threads waits for the other end, and the second for its turn.
const CALLS: [fn(&Duct) -> Result<()>; 8] = [
    |duct| duct.recv_bytes().map(drop),
    |duct| duct.recv_bytes_timeout(PATIENCE).map(drop),
    |duct| duct.recv_into(&mut [0]).map(drop),
    |duct| duct.poll(PATIENCE).map(drop),
    |duct| duct.send_bytes(&LARGE),
    |duct| duct.send_bytes_timeout(&LARGE, PATIENCE),
    |duct| duct.flush(PATIENCE),
    // A thread that waits for a message and helps another out at the same time.
    |duct| {
        let _ = duct.try_send_bytes(&LARGE);
        duct.recv_bytes().map(drop)
    },
];

/// A duct that has accepted more than goes out.
fn full(transport: Transport) -> (Duct, Duct) {
    let (a, b) = transport.ducts();
    a.try_send_bytes(&LARGE).unwrap();
    (a, b)
}

#[test]
fn close_wakes_whoever_waits_in_whatever() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        for call in CALLS {
            let (a, b) = full(transport);
            thread::scope(|scope| {
                let waiting = [(); 3].map(|()| asleep(scope, || kind(call(&a))));
                a.close();
                for thread in waiting {
                    assert_eq!(thread.join().unwrap(), ErrorKind::Closed);
                }
            });
            assert_eq!(kind(call(&a)), ErrorKind::Closed);
            drop(b);
        }
    }
}

#[test]
fn close_wakes_all_of_them_at_once() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, _b) = full(transport);
        let a = &a;
        thread::scope(|scope| {
            let waiting = CALLS.map(|call| asleep(scope, move || kind(call(a))));
            a.close();
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), ErrorKind::Closed);
            }
        });
    }
}

/// The moment between the last look and the sleep is short: it takes many tries to hit it.
#[test]
fn a_close_is_never_missed_by_those_just_about_to_wait() {
    let _watchdog = watchdog();
    for round in 0..800 {
        let (a, _b) = ductworks::pair().unwrap();
        a.try_send_bytes(&LARGE[..4_000_000]).unwrap();
        let call = CALLS[round % CALLS.len()];
        let start = Barrier::new(3);
        thread::scope(|scope| {
            let waiting = [(); 2].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    kind(call(&a))
                })
            });
            start.wait();
            (0..round % 300).for_each(|_| std::hint::spin_loop());
            a.close();
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), ErrorKind::Closed);
            }
        });
    }
}

#[test]
fn close_wakes_those_who_accept() {
    let _watchdog = watchdog();
    for round in 0..300 {
        let listener = match round % 2 {
            0 => Listener::bind_private().unwrap(),
            _ => Listener::bind("tcp:127.0.0.1:0").unwrap(),
        };
        thread::scope(|scope| {
            let accept = || kind(listener.accept());
            let accept_timeout = || kind(listener.accept_timeout(PATIENCE));
            let waiting = match round {
                0..100 => [asleep(scope, accept), asleep(scope, accept_timeout)],
                _ => [scope.spawn(accept), scope.spawn(accept_timeout)],
            };
            listener.close();
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), ErrorKind::Closed);
            }
        });
    }
}

/// Both ends stream in both directions while one of them is closed: what the other one got is a
/// prefix, and nobody hangs.
#[test]
fn a_close_in_the_midst_of_traffic_leaves_an_exact_prefix() {
    let _watchdog = watchdog();
    for round in 0..60 {
        let transport = TRANSPORTS[round % 2];
        let (a, b) = transport.ducts();
        thread::scope(|scope| {
            let threads = [
                scope.spawn(|| pour(&a)),
                scope.spawn(|| drain(&a)),
                scope.spawn(|| pour(&b)),
                scope.spawn(|| drain(&b)),
            ];
            (0..round).for_each(|_| thread::yield_now());
            a.close();
            let ends = threads.map(|thread| thread.join().unwrap());
            assert_eq!(ends[..2], [ErrorKind::Closed; 2]);
            assert_eq!(ends[2], ErrorKind::Disconnected);
            let gone = [
                ErrorKind::Disconnected,
                ErrorKind::Truncated,
                ErrorKind::Reset,
            ];
            assert!(gone.contains(&ends[3]), "{:?}", ends[3]);
        });
    }
}

fn pour(duct: &Duct) -> ErrorKind {
    let mut number = 0;
    loop {
        match duct.send_bytes(&numbered(number)) {
            Ok(()) => number += 1,
            Err(error) => return error.kind(),
        }
    }
}

fn drain(duct: &Duct) -> ErrorKind {
    let mut number = 0;
    loop {
        match duct.recv_bytes() {
            Ok(message) => assert!(message == numbered(number)),
            Err(error) => return error.kind(),
        }
        number += 1;
    }
}

#[test]
fn many_may_close_at_once_and_again() {
    let _watchdog = watchdog();
    for _ in 0..200 {
        let (a, b) = ductworks::pair().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| kind(a.recv_bytes()));
            for _ in 0..3 {
                scope.spawn(|| a.close());
            }
        });
        a.close();
        assert!(a.is_closed());
        assert_eq!(kind(a.send(&1)), ErrorKind::Closed);
        assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
    }
}

#[test]
fn closing_either_half_closes_the_duct() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let (sender, receiver) = a.split();
    thread::scope(|scope| {
        let waiting = asleep(scope, || kind(receiver.recv_bytes()));
        sender.close();
        assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
    });
    assert!(receiver.is_closed());
    assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
}

#[test]
fn what_was_sent_before_the_close_arrives() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        a.send_bytes(&pattern(50_000)).unwrap();
        a.send(&1).unwrap();
        a.close();
        assert!(b.recv_bytes().unwrap() == pattern(50_000));
        assert_eq!(b.recv::<u8>().unwrap(), 1);
        assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
    }
}

/// Somebody may still hold the number: it must not become that of another file.
#[test]
fn a_closed_duct_keeps_its_number_until_it_is_dropped() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let number = a.as_fd().as_raw_fd();
    a.close();
    let others = [(); 20].map(|()| ductworks::pair().unwrap());
    for (c, d) in &others {
        assert!(number != c.as_fd().as_raw_fd() && number != d.as_fd().as_raw_fd());
    }
    assert_eq!(a.as_fd().as_raw_fd(), number);
    // What is behind it now is nobody's connection.
    assert!(rustix::net::getpeername(&a).is_err());
    assert!(b.poll(Duration::ZERO).unwrap());
}

#[test]
fn a_close_beside_short_sends_is_no_death() {
    let _watchdog = watchdog();
    for round in 0..300 {
        let (a, b) = ductworks::pair().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| while a.send_bytes(&[7; 10]).is_ok() {});
            for _ in 0..round % 7 {
                b.recv_bytes().unwrap();
            }
            a.close();
        });
        let end = loop {
            if let Err(end) = b.recv_bytes() {
                break end;
            }
        };
        assert_eq!(end.kind(), ErrorKind::Disconnected, "round {round}");
    }
}
