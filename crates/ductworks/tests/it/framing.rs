//! Messages out of a stream of bytes, however these come.

use std::fs::File;
use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{Duct, ErrorKind};
use proptest::prelude::*;
use rustix::net::SendFlags;

/// One way to ask for a message.
#[derive(Clone, Copy, Debug)]
enum Look {
    Try,
    TryInto(usize),
    Poll,
    Timeout,
    PollTimeout,
}

fn looks() -> impl Strategy<Value = Vec<Look>> {
    let look = prop_oneof![
        4 => Just(Look::Try),
        2 => (0..40usize).prop_map(Look::TryInto),
        4 => Just(Look::Poll),
        1 => Just(Look::Timeout),
        1 => Just(Look::PollTimeout),
    ];
    prop::collection::vec(look, 1..40)
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    // The library takes memory at once for up to 64 KiB, and lets it grow beyond. Two such messages
    // would fill the socket.
    let large = prop::option::of((0..6usize, 65_500..65_600usize));
    (prop::collection::vec(0..40usize, 0..6), large).prop_map(|(mut lengths, large)| {
        if let Some((at, len)) = large {
            lengths.insert(at.min(lengths.len()), len);
        }
        lengths.into_iter().map(pattern).collect()
    })
}

const A_MOMENT: Duration = Duration::from_micros(50);

/// What is known about a stream of which the receiver has got a part.
struct Model<'a> {
    messages: &'a [Vec<u8>],
    received: usize,
    /// Where in the stream the next message begins.
    at: usize,
    written: usize,
}

impl Model<'_> {
    fn next(&self) -> Option<&[u8]> {
        self.messages.get(self.received).map(Vec::as_slice)
    }

    fn head_is_there(&self) -> bool {
        self.next().is_some() && self.at + 5 <= self.written
    }

    fn message_waits(&self) -> bool {
        let whole = |next: &[u8]| self.at + 5 + next.len() <= self.written;
        self.next().is_some_and(whole)
    }

    fn look(&mut self, duct: &Duct, look: Look) {
        let waits = self.message_waits();
        let mut place = [0; 40];
        let outcome = match look {
            Look::Try => duct.try_recv_bytes(),
            Look::Timeout => duct.recv_bytes_timeout(A_MOMENT),
            Look::TryInto(room) => duct
                .try_recv_into(&mut place[..room])
                .map(|len| place[..len].to_vec()),
            Look::Poll | Look::PollTimeout => {
                let timeout = match look {
                    Look::Poll => Duration::ZERO,
                    _ => A_MOMENT,
                };
                assert_eq!(duct.poll(timeout).unwrap(), waits);
                assert_eq!(is_readable(duct), waits);
                return;
            }
        };
        match outcome {
            Ok(message) => {
                assert!(waits && Some(&message[..]) == self.next());
                self.at += 5 + message.len();
                self.received += 1;
                if self.message_waits() {
                    assert!(is_readable(duct));
                }
            }
            Err(error) if error.kind() == ErrorKind::BufferTooSmall => {
                let Look::TryInto(room) = look else {
                    panic!("{look:?}: {error}")
                };
                assert!(self.head_is_there() && self.next().unwrap().len() > room);
            }
            Err(error) => {
                assert!(is_late(&error) && !waits, "{look:?}: {error}");
                // All of it was taken in, so that waiting for the descriptor is waiting.
                assert!(!is_readable(duct));
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn every_split_decodes_alike_whatever_is_asked_in_between(
        messages in messages(),
        cuts in prop::collection::vec(1usize..30, 0..60),
        looks in looks(),
    ) {
        let _watchdog = watchdog();
        let (duct, mut peer) = Transport::Unix.bare_peer();
        let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
        let mut model = Model { messages: &messages, received: 0, at: 0, written: 0 };
        let mut looks = looks.into_iter().cycle();
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let rest = &stream[model.written..];
            let piece = &rest[..cut.min(rest.len())];
            peer.write_all(piece).unwrap();
            model.written += piece.len();
            for _ in 0..2 {
                model.look(&duct, looks.next().unwrap());
            }
        }
        while model.next().is_some() {
            model.look(&duct, Look::Try);
        }
        prop_assert!(!duct.poll(Duration::ZERO).unwrap());
    }
}

proptest! {
    #![proptest_config(cases(20))]

    /// As above, but with a peer that writes whenever it pleases.
    #[test]
    fn a_peer_that_writes_byte_by_byte_loses_nothing_to_impatient_calls(
        lengths in prop::collection::vec(0usize..300, 1..8),
        looks in looks(),
    ) {
        let _watchdog = watchdog();
        for transport in TRANSPORTS {
            let (duct, peer) = transport.bare_peer();
            thread::scope(|scope| {
                let lengths = &lengths;
                scope.spawn(move || write_bytewise(peer, lengths));
                // At least one that will have room.
                let mut looks = looks.iter().chain([&Look::Try]).cycle();
                for &len in lengths {
                    let message = loop {
                        if let Some(message) = impatient(&duct, *looks.next().unwrap()) {
                            break message;
                        }
                    };
                    assert_eq!(message, pattern(len));
                }
                assert_eq!(kind(duct.recv_bytes()), ErrorKind::Disconnected);
            });
        }
    }
}

fn write_bytewise(mut peer: File, lengths: &[usize]) {
    for &len in lengths {
        for byte in frame(&pattern(len)) {
            peer.write_all(&[byte]).unwrap();
        }
    }
}

fn impatient(duct: &Duct, look: Look) -> Option<Vec<u8>> {
    let mut place = [0; 400];
    let outcome = match look {
        Look::Try => duct.try_recv_bytes(),
        Look::Timeout => duct.recv_bytes_timeout(A_MOMENT),
        Look::TryInto(room) => duct
            .try_recv_into(&mut place[..10 * room])
            .map(|len| place[..len].to_vec()),
        Look::Poll if !duct.poll(Duration::ZERO).unwrap() => return None,
        Look::PollTimeout if !duct.poll(A_MOMENT).unwrap() => return None,
        // After such an answer nothing has to wait.
        Look::Poll | Look::PollTimeout => return Some(duct.try_recv_bytes().unwrap()),
    };
    match outcome {
        Ok(message) => Some(message),
        Err(error) => {
            let small = error.kind() == ErrorKind::BufferTooSmall;
            assert!(small || is_late(&error), "{error}");
            None
        }
    }
}

#[test]
fn a_message_of_any_size_arrives_whole() {
    let _watchdog = watchdog();
    let edges = [64 * 1024, 212_992, 1024 * 1024, 2 * 1024 * 1024];
    let around = |edge: usize| [edge - 6, edge - 5, edge - 1, edge, edge + 1];
    let mut sizes = vec![0, 1, 2, 4, 5, 6, 255, 256, 257];
    sizes.extend(edges.into_iter().flat_map(around));
    sizes.push(LARGE.len());
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        thread::scope(|scope| {
            scope.spawn(|| {
                for &size in &sizes {
                    a.send_bytes(&LARGE[..size]).unwrap();
                    a.send_bytes(&LARGE[..size]).unwrap();
                }
            });
            let mut place = vec![0; LARGE.len()];
            for &size in &sizes {
                assert!(b.recv_bytes().unwrap() == LARGE[..size], "{size}");
                assert_eq!(b.recv_into(&mut place).unwrap(), size);
                assert!(place[..size] == LARGE[..size], "{size}");
            }
        });
    }
}

#[test]
fn a_receive_into_memory_goes_on_where_another_receive_was_given_up() {
    let _watchdog = watchdog();
    let message = pattern(200_000);
    let stream = frame(&message);
    for transport in TRANSPORTS {
        let (duct, mut peer) = transport.bare_peer();
        let mut place = vec![0; message.len()];
        for (at, piece) in stream.chunks(30_000).enumerate() {
            let last = (at + 1) * 30_000 >= stream.len();
            peer.write_all(piece).unwrap();
            if last {
                break;
            }
            wait_until_readable(&duct);
            assert_eq!(kind(duct.try_recv_bytes()), ErrorKind::WouldBlock);
            assert_eq!(kind(duct.try_recv_into(&mut place)), ErrorKind::WouldBlock);
            let small = kind(duct.try_recv_into(&mut place[1..]));
            assert_eq!(small, ErrorKind::BufferTooSmall);
        }
        assert_eq!(duct.recv_into(&mut place).unwrap(), message.len());
        assert!(place == message);
    }
}

/// The time that is left of a longer deadline may well be none.
#[test]
fn a_timeout_of_zero_times_out() {
    let _watchdog = watchdog();
    let (a, b) = Transport::Unix.ducts();
    let none = Duration::ZERO;
    assert_eq!(kind(a.recv_timeout::<u8>(none)), ErrorKind::TimedOut);
    assert_eq!(kind(a.recv_bytes_timeout(none)), ErrorKind::TimedOut);
    assert_eq!(
        kind(a.recv_into_timeout(&mut [], none)),
        ErrorKind::TimedOut
    );
    assert!(!a.poll(none).unwrap());
    while a.try_send_bytes(&LARGE).is_ok() {}
    assert_eq!(kind(a.send_timeout(&1, none)), ErrorKind::TimedOut);
    assert_eq!(kind(a.flush(none)), ErrorKind::TimedOut);
    // What needs no waiting is done.
    b.send(&1).unwrap();
    assert_eq!(a.recv_timeout::<u8>(none).unwrap(), 1);
}

#[test]
fn bytes_out_of_band_are_no_part_of_the_stream() {
    let _watchdog = watchdog();
    let (duct, mut peer) = Transport::Tcp.bare_peer();
    let stream = frame(b"\"whole\"");
    for (at, byte) in stream.iter().enumerate() {
        rustix::net::send(&peer, b"!", SendFlags::OOB).unwrap();
        peer.write_all(&[*byte]).unwrap();
        if at + 1 < stream.len() {
            assert_eq!(kind(duct.try_recv::<String>()), ErrorKind::WouldBlock);
        }
    }
    rustix::net::send(&peer, b"!", SendFlags::OOB).unwrap();
    assert!(duct.poll(PATIENCE).unwrap());
    assert_eq!(duct.recv::<String>().unwrap(), "whole");
}
