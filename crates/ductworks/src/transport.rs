//! Connected byte streams and the sockets that accept them.

mod mark;
#[cfg(not(feature = "tls"))]
mod no_tls;
mod option;
pub(crate) mod private;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
mod unix;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::io::{DupFlags, Errno};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::hex;

pub use mark::Mark;
#[cfg(not(feature = "tls"))]
pub(crate) use no_tls::Progress;
#[cfg(not(feature = "tls"))]
pub use no_tls::Session;
pub(crate) use tcp::{host_instead_of, is_unanswered, keep_alive, linger};
#[cfg(feature = "tls")]
pub(crate) use tls::{Acceptor, Connector, Progress};
#[cfg(feature = "tls")]
pub use tls::{Identity, Roots, Session};
pub(crate) use unix::{BoundPath, bind_private};
pub use unix::{pair, verify_peer};

/// A listening socket, and the name that goes with it.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: OwnedFd,
    pub(crate) address: Address,
    /// Removes a Unix socket's name when it is dropped.
    pub(crate) name: Option<BoundPath>,
}

/// Binds and listens at an address. On a Unix address each of the wires has a name of its own, and they
/// are bound in their order.
pub(crate) fn bind(
    address: &Address,
    wires: &[Wire],
    backlog: i32,
    insecure: bool,
) -> Result<Vec<Bound>> {
    match (address.path(), address.host(), address.port()) {
        (Some(path), _, _) => unix::bind(path, wires, backlog),
        (None, Some(host), Some(port)) => {
            let mut bound = tcp::bind(host, port, backlog, insecure || address.is_tls())?;
            if let (true, Some(port)) = (address.is_tls(), bound.address.port()) {
                // A certificate is for a name, and not for what the name means here.
                bound.address = Address::tls(host, port, address.pin().copied())?;
            }
            Ok(vec![bound])
        }
        _ => Err(unusable(address)),
    }
}

/// Bare sockets are not for addresses where something is encrypted.
pub(crate) fn refuse_tls(address: &Address) -> Result<()> {
    match address.is_tls() {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::InvalidAddress,
            format!(
                "bad address {}: nothing is encrypted here; expected unix:PATH or tcp:HOST:PORT",
                address.shown()
            ),
        )),
    }
}

pub(crate) fn v1_over_tls() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "version 1 of the protocol is not spoken over TLS, which those who speak it do not know: leave v1 \
         out, or use a tcp: address",
    )
}

/// The refusal of an address that this build cannot use.
#[cfg(not(feature = "tls"))]
pub(crate) fn no_tls_here(address: &Address) -> Error {
    let text = format!(
        "{}: this build knows no TLS; build it with the feature \"tls\"",
        address.shown()
    );
    Error::new(ErrorKind::InvalidAddress, text)
}

/// What is spoken at a socket's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Whatever the two sides know of each other: the original's wire, or `multiprocessing`'s. The name
    /// of a Unix socket is that of its address.
    Plain,
    /// Version 2 of the protocol. The name of a Unix socket is that of its address and `.v2`.
    V2,
}

/// What the name of a Unix socket over which version 2 is spoken has more than its address.
pub(crate) const V2_SUFFIX: &str = ".v2";

impl Wire {
    /// The name for a Unix address.
    fn path(self, address: &Path) -> PathBuf {
        let mut path = address.as_os_str().to_owned();
        if self == Self::V2 {
            path.push(V2_SUFFIX);
        }
        path.into()
    }
}

/// One attempt to connect to an address where either wire may be spoken, and which of them it is.
///
/// A parent that speaks both binds the name for version 2 first and removes it last. So whoever finds
/// the plain name, and then still none for version 2, has found a parent that does not speak it.
///
/// # Errors
///
/// [`ErrorKind::Io`] if nobody listens there, or has room in the queue.
pub fn connect_either(path: &Path) -> Result<(OwnedFd, Wire)> {
    let newer = Wire::V2.path(path);
    if newer.as_os_str().len() > crate::address::UNIX_PATH_MAX {
        // No parent has room for that name either.
        return unix::connect(path).map(|socket| (socket, Wire::Plain));
    }
    let is_absent = |error: &Error| {
        let number = error.raw_os_error().map(Errno::from_raw_os_error);
        matches!(number, Some(Errno::NOENT | Errno::CONNREFUSED))
    };
    match unix::connect(&newer) {
        Err(error) if is_absent(&error) => {}
        outcome => return outcome.map(|socket| (socket, Wire::V2)),
    }
    std::fs::symlink_metadata(path)
        .map_err(|e| Error::os(format_args!("connect to {}", shown(path)), e))?;
    match unix::connect(&newer) {
        Err(error) if is_absent(&error) => {}
        outcome => return outcome.map(|socket| (socket, Wire::V2)),
    }
    unix::connect(path).map(|socket| (socket, Wire::Plain))
}

/// A path as errors show it.
fn shown(path: &Path) -> String {
    hex::masked(&path.to_string_lossy())
}

/// Whether nobody listens any more at the name for a wire.
pub(crate) fn is_abandoned(path: &Path, wire: Wire) -> bool {
    private::is_bound(&wire.path(path)) == Some(false)
}

/// One attempt to connect to an address where version 2 is spoken.
pub(crate) fn connect_v2(address: &Address, deadline: Option<Instant>) -> Result<OwnedFd> {
    match address.path() {
        Some(path) => unix::connect(&Wire::V2.path(path)),
        None => connect(address, deadline),
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

/// Accepts a connection, or turns a stranger away.
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
        ) => return Ok(Accepted::Gone),
        Err(error) => return Err(Error::os("accept a connection", error)),
    };
    match prepare(socket.as_fd()) {
        Ok(()) => Ok(Accepted::Peer(socket)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Accepted::Stranger {
            peer: describe_peer(socket.as_fd(), None),
            reason: error.to_string(),
        }),
        // It was reset before it could be set up.
        Err(_) => Ok(Accepted::Gone),
    }
}

/// What [`accept`] found.
#[derive(Debug)]
pub(crate) enum Accepted {
    Peer(OwnedFd),
    /// Somebody who may not come in.
    Stranger {
        peer: String,
        reason: String,
    },
    /// Somebody who has gone again.
    Gone,
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

/// Makes a connected stream socket from elsewhere ready to be taken over, whoever takes it. What is refused is
/// as it was but for its flag close-on-exec.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] if it is none, [`ErrorKind::PermissionDenied`] if the other end runs as another
/// user, [`ErrorKind::Io`].
pub fn adopt(socket: BorrowedFd<'_>) -> Result<()> {
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

/// The host at the other end of a TCP socket.
pub(crate) fn peer_host(socket: BorrowedFd<'_>) -> Option<IpAddr> {
    let address = rustix::net::getpeername(socket).ok()??;
    SocketAddr::try_from(address)
        .ok()
        .map(|address| address.ip().to_canonical())
}

/// Who is at the other end of a socket, for a log, or which host it was that is gone again.
pub(crate) fn describe_peer(socket: BorrowedFd<'_>, host: Option<IpAddr>) -> String {
    let address = rustix::net::getpeername(socket).ok().flatten();
    if let Some(Ok(address)) = address.map(SocketAddr::try_from) {
        return address.to_string();
    }
    // Of other sockets the system knows no process, and zero is no id of one.
    let peer = match family(socket) {
        Ok(AddressFamily::UNIX) => option::peer_of(socket).ok(),
        _ => None,
    };
    match (peer, host) {
        // The port is not known any more, and a colon follows in the log.
        (None, Some(host)) => format!("somebody at {host}"),
        (Some(peer), _) if peer.pid > 0 => format!("process {}", peer.pid),
        (Some(peer), _) => format!("a process of user {} that cannot be seen here", peer.uid),
        (None, None) => "somebody who is gone".into(),
    }
}

fn family(socket: BorrowedFd<'_>) -> Result<AddressFamily> {
    sockopt::socket_domain(socket).map_err(|e| Error::os("tell the kind of the socket", e))
}

fn unusable(address: &Address) -> Error {
    Error::new(
        ErrorKind::InvalidAddress,
        format!("{} cannot be used here", address.shown()),
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
