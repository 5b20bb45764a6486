//! The other end dies after every single byte that it has written, and after every byte that it has
//! read, of a whole conversation: whoever is left never waits for ever, never receives what was not
//! sent, and is told what has become of the other end.

#[cfg(feature = "tls")]
mod encrypted;
mod killed;
mod peer;
mod survivors;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::wire::{CONTROL_LEN, Greeting};
use ductworks::{Address, ConnectOptions, Duct, Error, ErrorKind, Ticket};
use peer::{Dead, Manner, Peer, Recording, Spoken, TERMS};
use survivors::{Event, Parent, Trap};

/// What the peer did last.
#[derive(Debug)]
enum Last<'a> {
    Nothing,
    PartOfAFrame,
    Message(&'a [u8]),
    PartOfAnEcho,
    Echo,
    Farewell,
}

/// The conversation after the handshake, until the peer has come to its byte.
fn exchange<'a>(peer: &mut Peer, duct: &Duct, recording: &'a Recording) -> Last<'a> {
    for (message, frame) in recording.messages.iter().zip(&recording.frames) {
        match peer.deliver(frame, duct) {
            None => {}
            Some(0) => return Last::Nothing,
            Some(count) if count < frame.len() => return Last::PartOfAFrame,
            Some(_) => return Last::Message(message),
        }
        assert_eq!(duct.recv_bytes().unwrap(), *message);
        duct.send_bytes(message).unwrap();
        let end = peer.read + frame.len();
        match peer.hear(frame.len()) {
            Ok(echo) => assert_eq!(echo, *frame),
            Err(Dead) if peer.read < end => return Last::PartOfAnEcho,
            Err(Dead) => return Last::Echo,
        }
    }
    match peer.deliver(&recording.farewell, duct) {
        Some(count) if count < recording.farewell.len() => Last::PartOfAFrame,
        _ => Last::Farewell,
    }
}

/// What was wholly delivered is received and nothing else, and then the end by its name.
fn assert_prefix_and_end(
    mut peer: Peer,
    duct: &Duct,
    recording: &Recording,
    (spoken, manner): (Spoken, Manner),
) {
    let last = exchange(&mut peer, duct, recording);
    let shown = format!("{last:?} of {:?}, {spoken:?}", peer.death);
    drop(peer);
    if let Last::Message(message) = last {
        assert_eq!(duct.recv_bytes().unwrap(), message, "{shown}");
    }
    let end = match (&last, spoken, manner) {
        (Last::PartOfAFrame, ..) => ErrorKind::Truncated,
        (Last::Farewell, ..) => ErrorKind::Disconnected,
        (_, Spoken::Open | Spoken::Token, _) => ErrorKind::PeerDied,
        (Last::PartOfAnEcho, ..) | (_, _, Manner::Reset) => ErrorKind::Reset,
        (_, _, Manner::Close) => ErrorKind::Disconnected,
    };
    assert_ends_so(duct, end, &shown);
    if spoken != Spoken::V1 && !matches!(last, Last::Farewell) {
        // Nobody ever said that they had received anything.
        let sent = duct.stats().sent.messages;
        let unreceived = duct
            .drain(PATIENCE)
            .map_or_else(|error| error.unreceived(), |()| Some(0));
        assert_eq!(unreceived, Some(sent), "{shown}");
    }
}

/// The end is told again and again, and sending ends as well.
fn assert_ends_so(duct: &Duct, kind: ErrorKind, shown: &str) {
    for _ in 0..2 {
        let error = duct.recv_bytes().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}, {shown}");
        assert!(duct.poll(Duration::ZERO).unwrap(), "{shown}");
    }
    let error: Error = loop {
        // TCP takes one message before it notices.
        if let Err(error) = duct.send_bytes(&[]) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}, {shown}");
}

fn a_parent_is_left(spoken: Spoken, transport: Transport, manner: Manner) {
    let watchdog = watchdog();
    let recording = Recording::make(spoken);
    let parent = Parent::new(spoken, transport);
    for death in recording.offsets(spoken, 4) {
        watchdog.pat();
        let shown = format!("{death:?}, {spoken:?}, {transport:?}, {manner:?}");
        let ticket = parent.listener.ticket();
        let mut peer = Peer::new(parent.dial(spoken), death, manner);
        let greeting =
            (spoken != Spoken::V1).then(|| Greeting::client(ticket.token(), &TERMS, [1; 32]));
        let greeted = greeting.map_or(Ok(()), |greeting| peer.shake_hands(greeting));
        if let Ok(()) = greeted {
            match parent.told.recv().unwrap() {
                Event::Refused(why) => panic!("{why}, {shown}"),
                Event::Accepted(duct) => {
                    assert_prefix_and_end(peer, &duct, &recording, (spoken, manner));
                }
            }
            continue;
        }
        let has_proved_itself = peer.written == spoken.handshake();
        drop(peer);
        match parent.told.recv().unwrap() {
            Event::Refused(why) => parent.assert_unharmed(&why, &ticket, &shown),
            // Whether it hears of its admission is not for the parent to know.
            Event::Accepted(duct) => {
                assert!(has_proved_itself, "{shown}");
                assert_ends_so(&duct, ErrorKind::PeerDied, &shown);
            }
        }
    }
}

fn a_child_is_left(spoken: Spoken, transport: Transport, manner: Manner) {
    let watchdog = watchdog();
    let recording = Recording::make(spoken);
    let trap = Trap::new(spoken, transport);
    let (ask, asked) = mpsc::channel::<Ticket>();
    let (tell, told) = mpsc::channel();
    let connecting = thread::spawn(move || {
        let options = ConnectOptions::new().v1(spoken == Spoken::V1);
        for ticket in asked {
            let _ = tell.send(options.connect(ticket));
        }
    });
    for death in recording.offsets(spoken, 4) {
        watchdog.pat();
        let shown = format!("{death:?}, {spoken:?}, {transport:?}, {manner:?}");
        ask.send(trap.ticket()).unwrap();
        let mut peer = Peer::new((trap.accept)(), death, manner);
        let greeting = (spoken != Spoken::V1)
            .then(|| Greeting::server(trap.admission.as_ref(), &TERMS, [2; 32]));
        let greeted = greeting.map_or(Ok(()), |greeting| peer.shake_hands(greeting));
        if let Ok(()) = greeted {
            let duct = told.recv().unwrap().unwrap();
            assert_prefix_and_end(peer, &duct, &recording, (spoken, manner));
            continue;
        }
        let written = peer.written;
        drop(peer);
        match told.recv().unwrap() {
            Err(error) => assert_names_the_listener(&error, &trap.address, written, manner, &shown),
            Ok(duct) => {
                assert_eq!(written, spoken.handshake(), "{shown}");
                assert_ends_so(&duct, ErrorKind::PeerDied, &shown);
            }
        }
    }
    drop(ask);
    connecting.join().unwrap();
}

/// What a child is told whose listener went away after so many bytes of its handshake.
fn assert_names_the_listener(
    error: &Error,
    address: &Address,
    written: usize,
    manner: Manner,
    shown: &str,
) {
    let text = error.to_string();
    let expected: &[ErrorKind] = match (written, written % CONTROL_LEN, manner) {
        (0, _, Manner::Reset) if error.kind() == ErrorKind::Io => {
            // The reset came before the system had called it connected.
            return assert!(text.contains("could not connect"), "{text}, {shown}");
        }
        (_, 0, _) => &[ErrorKind::Disconnected, ErrorKind::Reset],
        (_, _, Manner::Close) => &[ErrorKind::Truncated],
        // What was written may have been destroyed.
        (_, _, Manner::Reset) => &[ErrorKind::Truncated, ErrorKind::Reset],
    };
    assert!(expected.contains(&error.kind()), "{error:?}, {shown}");
    let named = format!("{address}: the listener went away before it accepted");
    assert!(text.starts_with(&named), "{text}, {shown}");
}

macro_rules! sweeps {
    ($($name:ident: $left:ident($spoken:ident, $transport:ident, $manner:ident);)*) => {$(
        #[test]
        fn $name() {
            $left(Spoken::$spoken, Transport::$transport, Manner::$manner);
        }
    )*};
}

sweeps! {
    a_parent_of_version_1_outlives_its_child_at_every_byte: a_parent_is_left(V1, Unix, Close);
    a_parent_of_version_1_outlives_its_child_at_every_byte_over_tcp: a_parent_is_left(V1, Tcp, Close);
    a_parent_of_version_1_outlives_a_reset_at_every_byte: a_parent_is_left(V1, Tcp, Reset);
    a_parent_outlives_its_child_at_every_byte: a_parent_is_left(Token, Unix, Close);
    a_parent_outlives_its_child_at_every_byte_over_tcp: a_parent_is_left(Token, Tcp, Close);
    a_parent_outlives_a_reset_at_every_byte: a_parent_is_left(Token, Tcp, Reset);
    a_parent_that_asks_for_no_token_outlives_its_child_at_every_byte: a_parent_is_left(Open, Unix, Close);
    a_child_of_version_1_outlives_its_parent_at_every_byte: a_child_is_left(V1, Unix, Close);
    a_child_of_version_1_outlives_its_parent_at_every_byte_over_tcp: a_child_is_left(V1, Tcp, Close);
    a_child_of_version_1_outlives_a_reset_at_every_byte: a_child_is_left(V1, Tcp, Reset);
    a_child_outlives_its_parent_at_every_byte: a_child_is_left(Token, Unix, Close);
    a_child_outlives_its_parent_at_every_byte_over_tcp: a_child_is_left(Token, Tcp, Close);
    a_child_outlives_a_reset_at_every_byte: a_child_is_left(Token, Tcp, Reset);
    a_child_without_a_token_outlives_its_parent_at_every_byte: a_child_is_left(Open, Unix, Close);
    a_child_without_a_token_outlives_its_parent_at_every_byte_over_tcp: a_child_is_left(Open, Tcp, Close);
    a_child_without_a_token_outlives_a_reset_at_every_byte: a_child_is_left(Open, Tcp, Reset);
}

#[cfg(feature = "tls")]
mod over_tls {
    use super::encrypted::{Direction, both_are_left};
    use super::peer::Manner;

    #[test]
    fn both_ends_outlive_a_cut_at_every_byte_from_the_child() {
        both_are_left(Direction::FromChild, Manner::Close);
    }

    #[test]
    fn both_ends_outlive_a_cut_at_every_byte_from_the_parent() {
        both_are_left(Direction::FromParent, Manner::Close);
    }

    #[test]
    fn both_ends_outlive_a_reset_at_every_byte_from_the_child() {
        both_are_left(Direction::FromChild, Manner::Reset);
    }

    #[test]
    fn both_ends_outlive_a_reset_at_every_byte_from_the_parent() {
        both_are_left(Direction::FromParent, Manner::Reset);
    }
}

pub(crate) const ROLES: &[Role<'_>] = &[("be killed", killed::be_killed)];

#[test]
fn a_parent_outlives_a_child_that_is_killed() {
    for transport in TRANSPORTS {
        killed::a_parent_is_left(Spoken::Token, transport);
    }
}

#[test]
fn a_parent_of_version_1_outlives_a_child_that_is_killed() {
    for transport in TRANSPORTS {
        killed::a_parent_is_left(Spoken::V1, transport);
    }
}
