//! Many children on one address.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::time::Duration;

use crate::address::Address;
use crate::duct::Duct;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Gate, Interest, Queue, Wait};
use crate::transport::{self, Accepted, Bound};
use crate::wire::Version;

/// Accepts any number of ducts at one address.
///
/// A Unix address admits only processes of the same user; others are turned away, and listening goes
/// on. Its name is removed when the listener is closed or dropped, by the process that made it.
///
/// ```
/// use ductworks::{Listener, connect};
///
/// let listener = Listener::bind("tcp:127.0.0.1:0")?;
/// let first = connect(listener.address())?;
/// let second = connect(listener.address())?;
/// for number in 1..=2 {
///     listener.accept()?.send(&number)?;
/// }
/// assert_eq!(first.recv::<u32>()? + second.recv::<u32>()?, 3);
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: OwnedFd,
    name: Mutex<Option<transport::BoundPath>>,
    gate: Gate,
}

/// How to listen, where the defaults do not fit.
///
/// ```
/// use ductworks::ListenOptions;
///
/// let listener = ListenOptions::new().backlog(16).bind("tcp:127.0.0.1:0")?;
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ListenOptions {
    backlog: u16,
    insecure_network: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 128,
            insecure_network: false,
        }
    }
}

impl ListenOptions {
    /// The defaults: a backlog of 128, and the loopback interface only.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections may wait to be accepted (`listen(2)`); more are made to wait or try
    /// again.
    pub fn backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Allows a TCP address that other hosts can reach. Anybody there can connect, read along and
    /// change what is sent.
    pub fn insecure_network(mut self, allow: bool) -> Self {
        self.insecure_network = allow;
        self
    }

    /// Listens at an address.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind`].
    pub fn bind<A>(&self, address: A) -> Result<Listener>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        let address = address.try_into().map_err(Into::into)?;
        transport::bind(&address, self.backlog.into(), self.insecure_network).map(Listener::over)
    }

    /// Listens at a private, random Unix address.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind_private`].
    pub fn bind_private(&self) -> Result<Listener> {
        transport::bind_private(self.backlog.into()).map(Listener::over)
    }
}

impl Listener {
    fn over(bound: Bound) -> Self {
        Self {
            address: bound.address,
            socket: bound.socket,
            name: Mutex::new(bound.name),
            gate: Gate::default(),
        }
    }

    /// Listens at an address. Port 0 lets the system choose one; see
    /// [`address`](Self::address).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidAddress`] if it is malformed, or can be reached from other hosts (see
    /// [`ListenOptions::insecure_network`]); [`ErrorKind::Io`] if it is in use or cannot be made.
    ///
    /// ```
    /// # use ductworks::Listener;
    /// let listener = Listener::bind("tcp:[::1]:0")?;
    /// assert_ne!(listener.address().port(), Some(0));
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn bind<A>(address: A) -> Result<Self>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        ListenOptions::new().bind(address)
    }

    /// Listens at a private, random Unix address: a socket in a fresh directory that no other user
    /// can enter.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if it cannot be made, [`ErrorKind::InvalidAddress`] if no temporary
    /// directory has a path short enough.
    ///
    /// ```
    /// # use ductworks::Listener;
    /// let listener = Listener::bind_private()?;
    /// assert!(listener.address().path().is_some());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn bind_private() -> Result<Self> {
        ListenOptions::new().bind_private()
    }

    /// Where to connect.
    ///
    /// ```
    /// # use ductworks::Listener;
    /// let listener = Listener::bind("tcp:127.0.0.1:0")?;
    /// let text = listener.address().to_string(); // fit for a command line
    /// assert!(text.starts_with("tcp:127.0.0.1:"));
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Accepts a duct, waiting for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`], [`ErrorKind::Io`].
    ///
    /// ```
    /// # use ductworks::{Listener, connect};
    /// # let listener = Listener::bind_private()?;
    /// let child = connect(listener.address())?;
    /// let duct = listener.accept()?;
    /// # duct.send(&1)?; assert_eq!(child.recv::<u8>()?, 1);
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn accept(&self) -> Result<Duct> {
        self.accept_until(Deadline::Never)
    }

    /// Accepts a duct if one is waiting.
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept), and [`ErrorKind::WouldBlock`].
    ///
    /// ```
    /// # use ductworks::{Listener, ErrorKind};
    /// # let listener = Listener::bind_private()?;
    /// assert_eq!(listener.try_accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn try_accept(&self) -> Result<Duct> {
        self.accept_until(Deadline::Now)
    }

    /// Accepts a duct, waiting for `timeout` at most.
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept), and [`ErrorKind::TimedOut`].
    ///
    /// ```
    /// # use ductworks::{Listener, ErrorKind};
    /// # use std::time::Duration;
    /// # let listener = Listener::bind_private()?;
    /// let error = listener.accept_timeout(Duration::from_millis(1)).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TimedOut);
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Duct> {
        self.accept_until(Deadline::after(timeout))
    }

    /// Whether it has been closed.
    ///
    /// ```
    /// # use ductworks::Listener;
    /// # let listener = Listener::bind_private()?;
    /// assert!(!listener.is_closed());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    pub(crate) fn accept_until(&self, deadline: Deadline) -> Result<Duct> {
        self.accept_socket(&mut Wait::until(deadline))
            .map(|socket| Duct::over(socket, Version::V1))
    }

    /// Accepts a connected socket, for those who make something else of it than a duct.
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept), and [`ErrorKind::WouldBlock`], [`ErrorKind::TimedOut`],
    /// [`ErrorKind::Interrupted`].
    ///
    /// ```
    /// # use ductworks::{Listener, connect};
    /// # use ductworks::engine::{Deadline, Wait};
    /// let listener = Listener::bind_private()?;
    /// let child = connect(listener.address())?;
    /// let socket = listener.accept_socket(&mut Wait::until(Deadline::Never))?;
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn accept_socket(&self, wait: &mut Wait<'_>) -> Result<OwnedFd> {
        loop {
            if let Some(socket) = self.next_socket()? {
                return Ok(socket);
            }
            let descriptor = Some((self.socket.as_fd(), Interest::Readable));
            self.gate
                .sleep(descriptor, Queue::Descriptor, || true, wait)
                .map_err(|error| self.late(error))?;
        }
    }

    /// A connected socket, if one is waiting.
    pub(crate) fn next_socket(&self) -> Result<Option<OwnedFd>> {
        loop {
            let _active = self.gate.enter()?;
            match transport::accept(self.socket.as_fd())? {
                Accepted::Peer(socket) => return Ok(Some(socket)),
                Accepted::Stranger => {}
                Accepted::Nobody => return Ok(None),
            }
        }
    }

    /// What the listener's waits go through.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Tells what a wait waited for.
    pub(crate) fn late(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::TimedOut => Error::new(
                ErrorKind::TimedOut,
                format!("timed out: nobody connected to {}", self.address),
            ),
            _ => error,
        }
    }

    /// Stops listening and removes the name. Whoever waits in it, and every later call, fails with
    /// [`ErrorKind::Closed`]. Ducts that were accepted go on.
    ///
    /// ```
    /// # use ductworks::{Listener, ErrorKind};
    /// let listener = Listener::bind_private()?;
    /// listener.close();
    /// assert!(!listener.address().path().expect("a Unix address").exists());
    /// assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn close(&self) {
        if self.gate.close() {
            transport::bury(self.socket.as_fd());
        }
        let name = self.name.lock().map(|mut name| name.take());
        drop(name);
    }
}

impl AsFd for Listener {
    /// Readable when somebody waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
