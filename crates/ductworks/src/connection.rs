//! A connection: a socket, and its encryption where there is one.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Queue, Wait};
use crate::stream::{Socket, Stream};
use crate::transport::{self, Mark, Progress, Session};
use crate::wire::Secured;

/// About the system's own time (`tcp_keepalive_time`, `tcp(7)`).
const DEFAULT_PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);

pub(crate) fn check_keepalive(patience: Duration) -> Result<()> {
    match patience >= Duration::from_secs(1) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::InvalidInput,
            format!("expected a keepalive of at least a second, got {patience:?}"),
        )),
    }
}

/// A connected socket, and the TLS over it where the address says so.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    session: Option<Box<Session>>,
}

impl Connection {
    /// A connection with this encryption.
    pub(crate) fn new(socket: OwnedFd, session: Option<Session>) -> Self {
        let session = session.map(Box::new);
        Self { socket, session }
    }

    /// What messages travel over.
    #[must_use]
    pub fn link(&self) -> Link<'_> {
        Link::new(self.socket.as_fd(), self.session.as_deref())
    }

    /// Marks the socket, so that whoever takes its descriptor over knows what is spoken. With TLS the
    /// descriptor alone is of no use, and bears no mark.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if the system refuses.
    pub fn mark(&self, mark: Mark) -> Result<()> {
        match self.session {
            None => mark.put(&self.socket),
            Some(_) => Ok(()),
        }
    }

    /// The parts, for those who keep them in their own way; see [`Link::new`].
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Option<Box<Session>>) {
        (self.socket, self.session)
    }
}

impl From<OwnedFd> for Connection {
    /// A connection without encryption.
    fn from(socket: OwnedFd) -> Self {
        Self::new(socket, None)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What messages of a [`Connection`] travel over.
///
/// Its descriptor is readable whenever something can be read, with TLS too.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    socket: BorrowedFd<'a>,
    session: Option<&'a Session>,
}

impl<'a> Link<'a> {
    /// A link over the parts of a connection.
    #[must_use]
    pub fn new(socket: BorrowedFd<'a>, session: Option<&'a Session>) -> Self {
        Self { socket, session }
    }

    /// Checks that the descriptor alone is all that another process needs to go on with the connection.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] where it is encrypted.
    pub fn check_portable(&self) -> Result<()> {
        match self.session {
            None => Ok(()),
            Some(_) => Err(Error::new(
                ErrorKind::InvalidInput,
                "the keys of a TLS connection are in this process, and its descriptor is of no use to \
                 another one: let the other one connect itself",
            )),
        }
    }

    /// Has the system notice within this time that the other host, or the network to it, is gone, while
    /// nothing is on its way: at least a second. None leaves that to the system's own times. On one host
    /// it means nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if the time is too short, [`ErrorKind::Io`].
    pub fn set_keepalive(&self, patience: Option<Duration>) -> Result<()> {
        let patience = match patience {
            None => DEFAULT_PATIENCE,
            Some(patience) => {
                check_keepalive(patience)?;
                patience
            }
        };
        if transport::peer_host(self.socket).is_none() {
            return Ok(());
        }
        transport::keep_alive(self.socket, patience)
            .map_err(|e| Error::os("set the socket's keepalive", e))
    }

    /// How far its encryption is, where it has any, after what can be done without waiting.
    pub(crate) fn progress(&self) -> Result<Progress> {
        match self.session {
            Some(session) => session.establish(self.socket),
            None => Ok(Progress::Done(Secured::default())),
        }
    }

    /// Notes that the other end has proved itself, and may say more than it needs for that.
    pub(crate) fn admit(&self) {
        if let Some(session) = self.session {
            session.admit();
        }
    }

    /// Waits until its encryption is there, where it has any.
    pub(crate) fn establish(&self, wait: &mut Wait<'_>) -> Result<Secured> {
        loop {
            match self.progress()? {
                Progress::Done(secured) => return Ok(secured),
                Progress::Needs(interest) => {
                    let descriptor = Some((self.socket, interest));
                    Gate::default().sleep(descriptor, Queue::Descriptor, || true, wait)?;
                }
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)] // A default would not be what the other one does.
impl Stream for Link<'_> {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket)
    }

    fn read(&self, place: &mut [u8]) -> io::Result<usize> {
        match self.session {
            None => Socket(self.socket).read(place),
            Some(session) => session.read(self.socket, place),
        }
    }

    fn read_uninit<'p>(&self, place: &'p mut [MaybeUninit<u8>]) -> io::Result<&'p mut [u8]> {
        match self.session {
            None => Socket(self.socket).read_uninit(place),
            Some(session) => session.read_uninit(self.socket, place),
        }
    }

    fn peek(&self, place: &mut [u8]) -> io::Result<usize> {
        match self.session {
            None => Socket(self.socket).peek(place),
            Some(session) => session.peek(self.socket, place),
        }
    }

    fn available(&self) -> io::Result<usize> {
        match self.session {
            None => Socket(self.socket).available(),
            Some(session) => session.available(),
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.session {
            None => Socket(self.socket).write(parts),
            Some(session) => session.write(self.socket, parts),
        }
    }

    fn flush(&self) -> io::Result<()> {
        match self.session {
            None => Ok(()),
            Some(session) => session.flush(self.socket),
        }
    }

    fn finish(&self) -> io::Result<()> {
        match self.session {
            None => Socket(self.socket).finish(),
            Some(session) => session.finish(self.socket),
        }
    }

    fn carries_descriptors(&self) -> bool {
        self.session.is_none() && Socket(self.socket).carries_descriptors()
    }

    fn write_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self.session {
            None => Socket(self.socket).write_descriptors(descriptors),
            Some(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn read_descriptors<'p>(
        &self,
        place: &'p mut [MaybeUninit<u8>],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<&'p mut [u8]> {
        match self.session {
            None => Socket(self.socket).read_descriptors(place, descriptors),
            Some(session) => session.read_uninit(self.socket, place),
        }
    }

    fn widen(&self) {
        Socket(self.socket).widen();
    }

    fn stretch(&self) {
        Socket(self.socket).stretch();
    }

    fn give_up(&self, patience: Duration) -> bool {
        Socket(self.socket).give_up(patience)
    }

    fn claim(&self) {
        Socket(self.socket).claim();
    }

    fn release(&self) {
        Socket(self.socket).release();
    }

    fn is_claimed(&self) -> bool {
        Socket(self.socket).is_claimed()
    }

    fn linger(&self, may_be_shared: bool) {
        let Some(session) = self.session else {
            return Socket(self.socket).linger(may_be_shared);
        };
        // The connection is of no use but to the process that has its keys.
        if session.is_here() {
            let _ = session.finish(self.socket);
            Socket(self.socket).linger(false);
        }
    }
}
