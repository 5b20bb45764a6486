//! Connected byte streams and the sockets that accept them.

mod mark;
pub(crate) mod private;
mod tcp;
mod unix;

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::time::Instant;

use rustix::io::{DupFlags, Errno};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};

pub use mark::Mark;
pub(crate) use unix::BoundPath;
pub use unix::{pair, verify_peer};

/// A listening socket, and the name that goes with it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: OwnedFd,
    pub(crate) address: Address,
    /// Removes a Unix socket's name when it is dropped.
    pub(crate) name: Option<BoundPath>,
}

/// Binds and listens at a fresh private Unix address.
pub(crate) fn bind_private(backlog: i32) -> Result<Bound> {
    unix::bind_private(backlog)
}

/// Binds and listens at an address.
pub(crate) fn bind(address: &Address, backlog: i32, insecure: bool) -> Result<Bound> {
    match (address.path(), address.host(), address.port()) {
        (Some(path), _, _) => unix::bind(path, backlog),
        (None, Some(host), Some(port)) => tcp::bind(host, port, backlog, insecure),
        _ => Err(unusable(address)),
    }
}

/// One attempt to connect.
pub(crate) fn connect(address: &Address, deadline: Option<Instant>) -> Result<OwnedFd> {
    match (address.path(), address.host(), address.port()) {
        (Some(path), _, _) => unix::connect(path),
        (None, Some(host), Some(port)) => tcp::connect(host, port, deadline),
        _ => Err(unusable(address)),
    }
}

/// Accepts a connection, and says whether a stranger was turned away instead.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<Accepted> {
    let socket = match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
        Ok(socket) => socket,
        Err(Errno::AGAIN) => return Ok(Accepted::Nobody),
        // The client has gone again, or a network error that belongs to it (accept(2)).
        Err(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH,
        ) => return Ok(Accepted::Stranger),
        Err(error) => return Err(Error::os("accept a connection", error)),
    };
    match prepare(socket.as_fd()) {
        Ok(()) => Ok(Accepted::Peer(socket)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Accepted::Stranger),
        // It was reset before it could be set up.
        Err(_) => Ok(Accepted::Stranger),
    }
}

/// What [`accept`] found.
#[derive(Debug)]
pub(crate) enum Accepted {
    Peer(OwnedFd),
    Stranger,
    Nobody,
}

/// Makes a newly connected socket ready: checks who is at the other end of a Unix one, and lets a TCP
/// one send small messages at once.
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`] if the other end runs as another user,
/// [`ErrorKind::InvalidInput`] if it is a socket of another kind, [`ErrorKind::Io`].
pub fn prepare(socket: BorrowedFd<'_>) -> Result<()> {
    match family(socket)? {
        AddressFamily::UNIX => verify_peer(socket),
        AddressFamily::INET | AddressFamily::INET6 => tcp::prepare(socket),
        other => Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "expected a Unix or TCP socket, got address family {}",
                other.as_raw()
            ),
        )),
    }
}

/// Makes a connected stream socket from elsewhere ready to be taken over.
pub(crate) fn adopt(socket: BorrowedFd<'_>) -> Result<()> {
    let not_ours = |what: &str, error: Errno| {
        let text = format!("expected a connected stream socket, but {what}: {error}");
        Error::new(ErrorKind::InvalidInput, text)
    };
    let kind = sockopt::socket_type(socket).map_err(|e| not_ours("it is no socket", e))?;
    if kind != SocketType::STREAM {
        let text = format!(
            "expected a stream socket, got socket type {}",
            kind.as_raw()
        );
        return Err(Error::new(ErrorKind::InvalidInput, text));
    }
    rustix::net::getpeername(socket).map_err(|e| not_ours("it is not connected", e))?;
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)
        .map_err(|e| Error::os("set close-on-exec", e))?;
    prepare(socket)
}

fn family(socket: BorrowedFd<'_>) -> Result<AddressFamily> {
    sockopt::socket_domain(socket).map_err(|e| Error::os("tell the kind of the socket", e))
}

fn unusable(address: &Address) -> Error {
    Error::new(
        ErrorKind::InvalidAddress,
        format!("{address} cannot be used here"),
    )
}

/// Replaces the socket behind a descriptor by a dead one: the other end sees the close at once,
/// while the number stays ours until its owner is dropped, so that no borrowed copy of it can ever
/// mean somebody else's file.
pub(crate) fn bury(socket: BorrowedFd<'_>) {
    let grave = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let replaced = grave.is_ok_and(|grave| {
        use std::os::fd::AsRawFd;
        // SAFETY: the caller's borrow proves that the number is open and stays so; the temporary
        // owner replaces what lies behind it, as `dup3` is meant to, and gives the number back.
        let mut number = unsafe { OwnedFd::from_raw_fd(socket.as_raw_fd()) };
        let outcome = rustix::io::dup3(grave, &mut number, DupFlags::CLOEXEC);
        let _ = number.into_raw_fd();
        outcome.is_ok()
    });
    if !replaced {
        // Only without a single free descriptor: the other end must see the close all the same.
        let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
    }
}
