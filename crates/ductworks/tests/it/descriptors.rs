//! Descriptors: how many, who inherits them, when they are ready, and which ones can be taken over.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use crate::common::*;
use ductworks::{ConnectOptions, Duct, ErrorKind, Listener, connect};
use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::process::Resource;

pub(crate) const ROLES: &[Role<'_>] = &[
    ("count", count),
    ("make everything", make_everything),
    ("inherit nothing but", inherit_nothing_but),
    ("adopt standard input", adopt_standard_input),
    ("use high numbers", use_high_numbers),
];

fn run(role: &str) {
    // A process of its own, since the other tests of this one have descriptors too.
    assert_success(process(role, "").spawn().unwrap());
}

// How many.

#[test]
fn a_duct_holds_one_descriptor_and_leaves_none() {
    let _watchdog = watchdog();
    run("count");
}

fn count(_: &str) {
    // The one that a thread keeps when it has waited once.
    let (a, b) = ductworks::pair().unwrap();
    a.recv_bytes_timeout(Duration::from_millis(1)).unwrap_err();
    drop((a, b));
    let before = descriptors().len();
    let held = || descriptors().len() - before;

    let (c, d) = ductworks::pair().unwrap();
    assert_eq!(held(), 2);
    let (sender, receiver) = c.split();
    assert_eq!(held(), 2);
    drop(sender);
    d.close();
    assert_eq!(held(), 2);
    drop((receiver, d));
    assert_eq!(held(), 0);

    for transport in TRANSPORTS {
        let parent = transport.parent();
        // The socket, and what watches it and those who have knocked.
        assert_eq!(held(), 2);
        parent.listen(Duration::from_millis(1)).unwrap_err();
        assert_eq!(held(), 2);
        let (here, there) = join(&parent);
        assert_eq!(held(), 2, "the listener is gone, and its duct is here");
        drop(parent);

        // Threads that wait hold one more each, for as long as they live.
        thread::scope(|scope| {
            let waiting = [(); 3].map(|()| asleep(scope, || kind(here.recv_bytes())));
            assert_eq!(held(), 5);
            drop(there);
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), ErrorKind::Disconnected);
            }
        });
        assert_eq!(held(), 1);
        drop(here);
        assert_eq!(held(), 0);
    }

    // What fails leaves nothing either.
    let some_attempts = ConnectOptions::new().timeout(Duration::from_millis(10));
    for nowhere in ["unix:/does/not/exist", "unix:/dev/null", "tcp:127.0.0.1:1"] {
        some_attempts.connect(nowhere).unwrap_err();
        assert_eq!(held(), 0, "{nowhere}");
    }
    Listener::bind("unix:/does/not/exist").unwrap_err();
    Duct::try_from(OwnedFd::from(File::open("/dev/null").unwrap())).unwrap_err();
    let (e, mut peer) = Transport::Unix.bare_peer();
    peer.write_all(b"G").unwrap();
    e.recv_bytes().unwrap_err();
    drop((e, peer));
    assert_eq!(held(), 0);
}

// Who inherits them.

#[test]
fn no_program_inherits_anything() {
    let _watchdog = watchdog();
    run("make everything");
}

fn make_everything(_: &str) {
    let before = descriptors();
    let (a, b) = ductworks::pair().unwrap();
    a.recv_bytes_timeout(Duration::from_millis(1)).unwrap_err();
    b.close();
    let made: Vec<_> = TRANSPORTS
        .map(|transport| {
            let used = transport.parent();
            let (here, there) = join(&used);
            (transport.parent(), here, there)
        })
        .into();
    let (ours, theirs) = UnixStream::pair().unwrap();
    for socket in [&ours, &theirs] {
        let inheritable = rustix::io::FdFlags::empty();
        rustix::io::fcntl_setfd(socket, inheritable).unwrap();
    }
    // SAFETY: nobody else owns the number that was just given up.
    let by_number = unsafe { Duct::from_inherited(ours.into_raw_fd()) }.unwrap();
    let by_owner = Duct::try_from(OwnedFd::from(theirs)).unwrap();

    assert!(descriptors().len() >= before.len() + 10);
    let before: Vec<_> = before.keys().map(i32::to_string).collect();
    let program = process("inherit nothing but", before.join(" "));
    assert_success({ program }.spawn().unwrap());
    drop((a, b, made, by_number, by_owner));
}

fn inherit_nothing_but(before: &str) {
    let before: BTreeSet<i32> = before.split(' ').map(|n| n.parse().unwrap()).collect();
    let more: Vec<_> = descriptors()
        .into_keys()
        .filter(|n| !before.contains(n))
        .collect();
    assert!(more.is_empty(), "{more:?}");
}

// When they are ready.

#[test]
fn the_descriptor_is_readable_exactly_when_a_receive_would_not_wait() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        assert!(!is_readable(&b));
        a.send_bytes(b"first").unwrap();
        a.send_bytes(b"").unwrap();
        a.send_bytes(b"third").unwrap();
        wait_until_readable(&b);
        assert_eq!(kind(b.recv_into(&mut [0; 3])), ErrorKind::BufferTooSmall);
        assert!(is_readable(&b));
        assert!(b.poll(PATIENCE).unwrap());
        assert!(is_readable(&b));
        assert_eq!(b.recv_bytes().unwrap(), b"first");
        wait_until_readable(&b);
        assert!(b.poll(PATIENCE).unwrap());
        assert!(is_readable(&b));
        assert_eq!(b.recv_bytes().unwrap(), b"");
        wait_until_readable(&b);
        assert_eq!(b.recv_bytes().unwrap(), b"third");
        assert!(!is_readable(&b));

        drop(a);
        wait_until_readable(&b);
        assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
        assert!(is_readable(&b));
    }
}

#[test]
fn the_descriptor_is_writable_when_a_send_would_not_wait() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (a, b) = transport.ducts();
        let writable = || readiness(&a, PollFlags::OUT).contains(PollFlags::OUT);
        assert!(writable());
        a.try_send_bytes(&LARGE).unwrap();
        assert!(!writable());
        thread::scope(|scope| {
            scope.spawn(|| assert!(b.recv_bytes().unwrap() == *LARGE));
            a.flush(PATIENCE).unwrap();
        });
        assert!(writable());
    }
}

#[test]
fn a_listener_is_readable_when_somebody_waits() {
    let _watchdog = watchdog();
    for listener in [
        Listener::bind_private().unwrap(),
        Listener::bind("tcp:127.0.0.1:0").unwrap(),
    ] {
        assert!(!is_readable(&listener));
        let ticket = listener.ticket();
        let child = thread::spawn(|| connect(ticket));
        // Once when somebody knocks, and again when they have more to say.
        while let Err(error) = listener.try_accept() {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            wait_until_readable(&listener);
        }
        assert!(!is_readable(&listener));
        child.join().unwrap().unwrap();
    }
}

#[test]
fn large_numbers_work_like_small_ones() {
    let _watchdog = watchdog();
    run("use high numbers");
}

fn use_high_numbers(_: &str) {
    // select(2) and whoever uses it ends at 1024.
    const HIGH: i32 = 1500;
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < 2 * HIGH as u64) {
        eprintln!("skipped: this process may not have so many descriptors");
        return;
    }
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).unwrap();
    let raise = |socket| rustix::io::fcntl_dupfd_cloexec(socket, HIGH).unwrap();
    let (a, b) = Transport::Unix.sockets();
    let [a, b] = [&a, &b].map(|socket| Duct::try_from(raise(socket)).unwrap());
    assert!(a.as_fd().as_raw_fd() >= HIGH);
    thread::scope(|scope| {
        // Its own descriptor for waiting is high too.
        let _low: Vec<_> = (0..HIGH)
            .map(|_| File::open("/dev/null").unwrap())
            .collect();
        let receiving = asleep(scope, || b.recv::<u8>().unwrap());
        a.send(&1).unwrap();
        assert_eq!(receiving.join().unwrap(), 1);
        assert!(!b.poll(Duration::from_millis(1)).unwrap());
    });
}

// Which ones can be taken over.

#[test]
fn an_execd_child_adopts_the_socket_that_it_inherited() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (ours, theirs) = transport.sockets();
        let child = process("adopt standard input", "")
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let duct = Duct::try_from(ours).unwrap();
        duct.send(&[1, 2]).unwrap();
        assert_eq!(duct.recv::<u8>().unwrap(), 3);
        drop(duct);
        assert_success(child);
    }
}

fn adopt_standard_input(_: &str) {
    // SAFETY: nothing in this process reads its standard input.
    let duct = unsafe { Duct::from_inherited(0) }.unwrap();
    let numbers: Vec<u8> = duct.recv().unwrap();
    duct.send(&numbers.iter().sum::<u8>()).unwrap();
    assert_eq!(kind(duct.recv_bytes()), ErrorKind::Disconnected);
}

#[test]
fn only_a_connected_stream_is_taken_over() {
    let _watchdog = watchdog();
    let directory = tempfile::tempdir().unwrap();
    let socket =
        |family, kind| rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    let packets = || {
        let (a, _) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        a
    };
    let others: Vec<(&str, OwnedFd)> = vec![
        ("a file", File::open("/dev/null").unwrap().into()),
        ("a directory", File::open(&directory).unwrap().into()),
        ("a pipe", std::io::pipe().unwrap().0.into()),
        ("datagrams", UnixDatagram::pair().unwrap().0.into()),
        ("packets", packets()),
        ("UDP", UdpSocket::bind("127.0.0.1:0").unwrap().into()),
        (
            "unconnected",
            socket(AddressFamily::UNIX, SocketType::STREAM),
        ),
        (
            "unconnected TCP",
            socket(AddressFamily::INET, SocketType::STREAM),
        ),
        (
            "a TCP listener",
            TcpListener::bind("127.0.0.1:0").unwrap().into(),
        ),
        (
            "a listener",
            UnixListener::bind(directory.path().join("s"))
                .unwrap()
                .into(),
        ),
    ];
    for (what, descriptor) in others {
        let error = Duct::try_from(descriptor).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error}");
        assert!(
            error.to_string().starts_with("expected "),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_number_that_is_no_descriptor_is_refused() {
    let _watchdog = watchdog();
    let past_all = fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
    let past_all: i32 = past_all.trim().parse().unwrap();
    for number in [-1, i32::MIN, past_all, i32::MAX] {
        // SAFETY: nothing can own such a number.
        let outcome = unsafe { Duct::from_inherited(number) };
        assert_eq!(kind(outcome), ErrorKind::InvalidInput, "{number}");
    }
}
