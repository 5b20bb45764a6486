//! Many threads on one duct: each message is whole, and is received exactly once.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{Duct, ErrorKind};

const SENDERS: u32 = 4;
const EACH: u32 = 150;

fn send_all(duct: &Duct, sender: u32) {
    for number in sender * EACH..(sender + 1) * EACH {
        let message = numbered(number);
        // All the forms at once: those that fail have sent nothing.
        while let Err(error) = match number % 3 {
            0 => duct.send_bytes(&message),
            1 => duct.try_send_bytes(&message),
            _ => duct.send_bytes_timeout(&message, Duration::from_micros(20)),
        } {
            assert!(is_late(&error), "{error}");
            thread::yield_now();
        }
    }
}

/// Receives until the end, in all the forms.
fn receive_all(duct: &Duct, receiver: u32) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut place = vec![0; 50_000];
    let moment = Duration::from_micros(20);
    for turn in receiver.. {
        let outcome = match turn % 5 {
            0 => duct.recv_bytes(),
            1 => duct.try_recv_bytes(),
            2 => duct.recv_bytes_timeout(moment),
            3 => duct
                .recv_into_timeout(&mut place, moment)
                .map(|len| place[..len].to_vec()),
            _ => match duct.poll(moment) {
                Ok(_) => continue,
                Err(error) => Err(error),
            },
        };
        match outcome {
            Ok(message) => messages.push(message),
            Err(error) if is_late(&error) => thread::yield_now(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
                break;
            }
        }
    }
    messages
}

#[test]
fn every_message_of_many_senders_reaches_one_of_many_receivers_once() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        let received = thread::scope(|scope| {
            let b = &b;
            let receivers = [0, 1, 2].map(|number| scope.spawn(move || receive_all(b, number)));
            thread::scope(|scope| {
                for sender in 0..SENDERS {
                    let a = &a;
                    scope.spawn(move || send_all(a, sender));
                }
            });
            a.flush(PATIENCE).unwrap();
            drop(a);
            receivers.map(|receiver| receiver.join().unwrap())
        });
        let mut seen = HashSet::new();
        for messages in &received {
            let mut last = HashMap::new();
            for message in messages {
                let number = u32::from_be_bytes(*message.first_chunk().unwrap());
                assert!(*message == numbered(number), "a mixture");
                assert!(seen.insert(number), "message {number} came twice");
                // In order, as far as one receiver can tell.
                let before = last.insert(number / EACH, number);
                assert!(before.is_none_or(|before| before < number));
            }
        }
        assert_eq!(seen.len() as u32, SENDERS * EACH);
    }
}

#[test]
fn both_ends_stream_large_messages_at_each_other() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        let payload = &LARGE[..3_000_000];
        thread::scope(|scope| {
            for duct in [&a, &b] {
                scope.spawn(move || (0..10).for_each(|_| duct.send_bytes(payload).unwrap()));
                scope.spawn(move || {
                    (0..10).for_each(|_| assert!(duct.recv_bytes().unwrap() == payload));
                });
            }
        });
    }
}

#[test]
fn neither_direction_waits_for_the_other() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        thread::scope(|scope| {
            let receiving = asleep(scope, || a.recv::<u8>().unwrap());
            a.send(&1).unwrap();
            assert_eq!(b.recv::<u8>().unwrap(), 1);
            let sending = asleep(scope, || a.send_bytes(&LARGE).unwrap());
            b.send(&2).unwrap();
            assert_eq!(receiving.join().unwrap(), 2);
            b.send(&3).unwrap();
            assert_eq!(a.recv::<u8>().unwrap(), 3);
            assert!(b.recv_bytes().unwrap() == *LARGE);
            sending.join().unwrap();
        });
    }
}

#[test]
fn one_who_may_not_wait_does_not_wait_for_a_turn() {
    let _watchdog = watchdog();
    let (a, b) = Transport::Unix.ducts();
    thread::scope(|scope| {
        let receiving = asleep(scope, || a.recv::<u8>().unwrap());
        let sending = asleep(scope, || a.send_bytes(&LARGE).unwrap());
        assert_eq!(kind(a.try_recv::<u8>()), ErrorKind::WouldBlock);
        assert_eq!(kind(a.try_send(&1)), ErrorKind::WouldBlock);
        let moment = Duration::from_millis(1);
        assert_eq!(kind(a.recv_timeout::<u8>(moment)), ErrorKind::TimedOut);
        assert_eq!(kind(a.send_timeout(&1, moment)), ErrorKind::TimedOut);
        // The next message is the other thread's.
        assert!(!a.poll(moment).unwrap());
        assert!(b.recv_bytes().unwrap() == *LARGE);
        sending.join().unwrap();
        b.send(&1).unwrap();
        assert_eq!(receiving.join().unwrap(), 1);
    });
}

#[test]
fn turns_are_passed_on_also_by_those_who_give_up() {
    let _watchdog = watchdog();
    let (a, b) = Transport::Unix.ducts();
    const MESSAGES: u32 = 2000;
    let left = AtomicU32::new(MESSAGES);
    let start = Barrier::new(6);
    thread::scope(|scope| {
        for receiver in 0..5u32 {
            let (b, left, start) = (&b, &left, &start);
            scope.spawn(move || {
                start.wait();
                loop {
                    // Two wait for as long as it takes, the others come and go.
                    let outcome = match receiver {
                        0 | 1 => b.recv::<u32>(),
                        _ => b.recv_timeout(Duration::from_micros(receiver.into())),
                    };
                    match outcome {
                        Ok(_) => drop(left.fetch_sub(1, Ordering::SeqCst)),
                        Err(error) if is_late(&error) => {}
                        Err(error) => return assert_eq!(error.kind(), ErrorKind::Disconnected),
                    }
                }
            });
        }
        start.wait();
        for number in 0..MESSAGES {
            a.send(&number).unwrap();
            if number % 8 == 0 {
                // Let them all come to rest.
                while left.load(Ordering::SeqCst) != MESSAGES - 1 - number {
                    thread::yield_now();
                }
            }
        }
        drop(a);
    });
    assert_eq!(left.into_inner(), 0);
}

/// The moment between the last look and the sleep is short: it takes many tries to hit it.
#[test]
fn a_turn_given_back_is_never_missed_by_those_just_about_to_wait() {
    let _watchdog = watchdog();
    const ROUNDS: usize = 5000;
    const TOGETHER: usize = 3;
    let (a, b) = Transport::Unix.ducts();
    let start = Barrier::new(TOGETHER);
    thread::scope(|scope| {
        for thread in 0..TOGETHER {
            let (a, start) = (&a, &start);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    // Nobody comes later in a round who could wake the one that was forgotten.
                    start.wait();
                    let len = (round + 7 * thread) % 50 * 400;
                    a.send_bytes(&LARGE[..len]).unwrap();
                }
            });
        }
        for _ in 0..ROUNDS * TOGETHER {
            b.recv_bytes().unwrap();
        }
    });
}

#[test]
fn the_halves_of_a_duct_work_on_threads_of_their_own() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let (sender, receiver) = a.split();
    thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|_| b.send(&b.recv::<u32>().unwrap()).unwrap()));
        scope.spawn(|| (0..100u32).for_each(|number| sender.send(&number).unwrap()));
        (0..100u32).for_each(|number| assert_eq!(receiver.recv::<u32>().unwrap(), number));
    });
    // The connection lasts for as long as either half.
    drop(sender);
    b.send(&7).unwrap();
    assert_eq!(receiver.recv::<u8>().unwrap(), 7);
    drop(receiver);
    assert_eq!(kind(b.recv::<u8>()), ErrorKind::Disconnected);
}

thread_local! {
    static LAST: RefCell<Option<LastWords>> = const { RefCell::new(None) };
}

/// A duct that a thread uses once more when it ends.
struct LastWords(Duct);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.send("asked at the end").unwrap();
        assert_eq!(self.0.recv::<u8>().unwrap(), 7);
    }
}

#[test]
fn a_duct_waits_in_the_destructor_of_a_thread_local_value() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let ending = thread::spawn(move || {
        LAST.set(Some(LastWords(a)));
        // What is used first is destroyed last: what a wait keeps for the thread is gone by then.
        let (c, _d) = ductworks::pair().unwrap();
        c.recv_bytes_timeout(Duration::from_millis(1)).unwrap_err();
    });
    assert_eq!(b.recv::<String>().unwrap(), "asked at the end");
    b.send(&7).unwrap();
    ending.join().unwrap();
    assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
}
