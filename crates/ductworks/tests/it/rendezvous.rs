//! How a parent and its children find each other.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{fs, thread};

use crate::common::*;
use ductworks::engine::{Deadline, Wait};
use ductworks::{
    Address, ConnectOptions, ErrorKind, ListenOptions, Listener, Parent, Ticket, connect,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

pub(crate) const ROLES: &[Role<'_>] = &[("number", number)];

fn number(argument: &str) {
    let (ticket, number) = argument.rsplit_once(' ').unwrap();
    let duct = connect(ticket).unwrap();
    duct.send(&number.parse::<u32>().unwrap()).unwrap();
    assert_eq!(kind(duct.recv_bytes()), ErrorKind::Disconnected);
}

#[test]
fn a_parent_and_its_execd_child_exchange_messages() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let (duct, child) = transport.start("echo");
        for message in [&b""[..], b"hello", &pattern(3_000_000)] {
            duct.send_bytes(message).unwrap();
            assert_eq!(duct.recv_bytes().unwrap(), message, "{transport:?}");
        }
        drop(duct);
        assert_success(child);
    }
}

#[test]
fn many_execd_children_share_a_listener() {
    let _watchdog = watchdog();
    let shared = ListenOptions::new().reusable(true);
    for listener in [
        shared.bind_private().unwrap(),
        shared.bind("tcp:127.0.0.1:0").unwrap(),
    ] {
        let start = |number| {
            let argument = format!("{} {number}", listener.ticket());
            process("number", argument).spawn().unwrap()
        };
        let children = [1, 2, 3].map(start);
        let ducts = [(); 3].map(|()| listener.accept_timeout(PATIENCE).unwrap());
        let mut numbers = ducts.each_ref().map(|duct| duct.recv::<u32>().unwrap());
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        drop(ducts);
        children.into_iter().for_each(assert_success);
    }
}

#[test]
fn a_child_may_come_before_the_name_is_bound() {
    let _watchdog = watchdog();
    let directory = tempfile::tempdir().unwrap();
    let address = Address::unix(directory.path().join("duct")).unwrap();
    assert_waits_for_the_listener(&address);
}

#[test]
fn a_child_may_come_before_the_port_is_bound() {
    let _watchdog = watchdog();
    // Keeps the port for this test, and is not in the listener's way, since it does not listen.
    let (_keeper, address) = kept_port();
    assert_waits_for_the_listener(&address);
}

fn kept_port() -> (OwnedFd, Address) {
    let flags = SocketFlags::CLOEXEC;
    let family = AddressFamily::INET;
    let keeper = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
    sockopt::set_socket_reuseaddr(&keeper, true).unwrap();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    rustix::net::bind(&keeper, &any).unwrap();
    let name = rustix::net::getsockname(&keeper).unwrap();
    let port = std::net::SocketAddr::try_from(name).unwrap().port();
    (keeper, Address::tcp("127.0.0.1", port).unwrap())
}

fn assert_waits_for_the_listener(address: &Address) {
    thread::scope(|scope| {
        let patient = ConnectOptions::new().timeout(PATIENCE).v1(true);
        let child = asleep(scope, move || patient.connect(address).unwrap());
        let listener = ListenOptions::new().v1(true).bind(address).unwrap();
        listener.accept_timeout(PATIENCE).unwrap().send(&7).unwrap();
        assert_eq!(child.join().unwrap().recv::<u8>().unwrap(), 7);
    });
}

/// Waits until nobody listens there: a process that another test starts holds the socket too, until
/// its exec.
fn assert_refused(address: &Address) {
    let once = ConnectOptions::new()
        .retry(false)
        .handshake_timeout(Duration::ZERO);
    while kind(once.connect(address)) != ErrorKind::Unreachable {}
}

#[test]
fn connect_gives_up_when_nobody_listens_until_its_deadline() {
    let _watchdog = watchdog();
    let directory = tempfile::tempdir().unwrap();
    let missing = Address::unix(directory.path().join("missing")).unwrap();
    let stale = Address::unix(directory.path().join("stale")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(stale.path().unwrap()).unwrap());
    let (_keeper, refused) = kept_port();
    for address in [&missing, &stale, &refused] {
        assert_refused(address);
        for options in [
            ConnectOptions::new().timeout(Duration::from_millis(5)),
            ConnectOptions::new().timeout(Duration::ZERO),
            ConnectOptions::new().timeout(PATIENCE).retry(false),
        ] {
            let error = options.connect(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{address}: {error}");
        }
    }
}

#[test]
fn a_full_queue_makes_a_child_wait() {
    let _watchdog = watchdog();
    let listener = ListenOptions::new().backlog(1).bind_private().unwrap();
    let address = Address::unix(v2_path(listener.address())).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        let at_once = &mut Wait::until(Deadline::Now);
        match ConnectOptions::new().connect_socket(&address, at_once) {
            Ok(socket) => waiting.push(socket),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::Unreachable);
    assert_eq!(full.raw_os_error(), Some(Errno::AGAIN.raw_os_error()));

    // A listener that is busy is no refusal, so this waits also without retries.
    let patient = ConnectOptions::new().timeout(PATIENCE).retry(false);
    thread::scope(|scope| {
        let child = asleep(scope, || patient.connect(listener.ticket()).unwrap());
        listener.accept_timeout(PATIENCE).unwrap().send(&7).unwrap();
        assert_eq!(child.join().unwrap().recv::<u8>().unwrap(), 7);
    });
}

#[test]
fn a_parent_has_one_child() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let parent = transport.parent();
        let (child, duct) = join(&parent);

        assert_refused(parent.address());
        assert_eq!(kind(parent.listen(PATIENCE)), ErrorKind::AlreadyConnected);

        // Neither disturbs the duct that there is.
        parent.close();
        drop(parent);
        duct.send(&1).unwrap();
        assert_eq!(child.recv::<u8>().unwrap(), 1);
    }
}

#[test]
fn listen_may_be_called_again_after_it_timed_out() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let parent = transport.parent();
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            let error = parent.listen(timeout).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(error.to_string().contains(&parent.address().to_string()));
        }
        let (child, duct) = join(&parent);
        duct.send(&1).unwrap();
        assert_eq!(child.recv::<u8>().unwrap(), 1);
    }
}

#[test]
fn close_wakes_a_parent_that_listens() {
    let _watchdog = watchdog();
    for transport in TRANSPORTS {
        let parent = transport.parent();
        thread::scope(|scope| {
            let waiting = asleep(scope, || kind(parent.listen(PATIENCE)));
            parent.close();
            assert_eq!(waiting.join().unwrap(), ErrorKind::Closed, "{transport:?}");
        });
        assert_eq!(kind(parent.listen(PATIENCE)), ErrorKind::Closed);
        assert_refused(parent.address());
    }
}

#[test]
fn of_two_threads_that_listen_one_has_the_child_and_neither_waits_on() {
    let _watchdog = watchdog();
    let parent = Parent::bind().unwrap();
    thread::scope(|scope| {
        let waiting = [(); 2].map(|()| asleep(scope, || parent.listen(PATIENCE)));
        let _child = connect(parent.ticket()).unwrap();
        let outcomes = waiting.map(|thread| thread.join().unwrap());
        let (in_time, late): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!(in_time.len(), 1);
        for outcome in late {
            assert_eq!(kind(outcome), ErrorKind::AlreadyConnected);
        }
    });
}

#[test]
fn a_client_that_has_left_again_does_not_end_the_accepting() {
    let _watchdog = watchdog();
    for address in ["unix", "tcp:127.0.0.1:0"] {
        let listener = match address {
            "unix" => Listener::bind_private().unwrap(),
            _ => Listener::bind(address).unwrap(),
        };
        match listener.address().path() {
            Some(_) => drop(UnixStream::connect(v2_path(listener.address())).unwrap()),
            None => {
                let port = listener.address().port().unwrap();
                drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
            }
        }
        let (here, there) = enter(&listener);
        there.send(&2).unwrap();
        assert_eq!(here.recv::<u8>().unwrap(), 2);
    }
}

#[test]
fn a_name_in_use_stays_with_its_owner() {
    let _watchdog = watchdog();
    let directory = tempfile::tempdir().unwrap();
    let address = Address::unix(directory.path().join("duct")).unwrap();
    let owner = Listener::bind(&address).unwrap();
    for _ in 0..2 {
        let error = Listener::bind(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        let in_use = Errno::ADDRINUSE.raw_os_error();
        assert_eq!(error.raw_os_error(), Some(in_use), "{error}");
        assert!(
            error
                .to_string()
                .contains(directory.path().to_str().unwrap())
        );
    }
    enter(&owner);

    // What is no socket is not replaced either.
    let file = directory.path().join("file");
    fs::write(&file, "precious").unwrap();
    let options = ListenOptions::new().v1(true);
    options
        .bind(format!("unix:{}", file.display()))
        .unwrap_err();
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_port_that_other_hosts_can_reach_must_be_allowed() {
    let _watchdog = watchdog();
    let error = Listener::bind("tcp:0.0.0.0:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidAddress);
    assert!(error.to_string().contains("insecure_network"), "{error}");
    let allowed = ListenOptions::new().insecure_network(true);
    let listener = allowed.bind("tcp:0.0.0.0:0").unwrap();
    let port = listener.address().port().unwrap();
    let near = Address::tcp("127.0.0.1", port).unwrap();
    let ticket = Ticket::new(near, listener.ticket().token().cloned());
    meet(ticket, || listener.accept_timeout(PATIENCE).unwrap());
}

#[test]
fn an_ipv6_address_works_from_end_to_end() {
    let _watchdog = watchdog();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let parent = Parent::bind_to("tcp:[::1]:0").unwrap();
    let child = process("echo", parent.ticket()).spawn().unwrap();
    let duct = parent.listen(PATIENCE).unwrap();
    duct.send(&1).unwrap();
    assert_eq!(duct.recv::<u8>().unwrap(), 1);
    drop(duct);
    assert_success(child);
}

/// The kernel connects a socket to itself where the port that it chooses for it happens to be the
/// one that is asked for (RFC 9293, simultaneous open). A child that tries again and again would
/// sooner or later talk to itself, and keep its parent from binding.
#[test]
fn a_child_never_connects_to_itself() {
    let _watchdog = watchdog();
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut range = range
        .split_whitespace()
        .map(|port| port.parse::<u16>().unwrap());
    let (low, high) = (range.next().unwrap(), range.next().unwrap());
    // Some port that nobody listens at, and that the kernel may choose.
    let middle = low / 2 + high / 2;
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (middle & !1..high).step_by(2).find(free).unwrap();
    let once = ConnectOptions::new().retry(false);
    for _ in 0..2 * u32::from(high - low) {
        let error = once.connect(Address::tcp("127.0.0.1", port).unwrap());
        assert_eq!(kind(error), ErrorKind::Unreachable);
    }
}

#[test]
fn any_client_that_can_open_the_socket_is_served() {
    let _watchdog = watchdog();
    let listener = ListenOptions::new().v1(true).bind_private().unwrap();
    let client = UnixStream::connect(listener.address().path().unwrap()).unwrap();
    let duct = listener.accept_timeout(PATIENCE).unwrap();
    std::io::Write::write_all(&mut &client, &frame(b"[1,2]")).unwrap();
    assert_eq!(duct.recv::<Vec<u8>>().unwrap(), [1, 2]);
}
