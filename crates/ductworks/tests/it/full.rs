//! What an end has to say when there is next to no room for it, over a network.

use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{Duct, ErrorKind, ListenOptions, Listener};
use rustix::net::sockopt;

fn listeners() -> Vec<Listener> {
    let mut addresses = vec!["tcp:127.0.0.1:0"];
    if cfg!(feature = "tls") {
        addresses.push("tls:127.0.0.1:0");
    }
    let options = ListenOptions::new().reusable(true);
    let bind = |address| options.bind(address).unwrap();
    addresses.into_iter().map(bind).collect()
}

/// Two ducts, with little room from the first one to the second.
fn narrow(listener: &Listener) -> (Duct, Duct) {
    let (from, to) = enter(listener);
    sockopt::set_socket_send_buffer_size(&from, 8 * 1024).unwrap();
    sockopt::set_socket_recv_buffer_size(&to, 8 * 1024).unwrap();
    (from, to)
}

#[test]
fn a_farewell_finds_its_way_however_full_the_connection_is() {
    let _watchdog = watchdog();
    for listener in listeners() {
        for count in 1.. {
            let (a, b) = narrow(&listener);
            let sent = (0..count)
                .take_while(|_| a.try_send_bytes(&[0; 3000]).is_ok())
                .count();
            drop(a);
            for _ in 0..sent {
                assert_eq!(b.recv_bytes().unwrap().len(), 3000, "{sent} were accepted");
            }
            assert_eq!(
                kind(b.recv_bytes()),
                ErrorKind::Disconnected,
                "after {sent}"
            );
            if sent < count {
                break;
            }
        }
    }
}

#[test]
fn an_answer_to_a_drain_goes_out_when_there_is_room_again() {
    let _watchdog = watchdog();
    let fill = |listener: &Listener, count: usize| {
        let (b, a) = narrow(listener);
        let sent = (0..count)
            .take_while(|_| {
                let accepted = b.try_send_bytes(&[0; 600]).is_ok();
                accepted && b.flush(Duration::from_millis(150)).is_ok()
            })
            .count();
        (b, a, sent)
    };
    for listener in listeners() {
        let (_, _, room) = fill(&listener, usize::MAX);
        for count in room.saturating_sub(5)..=room {
            let (b, a, sent) = fill(&listener, count);
            a.send_bytes(b"1").unwrap();
            thread::scope(|scope| {
                let asked = scope.spawn(|| a.drain(PATIENCE));
                scope.spawn(|| {
                    assert_eq!(b.recv_bytes().unwrap(), b"1");
                    // It goes on receiving, and has nothing more to send.
                    assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
                });
                for _ in 0..sent {
                    assert_eq!(a.recv_bytes().unwrap().len(), 600);
                }
                asked.join().unwrap().unwrap();
                a.close();
            });
        }
    }
}

/// How much of a message goes out at once.
fn room(listener: &Listener) -> usize {
    let (a, _b) = narrow(listener);
    a.try_send_bytes(&LARGE).unwrap();
    let error = a.flush(Duration::from_millis(50)).unwrap_err().to_string();
    let waiting = error.split(' ').find_map(|word| word.parse::<usize>().ok());
    LARGE.len() - waiting.unwrap()
}

#[test]
fn a_close_beside_a_send_never_completes_the_message_with_a_farewell() {
    let watchdog = watchdog();
    for listener in listeners() {
        let room = room(&listener);
        for len in (room.saturating_sub(200)..room + 400).step_by(20) {
            watchdog.pat();
            let (a, b) = narrow(&listener);
            let message = pattern(len);
            thread::scope(|scope| {
                let sending = asleep(scope, || a.send_bytes(&message));
                a.close();
                let _ = sending.join().unwrap();
            });
            drop(a);
            match b.recv_bytes() {
                Ok(received) => assert!(received == message, "{len} of {room}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Truncated, "{len} of {room}"),
            }
        }
    }
}
