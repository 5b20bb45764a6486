//! A mark on a socket that tells what is spoken over it.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{AddressFamily, sockopt};

use crate::error::{Error, Result};

/// What a Unix socket carries, written on the socket itself: it goes wherever the descriptor goes, by
/// inheritance too, and whoever takes it over can read it.
///
/// It is a lingering time (`SO_LINGER`), which means nothing to a Unix socket and is nobody's by
/// chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// An end of the Python package's `Pipe`.
    Pipe,
    /// A duct that speaks version 2 of the protocol.
    V2,
}

impl Mark {
    const ALL: [Self; 2] = [Self::Pipe, Self::V2];

    fn time(self) -> Duration {
        Duration::from_secs(match self {
            Self::Pipe => 0x1_1d3c,
            Self::V2 => 0x1_1d3d,
        })
    }

    /// Marks a Unix socket. Others cannot be marked, and stay as they are.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the system refuses.
    pub fn put(self, socket: impl AsFd) -> Result<()> {
        let socket = socket.as_fd();
        if super::family(socket)? != AddressFamily::UNIX {
            return Ok(());
        }
        sockopt::set_socket_linger(socket, Some(self.time()))
            .map_err(|e| Error::os("mark the socket", e))
    }

    /// The mark that a socket bears, if there is one.
    ///
    /// ```
    /// use ductworks::engine::{Mark, socket_pair};
    ///
    /// let (a, b) = socket_pair()?;
    /// Mark::V2.put(&a)?;
    /// assert_eq!(Mark::of(&a), Some(Mark::V2));
    /// assert_eq!(Mark::of(&b), None);
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn of(socket: impl AsFd) -> Option<Self> {
        let socket = socket.as_fd();
        if super::family(socket).ok()? != AddressFamily::UNIX {
            return None;
        }
        let time = sockopt::socket_linger(socket).ok()??;
        Self::ALL.into_iter().find(|mark| mark.time() == time)
    }
}
