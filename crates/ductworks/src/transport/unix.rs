//! Unix sockets.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::private::{self, PrivatePath};
use super::{Bound, Wire, option};
use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::process;

/// How often a private directory is made anew: another process may clear an empty one away.
const ATTEMPTS: usize = 8;

/// Makes two connected sockets without a name.
///
/// # Errors
///
/// [`ErrorKind::Io`] if the process has no descriptors left.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)
        .map_err(|e| Error::os("make a socket pair", e))
}

/// Binds a name for each of the wires, in a fresh private place.
pub(crate) fn bind_private(wires: &[Wire], backlog: i32) -> Result<(PrivatePath, Vec<Bound>)> {
    let mut attempt = 1;
    loop {
        let place = PrivatePath::choose()?;
        place.create()?;
        match bind(place.path(), wires, backlog) {
            Ok(bound) => return Ok((place, bound)),
            Err(error)
                if error.raw_os_error() == Some(Errno::NOENT.raw_os_error())
                    && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn bind(path: &Path, wires: &[Wire], backlog: i32) -> Result<Vec<Bound>> {
    let address = Address::unix(path)?;
    let bind = |wire: &Wire| {
        let path = wire.path(path);
        // Checked before the system cuts it.
        Address::unix(&path)?;
        let socket = bind_one(&path, backlog).map_err(|e| {
            let error = Error::os(format_args!("listen at {}", super::shown(&path)), e);
            match e == Errno::ADDRINUSE && private::is_bound(&path) == Some(false) {
                true => error.with_advice(
                    "nobody listens there: where a process that was killed has left it, remove that file",
                ),
                false => error,
            }
        })?;
        let name = BoundPath::given(&path);
        let address = address.clone();
        Ok(Bound {
            socket,
            address,
            name,
        })
    };
    wires.iter().map(bind).collect()
}

fn bind_one(path: &Path, backlog: i32) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = stream_socket()?;
    rustix::net::bind(&socket, &address)?;
    let listening = rustix::net::listen(&socket, backlog);
    if listening.is_err() {
        let _ = fs::remove_file(path);
    }
    listening.map(|()| socket)
}

/// The socket does not block, so a full queue is reported and the caller can look at its deadline.
pub(super) fn connect(path: &Path) -> Result<OwnedFd> {
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let socket = stream_socket()?;
        rustix::net::connect(&socket, &address)?;
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok(socket)
    });
    connected.map_err(|e| Error::os(format_args!("connect to {}", super::shown(path)), e))
}

fn stream_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// Checks that the other end of a Unix socket runs as this process's user. TCP sockets pass.
///
/// The kernel notes the user when the other end connects, or listens (`SO_PEERCRED`, `unix(7)`).
///
/// # Errors
///
/// [`ErrorKind::PermissionDenied`] if it runs as another user, [`ErrorKind::Io`] if the system
/// cannot tell.
pub fn verify_peer(socket: BorrowedFd<'_>) -> Result<()> {
    if super::family(socket)? != AddressFamily::UNIX {
        return Ok(());
    }
    let peer =
        option::peer_of(socket).map_err(|e| Error::os("tell which user is at the other end", e))?;
    let (expected, found) = (rustix::process::geteuid().as_raw(), peer.uid);
    if expected == found {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::PermissionDenied,
        format!(
            "expected the other end to run as user {}, but it runs as user {}",
            expected, found
        ),
    ))
}

/// A bound name, which goes when this is dropped, if it is still the one that was made here.
#[derive(Debug)]
pub(crate) struct BoundPath {
    path: PathBuf,
    device: u64,
    inode: u64,
    creator: u32,
}

impl BoundPath {
    fn given(path: &Path) -> Option<Self> {
        let facts = fs::symlink_metadata(path).ok()?;
        Some(Self {
            // The process may change its directory.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            device: facts.dev(),
            inode: facts.ino(),
            creator: process::id(),
        })
    }
}

impl Drop for BoundPath {
    fn drop(&mut self) {
        let same = |facts: fs::Metadata| facts.dev() == self.device && facts.ino() == self.inode;
        if self.creator == process::id() && fs::symlink_metadata(&self.path).is_ok_and(same) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
