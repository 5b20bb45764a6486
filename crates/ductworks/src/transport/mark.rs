//! A mark on a socket that tells what is spoken over it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::{AddressFamily, sockopt};

use super::option;
use crate::error::{Error, Result};

/// What a socket carries, written on the socket itself: it goes wherever the descriptor goes, by
/// inheritance too, and whoever takes it over can read it.
///
/// On a Unix socket it is a lingering time (`SO_LINGER`), which means nothing there, on a TCP socket how
/// often the first segment of a connection would be sent (`TCP_SYNCNT`), which means nothing once it is
/// connected. The values are nobody's by chance.
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

    /// How often a first segment would be sent.
    fn count(self) -> Option<libc::c_int> {
        match self {
            Self::Pipe => None,
            Self::V2 => Some(0x52),
        }
    }

    /// Marks a socket, as far as one of its kind can be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) if the system refuses.
    pub fn put(self, socket: impl AsFd) -> Result<()> {
        let socket = socket.as_fd();
        let put = match (super::family(socket)?, self.count()) {
            (AddressFamily::UNIX, _) => {
                sockopt::set_socket_linger(socket, Some(self.time())).map_err(io::Error::from)
            }
            (_, Some(count)) => option::set_syn_count(socket, count),
            (_, None) => Ok(()),
        };
        put.map_err(|e| Error::os("mark the socket", e))
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
        if super::family(socket).ok()? == AddressFamily::UNIX {
            let time = sockopt::socket_linger(socket).ok()??;
            return Self::ALL.into_iter().find(|mark| mark.time() == time);
        }
        let count = option::syn_count(socket).ok();
        Self::ALL
            .into_iter()
            .find(|mark| count.is_some() && mark.count() == count)
    }
}
