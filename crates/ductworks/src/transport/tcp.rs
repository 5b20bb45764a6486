//! TCP sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::Bound;
use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};

pub(super) fn bind(host: &str, port: u16, backlog: i32, insecure: bool) -> Result<Bound> {
    let mut failure = None;
    for address in resolve(host, port)? {
        if !address.ip().is_loopback() && !insecure {
            return Err(Error::new(
                ErrorKind::InvalidAddress,
                format!(
                    "{address} can be reached from other hosts, and the connection is neither \
                     encrypted nor authenticated; bind to 127.0.0.1 or [::1], or use tls: instead of tcp:, or allow it with \
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

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|e| Error::os(format_args!("look the host {host:?} up"), e))?;
    Ok(found.collect())
}

fn nothing_found(host: &str) -> Error {
    Error::new(
        ErrorKind::InvalidAddress,
        format!("the host {host:?} has no address"),
    )
}
