//! A real process that is killed at its byte: a child that talks through a relay in the same process.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::thread;

use ductworks::wire::CONTROL_LEN;
use ductworks::{Address, ConnectOptions, Duct, ErrorKind, Ticket};
use rustix::process::{Signal, getpid, kill_process};

use super::assert_ends_so;
use super::peer::{Death, Recording, Spoken, messages};
use super::survivors::{Event, Parent, dial};
use crate::common::{Transport, process, watchdog};

pub(crate) fn a_parent_is_left(spoken: Spoken, transport: Transport) {
    let watchdog = watchdog();
    let recording = Recording::make(spoken);
    let parent = Parent::new(spoken, transport);
    for death in recording.offsets(spoken, 61) {
        watchdog.pat();
        if let Death::Read(0) = death {
            continue; // How much it had written by then would be chance.
        }
        let shown = format!("{death:?}, {spoken:?}, {transport:?}");
        let ticket = parent.listener.ticket();
        let (way, count) = match death {
            Death::Written(count) => ("written", count),
            Death::Read(count) => ("read", count),
        };
        let argument = format!("{way} {count} {ticket}");
        let mut child = process("be killed", argument).spawn().unwrap();
        let event = parent.told.recv().unwrap();
        // With the last byte of its proof it is in, whether it lives to hear that or not.
        let proof = match death {
            Death::Written(count) => count.cmp(&spoken.handshake()),
            Death::Read(count) if spoken == Spoken::Token => count.cmp(&CONTROL_LEN),
            Death::Read(_) => Ordering::Greater,
        };
        match event {
            Event::Refused(why) => {
                assert!(proof.is_le(), "{why}, {shown}");
                parent.assert_unharmed(&why, &ticket, &shown);
            }
            Event::Accepted(duct) => {
                assert!(proof.is_ge(), "{shown}");
                assert_received(&duct, &recording, death, spoken, &shown);
            }
        }
        // Whoever closed the sockets, it was not the program.
        assert!(!child.wait().unwrap().success(), "{shown}");
    }
}

/// Sends back what comes, until the end.
fn assert_received(duct: &Duct, recording: &Recording, death: Death, spoken: Spoken, shown: &str) {
    let mut received = Vec::new();
    while let Ok(message) = duct.recv_bytes() {
        // It may be gone before the answer.
        let _ = duct.send_bytes(&message);
        received.push(message);
    }
    let mut ends = Vec::new();
    for frame in &recording.frames {
        ends.push(ends.last().copied().unwrap_or(spoken.handshake()) + frame.len());
    }
    let (whole, is_cut) = match death {
        Death::Written(count) => {
            let whole = ends.iter().filter(|end| **end <= count).count();
            let farewell = ends[2] + recording.farewell.len();
            let borders = [spoken.handshake(), ends[0], ends[1], ends[2], farewell];
            (whole, !borders.contains(&count))
        }
        // The last answer that it began to read is one to a message of its own.
        Death::Read(count) if count <= spoken.handshake() && spoken != Spoken::V1 => (0, false),
        Death::Read(count) => (ends.iter().filter(|end| **end < count).count() + 1, false),
    };
    assert_eq!(received, recording.messages[..whole], "{shown}");
    let said_farewell =
        matches!(death, Death::Written(count) if spoken != Spoken::V1 && count > ends[2]);
    let end = match spoken {
        _ if is_cut => ErrorKind::Truncated,
        // It depends on what the relay had not read yet.
        Spoken::V1 => match duct.recv_bytes().unwrap_err().kind() {
            ErrorKind::Reset => ErrorKind::Reset,
            _ => ErrorKind::Disconnected,
        },
        _ if said_farewell => ErrorKind::Disconnected,
        _ => ErrorKind::PeerDied,
    };
    assert_ends_so(duct, end, shown);
}

/// The role of the process: it has an honest conversation with the parent, up to its byte.
pub(crate) fn be_killed(argument: &str) {
    let mut words = argument.splitn(3, ' ');
    let mut word = || words.next().unwrap();
    let (way, count) = (word(), word().parse::<usize>().unwrap());
    let (written, read) = match way {
        "written" => (count, usize::MAX),
        _ => (usize::MAX, count),
    };
    let ticket: Ticket = word().parse().unwrap();
    let spoken = match ticket.token() {
        Some(_) => Spoken::Token,
        None => Spoken::V1,
    };
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = relay.local_addr().unwrap().port();
    let detour = Ticket::new(
        Address::tcp("127.0.0.1", port).unwrap(),
        ticket.token().cloned(),
    );
    thread::spawn(move || {
        let options = ConnectOptions::new().v1(spoken == Spoken::V1);
        let duct = options.connect(detour).unwrap();
        for message in messages() {
            duct.send_bytes(&message).unwrap();
            assert_eq!(duct.recv_bytes().unwrap(), message);
        }
    });
    let parent = File::from(dial(ticket.address(), spoken));
    let (child, _) = relay.accept().unwrap();
    let child = File::from(OwnedFd::from(child));
    let (from, to) = (parent.try_clone().unwrap(), child.try_clone().unwrap());
    thread::spawn(move || pump(from, to, read, false));
    pump(child, parent, written, true);
    // With its farewell the child has gone, and the process is killed nevertheless.
    die();
}

/// Passes bytes on until it is time to die: when the last one has been passed on, or read.
fn pump(mut from: File, mut to: File, most: usize, passes_the_last_on: bool) {
    let mut left = most;
    let mut bytes = [0; 4096];
    while left > 0 {
        let room = left.min(bytes.len());
        let count = from.read(&mut bytes[..room]).unwrap();
        if count == 0 {
            return;
        }
        left -= count;
        if left > 0 || passes_the_last_on {
            to.write_all(&bytes[..count]).unwrap();
        }
    }
    die();
}

fn die() {
    kill_process(getpid(), Signal::KILL).unwrap();
}
