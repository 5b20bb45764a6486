//! A TLS connection that is cut after every single byte, in either direction: both ends are left.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ductworks::{Address, Duct, Error, ErrorKind, ListenOptions, Listener, Ticket};
use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt;

use super::peer::Manner;
use crate::common::{drawn, watchdog};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    FromChild,
    FromParent,
}

/// The way between the two, which is cut behind this byte of a direction.
#[derive(Clone, Copy, Debug)]
struct Cut {
    direction: Direction,
    behind: usize,
    manner: Manner,
}

/// What an end has lived to see.
struct Seen {
    messages: Vec<Vec<u8>>,
    end: Error,
}

enum Outcome {
    Accepted(Seen),
    Refused(String),
}

fn messages() -> [Vec<u8>; 3] {
    [b"ping".to_vec(), Vec::new(), vec![7; 200]]
}

/// Receives until the end, and does `then` with each message.
fn receive_all(duct: &Duct, mut then: impl FnMut(&[u8])) -> Seen {
    let mut messages = Vec::new();
    loop {
        match duct.recv_bytes() {
            Ok(message) => {
                then(&message);
                messages.push(message);
            }
            Err(end) => return Seen { messages, end },
        }
    }
}

/// A parent that sends every message back.
fn parent() -> (Arc<Listener>, Receiver<Outcome>, JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let listener = ListenOptions::new().bind("tls:127.0.0.1:0").unwrap();
    let listener = Arc::new(listener.with_log({
        let tell = tell.clone();
        // Nobody is left to hear of it when the test is over.
        move |refusal| drop(tell.send(Outcome::Refused(refusal.to_string())))
    }));
    let door = Arc::clone(&listener);
    let accepting = thread::spawn(move || {
        while let Ok(duct) = door.accept() {
            // Whether they can be sent back is told by the end.
            let seen = receive_all(&duct, |message| drop(duct.send_bytes(message)));
            let _ = tell.send(Outcome::Accepted(seen));
        }
    });
    (listener, told, accepting)
}

/// A child that sends each message when it has the one before back, and closes.
fn converse(ticket: Ticket) -> Result<Seen, Error> {
    let duct = ductworks::connect(ticket)?;
    let mut left = messages().into_iter();
    let _ = duct.send_bytes(&left.next().unwrap());
    Ok(receive_all(&duct, |_| match left.next() {
        Some(message) => drop(duct.send_bytes(&message)),
        None => duct.close(),
    }))
}

/// Passes everything on until the cut. Says whether it came to that.
fn relay(child: TcpStream, parent: TcpStream, cut: Cut) -> bool {
    let ends = [child, parent];
    for end in &ends {
        end.set_nodelay(true).unwrap();
        end.set_nonblocking(true).unwrap();
        if cut.manner == Manner::Reset {
            sockopt::set_socket_linger(end, Some(Duration::ZERO)).unwrap();
        }
    }
    let mut open = [true, true];
    let mut left = cut.behind;
    while open.contains(&true) {
        if left == 0 {
            return true; // Both are closed.
        }
        let mut looks: Vec<_> = std::iter::zip(&ends, open)
            .filter_map(|(end, open)| open.then_some(PollFd::new(end, PollFlags::IN)))
            .collect();
        rustix::event::poll(&mut looks, None).unwrap();
        for from in 0..2 {
            let is_cut = from == usize::from(cut.direction == Direction::FromParent);
            let mut bytes = [0; 4096];
            let room = if is_cut { left.min(4096) } else { 4096 };
            match (&ends[from]).read(&mut bytes[..room]) {
                Ok(count @ 1..) => {
                    // So little always has room; who is gone does not hear it.
                    let _ = (&ends[1 - from]).write_all(&bytes[..count]);
                    left -= if is_cut { count } else { 0 };
                }
                Err(error) if error.kind() == IoKind::WouldBlock => {}
                Ok(0) | Err(_) => {
                    open[from] = false;
                    let _ = ends[1 - from].shutdown(Shutdown::Write);
                }
            }
            if left == 0 {
                break;
            }
        }
    }
    false
}

/// Somebody in between, whom the tickets lead to.
struct Between {
    door: TcpListener,
    port: u16,
}

impl Between {
    fn new() -> Self {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = door.local_addr().unwrap().port();
        Self { door, port }
    }

    fn ticket(&self, ticket: &Ticket) -> Ticket {
        let pin = ticket.address().pin().copied();
        let address = Address::tls("127.0.0.1", self.port, pin).unwrap();
        Ticket::new(address, ticket.token().cloned())
    }

    fn pass(&self, listener: &Listener, cut: Cut) -> bool {
        let (child, _) = self.door.accept().unwrap();
        let port = listener.address().port().unwrap();
        relay(child, TcpStream::connect(("127.0.0.1", port)).unwrap(), cut)
    }
}

/// What was received is the beginning of what was sent, and the end is told by its name.
#[track_caller]
fn assert_prefix_and_end(seen: &Seen, may_be_clean: bool, shown: &str) {
    let sent = messages();
    assert!(sent.starts_with(&seen.messages), "{shown}");
    let kind = seen.end.kind();
    let is_clean = kind == ErrorKind::Disconnected && may_be_clean;
    let is_death = matches!(kind, ErrorKind::PeerDied | ErrorKind::Truncated);
    assert!(is_clean || is_death, "{:?}, {shown}", seen.end);
}

type Children = (
    Sender<Ticket>,
    Receiver<Result<Seen, Error>>,
    JoinHandle<()>,
);

fn children() -> Children {
    let (ask, asked) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let connecting = thread::spawn(move || {
        for ticket in asked {
            let _ = tell.send(converse(ticket));
        }
    });
    (ask, told, connecting)
}

pub(crate) fn both_are_left(direction: Direction, manner: Manner) {
    let watchdog = watchdog();
    let (listener, parent, accepting) = parent();
    let (ask, child, connecting) = children();
    let between = Between::new();
    let mut is_drawn = drawn(4);
    let (mut refused, mut accepted) = (0, 0);
    for behind in (0..).filter(|behind| *behind < 12 || is_drawn()) {
        watchdog.pat();
        let cut = Cut {
            direction,
            behind,
            manner,
        };
        let shown = format!("{cut:?}");
        let ticket = listener.ticket();
        ask.send(between.ticket(&ticket)).unwrap();
        let is_cut = between.pass(&listener, cut);
        let child = child.recv().unwrap();
        match parent.recv().unwrap() {
            Outcome::Refused(why) => {
                assert!(why.contains("went away"), "{why}, {shown}");
                assert_eq!(listener.ticket(), ticket, "{shown}");
                assert!(child.is_err(), "{shown}");
                refused += 1;
            }
            Outcome::Accepted(seen) => {
                assert_ne!(listener.ticket(), ticket, "{shown}");
                let has_all = seen.messages.len() == messages().len();
                assert_prefix_and_end(&seen, has_all, &shown);
                accepted += 1;
            }
        }
        match child {
            // The reset came before the system had called it connected.
            Err(error) if error.kind() == ErrorKind::Io => {
                assert_eq!((behind, manner), (0, Manner::Reset), "{error}, {shown}");
            }
            Err(error) => {
                let named = format!(
                    "{}: the listener went away",
                    between.ticket(&ticket).address()
                );
                assert!(error.to_string().starts_with(&named), "{error}, {shown}");
            }
            // It closes as soon as it has everything, and knows that.
            Ok(seen) if seen.end.kind() == ErrorKind::Closed => {
                assert_eq!(seen.messages, messages(), "{shown}");
            }
            Ok(seen) => assert_prefix_and_end(&seen, false, &shown),
        }
        if !is_cut {
            break;
        }
    }
    listener.close();
    drop(ask);
    accepting.join().unwrap();
    connecting.join().unwrap();
    assert!(refused > 50 && accepted > 80, "{refused}, {accepted}");
}
