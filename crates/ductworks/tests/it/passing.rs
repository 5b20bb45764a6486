//! Descriptors that go along with messages.

use std::fs::File;
use std::io::{IoSlice, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::wire::{Framing, V2};
use ductworks::{Duct, ErrorKind, Listener};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SHORT: Duration = Duration::from_millis(20);

pub(crate) const ROLES: &[Role<'_>] = &[("borrow", borrow), ("crowded", receive_without_room)];

fn file_of(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn text_of(descriptor: OwnedFd) -> String {
    let mut file = File::from(descriptor);
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// A duct, and a bare peer that speaks version 2 to it.
fn bare_peer() -> (Duct, File) {
    let (ours, theirs) = ductworks::pair().unwrap();
    (ours, File::from(theirs.into_descriptor().unwrap()))
}

/// Writes bytes with descriptors attached to them.
fn write_with(peer: &File, bytes: &[u8], descriptors: &[OwnedFd]) {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    let sent = sendmsg(
        peer,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::empty(),
    );
    assert_eq!(sent.unwrap(), bytes.len());
}

fn announcing(payload: &[u8], count: usize) -> Vec<u8> {
    let mut frame = V2
        .head_with(payload.len(), count)
        .unwrap()
        .as_ref()
        .to_vec();
    frame.extend(payload);
    frame.resize(frame.len().max(128), 0);
    frame
}

/// An exec'd child, which reads a file and uses a duct that it is handed.
fn borrow(ticket: &str) {
    let parent = ductworks::connect(ticket).unwrap();
    let (greeting, descriptors) = parent.recv_with_descriptors::<String>().unwrap();
    let [file, duct] = <[OwnedFd; 2]>::try_from(descriptors).unwrap();
    let duct = Duct::try_from(duct).unwrap();
    duct.send(&format!("{greeting}, {}", text_of(file)))
        .unwrap();
}

#[test]
fn files_and_ducts_go_to_another_process() {
    let _watchdog = watchdog();
    let listener = Listener::bind_private().unwrap();
    let child = process("borrow", listener.ticket()).spawn().unwrap();
    let parent = listener.accept().unwrap();
    let (ours, theirs) = ductworks::pair().unwrap();
    let handed = [file_of("world").into(), theirs.into_descriptor().unwrap()];
    parent.send_with_descriptors("hello", &handed).unwrap();
    drop(handed);
    assert_eq!(ours.recv::<String>().unwrap(), "hello, world");
    assert_eq!(kind(ours.recv::<String>()), ErrorKind::Disconnected);
    assert_success(child);
}

#[test]
fn each_message_has_its_own_descriptors_whatever_its_size() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let sizes = [0, 1, 112, 113, 600, 300_000];
    thread::scope(|scope| {
        scope.spawn(|| {
            for size in sizes {
                for count in [0, 1, 16] {
                    let files: Vec<_> = (0..count)
                        .map(|number| file_of(&format!("{size} {number}")))
                        .collect();
                    let text = "x".repeat(size);
                    a.send_with_descriptors(&text, &files).unwrap();
                }
                a.send_bytes(b"none").unwrap();
            }
        });
        for size in sizes {
            for count in [0, 1, 16] {
                let (text, files) = b.recv_with_descriptors::<String>().unwrap();
                assert_eq!((text.len(), files.len()), (size, count));
                for (number, file) in files.into_iter().enumerate() {
                    let flags = rustix::io::fcntl_getfd(&file).unwrap();
                    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
                    assert_eq!(text_of(file), format!("{size} {number}"));
                }
            }
            assert_eq!(b.recv_bytes().unwrap(), b"none");
        }
    });
}

#[test]
fn who_does_not_ask_for_descriptors_keeps_none() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    a.send_with_descriptors("plain", &[theirs]).unwrap();
    assert_eq!(b.recv::<String>().unwrap(), "plain");
    let mut end = [0];
    assert_eq!((&ours).read(&mut end).unwrap(), 0, "the copy is closed");
}

#[test]
fn a_descriptor_is_readable_until_the_descriptors_are_here_too() {
    let _watchdog = watchdog();
    let (duct, mut peer) = bare_peer();
    for size in [5, 100_000] {
        let frame = announcing(format!("{:?}", "x".repeat(size)).as_bytes(), 1);
        for part in frame.chunks(frame.len().div_ceil(3)) {
            peer.write_all(part).unwrap();
            assert!(!duct.poll(Duration::ZERO).unwrap());
        }
        assert!(!is_readable(&duct));
        write_with(&peer, &[0], &[file_of("late").into()]);
        assert!(duct.poll(Duration::ZERO).unwrap());
        assert!(is_readable(&duct));
        let (_, mut files) = duct.recv_with_descriptors::<String>().unwrap();
        assert_eq!(text_of(files.pop().unwrap()), "late");
    }
}

#[test]
fn a_send_that_is_given_up_half_way_brings_its_descriptors_in_the_end() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let large = "x".repeat(8 << 20);
    a.try_send_with_descriptors(&large, &[file_of("in the end")])
        .unwrap();
    assert_eq!(kind(a.try_send("next")), ErrorKind::WouldBlock);
    thread::scope(|scope| {
        scope.spawn(|| a.flush(PATIENCE).unwrap());
        let (text, mut files) = b.recv_with_descriptors::<String>().unwrap();
        assert_eq!(text.len(), large.len());
        assert_eq!(text_of(files.pop().unwrap()), "in the end");
    });
    a.send("next").unwrap();
    assert_eq!(b.recv::<String>().unwrap(), "next");
}

#[test]
fn a_close_in_the_middle_is_an_end_in_the_middle() {
    let _watchdog = watchdog();
    let (duct, mut peer) = bare_peer();
    peer.write_all(&announcing(b"1", 2)).unwrap();
    assert!(
        duct.recv_with_descriptors_timeout::<u8>(SHORT)
            .is_err_and(|error| is_late(&error))
    );
    drop(peer);
    assert_eq!(
        kind(duct.recv_with_descriptors::<u8>()),
        ErrorKind::Truncated
    );
}

#[test]
fn where_descriptors_cannot_go_nothing_is_sent() {
    let _watchdog = watchdog();
    let file = file_of("");
    let (a, b) = ductworks::pair().unwrap();
    let many: Vec<_> = (0..17).map(|_| file.as_fd()).collect();
    assert_eq!(
        kind(a.send_with_descriptors(&1, &many)),
        ErrorKind::InvalidInput
    );
    a.send(&2).unwrap();
    assert_eq!(b.recv::<u8>().unwrap(), 2);

    let (v1, _) = Transport::Unix.ducts();
    let (tcp, _b) = enter(&Listener::bind("tcp:127.0.0.1:0").unwrap());
    let mut ducts = vec![v1, tcp];
    #[cfg(feature = "tls")]
    ducts.push(enter(&Listener::bind("tls:127.0.0.1:0").unwrap()).0);
    for duct in ducts {
        let sent = duct.send_with_descriptors(&1, &[&file]);
        assert_eq!(kind(sent), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_peer_that_does_not_keep_its_word_gets_nothing_in() {
    let _watchdog = watchdog();
    // More than were announced.
    let (duct, mut peer) = bare_peer();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let copy = theirs.try_clone().unwrap();
    peer.write_all(&announcing(b"1", 1)).unwrap();
    write_with(&peer, &[0], &[theirs.into(), copy.into()]);
    assert_eq!(
        kind(duct.recv_with_descriptors::<u8>()),
        ErrorKind::Protocol
    );
    assert_eq!((&ours).read(&mut [0]).unwrap(), 0, "all are closed");

    // Where none were announced, and more than any message may have.
    let (duct, peer) = bare_peer();
    let (ours, theirs) = UnixStream::pair().unwrap();
    write_with(&peer, &announcing(b"1", 0), &[theirs.into()]);
    assert_eq!(duct.recv::<u8>().unwrap(), 1);
    assert_eq!((&ours).read(&mut [0]).unwrap(), 0);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let crowd: Vec<OwnedFd> = (0..30)
        .map(|_| theirs.try_clone().unwrap().into())
        .collect();
    let mut peer = peer;
    peer.write_all(&announcing(b"1", 16)).unwrap();
    write_with(&peer, &[0], &crowd);
    assert_eq!(
        kind(duct.recv_with_descriptors::<u8>()),
        ErrorKind::Protocol
    );
    drop((crowd, theirs));
    assert_eq!((&ours).read(&mut [0]).unwrap(), 0, "all are closed");

    // A byte that is none to carry anything.
    let (duct, mut peer) = bare_peer();
    peer.write_all(&announcing(b"1", 1)).unwrap();
    peer.write_all(&[1]).unwrap();
    assert_eq!(
        kind(duct.recv_with_descriptors::<u8>()),
        ErrorKind::Protocol
    );

    // None at all, though they were announced.
    let (duct, mut peer) = bare_peer();
    peer.write_all(&announcing(b"1", 3)).unwrap();
    peer.write_all(&[0]).unwrap();
    assert_eq!(kind(duct.recv_with_descriptors::<u8>()), ErrorKind::Io);
    peer.write_all(&announcing(b"2", 0)).unwrap();
    assert_eq!(duct.recv::<u8>().unwrap(), 2);
}

#[test]
fn a_process_without_room_loses_the_message_and_keeps_the_duct() {
    let _watchdog = watchdog();
    let listener = Listener::bind_private().unwrap();
    let child = process("crowded", listener.ticket()).spawn().unwrap();
    let parent = listener.accept().unwrap();
    let files: Vec<_> = (0..16).map(|_| file_of("")).collect();
    assert_eq!(parent.recv::<String>().unwrap(), "ready");
    parent.send_with_descriptors(&1, &files).unwrap();
    parent.send(&2).unwrap();
    assert_success(child);
}

fn receive_without_room(ticket: &str) {
    let duct = ductworks::connect(ticket).unwrap();
    let next_free = file_of("").as_raw_fd();
    let limit = Rlimit {
        current: Some(u64::try_from(next_free).unwrap() + 4),
        ..getrlimit(Resource::Nofile)
    };
    // A thread that has waited keeps a descriptor to be woken by.
    assert_eq!(kind(duct.recv_bytes_timeout(SHORT)), ErrorKind::TimedOut);
    setrlimit(Resource::Nofile, limit).unwrap();
    let before = descriptors();
    duct.send("ready").unwrap();
    let error = duct.recv_with_descriptors::<u8>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    assert_eq!(descriptors(), before, "those that had room are closed");
    assert_eq!(duct.recv::<u8>().unwrap(), 2);
}
