//! What is different where a network lies between the two ends.

#![allow(clippy::unwrap_used, missing_docs)] // A failed unwrap is how a test fails.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use ductworks::{ErrorKind, Listener};

fn addresses() -> Vec<&'static str> {
    let mut addresses = vec!["tcp:127.0.0.1:0"];
    if cfg!(feature = "tls") {
        addresses.push("tls:127.0.0.1:0");
    }
    addresses
}

#[test]
fn a_close_loses_nothing_while_unread_messages_lie_there() {
    let _watchdog = watchdog();
    let large = pattern(2_000_000);
    for address in addresses() {
        for _ in 0..10 {
            let (a, b) = enter(&Listener::bind(address).unwrap());
            for _ in 0..50 {
                b.send_bytes(&pattern(5_000)).unwrap();
            }
            thread::scope(|scope| {
                scope.spawn(|| {
                    a.send_bytes(&large).unwrap();
                    a.send_bytes(b"last").unwrap();
                    a.close();
                });
                assert!(b.recv_bytes().unwrap() == large);
            });
            assert_eq!(b.recv_bytes().unwrap(), b"last");
            assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
        }
    }
}

#[test]
fn a_close_loses_nothing_while_the_other_end_goes_on_sending() {
    let _watchdog = watchdog();
    let large = pattern(1_000_000);
    for address in addresses() {
        for _ in 0..5 {
            let (a, b) = enter(&Listener::bind(address).unwrap());
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    // Until it fails: nobody reads any of it.
                    while !is_over.load(Ordering::SeqCst) && b.try_send_bytes(b"x").is_ok() {}
                });
                scope.spawn(|| {
                    a.send_bytes(&large).unwrap();
                    a.close();
                });
                assert!(b.recv_bytes().unwrap() == large);
                is_over.store(true, Ordering::SeqCst);
            });
            assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
        }
    }
}

#[test]
fn a_close_waits_for_nobody_who_does_not_read() {
    let _watchdog = watchdog();
    for address in addresses() {
        let (a, b) = enter(&Listener::bind(address).unwrap());
        a.try_send_bytes(&LARGE).unwrap();
        let begun = Instant::now();
        a.close();
        // It is meant to be a tenth of a second; a hang would be a minute.
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(kind(b.recv_bytes()), ErrorKind::Truncated);
    }
}
