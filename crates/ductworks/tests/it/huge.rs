//! Messages of more bytes than 32 bits can count. `make test-huge` runs this; it needs 12 GiB of
//! memory.

use std::fs;
use std::time::Instant;

use crate::common::*;
use ductworks::{ConnectOptions, Duct, ErrorKind, ListenOptions, Listener};

/// More than fit in 31 bits in the second, and in 32 bits in the last of them.
const SIZES: [usize; 3] = [9 << 27, 9 << 28, 9 << 29];

const LIMIT: usize = 5 << 30;

/// What a process needs besides the message, in bytes.
const OTHER_MEMORY: usize = 64 << 20;

pub(crate) const ROLES: &[Role<'_>] = &[("send", send), ("send too much", send_too_much)];

#[test]
#[ignore = "make test-huge: it needs 12 GiB of memory"]
fn a_message_of_4_5_gib_crosses_at_a_linear_cost() {
    for transport in TRANSPORTS {
        for size in SIZES {
            let _watchdog = watchdog();
            let listener = listener(transport, LIMIT);
            let role = process("send", format!("{size} {}", listener.ticket()));
            let sender = { role }.spawn().unwrap();
            let duct = listener.accept_timeout(PATIENCE).unwrap();
            assert_eq!(duct.recv_bytes().unwrap(), b"ready");
            forget_peak();
            let begun = Instant::now();
            let mut message = duct.recv_bytes().unwrap();
            let taken = begun.elapsed().as_secs_f64();
            assert_eq!(message.len(), size);
            assert!(is_numbered(&message), "the content is another");
            // Again, into memory that the system has given to the process already.
            message[size / 2..].fill(0);
            duct.send(&"again").unwrap();
            let begun = Instant::now();
            assert_eq!(duct.recv_into(&mut message).unwrap(), size);
            let again = begun.elapsed().as_secs_f64();
            assert!(is_numbered(&message), "the content is another");
            let peak = memory("VmHWM");
            let others: usize = duct.recv().unwrap();
            for (whose, peak) in [("receiver", peak), ("sender", others)] {
                assert!(peak < size + OTHER_MEMORY, "the {whose} took {peak} bytes");
            }
            let gib = size as f64 / (1u64 << 30) as f64;
            println!(
                "{transport:?}: {gib:.3} GiB in {taken:.2} s, {:.2} s a GiB; into memory that was \
                 there {again:.2} s, {:.2} s a GiB; peak memory {:.3} and {:.3} of the message at \
                 the sender and the receiver",
                taken / gib,
                again / gib,
                others as f64 / size as f64,
                peak as f64 / size as f64,
            );
            assert_success(sender);
        }
    }
}

#[test]
#[ignore = "make test-huge: it needs 12 GiB of memory"]
fn a_message_over_the_limit_of_the_other_end_is_refused_before_a_byte_goes_out() {
    for transport in TRANSPORTS {
        let _watchdog = watchdog();
        // One byte short of the message, and beyond 32 bits.
        let listener = listener(transport, SIZES[2] - 1);
        let sender = process("send too much", listener.ticket()).spawn().unwrap();
        let duct = listener.accept_timeout(PATIENCE).unwrap();
        assert_eq!(duct.recv_bytes().unwrap(), b"and nothing else");
        assert_eq!(kind(duct.recv_bytes()), ErrorKind::Disconnected);
        assert_eq!(duct.stats().received.messages, 1);
        assert_success(sender);
    }
}

fn listener(transport: Transport, limit: usize) -> Listener {
    let options = ListenOptions::new().message_limit(limit);
    match transport {
        Transport::Unix => options.bind_private().unwrap(),
        Transport::Tcp => options.bind("tcp:127.0.0.1:0").unwrap(),
    }
}

fn connected(ticket: &str) -> Duct {
    let options = ConnectOptions::new().message_limit(LIMIT);
    options.connect(ticket).unwrap()
}

fn send(argument: &str) {
    let (size, ticket) = argument.split_once(' ').unwrap();
    let message = numbered_words(size.parse().unwrap());
    let duct = connected(ticket);
    duct.send_bytes(b"ready").unwrap();
    duct.send_bytes(&message).unwrap();
    assert_eq!(duct.recv::<String>().unwrap(), "again");
    duct.send_bytes(&message).unwrap();
    duct.send(&memory("VmHWM")).unwrap();
}

fn send_too_much(ticket: &str) {
    let message = vec![0; SIZES[2]];
    let duct = connected(ticket);
    assert_eq!(duct.message_limit(), SIZES[2] - 1);
    let error = duct.send_bytes(&message).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let told = error.to_string();
    let figures = [
        "4831838208 bytes",
        "limit is 4831838207",
        "nothing was sent",
    ];
    for figure in figures {
        assert!(told.contains(figure), "{told}");
    }
    assert_eq!(duct.stats().sent.messages, 0);
    duct.send_bytes(b"and nothing else").unwrap();
}

/// Each word is its place, so that a part that is missing, doubled or moved shows.
fn numbered_words(size: usize) -> Vec<u8> {
    let mut message = vec![0; size];
    for (place, word) in message.as_chunks_mut().0.iter_mut().enumerate() {
        *word = (place as u64).to_le_bytes();
    }
    message
}

fn is_numbered(message: &[u8]) -> bool {
    let words = message.as_chunks().0.iter().enumerate();
    words
        .into_iter()
        .all(|(place, word)| u64::from_le_bytes(*word) == place as u64)
}

/// From now on `VmHWM` is the peak of what comes (proc_pid_clear_refs(5)).
fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}
