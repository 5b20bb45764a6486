//! TCP sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, sockopt};

use super::{Bound, option};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::hex;

pub(super) fn bind(host: &str, port: u16, backlog: i32, insecure: bool) -> Result<Bound> {
    let mut failure = None;
    for address in resolve(host, port)? {
        if !address.ip().is_loopback() && !insecure {
            return Err(Error::new(
                ErrorKind::InvalidAddress,
                format!(
                    "{address} can be reached from other hosts, and the connection is neither \
                     encrypted nor authenticated; bind to 127.0.0.1 or [::1], or use \
                     tls: instead of tcp:, or allow it with \
                     insecure_network(true), in Python insecure=True"
                ),
            ));
        }
        match bind_one(address, backlog) {
            Ok(bound) => return Ok(bound),
            Err(error) => failure = Some(Error::os(format_args!("listen at {address}"), error)),
        }
    }
    Err(failure.unwrap_or_else(|| nothing_found(host)))
}

fn bind_one(address: SocketAddr, backlog: i32) -> rustix::io::Result<Bound> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    let name = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    let address = Address::tcp(name.ip().to_string(), name.port())
        .map_err(|_| rustix::io::Errno::AFNOSUPPORT)?;
    Ok(Bound {
        socket,
        address,
        name: None,
    })
}

pub(super) fn connect(host: &str, port: u16, deadline: Option<Instant>) -> Result<OwnedFd> {
    let mut failure = None;
    for address in resolve(host, port)? {
        let connected = match deadline {
            None => TcpStream::connect(address),
            Some(deadline) => {
                // std refuses a zero; a moment is enough to reach what is there.
                let left = deadline.saturating_duration_since(Instant::now());
                TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1)))
            }
        };
        match connected.and_then(refuse_oneself) {
            Ok(stream) => return Ok(stream.into()),
            Err(error) => failure = Some(Error::os(format_args!("connect to {address}"), error)),
        }
    }
    Err(failure.unwrap_or_else(|| nothing_found(host)))
}

/// Where nobody listens at a port of this host, the system may pick that very port for the
/// connecting end, which then talks to itself.
fn refuse_oneself(stream: TcpStream) -> io::Result<TcpStream> {
    match stream.local_addr()? == stream.peer_addr()? {
        true => Err(rustix::io::Errno::CONNREFUSED.into()),
        false => Ok(stream),
    }
}

/// Small messages go out at once, and a peer whose host has vanished is noticed in the end.
pub(super) fn prepare(socket: BorrowedFd<'_>) -> Result<()> {
    sockopt::set_tcp_nodelay(socket, true)
        .and_then(|()| sockopt::set_socket_keepalive(socket, true))
        .map_err(|e| Error::os("set the socket's options", e))
}

/// What others can call this host, where `host` stands for all its interfaces: the address from which it
/// would speak to another network, or its name.
pub(crate) fn host_instead_of(host: &str) -> Option<String> {
    let unspecified: IpAddr = host.parse().ok().filter(IpAddr::is_unspecified)?;
    // Nothing is sent to these, which are nobody's (RFC 5737, RFC 3849).
    let v4: (SocketAddr, SocketAddr) = (
        (Ipv4Addr::UNSPECIFIED, 0).into(),
        (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
    );
    let v6: (SocketAddr, SocketAddr) = (
        (Ipv6Addr::UNSPECIFIED, 0).into(),
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
    );
    let routes = match unspecified {
        IpAddr::V4(_) => [Some(v4), None],
        IpAddr::V6(_) => [Some(v6), Some(v4)],
    };
    let own = |(from, to): (SocketAddr, SocketAddr)| {
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        Ok::<_, io::Error>(socket.local_addr()?.ip())
    };
    let found = routes
        .into_iter()
        .flatten()
        .find_map(|route| own(route).ok());
    Some(match found {
        Some(address) => address.to_string(),
        None => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    })
}

/// Has the system ask the other host, when nothing comes, whether it is still there, and end the
/// connection when it has not answered for this time.
pub(crate) fn keep_alive(socket: BorrowedFd<'_>, patience: Duration) -> rustix::io::Result<()> {
    let seconds = patience.as_secs();
    // Each unanswered question takes a second; the first one must leave time for the last.
    let questions = match seconds {
        ..=2 => 1,
        3..=5 => 2,
        6.. => 3,
    };
    let idle = Duration::from_secs(seconds.saturating_sub(questions.into()).clamp(1, 32_767));
    sockopt::set_tcp_keepidle(socket, idle)?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(1))?;
    sockopt::set_tcp_keepcnt(socket, questions)?;
    // Time for two questions without an answer, of an end that waits for room. An older system asks ever
    // more seldom.
    let _ = option::set_longest_pause(socket, patience / 2);
    sockopt::set_socket_keepalive(socket, true)
}

/// Whether something that was sent is on its way again, or asked after, and the other host has
/// acknowledged nothing for this time. One that has no room and says so, however long, is not meant.
pub(crate) fn is_unanswered(socket: BorrowedFd<'_>, patience: Duration) -> bool {
    let Ok(info) = option::tcp_info(socket) else {
        return false;
    };
    let is_retried = info.tcpi_unacked > 0 && info.tcpi_retransmits > 0;
    // A question whether there is room again; the answer to one may just be under way.
    let is_asked_after = info.tcpi_unacked == 0 && info.tcpi_probes > 1;
    let silent = Duration::from_millis(info.tcpi_last_ack_recv.into());
    (is_retried || is_asked_after) && silent >= patience
}

/// How long a closing end waits for the other host to take what was sent, when nothing of it gets on. An end
/// that reads may be kept from it for a tenth of a second by a busy machine.
const STALLED: Duration = Duration::from_millis(500);

/// How long it waits even so once this process has waited in vain for [`STALLED_IN_ALL`].
const STALLED_LEAST: Duration = Duration::from_millis(100);

/// How long all closing ends of this process together wait in vain within [`WINDOW`].
const STALLED_IN_ALL: Duration = Duration::from_secs(1);

const WINDOW: Duration = Duration::from_secs(10);

/// When the window began, and for how long ends have waited in vain since.
static IN_VAIN: Mutex<Option<(Instant, Duration)>> = Mutex::new(None);

/// How long a closing end may wait in vain now.
fn stall_allowed() -> Duration {
    // A forked child may find it locked for ever.
    let used = match IN_VAIN.try_lock() {
        Ok(noted) => noted
            .filter(|(begun, _)| begun.elapsed() < WINDOW)
            .map_or(Duration::ZERO, |(_, used)| used),
        Err(_) => return STALLED_LEAST,
    };
    let left = STALLED_IN_ALL.saturating_sub(used);
    left.clamp(STALLED_LEAST, STALLED)
}

fn note_stall(stalled: Duration) {
    if let Ok(mut noted) = IN_VAIN.try_lock() {
        let (begun, used) = noted
            .filter(|(begun, _)| begun.elapsed() < WINDOW)
            .unwrap_or((Instant::now(), Duration::ZERO));
        *noted = Some((begun, used + stalled));
    }
}

/// How long it waits at most before it looks again.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// How long it waits in any case at most.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Sees to it that what was sent arrives before the socket is closed. A TCP socket that is closed with
/// unread input, or gets some afterwards, resets the connection, and what has not left this host by
/// then is lost (RFC 1122, section 4.2.2.13).
///
/// Where another process may have the socket, this neither ends the connection nor takes input away: it
/// only waits until the other host has everything, which a reset does not destroy there.
pub(crate) fn linger(socket: BorrowedFd<'_>, may_be_shared: bool) {
    if !may_be_shared && rustix::net::shutdown(socket, Shutdown::Write).is_err() {
        return; // The connection is over already.
    }
    // The end itself counts as one byte, and need not arrive.
    let least_left = i32::from(!may_be_shared);
    let (begun, allowed) = (Instant::now(), stall_allowed());
    let (mut looked, mut stalled, mut least) = (begun, Duration::ZERO, i32::MAX);
    let mut pause = Duration::from_micros(50);
    // An end to which somebody is sending waits until the other host has everything; another one until
    // everything has left this host.
    let mut hears = false;
    loop {
        let input = match may_be_shared {
            true => look_at_input(socket),
            false => discard_input(socket),
        };
        match input {
            Input::Some if !hears => (hears, least) = (true, i32::MAX),
            Input::Some | Input::Nothing => {}
            Input::End => return,
        }
        let left = match hears {
            true => queued::<SIOCOUTQ>(socket),
            false => queued::<SIOCOUTQNSD>(socket),
        };
        let left = match left {
            Ok(left) if left > least_left => left,
            Ok(_) | Err(_) => return,
        };
        // A host that stands still for a while takes no more than a part of it from the other end.
        stalled += looked.elapsed().min(2 * LONGEST_PAUSE);
        looked = Instant::now();
        if left < least {
            (least, stalled) = (left, Duration::ZERO);
        }
        if stalled >= allowed || begun.elapsed() >= LINGER_MAX {
            return note_stall(stalled);
        }
        // Nothing tells when it has been taken; input is told, and may be in the way.
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: pause.subsec_nanos().into(),
        };
        match may_be_shared {
            true => std::thread::sleep(pause),
            false => {
                let mut look = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
                let _ = rustix::event::poll(&mut look, Some(&timeout));
            }
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

enum Input {
    Nothing,
    Some,
    End,
}

/// Whether something lies there, for whichever process will read it.
fn look_at_input(socket: BorrowedFd<'_>) -> Input {
    match option::tcp_info(socket) {
        Ok(info) if info.tcpi_state == TCP_CLOSE => Input::End,
        _ if rustix::io::ioctl_fionread(socket).is_ok_and(|count| count > 0) => Input::Some,
        _ => Input::Nothing,
    }
}

/// The state of a connection that is over (`enum` in `linux/tcp.h`).
const TCP_CLOSE: u8 = 7;

/// How often input is thrown away before the caller looks at the time again: there may be no end of it.
const DISCARDS: u32 = 64;

/// Reads what there is, or a good part of it, and throws it away.
fn discard_input(socket: BorrowedFd<'_>) -> Input {
    let mut place = [0; 16 * 1024];
    let mut found = Input::Nothing;
    for _ in 0..DISCARDS {
        match rustix::net::recv(socket, &mut place, RecvFlags::DONTWAIT | RecvFlags::TRUNC) {
            Ok((_, 1..)) => found = Input::Some,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break,
            Ok(_) | Err(_) => return Input::End,
        }
    }
    found
}

/// How many bytes have been written and not acknowledged (`tcp(7)`).
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
/// How many bytes have been written and not sent (`linux/sockios.h`).
const SIOCOUTQNSD: rustix::ioctl::Opcode = 0x894b;

/// What one of the two requests says.
fn queued<const REQUEST: rustix::ioctl::Opcode>(socket: BorrowedFd<'_>) -> rustix::io::Result<i32> {
    // SAFETY: either request writes one `int`.
    unsafe { rustix::ioctl::ioctl(socket, rustix::ioctl::Getter::<REQUEST, i32>::new()) }
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|e| Error::os(format_args!("look the host {:?} up", hex::masked(host)), e))?;
    Ok(found.collect())
}

fn nothing_found(host: &str) -> Error {
    Error::new(
        ErrorKind::InvalidAddress,
        format!("the host {:?} has no address", hex::masked(host)),
    )
}
