//! Ducts over TLS: who is known by what, and that everything else is as without.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::authority::Authority;
use crate::common::*;
use ductworks::engine::{Deadline, Door, Wait, Wire};
use ductworks::{
    Address, ConnectOptions, Duct, ErrorKind, Identity, ListenOptions, Listener, Parent, Pin,
    Roots, Ticket, connect,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

const ANY: &str = "tls:127.0.0.1:0";
const SHORT: Duration = Duration::from_millis(50);

fn listener() -> Listener {
    Listener::bind(ANY).unwrap()
}

/// Two ducts that have met over TLS.
fn ducts() -> (Duct, Duct) {
    enter(&listener())
}

fn at(listener: &Listener, pin: Option<Pin>) -> Address {
    let address = listener.address();
    Address::tls(address.host().unwrap(), address.port().unwrap(), pin).unwrap()
}

fn dial(listener: &Listener) -> TcpStream {
    TcpStream::connect(("127.0.0.1", listener.address().port().unwrap())).unwrap()
}

/// Accepts, with nobody there who could be let in, until somebody has been refused.
fn why_refused(listener: &Listener) -> String {
    loop {
        let error = listener.accept_timeout(SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        if error.to_string().contains("refused") {
            return error.to_string();
        }
    }
}

/// What a client hears who is refused, and what the listener tells of it.
fn refused(
    listener: &Listener,
    enter: impl FnOnce() -> ductworks::Result<Duct> + Send,
) -> (ductworks::Error, String) {
    thread::scope(|scope| {
        let client = scope.spawn(|| enter().unwrap_err());
        let told = why_refused(listener);
        (client.join().unwrap(), told)
    })
}

fn assert_honest_child_gets_in(listener: &Listener) {
    let (child, duct) = enter(listener);
    child.send(&1).unwrap();
    assert_eq!(duct.recv::<u8>().unwrap(), 1);
}

#[test]
fn messages_of_every_size_cross_in_both_directions_at_once() {
    let _watchdog = watchdog();
    let (a, b) = ducts();
    let sizes = [
        0,
        1,
        111,
        112,
        113,
        16_255,
        16_368,
        16_384,
        65_536,
        262_144,
        1 << 20,
        (9 << 20) + 7,
    ];
    thread::scope(|scope| {
        for duct in [&a, &b] {
            scope.spawn(|| {
                for size in sizes {
                    duct.send_bytes(&pattern(size)).unwrap();
                }
            });
            scope.spawn(|| {
                for size in sizes {
                    assert!(duct.recv_bytes().unwrap() == pattern(size), "{size} bytes");
                }
            });
        }
    });
}

#[test]
fn the_descriptor_is_readable_exactly_while_something_can_be_received() {
    let _watchdog = watchdog();
    let (a, b) = ducts();
    assert!(!is_readable(&b));
    for sizes in [&[10, 20, 30][..], &[0], &[40_000, 5, 200_000, 0, 1 << 20]] {
        thread::scope(|scope| {
            scope.spawn(|| {
                for size in sizes {
                    a.send_bytes(&pattern(*size)).unwrap();
                }
            });
            for size in sizes {
                wait_until_readable(&b);
                while !b.poll(Duration::ZERO).unwrap() {
                    wait_until_readable(&b);
                }
                assert!(is_readable(&b), "a poll leaves it so");
                assert_eq!(b.try_recv_bytes().unwrap().len(), *size);
            }
        });
        assert!(!is_readable(&b), "nothing is left");
        assert_eq!(kind(b.try_recv_bytes()), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_call_that_is_given_up_loses_nothing() {
    let _watchdog = watchdog();
    let (a, b) = ducts();
    let message = pattern(20 << 20);
    a.send_bytes_timeout(&message, Duration::from_millis(1))
        .unwrap();
    a.send_bytes_timeout(b"next", Duration::from_millis(1))
        .unwrap_err();
    let mut received = None;
    thread::scope(|scope| {
        scope.spawn(|| {
            while received.is_none() {
                match b.recv_bytes_timeout(Duration::from_micros(50)) {
                    Ok(message) => received = Some(message),
                    Err(error) => assert!(is_late(&error), "{error}"),
                }
            }
        });
        a.send_bytes(b"last").unwrap();
    });
    assert!(received.unwrap() == message);
    assert_eq!(b.recv_bytes().unwrap(), b"last");
}

#[test]
fn an_end_is_told_from_a_death_and_one_direction_can_end_alone() {
    let _watchdog = watchdog();
    let (a, b) = ducts();
    a.send(&1).unwrap();
    a.finish().unwrap();
    assert_eq!(b.recv::<u8>().unwrap(), 1);
    assert_eq!(kind(b.recv::<u8>()), ErrorKind::Disconnected);
    b.send(&2).unwrap();
    assert_eq!(a.recv::<u8>().unwrap(), 2);
    drop(b);
    assert_eq!(kind(a.recv::<u8>()), ErrorKind::Disconnected);

    let (a, b) = ducts();
    a.send(&1).unwrap();
    thread::scope(|scope| {
        let drained = scope.spawn(|| a.drain(Duration::from_secs(10)));
        assert_eq!(b.recv::<u8>().unwrap(), 1);
        while !drained.is_finished() {
            assert!(!b.poll(SHORT).unwrap());
        }
        drained.join().unwrap().unwrap();
    });
}

#[test]
fn a_wrong_pin_is_refused_by_the_client_and_named_on_both_sides() {
    let _watchdog = watchdog();
    let listener = listener();
    let other = Identity::generate().unwrap().pin();
    let ticket = Ticket::new(
        at(&listener, Some(other)),
        listener.ticket().token().cloned(),
    );
    let (error, told) = refused(&listener, || connect(ticket));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let pins = [
        other.to_string(),
        listener.address().pin().unwrap().to_string(),
    ];
    assert!(
        pins.iter().all(|pin| error.to_string().contains(pin)),
        "{error}"
    );
    assert!(told.contains("alert"), "{told}");
    assert!(told.contains("another key"), "{told}");
    assert_honest_child_gets_in(&listener);
}

#[test]
fn a_man_in_the_middle_has_another_key() {
    let _watchdog = watchdog();
    let listener = listener();
    let trap = self::listener();
    let ticket = Ticket::new(
        at(&trap, listener.address().pin().copied()),
        listener.ticket().token().cloned(),
    );
    let (error, _) = refused(&trap, || connect(ticket));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

/// Somebody whom both ends take for the other one, and who passes on, block after block, what they say.
fn pass_on(authority: &Authority, door: &TcpListener, listener: &Listener) {
    let (key, chain) = authority.pem("localhost", false);
    let mut as_server = ServerConfig::builder_with_protocol_versions(&[&TLS13])
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    as_server.alpn_protocols = vec![b"ductworks/2".to_vec()];
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.root().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let mut as_client = ClientConfig::builder_with_protocol_versions(&[&TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    as_client.alpn_protocols = vec![b"ductworks/2".to_vec()];

    let (socket, _) = door.accept().unwrap();
    let session = ServerConnection::new(Arc::new(as_server)).unwrap();
    let mut child = StreamOwned::new(session, socket);
    let name = "localhost".try_into().unwrap();
    let session = ClientConnection::new(Arc::new(as_client), name).unwrap();
    let mut parent = StreamOwned::new(session, dial(listener));
    let mut block = [0; 128];
    child.read_exact(&mut block).unwrap();
    parent.write_all(&block).unwrap();
    parent.read_exact(&mut block).unwrap();
    child.write_all(&block).unwrap();
    // What the child says to that, a proof if it was taken in.
    if child.read_exact(&mut block).is_ok() {
        let _ = parent.write_all(&block);
    }
}

#[test]
fn a_token_is_proved_for_one_session_only() {
    let _watchdog = watchdog();
    let authority = Authority::new("ours");
    let listener = ListenOptions::new()
        .identity(authority.identity("localhost"))
        .bind("tls:127.0.0.1:0")
        .unwrap();
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let trap = Address::tls("localhost", door.local_addr().unwrap().port(), None).unwrap();
    let ticket = Ticket::new(trap, listener.ticket().token().cloned());
    let (error, told) = thread::scope(|scope| {
        scope.spawn(|| pass_on(&authority, &door, &listener));
        let options = ConnectOptions::new().roots(authority.roots());
        refused(&listener, move || options.connect(ticket))
    });
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(
        error.to_string().contains("does not know the token"),
        "{error}"
    );
    assert!(told.contains("refused"), "{told}");
    assert_honest_child_gets_in(&listener);
}

#[test]
fn an_authority_vouches_for_a_listener_by_name() {
    let _watchdog = watchdog();
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let listen = |identity| {
        let options = ListenOptions::new().reusable(true).identity(identity);
        options.bind("tls:localhost:0").unwrap()
    };
    let options = ConnectOptions::new().roots(ours.roots());
    let ticket =
        |listener: &Listener| Ticket::new(at(listener, None), listener.ticket().token().cloned());

    let listener = listen(ours.identity("localhost"));
    let (child, duct) = thread::scope(|scope| {
        let child = scope.spawn(|| options.connect(ticket(&listener)).unwrap());
        let duct = listener.accept().unwrap();
        (child.join().unwrap(), duct)
    });
    child.send("in").unwrap();
    assert_eq!(duct.recv::<String>().unwrap(), "in");

    for (identity, why, meaning) in [
        (ours.expired("localhost"), "expired", "has expired"),
        (ours.early("localhost"), "not valid yet", "not valid yet"),
        (
            ours.identity("example.com"),
            "not valid for name",
            "not for the name",
        ),
        (
            foreign.identity("localhost"),
            "UnknownIssuer",
            "trusts nobody",
        ),
        (Identity::generate().unwrap(), "certificate", "alert"),
    ] {
        let listener = listen(identity);
        let (error, told) = refused(&listener, || options.connect(ticket(&listener)));
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        assert!(told.contains(meaning), "{told}");
        assert!(!told.contains("another key"), "{told}");
        // The key of the ticket is enough, whatever the certificate says.
        assert_honest_child_gets_in(&listener);
    }
}

#[test]
fn a_client_without_the_right_certificate_hears_no_reason_and_the_log_has_it() {
    let _watchdog = watchdog();
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let log = Arc::new(Mutex::new(Vec::new()));
    let listener = ListenOptions::new()
        .client_roots(ours.roots())
        .bind(ANY)
        .unwrap()
        .with_log({
            let log = Arc::clone(&log);
            move |refusal| log.lock().unwrap().push(refusal.reason.clone())
        });
    let ticket = listener.ticket();
    let mut heard = Vec::new();
    for (identity, why) in [
        (None, "it has no certificate"),
        (Some(foreign.identity("client")), "UnknownIssuer"),
        (Some(ours.expired("client")), "expired"),
    ] {
        let mut options = ConnectOptions::new();
        if let Some(identity) = identity {
            options = options.identity(identity);
        }
        let (error, _) = refused(&listener, || options.connect(&ticket));
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        heard.push(error.to_string());
        let last = log.lock().unwrap().pop().unwrap();
        assert!(last.contains(why), "{last}");
    }
    heard.dedup();
    assert_eq!(heard.len(), 1, "{heard:?}");

    let options = ConnectOptions::new().identity(ours.identity("client"));
    let (child, duct) = thread::scope(|scope| {
        let child = scope.spawn(|| options.connect(&ticket).unwrap());
        (listener.accept().unwrap(), child.join().unwrap())
    });
    child.send(&1).unwrap();
    assert_eq!(duct.recv::<u8>().unwrap(), 1);
}

#[test]
fn certificates_may_stand_in_for_the_token_but_not_nothing() {
    let _watchdog = watchdog();
    let authority = Authority::new("ours");
    let options = ListenOptions::new().without_token(true);
    assert_eq!(kind(options.bind(ANY)), ErrorKind::InvalidInput);
    let options = options.client_roots(authority.roots());
    assert_eq!(
        kind(options.bind("tcp:127.0.0.1:0")),
        ErrorKind::InvalidInput
    );
    let listener = options.bind(ANY).unwrap();
    assert_eq!(listener.ticket().token(), None);
    let options = ConnectOptions::new().identity(authority.identity("client"));
    for _ in 0..2 {
        let duct = thread::scope(|scope| {
            let child = scope.spawn(|| options.connect(listener.address())?.send(&1));
            let duct = listener.accept().unwrap();
            child.join().unwrap().unwrap();
            duct
        });
        assert_eq!(duct.recv::<u8>().unwrap(), 1);
    }
    let (error, _) = refused(&listener, || connect(listener.address()));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn options_that_mean_nothing_at_an_address_are_refused_and_never_ignored() {
    let authority = Authority::new("ours");
    let listening = [
        ListenOptions::new().client_roots(authority.roots()),
        ListenOptions::new().identity(authority.identity("localhost")),
    ];
    for options in listening {
        assert_eq!(
            kind(options.bind("tcp:127.0.0.1:0")),
            ErrorKind::InvalidInput
        );
        assert_eq!(kind(options.bind_private()), ErrorKind::InvalidInput);
    }
    let advertised = ListenOptions::new().advertise("example.com");
    assert_eq!(kind(advertised.bind_private()), ErrorKind::InvalidInput);
    let connecting = [
        ConnectOptions::new().roots(authority.roots()),
        ConnectOptions::new().identity(authority.identity("client")),
    ];
    for options in connecting {
        assert_eq!(
            kind(options.connect("tcp:127.0.0.1:1")),
            ErrorKind::InvalidInput
        );
    }
    let listener = Listener::bind("tcp:127.0.0.1:0").unwrap();
    let v1 = ConnectOptions::new().v1(true).connect(listener.ticket());
    assert_eq!(kind(v1), ErrorKind::InvalidInput);
}

#[test]
fn the_system_s_authorities_vouch_for_a_listener() {
    let _watchdog = watchdog();
    let authority = Authority::new("ours");
    let mut roots = tempfile::NamedTempFile::new().unwrap();
    roots.write_all(authority.root().as_bytes()).unwrap();
    let listener = ListenOptions::new()
        .identity(authority.identity("localhost"))
        .bind("tls:localhost:0")
        .unwrap();
    let ticket = Ticket::new(at(&listener, None), listener.ticket().token().cloned());
    let child = process("trust the system", ticket)
        .env("SSL_CERT_FILE", roots.path())
        .spawn()
        .unwrap();
    assert_eq!(
        listener.accept().unwrap().recv::<String>().unwrap(),
        "trusted"
    );
    assert_success(child);
}

pub(crate) const ROLES: &[Role<'_>] = &[("trust the system", |ticket| {
    connect(ticket).unwrap().send("trusted").unwrap();
})];

#[test]
fn an_address_alone_does_not_admit() {
    let _watchdog = watchdog();
    let listener = listener();
    let (error, told) = refused(&listener, || connect(listener.address()));
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(told.contains("it brought no token"), "{told}");
    assert_honest_child_gets_in(&listener);
}

#[test]
fn strangers_of_every_kind_are_refused_and_use_nothing_up() {
    let _watchdog = watchdog();
    // The honest child has no more, and the machine may be busy.
    let options = ListenOptions::new().handshake_timeout(Duration::from_secs(2));
    let flood = vec![0xff; 1 << 20];
    let long_hello = [
        b"\x16\x03\x01\x40\0\x01\0\x3f\xfc\x03\x03".as_slice(),
        &flood,
    ]
    .concat();
    let attacks: [(&[u8], &str); 6] = [
        (b"", "too slow"),
        (b"GET / HTTP/1.1\r\n\r\n", "does not speak TLS"),
        (b"\xd2\x01\0\0", "does not speak TLS"),
        (b"\x16\x03\x01\0\x05", "too slow"),
        (&long_hello, "says too much"),
        (b"\x16\x03\x01\0\x05\x01\0\0\x01\0", "TLS failed"),
    ];
    for (said, why) in attacks {
        let listener = options.bind(ANY).unwrap();
        let ticket = listener.ticket();
        let mut peer = dial(&listener);
        thread::scope(|scope| {
            scope.spawn(|| {
                let _ = peer.write_all(said); // It may be cut off.
            });
            let told = why_refused(&listener);
            assert!(told.contains(why), "{told}");
        });
        let mut heard = Vec::new();
        let _ = peer.read_to_end(&mut heard);
        assert!(heard.is_empty(), "{heard:?}");
        assert_eq!(listener.ticket(), ticket);
        assert_honest_child_gets_in(&listener);
    }
}

#[test]
fn an_honest_child_gets_in_beside_64_that_stall() {
    let _watchdog = watchdog();
    // Their time is not up before the honest child's is.
    let options = ListenOptions::new().handshake_timeout(2 * PATIENCE);
    let listener = options.bind(ANY).unwrap();
    let stalled: Vec<_> = (0..64).map(|_| dial(&listener)).collect();
    assert_honest_child_gets_in(&listener);
    drop(stalled);
}

#[test]
fn ends_that_do_not_both_speak_tls_say_so() {
    let _watchdog = watchdog();
    let secure = listener();
    let bare = Listener::bind("tcp:127.0.0.1:0").unwrap();
    let plain = Address::tcp("127.0.0.1", secure.address().port().unwrap()).unwrap();
    let plain = Ticket::new(plain, secure.ticket().token().cloned());
    let (_, told) = refused(&secure, || connect(plain));
    assert!(told.contains("does not speak TLS"), "{told}");

    let pin = Identity::generate().unwrap().pin();
    let tls = Address::tls("127.0.0.1", bare.address().port().unwrap(), Some(pin)).unwrap();
    let (_, told) = refused(&bare, || connect(tls));
    assert!(told.contains("magic"), "{told}");

    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut socket, _) = web.accept().unwrap();
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let error = connect(Address::tls("127.0.0.1", port, Some(pin)).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("does not speak TLS"), "{error}");
    });
}

#[test]
fn version_1_is_not_spoken_over_tls() {
    let options = ListenOptions::new().v1(true);
    assert_eq!(kind(options.bind(ANY)), ErrorKind::InvalidInput);
    let options = ConnectOptions::new().v1(true);
    assert_eq!(
        kind(options.connect("tls:localhost:1")),
        ErrorKind::InvalidInput
    );
}

#[test]
fn a_bare_socket_is_never_taken_for_an_encrypted_one() {
    let address = ANY.parse().unwrap();
    for wire in [Wire::Plain, Wire::V2] {
        assert_eq!(
            kind(Door::bind(&address, &[wire], 1, true)),
            ErrorKind::InvalidAddress
        );
    }
    let wait = &mut Wait::until(Deadline::Now);
    let connected = ConnectOptions::new().connect_socket(&address, wait);
    assert_eq!(kind(connected), ErrorKind::InvalidAddress);
}

/// Passes on what comes, and lets `change` have a look at it.
fn relay(
    listener: &Listener,
    mut change: impl FnMut(&mut Vec<u8>) -> bool + Send + 'static,
) -> Ticket {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = dial(listener);
    let address = Address::tls(
        "127.0.0.1",
        door.local_addr().unwrap().port(),
        listener.address().pin().copied(),
    );
    let ticket = Ticket::new(address.unwrap(), listener.ticket().token().cloned());
    thread::spawn(move || {
        let (mut here, _) = door.accept().unwrap();
        let mut there = there;
        let (mut from, mut to) = (there.try_clone().unwrap(), here.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
        });
        loop {
            let mut bytes = vec![0; 16 * 1024];
            let count = here.read(&mut bytes).unwrap_or(0);
            bytes.truncate(count);
            let goes_on = change(&mut bytes);
            if there.write_all(&bytes).is_err() || count == 0 || !goes_on {
                break;
            }
        }
        let _ = there.shutdown(std::net::Shutdown::Both);
        let _ = here.shutdown(std::net::Shutdown::Both);
    });
    ticket
}

#[test]
fn a_changed_bit_closes_the_duct_and_yields_no_message() {
    let _watchdog = watchdog();
    let listener = listener();
    let spoil = Arc::new(Mutex::new(false));
    let ticket = relay(&listener, {
        let spoil = Arc::clone(&spoil);
        move |bytes| {
            if *spoil.lock().unwrap()
                && let Some(last) = bytes.last_mut()
            {
                *last ^= 1;
            }
            true
        }
    });
    let (child, duct) = meet(ticket, || listener.accept().unwrap());
    child.send("whole").unwrap();
    assert_eq!(duct.recv::<String>().unwrap(), "whole");
    *spoil.lock().unwrap() = true;
    child.send("spoilt").unwrap();
    assert_eq!(kind(duct.recv::<String>()), ErrorKind::Protocol);
    assert!(duct.is_closed());
    assert_eq!(kind(duct.recv::<String>()), ErrorKind::Protocol);
}

#[test]
fn an_end_that_somebody_in_between_makes_is_no_farewell() {
    let _watchdog = watchdog();
    for cut_at in [0, 100] {
        let listener = listener();
        let cut = Arc::new(Mutex::new(false));
        let ticket = relay(&listener, {
            let cut = Arc::clone(&cut);
            move |bytes| {
                let now = *cut.lock().unwrap();
                if now {
                    bytes.truncate(cut_at);
                }
                !now
            }
        });
        let (child, duct) = meet(ticket, || listener.accept().unwrap());
        child.send(&1).unwrap();
        assert_eq!(duct.recv::<u8>().unwrap(), 1);
        *cut.lock().unwrap() = true;
        child.send(&2).unwrap();
        assert_eq!(kind(duct.recv::<u8>()), ErrorKind::PeerDied);
    }
}

#[test]
fn a_duct_over_tls_stays_in_its_process() {
    let _watchdog = watchdog();
    let (a, _b) = ducts();
    assert_eq!(kind(a.into_descriptor()), ErrorKind::InvalidInput);
}

#[test]
fn a_key_from_pem_is_known_by_the_same_pin_everywhere() {
    let authority = Authority::new("ours");
    let (key, chain) = authority.pem("localhost", false);
    let identity = Identity::from_pem(&key, &chain).unwrap();
    let both = format!("{key}\n{chain}");
    assert_eq!(
        Identity::from_pem(&both, &both).unwrap().pin(),
        identity.pin()
    );
    assert!(!format!("{identity:?}").contains(&key[40..80]));
    let listener = ListenOptions::new()
        .identity(identity.clone())
        .bind(ANY)
        .unwrap();
    assert_eq!(listener.address().pin(), Some(&identity.pin()));
    assert_honest_child_gets_in(&listener);

    let same = at(&listener, Some(identity.pin()));
    let same = Address::tls("127.0.0.1", 0, same.pin().copied()).unwrap();
    ListenOptions::new().identity(identity).bind(&same).unwrap();
    assert_eq!(kind(Listener::bind(&same)), ErrorKind::InvalidAddress);

    let (other, _) = authority.pem("localhost", false);
    for (key, chain) in [
        ("", &*chain),
        (&*key, ""),
        (&*key, &*key),
        (&*other, &*chain),
    ] {
        assert_eq!(
            kind(Identity::from_pem(key, chain)),
            ErrorKind::InvalidInput
        );
    }
    assert_eq!(kind(Roots::from_pem("")), ErrorKind::InvalidInput);
}

#[test]
fn a_key_that_is_encrypted_is_called_so() {
    let (key, chain) = Authority::new("ours").pem("localhost", false);
    let body = key.lines().filter(|line| !line.starts_with('-'));
    let body = body.collect::<Vec<_>>().join("\n");
    let framed = |label: &str, headers: &str| {
        format!("-----BEGIN {label}-----\n{headers}{body}\n-----END {label}-----\n")
    };
    for key in [
        framed("ENCRYPTED PRIVATE KEY", ""),
        framed(
            "EC PRIVATE KEY",
            "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\n",
        ),
    ] {
        let error = Identity::from_pem(&key, &chain).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("decrypt it first"), "{error}");
    }
}

#[test]
fn a_listener_at_all_interfaces_tells_a_host_that_others_can_reach() {
    let _watchdog = watchdog();
    for any in ["tls:0.0.0.0:0", "tls:[::]:0"] {
        let listener = Listener::bind(any).unwrap();
        let host = listener.address().host().unwrap();
        assert!(!["0.0.0.0", "::"].contains(&host), "{host}");
    }
    let options = ListenOptions::new().advertise("duct.example.com");
    let listener = options.bind("tls:0.0.0.0:0").unwrap();
    assert_eq!(listener.ticket().address().host(), Some("duct.example.com"));
    for wrong in ["duct.example.com:80", "127.0.0.1:80", "[::1]", ""] {
        let outcome = ListenOptions::new().advertise(wrong).bind(ANY);
        assert_eq!(kind(outcome), ErrorKind::InvalidAddress, "{wrong}");
    }
    let options = ListenOptions::new().advertise("fe80::1%eth0");
    let listener = options.bind(ANY).unwrap();
    let again: Ticket = listener.ticket().to_string().parse().unwrap();
    assert_eq!(again.address().host(), Some("fe80::1%eth0"));
    let parent = Parent::bind_to("tls:0.0.0.0:0").unwrap();
    let text = parent.ticket().to_string();
    assert!(
        text.starts_with("tls:") && text.contains("?pin=") && text.contains('#'),
        "{text}"
    );
}

#[test]
fn a_silent_listener_is_a_reason_and_no_hang() {
    let _watchdog = watchdog();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let pin = Identity::generate().unwrap().pin();
    let address = Address::tls("127.0.0.1", silent.local_addr().unwrap().port(), Some(pin));
    let options = ConnectOptions::new().handshake_timeout(SHORT);
    assert_eq!(kind(options.connect(address.unwrap())), ErrorKind::TimedOut);
    let _ = silent.as_fd();
}
