//! A duct that goes on elsewhere with an end through which messages were sent before: what was said to
//! the former owner is not taken for the new one's.

use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{Duct, ErrorKind};

/// Another duct over the end of this one, as the child has that inherits it.
fn handed_on(duct: Duct) -> Duct {
    Duct::try_from(duct.into_descriptor().unwrap()).unwrap()
}

/// A pair in which one end has sent this many messages, all of them received, before it went on elsewhere.
fn after(messages: u32) -> (Duct, Duct) {
    let (a, b) = ductworks::pair().unwrap();
    for number in 0..messages {
        a.send(&number).unwrap();
        assert_eq!(b.recv::<u32>().unwrap(), number);
    }
    (handed_on(a), b)
}

#[test]
fn messages_that_were_received_before_confirm_none_that_was_sent_after() {
    let _watchdog = watchdog();
    let (a, b) = after(5);
    a.send("first").unwrap();
    thread::scope(|scope| {
        let draining = asleep(scope, || a.drain(PATIENCE));
        assert_eq!(b.recv::<String>().unwrap(), "first");
        // Looking for the next message is what tells that this one has been received.
        assert!(!b.poll(Duration::ZERO).unwrap());
        draining.join().unwrap().unwrap();
    });

    // Six messages were received in all by now, and two were sent from here.
    a.send("second").unwrap();
    let error = a.drain(Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undrained);
    assert_eq!(error.unreceived(), Some(2), "an upper bound");
    assert_eq!(b.recv::<String>().unwrap(), "second");
}

#[test]
fn a_farewell_that_counts_earlier_messages_confirms_none_that_was_sent_after() {
    let _watchdog = watchdog();
    let (a, b) = after(5);
    a.send("unread").unwrap();
    b.close();
    assert_eq!(kind(a.recv_bytes()), ErrorKind::Reset);
    let error = a.drain(PATIENCE).unwrap_err();
    assert_eq!(
        (error.kind(), error.unreceived()),
        (ErrorKind::Undrained, Some(1))
    );
}

#[test]
fn an_answer_to_a_question_of_the_former_owner_closes_nothing() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.send(&1).unwrap();
    assert_eq!(kind(a.drain(Duration::ZERO)), ErrorKind::Undrained);
    let a = handed_on(a);
    assert_eq!(b.recv::<u8>().unwrap(), 1);
    // This answers the question.
    assert!(!b.poll(Duration::ZERO).unwrap());
    b.send(&2).unwrap();
    assert_eq!(a.recv::<u8>().unwrap(), 2);
    assert!(!a.is_closed());
}

#[test]
fn an_answer_to_a_question_of_the_former_owner_is_none_to_the_new_ones() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    a.send(&1).unwrap();
    assert_eq!(kind(a.drain(Duration::ZERO)), ErrorKind::Undrained);
    let a = handed_on(a);
    a.send(&2).unwrap();
    assert_eq!(b.recv::<u8>().unwrap(), 1);
    // This answers the question, and finds the second message behind it.
    assert!(b.poll(Duration::ZERO).unwrap());
    assert_eq!(kind(a.drain(Duration::ZERO)), ErrorKind::Undrained);
    assert_eq!(b.recv::<u8>().unwrap(), 2);
}
