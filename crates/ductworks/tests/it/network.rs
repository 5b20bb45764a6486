//! What is different where a network lies between the two ends.

use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use ductworks::{ConnectOptions, Duct, ErrorKind, ListenOptions, Listener, engine};
use rustix::io::Errno;

fn addresses() -> Vec<&'static str> {
    let mut addresses = vec!["tcp:127.0.0.1:0"];
    if cfg!(feature = "tls") {
        addresses.push("tls:127.0.0.1:0");
    }
    addresses
}

#[test]
fn a_close_loses_nothing_while_unread_messages_lie_there() {
    let _watchdog = watchdog();
    let large = pattern(2_000_000);
    for address in addresses() {
        for _ in 0..10 {
            let (a, b) = enter(&Listener::bind(address).unwrap());
            for _ in 0..50 {
                b.send_bytes(&pattern(5_000)).unwrap();
            }
            thread::scope(|scope| {
                scope.spawn(|| {
                    a.send_bytes(&large).unwrap();
                    a.send_bytes(b"last").unwrap();
                    a.close();
                });
                assert!(b.recv_bytes().unwrap() == large);
            });
            assert_eq!(b.recv_bytes().unwrap(), b"last");
            assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
        }
    }
}

#[test]
fn a_close_in_a_process_that_has_forked_loses_nothing_either() {
    alone(|| {
        for address in addresses() {
            for _ in 0..5 {
                let (a, b) = enter(&Listener::bind(address).unwrap());
                engine::forked();
                b.send("nobody reads this").unwrap();
                wait_until_readable(&a);
                thread::scope(|scope| {
                    scope.spawn(move || {
                        for number in 0..300 {
                            a.send_bytes(&numbered(number)).unwrap();
                        }
                    });
                    for number in 0..300 {
                        assert!(b.recv_bytes().unwrap() == numbered(number), "{address}");
                    }
                });
            }
        }
    });
}

#[test]
fn a_close_loses_nothing_while_the_other_end_goes_on_sending() {
    let _watchdog = watchdog();
    let large = pattern(1_000_000);
    for address in addresses() {
        for _ in 0..5 {
            let (a, b) = enter(&Listener::bind(address).unwrap());
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    // Until it fails: nobody reads any of it.
                    while !is_over.load(Ordering::SeqCst) {
                        if b.try_send_bytes(b"x").is_err() {
                            break;
                        }
                    }
                });
                scope.spawn(|| {
                    a.send_bytes(&large).unwrap();
                    a.close();
                });
                assert!(b.recv_bytes().unwrap() == large);
                is_over.store(true, Ordering::SeqCst);
            });
            assert_eq!(kind(b.recv_bytes()), ErrorKind::Disconnected);
        }
    }
}

#[test]
fn a_close_waits_for_nobody_who_does_not_read() {
    let _watchdog = watchdog();
    for address in addresses() {
        let (a, b) = enter(&Listener::bind(address).unwrap());
        a.try_send_bytes(&LARGE).unwrap();
        let begun = Instant::now();
        a.close();
        // It is meant to be half a second; a hang would be a minute.
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(kind(b.recv_bytes()), ErrorKind::Truncated);
    }
}

/// How long the other host may be silent.
const KEEPALIVE: Duration = Duration::from_secs(2);

pub(crate) const ROLES: &[Role<'_>] = &[
    ("idle", |address| in_a_partition(address, idle)),
    ("sent", |address| {
        in_a_partition(address, with_something_sent)
    }),
    ("sending", |address| in_a_partition(address, while_sending)),
    ("full", |address| {
        in_a_partition(address, with_a_full_socket)
    }),
    ("long full", |address| {
        in_a_partition(address, with_a_socket_that_has_long_been_full)
    }),
    ("slow", |address| with_a_slow_reader(address)),
];

/// A process of this test with a network of its own, whose loopback interface it may shut down. None
/// where the system does not allow that.
fn networked(role: &str, address: &str) -> Option<Child> {
    let mut command = process(role, address);
    // SAFETY: the closure makes one system call, which touches no memory.
    let unshare = || match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    // SAFETY: as above.
    unsafe { command.pre_exec(unshare) };
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            eprintln!("left out: no permission for a network of one's own");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn set_loopback(is_up: bool) {
    // SAFETY: the requests read and write the one structure, whose name ends with a zero
    // (netdevice(7)).
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = if is_up {
            libc::IFF_UP as libc::c_short
        } else {
            0
        };
        assert_eq!(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request), 0);
        libc::close(socket);
    }
}

/// Two ducts that notice when the network goes.
fn attentive(address: &str) -> (Duct, Duct) {
    set_loopback(true);
    let listener = ListenOptions::new()
        .keepalive(KEEPALIVE)
        .bind(address)
        .unwrap();
    let options = ConnectOptions::new().keepalive(KEEPALIVE);
    thread::scope(|scope| {
        let child = scope.spawn(|| options.connect(listener.ticket()).unwrap());
        (listener.accept().unwrap(), child.join().unwrap())
    })
}

/// Shuts the network down, and says when.
fn cut() -> Instant {
    set_loopback(false);
    Instant::now()
}

fn in_a_partition(address: &str, notice: fn(&Duct, &Duct) -> Instant) {
    let (a, b) = attentive(address);
    a.send(&1).unwrap();
    assert_eq!(b.recv::<u8>().unwrap(), 1);
    // What is promised, and something for a machine that is busy.
    let within = notice(&a, &b).elapsed();
    eprintln!("{address}: noticed within {within:?}");
    assert!(
        within < KEEPALIVE + Duration::from_secs(1) + Duration::from_secs(2),
        "{within:?}"
    );
    // It stays so, whatever becomes of the network.
    set_loopback(true);
    assert_eq!(kind(a.recv::<u8>()), ErrorKind::PeerDied);
    assert_eq!(kind(a.send(&1)), ErrorKind::Disconnected);
}

fn idle(a: &Duct, b: &Duct) -> Instant {
    let since = cut();
    thread::scope(|scope| {
        let other = scope.spawn(|| kind(b.recv::<u8>()));
        assert_eq!(kind(a.recv::<u8>()), ErrorKind::PeerDied);
        assert_eq!(other.join().unwrap(), ErrorKind::PeerDied);
    });
    since
}

fn with_something_sent(a: &Duct, _b: &Duct) -> Instant {
    let since = cut();
    a.send("nobody will acknowledge this").unwrap();
    assert_eq!(kind(a.recv::<u8>()), ErrorKind::PeerDied);
    since
}

fn while_sending(a: &Duct, b: &Duct) -> Instant {
    thread::scope(|scope| {
        scope.spawn(|| while b.recv_bytes().is_ok() {});
        let message = pattern(1 << 20);
        a.send_bytes(&message).unwrap();
        let since = cut();
        let error = loop {
            if let Err(error) = a.send_bytes(&message) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert_eq!(error.raw_os_error(), Some(Errno::TIMEDOUT.raw_os_error()));
        since
    })
}

/// The other end did not read when it was still there.
fn with_a_full_socket(a: &Duct, _b: &Duct) -> Instant {
    a.try_send_bytes(&LARGE).unwrap();
    let since = cut();
    assert_eq!(kind(a.send(&1)), ErrorKind::Disconnected);
    since
}

/// It did not for long: left to itself, the system asks ever more seldom whether there is room again.
fn with_a_socket_that_has_long_been_full(a: &Duct, _b: &Duct) -> Instant {
    a.try_send_bytes(&LARGE).unwrap();
    wait_for(4 * KEEPALIVE);
    let since = cut();
    assert_eq!(kind(a.send(&1)), ErrorKind::Disconnected);
    since
}

fn wait_for(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        thread::sleep(Duration::from_millis(100));
    }
}

/// Whether the system can be told how long to wait at the most before it asks again (Linux 6.15).
fn bounds_pauses() -> bool {
    const TCP_RTO_MAX_MS: libc::c_int = 44;
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut value, mut len) = (0, 4);
    // SAFETY: the system writes at most `len` bytes of `value`, which has so many.
    let outcome = unsafe {
        let (level, name) = (libc::IPPROTO_TCP, TCP_RTO_MAX_MS);
        let place = (&raw mut value as *mut libc::c_int).cast();
        libc::getsockopt(socket.as_raw_fd(), level, name, place, &raw mut len)
    };
    outcome == 0
}

fn with_a_slow_reader(address: &str) {
    let (a, b) = attentive(address);
    thread::scope(|scope| {
        scope.spawn(|| {
            a.send_bytes(&LARGE).unwrap();
            a.send_bytes(b"patient").unwrap();
        });
        // It reads nothing for much longer than a dead end would be waited for.
        wait_for(3 * KEEPALIVE);
        assert!(b.recv_bytes().unwrap() == *LARGE);
        assert_eq!(b.recv_bytes().unwrap(), b"patient");
    });
}

#[test]
fn a_network_that_goes_is_noticed_and_a_slow_reader_is_none() {
    let _watchdog = watchdog();
    let mut roles = vec!["idle", "sent", "sending", "full", "slow"];
    if bounds_pauses() {
        roles.push("long full");
    }
    let mut children = Vec::new();
    for address in addresses() {
        for role in &roles {
            children.push((role, networked(role, address)));
        }
    }
    for (role, child) in children {
        if let Some(child) = child {
            eprintln!("{role}");
            assert_success(child);
        }
    }
}

#[test]
fn a_keepalive_of_less_than_a_second_is_refused_and_on_one_host_it_means_nothing() {
    let (a, _b) = ductworks::pair().unwrap();
    let short = Duration::from_millis(999);
    assert_eq!(kind(a.set_keepalive(Some(short))), ErrorKind::InvalidInput);
    assert_eq!(
        kind(ListenOptions::new().keepalive(short).bind_private()),
        ErrorKind::InvalidInput
    );
    let connecting = ConnectOptions::new()
        .keepalive(short)
        .connect("tcp:127.0.0.1:1");
    assert_eq!(kind(connecting), ErrorKind::InvalidInput);
    a.set_keepalive(Some(KEEPALIVE)).unwrap();
    a.set_keepalive(None).unwrap();
}
