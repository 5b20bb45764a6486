//! Handshakes: who is let in, and who else it costs anything.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::engine::{Channel, Connection, Deadline, Door, Lobby, Socket, Wait, Wire, greet};
use ductworks::wire::{Answer, Challenge, Framing, Handshake, Multiprocessing};
use ductworks::{ErrorKind, Result};

const KEY: &[u8] = b"key";
const SHORT: Duration = Duration::from_millis(50);

fn lobby(patience: Duration) -> Lobby<Challenge> {
    Lobby::new(Wire::Plain, patience, || {
        Challenge::nonce().map(|nonce| Challenge::listener(KEY, nonce))
    })
}

fn door() -> Door {
    Door::bind_private(&[Wire::Plain], 128).unwrap()
}

fn dial(listener: &Door) -> UnixStream {
    UnixStream::connect(listener.address().path().unwrap()).unwrap()
}

fn client(listener: &Door, key: &[u8]) -> Result<OwnedFd> {
    greeted(dial(listener), key)
}

fn greeted(stream: UnixStream, key: &[u8]) -> Result<OwnedFd> {
    let connection = Connection::from(OwnedFd::from(stream));
    let wait = &mut Wait::until(Deadline::after(PATIENCE));
    greet(
        &connection,
        Challenge::client(key, Challenge::nonce()?),
        wait,
    )?;
    Ok(connection.into_parts().0)
}

fn accept(lobby: &Lobby<Challenge>, listener: &Door, timeout: Duration) -> Result<OwnedFd> {
    lobby
        .accept(listener, &mut Wait::until(Deadline::after(timeout)))
        .map(|admitted| admitted.connection.into_parts().0)
}

/// Accepts while others knock, and checks that the one who was let in is connected to `theirs`.
fn assert_connected(ours: &OwnedFd, theirs: &OwnedFd) {
    let (a, b) = (
        Channel::<Multiprocessing>::default(),
        Channel::<Multiprocessing>::default(),
    );
    let wait = &mut Wait::until(Deadline::after(PATIENCE));
    a.send(&Socket(theirs), &[b"in"], wait).unwrap();
    assert_eq!(b.receive(&Socket(ours), wait).unwrap(), b"in");
}

#[test]
fn a_guest_does_not_pay_for_a_program_that_does_something_else_meanwhile() {
    let _watchdog = watchdog();
    let door = door();
    let lobby = lobby(Duration::from_secs(1));
    let stream = dial(&door);
    let taken_up = lobby.accept(&door, &mut Wait::until(Deadline::Now));
    assert_eq!(kind(taken_up), ErrorKind::WouldBlock);
    thread::sleep(Duration::from_millis(1500)); // It is busy.
    thread::scope(|scope| {
        let theirs = scope.spawn(|| greeted(stream, KEY).unwrap());
        let ours = accept(&lobby, &door, PATIENCE).unwrap();
        assert_connected(&ours, &theirs.join().unwrap());
    });
}

#[test]
fn a_guest_who_says_nothing_has_to_go_though_the_program_looks_in_only_now_and_then() {
    let _watchdog = watchdog();
    let door = door();
    let lobby = lobby(Duration::from_millis(600));
    let _silent = dial(&door);
    loop {
        let error = lobby
            .accept(&door, &mut Wait::until(Deadline::Now))
            .unwrap_err();
        if error.to_string().contains("too slow") {
            return;
        }
        thread::sleep(Duration::from_millis(400)); // It is busy.
    }
}

/// What a client with the key says, message for message, to a listener with this challenge.
fn conversation(listener: &mut Challenge) -> Vec<Vec<u8>> {
    let mut client = Challenge::client(KEY, [9; 40]);
    let mut said = Vec::new();
    let mut heard = listener.opening().unwrap();
    loop {
        let (message, over) = match client.answer(&heard) {
            Answer::Next(message) => (message, false),
            Answer::Accept(message) => (message.unwrap(), true),
            refused => panic!("{refused:?}"),
        };
        let reply = listener.answer(&message);
        said.push(message);
        match reply {
            Answer::Next(next) if !over => heard = next,
            Answer::Accept(None) => return said,
            other => panic!("{other:?}"),
        }
        // A listener's welcome and the client's challenge cross.
    }
}

#[test]
fn who_knows_the_key_is_let_in() {
    let _watchdog = watchdog();
    let (lobby, listener) = (lobby(PATIENCE), door());
    thread::scope(|scope| {
        let joining = scope.spawn(|| client(&listener, KEY).unwrap());
        let ours = accept(&lobby, &listener, PATIENCE).unwrap();
        assert_connected(&ours, &joining.join().unwrap());
    });
}

#[test]
fn who_does_not_know_it_is_told_so_and_listening_goes_on() {
    let _watchdog = watchdog();
    let (lobby, listener) = (lobby(PATIENCE), door());
    thread::scope(|scope| {
        let joining = scope.spawn(|| {
            let refusal = client(&listener, b"wrong").unwrap_err();
            assert_eq!(refusal.kind(), ErrorKind::PermissionDenied);
            assert_eq!(refusal.to_string(), "digest sent was rejected");
            client(&listener, KEY).unwrap()
        });
        let ours = accept(&lobby, &listener, PATIENCE).unwrap();
        assert_connected(&ours, &joining.join().unwrap());
    });
}

#[test]
fn silence_after_any_byte_of_the_handshake_costs_nobody_else_anything() {
    let _watchdog = watchdog();
    // The bytes of an honest client, in a stream that stops somewhere. It does not matter that they
    // answer another challenge than the one that is sent: the first refusal comes with a whole
    // message, and what counts here is silence in the middle of one.
    let said = conversation(&mut Challenge::listener(KEY, [1; 40]));
    let mut stream = Vec::new();
    for message in said {
        stream.extend_from_slice(Multiprocessing.head(message.len()).unwrap().as_ref());
        stream.extend_from_slice(&message);
    }
    let (lobby, listener) = (lobby(PATIENCE), door());
    for end in 0..=stream.len() {
        thread::scope(|scope| {
            let mut silent = dial(&listener);
            silent.write_all(&stream[..end]).unwrap();
            let joining = scope.spawn(|| client(&listener, KEY).unwrap());
            let ours = accept(&lobby, &listener, PATIENCE).unwrap();
            assert_connected(&ours, &joining.join().unwrap());
        });
    }
}

#[test]
fn an_end_after_any_byte_of_the_handshake_is_no_error() {
    let _watchdog = watchdog();
    let (lobby, listener) = (lobby(PATIENCE), door());
    let stream = b"\0\0\0\x28{sha256}01234567890123456789012345678901";
    for end in 0..=stream.len() {
        let mut gone = dial(&listener);
        gone.write_all(&stream[..end]).unwrap();
        gone.shutdown(Shutdown::Write).unwrap();
        drop(gone);
        let error = accept(&lobby, &listener, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}

#[test]
fn who_takes_too_long_is_turned_away() {
    let _watchdog = watchdog();
    let (lobby, listener) = (lobby(SHORT), door());
    let mut silent = dial(&listener);
    let mut heard = Vec::new();
    thread::scope(|scope| {
        // The challenge, and the end.
        let hearing = scope.spawn(|| silent.read_to_end(&mut heard).unwrap());
        while !hearing.is_finished() {
            let nobody = accept(&lobby, &listener, SHORT);
            assert_eq!(kind(nobody), ErrorKind::TimedOut);
        }
    });
    assert_eq!(heard.len(), 4 + 11 + 8 + 40);
}

#[test]
fn an_honest_client_gets_in_beside_many_that_stall() {
    let _watchdog = watchdog();
    let (lobby, listener) = (lobby(PATIENCE), door());
    let mut stalled = Vec::new();
    for _ in 0..3 {
        // More than there is room for: those who have waited longest give way.
        stalled.extend((0..60).map(|_| dial(&listener)));
        let error = accept(&lobby, &listener, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    thread::scope(|scope| {
        let joining = scope.spawn(|| client(&listener, KEY).unwrap());
        let ours = accept(&lobby, &listener, PATIENCE).unwrap();
        assert_connected(&ours, &joining.join().unwrap());
    });
}

#[test]
fn close_wakes_whoever_accepts_through_a_lobby() {
    let _watchdog = watchdog();
    let (lobby, listener) = (lobby(PATIENCE), door());
    let _stalled = dial(&listener);
    thread::scope(|scope| {
        let waiting = asleep(scope, || kind(accept(&lobby, &listener, PATIENCE)));
        listener.close();
        assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
    });
}

#[test]
fn two_threads_may_accept_through_one_lobby() {
    let _watchdog = watchdog();
    let (lobby, listener) = (lobby(PATIENCE), door());
    thread::scope(|scope| {
        let accepting = [(); 2].map(|()| asleep(scope, || accept(&lobby, &listener, PATIENCE)));
        let clients = [(); 2].map(|()| scope.spawn(|| client(&listener, KEY)));
        for thread in accepting {
            thread.join().unwrap().unwrap();
        }
        for thread in clients {
            thread.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_client_does_not_trust_a_listener_that_does_not_know_the_key() {
    let _watchdog = watchdog();
    let listener = door();
    let liar = Lobby::new(Wire::Plain, PATIENCE, || {
        Ok(Challenge::listener(b"other", [3; 40]))
    });
    thread::scope(|scope| {
        let joining = scope.spawn(|| kind(client(&listener, KEY)));
        while !joining.is_finished() {
            let nobody = liar.accept(&listener, &mut Wait::until(Deadline::after(SHORT)));
            assert_eq!(kind(nobody), ErrorKind::TimedOut);
        }
        assert_eq!(joining.join().unwrap(), ErrorKind::PermissionDenied);
    });
}
