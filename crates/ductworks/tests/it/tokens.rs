//! Who is let in by version 2, and who else it costs anything.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::wire::{
    Answer, Control, Framing, Greeting, Handshake, Hello, Mode, Terms, Token, V2,
};
use ductworks::{
    Address, ConnectOptions, Duct, ErrorKind, ListenOptions, Listener, Parent, Pin, Ticket, connect,
};
use rustix::net::sockopt;

const SHORT: Duration = Duration::from_millis(50);

/// A plain connection to where version 2 is spoken.
fn dial(address: &Address) -> File {
    let socket: OwnedFd = match address.port() {
        Some(port) => TcpStream::connect(("127.0.0.1", port)).unwrap().into(),
        None => UnixStream::connect(v2_path(address)).unwrap().into(),
    };
    File::from(socket)
}

fn listeners(options: &ListenOptions) -> [Listener; 2] {
    [
        options.bind_private().unwrap(),
        options.bind("tcp:127.0.0.1:0").unwrap(),
    ]
}

fn said(control: Control) -> [u8; 128] {
    V2.control(&control).unwrap()
}

fn read_block(peer: &mut File) -> Vec<u8> {
    let mut block = vec![0; 128];
    peer.read_exact(&mut block).unwrap();
    block
}

/// All that comes until the end, be it a reset.
fn rest_of(peer: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = peer.read_to_end(&mut bytes);
    bytes
}

/// What an honest client says, block after block, to a listener over this connection.
fn begin_handshake(peer: &mut File, token: &Token) -> (Greeting, Vec<u8>) {
    let mut client = Greeting::client(Some(token), &Terms::default(), [1; 32]);
    peer.write_all(&client.opening().unwrap()).unwrap();
    let Answer::Next(proof) = client.answer(&read_block(peer)) else {
        panic!("the listener knows the token");
    };
    (client, proof)
}

fn assert_honest_child_gets_in(listener: &Listener) {
    let (child, duct) = enter(listener);
    child.send(&1).unwrap();
    assert_eq!(duct.recv::<u8>().unwrap(), 1);
}

/// Accepts, with nobody there who could be let in, and returns what the error tells.
fn why_nobody(listener: &Listener) -> String {
    let error = listener.accept_timeout(SHORT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    error.to_string()
}

#[test]
fn an_address_alone_does_not_admit_and_its_refusal_does_not_use_the_token_up() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new()) {
        thread::scope(|scope| {
            let refused = scope.spawn(|| connect(listener.address()).unwrap_err());
            let told = loop {
                let told = why_nobody(&listener);
                if told.contains("refused") {
                    break told;
                }
            };
            assert!(told.contains("it brought no token"), "{told}");
            let error = refused.join().unwrap();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(
                error.to_string().contains("connect with its ticket"),
                "{error}"
            );
        });
        assert_honest_child_gets_in(&listener);
    }
}

/// More than a quarter of a second, which everybody may stay inside.
const MORE_THAN_GRACE: Duration = Duration::from_millis(300);

#[test]
fn a_full_house_turns_nobody_away_while_nobody_is_at_the_door() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new().handshake_timeout(PATIENCE)) {
        let _stalled = [(); 64].map(|()| dial(listener.address()));
        let error = listener.accept_timeout(MORE_THAN_GRACE).unwrap_err();
        assert!(!error.to_string().contains("refused"), "{error}");
    }
}

#[test]
fn who_has_just_proved_themselves_makes_no_way_for_others() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new().handshake_timeout(PATIENCE)) {
        let token = listener.ticket().token().cloned().unwrap();
        let mut child = dial(listener.address());
        let _stalled = [(); 63].map(|()| dial(listener.address()));
        let mut client = Greeting::client(Some(&token), &Terms::default(), [1; 32]);
        child.write_all(&client.opening().unwrap()).unwrap();
        listener.accept_timeout(MORE_THAN_GRACE).unwrap_err();
        let Answer::Next(proof) = client.answer(&read_block(&mut child)) else {
            panic!("the listener knows the token");
        };
        child.write_all(&proof).unwrap();
        let _at_the_door = dial(listener.address());
        listener.accept_timeout(PATIENCE).unwrap();
        assert_eq!(read_block(&mut child), said(Control::Accept));
    }
}

/// One after the other, in the time that everybody may stay inside while others are at the door.
#[test]
fn more_children_than_there_is_room_for_who_come_before_the_first_is_accepted_all_get_in() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new().reusable(true)) {
        let token = listener.ticket().token().cloned().unwrap();
        let children: Vec<_> = (0..70)
            .map(|_| {
                let mut child = dial(listener.address());
                let mut client = Greeting::client(Some(&token), &Terms::default(), [1; 32]);
                child.write_all(&client.opening().unwrap()).unwrap();
                child
            })
            .collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                for mut child in children {
                    let mut client = Greeting::client(Some(&token), &Terms::default(), [1; 32]);
                    client.opening();
                    let Answer::Next(proof) = client.answer(&read_block(&mut child)) else {
                        panic!("the listener knows the token");
                    };
                    child.write_all(&proof).unwrap();
                    assert_eq!(read_block(&mut child), said(Control::Accept));
                }
            });
            for _ in 0..70 {
                listener.accept_timeout(PATIENCE).unwrap();
            }
        });
    }
}

#[test]
fn a_ticket_admits_once_unless_it_is_reusable() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new()) {
        let first = listener.ticket();
        assert_honest_child_gets_in(&listener);
        assert_ne!(listener.ticket(), first);
        thread::scope(|scope| {
            let late = scope.spawn(|| kind(connect(&first)));
            while !late.is_finished() {
                why_nobody(&listener);
            }
            assert_eq!(late.join().unwrap(), ErrorKind::PermissionDenied);
        });
        assert_honest_child_gets_in(&listener);
    }
    for listener in listeners(&ListenOptions::new().reusable(true)) {
        let ticket = listener.ticket();
        for _ in 0..3 {
            assert_honest_child_gets_in(&listener);
            assert_eq!(listener.ticket(), ticket);
        }
    }
}

#[test]
fn a_wrong_token_is_refused_with_one_generic_frame() {
    let _watchdog = watchdog();
    let generic = said(Control::Refused);
    for listener in listeners(&ListenOptions::new()) {
        let right = listener.ticket().token().unwrap().clone();
        let open = Hello::new(Mode::Open, 1, "", [1; 32]);
        let hello = Hello::new(Mode::Token, 1, "", [1; 32]);
        let attacks: [&[&[u8]]; 5] = [
            &[&said(Control::Hello(open))],
            &[&said(Control::Hello(hello)), &said(Control::Proof([9; 32]))],
            &[&said(Control::Accept)],
            &[&said(Control::Hello(hello)), &said(Control::Hello(hello))],
            &[&said(Control::Drain { id: 1 })],
        ];
        for attack in attacks {
            let mut peer = dial(listener.address());
            for block in attack {
                peer.write_all(block).unwrap();
            }
            why_nobody(&listener);
            let heard = rest_of(&mut peer);
            let hellos = heard.len() - generic.len();
            assert_eq!(hellos, 128 * (attack.len() - 1));
            assert_eq!(heard[hellos..], generic, "the same for everybody");
        }
        assert_eq!(
            listener.ticket().token(),
            Some(&right),
            "nothing used it up"
        );
        assert_honest_child_gets_in(&listener);
    }
}

#[test]
fn a_client_shows_its_proof_only_to_a_listener_that_knows_the_token() {
    let _watchdog = watchdog();
    let place = tempfile::tempdir().unwrap();
    let address = Address::unix(place.path().join("duct")).unwrap();
    let trap = UnixListener::bind(v2_path(&address)).unwrap();
    let ticket = Ticket::new(address, Some(Token::generate().unwrap()));
    let child = thread::spawn(move || connect(ticket).unwrap_err());
    let (mut socket, _) = trap.accept().unwrap();
    let mut hello = [0; 128];
    socket.read_exact(&mut hello).unwrap();
    socket
        .write_all(&said(Control::Hello(Hello::new(
            Mode::Token,
            1,
            "",
            [2; 32],
        ))))
        .unwrap();
    let error = child.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        error.to_string().contains("does not know the token"),
        "{error}"
    );
    let mut heard = Vec::new();
    let _ = socket.read_to_end(&mut heard);
    assert_eq!(heard, said(Control::Refused), "and no proof");
}

#[test]
fn a_ticket_is_never_shown_to_whoever_speaks_version_1() {
    let _watchdog = watchdog();
    let place = tempfile::tempdir().unwrap();
    let address = Address::unix(place.path().join("duct")).unwrap();
    // Only the plain name is there: somebody has removed the other one, say.
    let _trap = UnixListener::bind(address.path().unwrap()).unwrap();
    let ticket = Ticket::new(address, Some(Token::generate().unwrap()));
    let options = ConnectOptions::new().timeout(SHORT);
    assert_eq!(kind(options.connect(ticket)), ErrorKind::Unreachable);
}

#[test]
fn what_was_recorded_of_one_handshake_is_worth_nothing_in_the_next() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new().reusable(true)) {
        let token = listener.ticket().token().unwrap().clone();
        thread::scope(|scope| {
            let recorded = scope.spawn(|| {
                let mut peer = dial(listener.address());
                let (_, proof) = begin_handshake(&mut peer, &token);
                peer.write_all(&proof).unwrap();
                (peer, proof)
            });
            listener.accept_timeout(PATIENCE).unwrap();
            let (_peer, proof) = recorded.join().unwrap();

            let mut replay = dial(listener.address());
            let hello = Greeting::client(Some(&token), &Terms::default(), [1; 32])
                .opening()
                .unwrap();
            replay.write_all(&hello).unwrap();
            replay.write_all(&proof).unwrap();
            let told = why_nobody(&listener);
            assert!(told.contains("does not know the token"), "{told}");
        });
    }
}

#[test]
fn a_man_in_the_middle_who_changes_any_byte_of_a_hello_gets_nobody_in() {
    let _watchdog = watchdog();
    let options = ListenOptions::new().handshake_timeout(PATIENCE);
    for listener in listeners(&options) {
        let token = listener.ticket().token().unwrap().clone();
        for place in 16..128 {
            let mut peer = dial(listener.address());
            let mut client = Greeting::client(Some(&token), &Terms::default(), [1; 32]);
            let mut hello = client.opening().unwrap();
            hello[place] ^= 0x40;
            peer.write_all(&hello).unwrap();
            let error = listener.try_accept().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            let mut heard = vec![0; 128];
            if peer.read_exact(&mut heard).is_err() {
                continue; // Refused before a word: it was no hello any more.
            }
            let answer = client.answer(&heard);
            assert!(
                matches!(answer, Answer::Refuse { .. }),
                "byte {place}: {answer:?}"
            );
        }
        assert_honest_child_gets_in(&listener);
    }
}

#[test]
fn an_honest_child_gets_in_beside_64_that_stall() {
    let _watchdog = watchdog();
    // Their time is not up before the honest child's is.
    for listener in listeners(&ListenOptions::new().handshake_timeout(2 * PATIENCE)) {
        let stalled: Vec<_> = (0..64).map(|_| dial(listener.address())).collect();
        assert_honest_child_gets_in(&listener);
        drop(stalled);
    }
}

#[test]
fn a_handshake_that_may_take_no_time_is_refused_beforehand() {
    let options = ListenOptions::new().handshake_timeout(Duration::ZERO);
    for outcome in [options.bind_private(), options.bind("tcp:127.0.0.1:0")] {
        assert_eq!(kind(outcome), ErrorKind::InvalidInput);
    }
}

#[test]
fn one_byte_at_a_time_is_silence_in_the_end() {
    let _watchdog = watchdog();
    // The honest child has no more, and the machine may be busy.
    let all = Duration::from_secs(2);
    for listener in listeners(&ListenOptions::new().handshake_timeout(all)) {
        let mut slow = dial(listener.address());
        let hello = said(Control::Hello(Hello::new(Mode::Token, 1, "", [1; 32])));
        let mut bytes = hello.iter();
        let told = loop {
            let byte = bytes.next().unwrap();
            if slow.write_all(&[*byte]).is_err() {
                break why_nobody(&listener);
            }
            let error = listener.accept_timeout(all / 100).unwrap_err();
            if error.to_string().contains("refused") {
                break error.to_string();
            }
        };
        assert!(told.contains("too slow"), "{told}");
        assert_honest_child_gets_in(&listener);
    }
}

#[test]
fn a_megabyte_of_hello_is_refused_at_its_head() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new()) {
        for magic in [&b"\xd2\x01"[..], b"\x54\0\x10", b"GET / HT", b"\0\0\0\x28"] {
            let mut peer = dial(listener.address());
            let flood = thread::spawn({
                let stream = [magic, &vec![0xff; 1 << 20]].concat();
                move || (peer.write_all(&stream).is_err(), peer)
            });
            let mut is_over = false;
            let told = loop {
                let told = why_nobody(&listener);
                if is_over {
                    break told;
                }
                is_over = flood.is_finished();
            };
            assert!(told.contains("refused"), "{told}");
            let (cut, peer) = flood.join().unwrap();
            assert!(cut || listener.address().port().is_some());
            drop(peer);
        }
        assert_honest_child_gets_in(&listener);
    }
}

#[test]
fn everybody_who_is_refused_is_told_of_by_name_and_reason() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new()) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&told);
        let listener = listener.with_log(move |refusal| log.lock().unwrap().push(refusal.clone()));
        let mut peer = dial(listener.address());
        peer.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        why_nobody(&listener);
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1);
        assert!(told[0].reason.contains("0x47"), "{}", told[0]);
        let whom = match listener.address().port() {
            Some(_) => "127.0.0.1:".into(),
            None => format!("process {}", std::process::id()),
        };
        assert!(told[0].peer.starts_with(&whom), "{}", told[0]);
    }
}

#[test]
fn somebody_who_is_gone_already_is_told_of_by_host() {
    let _watchdog = watchdog();
    let listener = Listener::bind("tcp:127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(("127.0.0.1", listener.address().port().unwrap())).unwrap();
    assert_eq!(kind(listener.accept_timeout(SHORT)), ErrorKind::TimedOut);
    sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer); // A reset, after which the system knows no port.
    let told = why_nobody(&listener);
    assert!(told.contains("somebody at 127.0.0.1: it went"), "{told}");
}

#[test]
fn limits_are_agreed_on_and_codecs_compared() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new().message_limit(100).codec_name("json")) {
        let ticket = listener.ticket();
        let child = thread::spawn(move || {
            let options = ConnectOptions::new().message_limit(50).codec_name("json");
            options.connect(ticket)
        });
        let duct = listener.accept_timeout(PATIENCE).unwrap();
        let child = child.join().unwrap().unwrap();
        for end in [&duct, &child] {
            assert_eq!(end.message_limit(), 50);
            let error = end.send_bytes(&[0; 51]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
        }
        // What the other end would not receive is not sent, whatever is set here.
        duct.set_message_limit(1000);
        assert_eq!(kind(duct.send_bytes(&[0; 51])), ErrorKind::TooLarge);

        assert_both_codecs_are_named_to_both(&listener);
    }
}

#[test]
fn codecs_are_compared_where_no_token_is_asked_for() {
    let _watchdog = watchdog();
    let options = ListenOptions::new().v1(true).codec_name("json");
    assert_both_codecs_are_named_to_both(&options.bind_private().unwrap());
}

fn assert_both_codecs_are_named_to_both(listener: &Listener) {
    let ticket = listener.ticket();
    let other = thread::spawn(move || ConnectOptions::new().codec_name("cbor").connect(ticket));
    let mut told = why_nobody(listener);
    while !told.contains("refused") {
        told = why_nobody(listener);
    }
    let error = other.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    for text in [told, error.to_string()] {
        assert!(text.contains("json") && text.contains("cbor"), "{text}");
    }
}

#[test]
fn a_close_lets_go_of_those_who_are_in_their_handshake() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new()) {
        let hello = said(Control::Hello(Hello::new(Mode::Token, 1, "", [1; 32])));
        let mut half = dial(listener.address());
        half.write_all(&hello).unwrap();
        let mut silent = dial(listener.address());
        why_nobody(&listener);
        listener.close();
        // The listener is still there, and nobody has to wait until it is not.
        assert_eq!(rest_of(&mut half).len(), hello.len(), "its own hello");
        assert_eq!(rest_of(&mut silent), b"");
        drop(listener);
    }
}

#[test]
fn a_listener_that_does_not_accept_is_a_reason_and_no_hang() {
    let _watchdog = watchdog();
    for listener in listeners(&ListenOptions::new()) {
        let options = ConnectOptions::new().handshake_timeout(SHORT);
        let error = options.connect(listener.ticket()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("did not accept"), "{error}");
    }
}

#[test]
fn a_listener_for_version_1_speaks_version_2_with_those_who_know_it() {
    let _watchdog = watchdog();
    let listener = ListenOptions::new().v1(true).bind_private().unwrap();
    let path = listener.address().path().unwrap();
    assert!(path.exists() && v2_path(listener.address()).exists());

    let (child, duct) = meet(listener.address(), || {
        listener.accept_timeout(PATIENCE).unwrap()
    });
    child.send(&1).unwrap();
    assert_eq!(duct.recv::<u8>().unwrap(), 1);
    drop(child);
    assert_eq!(kind(duct.recv_bytes()), ErrorKind::Disconnected);
    // Version 2 it was: a farewell came, and the other direction can drain.
    let (child, duct) = meet(listener.address(), || {
        listener.accept_timeout(PATIENCE).unwrap()
    });
    duct.send(&1).unwrap();
    assert_eq!(child.recv::<u8>().unwrap(), 1);
    assert_eq!(kind(duct.drain(Duration::ZERO)), ErrorKind::Undrained);

    let mut original = UnixStream::connect(path).unwrap();
    let duct = listener.accept_timeout(PATIENCE).unwrap();
    duct.send_bytes(b"hi").unwrap();
    drop(duct);
    let mut heard = Vec::new();
    original.read_to_end(&mut heard).unwrap();
    assert_eq!(heard, frame(b"hi"), "and not another byte");
}

#[test]
fn a_parent_s_names_go_together() {
    let _watchdog = watchdog();
    let place = tempfile::tempdir().unwrap();
    let address = Address::unix(place.path().join("duct")).unwrap();
    let listener = ListenOptions::new().v1(true).bind(&address).unwrap();
    assert_eq!(place.path().read_dir().unwrap().count(), 2);
    // What cannot be bound as a whole is not bound in part.
    ListenOptions::new().v1(true).bind(&address).unwrap_err();
    assert_eq!(place.path().read_dir().unwrap().count(), 2);
    drop(listener);
    assert_eq!(place.path().read_dir().unwrap().count(), 0);

    let plain = UnixListener::bind(address.path().unwrap()).unwrap();
    ListenOptions::new().v1(true).bind(&address).unwrap_err();
    assert_eq!(
        place.path().read_dir().unwrap().count(),
        1,
        "the first name is gone again"
    );
    drop(plain);
}

#[test]
fn a_parent_s_ticket_is_for_one_child_and_shows_no_secret() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let parent: Parent = transport.parent();
        let ticket = parent.ticket().to_string();
        let secret = ticket.rsplit_once('#').unwrap().1.to_owned();
        for shown in [
            format!("{parent:?}"),
            format!("{:?}", parent.ticket()),
            parent.address().to_string(),
        ] {
            assert!(!shown.contains(&secret), "{shown}");
        }
        let (child, duct): (Duct, Duct) = join(&parent);
        child.send(&1).unwrap();
        assert_eq!(duct.recv::<u8>().unwrap(), 1);
    }
}

/// The ways in which a ticket may come where none belongs, or with a slip in it.
fn mistaken(token: &str) -> Vec<String> {
    let tickets = ["unix:/x/d", "/x/d", "tcp:127.0.0.1:1", "tls:127.0.0.1:1"];
    let mut texts = vec![token.to_owned(), format!("udp:host:1#{token}")];
    for address in tickets {
        for sign in ["", "#", "##", "%23", "?token=", "&token=", "?pin=1", " #"] {
            for end in ["", "\"", ";", "'", "\0", " trailing", "/y", "#", "0"] {
                texts.push(format!("{address}{sign}{token}{end}"));
            }
        }
        for quote in ["'", "\"", "<", "ticket="] {
            texts.push(format!("{quote}{address}#{token}{quote}"));
        }
    }
    texts
}

#[test]
fn no_error_repeats_a_token_however_it_was_mistaken() {
    let _watchdog = watchdog();
    let token = "0123456789abcdefABCDEF9876543210".repeat(2);
    let at_once = ConnectOptions::new().retry(false);
    for text in mistaken(&token) {
        let mut errors = Vec::new();
        errors.extend(text.parse::<Ticket>().err());
        errors.extend(text.parse::<Address>().err());
        errors.extend(text.parse::<Pin>().err());
        errors.extend(Address::unix(&text).err());
        errors.extend(Address::tcp(&*text, 1).err());
        errors.extend(Address::tls(&*text, 1, None).err());
        errors.extend(at_once.connect(&text).err());
        errors.extend(Listener::bind(&*format!("tcp:{text}")).err());
        errors.extend(Listener::bind(&*format!("unix:/{}/{text}", "x".repeat(100))).err());
        assert!(errors.len() > 2, "{text:?}");
        for error in &errors {
            let shown = format!("{error}{error:?}");
            assert!(!shown.contains(&token[..25]), "{text:?}: {shown}");
        }
        let shown = format!("{:?}{:?}", text.parse::<Ticket>(), text.parse::<Address>());
        assert!(!shown.contains(&token[..25]), "{text:?}: {shown}");
    }
}

#[test]
fn a_ticket_with_a_character_too_many_is_refused_at_once() {
    let _watchdog = watchdog();
    let token = "ab".repeat(32);
    for slip in ["\"", ";", "'", "\0", " trailing", "/y", "#"] {
        let error = connect(format!("unix:/x/d#{token}{slip}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{slip:?}: {error}");
    }
}

#[test]
fn a_ticket_is_no_address_to_listen_at() {
    let listener = Listener::bind_private().unwrap();
    for ticket in [
        listener.ticket().to_string(),
        format!("tcp:127.0.0.1:0#{}", "ab".repeat(32)),
    ] {
        let error = Listener::bind(&*ticket).unwrap_err();
        assert!(
            !error.to_string().contains(&ticket[ticket.len() - 8..]),
            "{error}"
        );
    }
}
