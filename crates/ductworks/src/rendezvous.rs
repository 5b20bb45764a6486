//! One parent and one child that find each other by an address.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;

use crate::address::Address;
use crate::duct::Duct;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Gate, Queue, Wait};
use crate::listener::{ListenOptions, Listener};
use crate::transport;
use crate::wire::Version;

/// The side that binds an address, hands it to a child, and waits for the child to connect. Then the
/// name is gone, and the two are connected as if by an anonymous pair.
///
/// ```
/// use ductworks::{Parent, connect};
/// use std::time::Duration;
///
/// let parent = Parent::bind()?;
/// let address = parent.address().to_string(); // for the child's arguments or environment
///
/// let child = std::thread::spawn(move || connect(address)?.send("hello, parent"));
///
/// let duct = parent.listen(Duration::from_secs(60))?;
/// assert_eq!(duct.recv::<String>()?, "hello, parent");
/// # child.join().expect("no panic")?;
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Debug)]
pub struct Parent {
    address: Address,
    listener: Mutex<Option<Arc<Listener>>>,
}

impl Parent {
    /// Binds a private, random Unix address: a socket in a fresh directory that no other user can
    /// enter.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind_private`].
    ///
    /// ```
    /// # use ductworks::Parent;
    /// let parent = Parent::bind()?;
    /// assert!(parent.address().to_string().starts_with("unix:/"));
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn bind() -> Result<Self> {
        ListenOptions::new().bind_private().map(Self::from)
    }

    /// Binds a given address, such as `tcp:127.0.0.1:0`.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind`].
    ///
    /// ```
    /// # use ductworks::Parent;
    /// let parent = Parent::bind_to("tcp:127.0.0.1:0")?;
    /// assert_ne!(parent.address().port(), Some(0));
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn bind_to<A>(address: A) -> Result<Self>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        ListenOptions::new().bind(address).map(Self::from)
    }

    /// Where the child is to connect.
    ///
    /// ```
    /// # use ductworks::Parent;
    /// # let parent = Parent::bind()?;
    /// let mut worker = std::process::Command::new("worker");
    /// worker.env("DUCT", parent.address().to_string());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for the child for `timeout` at most. When it is in, nobody else can connect any more.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`], after which it may be called again; [`ErrorKind::AlreadyConnected`]
    /// if the child is in already; [`ErrorKind::Closed`], [`ErrorKind::Io`].
    ///
    /// ```
    /// # use ductworks::{ErrorKind, Parent, connect};
    /// # use std::time::Duration;
    /// let parent = Parent::bind()?;
    /// let error = parent.listen(Duration::ZERO).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TimedOut);
    ///
    /// let child = connect(parent.address())?;
    /// let duct = parent.listen(Duration::from_secs(1))?;
    /// assert!(connect(parent.address()).is_err());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn listen(&self, timeout: Duration) -> Result<Duct> {
        let listener = self.slot().clone().ok_or_else(already_connected)?;
        let accepted = listener.accept_until(Deadline::after(timeout));
        let mut slot = self.slot();
        // Of two threads that listen, the first has the child.
        if slot.is_none() {
            return Err(already_connected());
        }
        let duct = accepted?;
        *slot = None;
        drop(slot);
        listener.close();
        Ok(duct)
    }

    /// Gives the address up. Whoever waits in [`listen`](Self::listen) fails with
    /// [`ErrorKind::Closed`]. A duct that was accepted goes on.
    ///
    /// ```
    /// # use ductworks::Parent;
    /// let parent = Parent::bind()?;
    /// parent.close();
    /// assert!(!parent.address().path().expect("a Unix address").exists());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn close(&self) {
        if let Some(listener) = &*self.slot() {
            listener.close();
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Arc<Listener>>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Listener> for Parent {
    /// A parent of the first child that connects to the listener.
    fn from(listener: Listener) -> Self {
        Self {
            address: listener.address().clone(),
            listener: Mutex::new(Some(Arc::new(listener))),
        }
    }
}

fn already_connected() -> Error {
    Error::new(
        ErrorKind::AlreadyConnected,
        "this parent has its child already; bind another parent for another child",
    )
}

/// Connects to an address, trying again for up to 5 seconds while nobody listens there. See
/// [`ConnectOptions`] for other times.
///
/// # Errors
///
/// [`ErrorKind::InvalidAddress`], [`ErrorKind::Unreachable`], [`ErrorKind::PermissionDenied`] if the
/// listener runs as another user, [`ErrorKind::Io`].
///
/// ```
/// use ductworks::{ErrorKind, Parent, connect};
/// # use std::time::Duration;
///
/// let parent = Parent::bind()?;
/// let child = connect(parent.address())?;
/// # let duct = parent.listen(Duration::from_secs(1))?;
/// # Ok::<(), ductworks::Error>(())
/// ```
pub fn connect<A>(address: A) -> Result<Duct>
where
    A: TryInto<Address>,
    A::Error: Into<Error>,
{
    ConnectOptions::new().connect(address)
}

/// How long to try to connect.
///
/// ```
/// use ductworks::{ConnectOptions, ErrorKind};
/// use std::time::Duration;
///
/// let error = ConnectOptions::new()
///     .timeout(Duration::from_millis(20))
///     .connect("unix:/does/not/exist")
///     .unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Unreachable);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ConnectOptions {
    timeout: Duration,
    retry: bool,
}

/// The pauses between attempts begin with this one and double.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            retry: true,
        }
    }
}

impl ConnectOptions {
    /// The defaults: 5 seconds, with retries.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to try, all attempts together.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether to try again while nobody listens at the address. Without, the first refusal is
    /// final.
    pub fn retry(mut self, retry: bool) -> Self {
        self.retry = retry;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// As for [`connect`].
    pub fn connect<A>(&self, address: A) -> Result<Duct>
    where
        A: TryInto<Address>,
        A::Error: Into<Error>,
    {
        let address = address.try_into().map_err(Into::into)?;
        let wait = &mut Wait::until(Deadline::after(self.timeout));
        self.connect_socket(&address, wait)
            .map(|socket| Duct::over(socket, Version::V1))
    }

    /// Connects a socket, for those who make something else of it than a duct. It is tried until the
    /// deadline of `wait`, whatever the [timeout](Self::timeout).
    ///
    /// # Errors
    ///
    /// As for [`connect`], and [`ErrorKind::Interrupted`].
    ///
    /// ```
    /// # use ductworks::{ConnectOptions, Parent};
    /// # use ductworks::engine::{Deadline, Wait};
    /// let parent = Parent::bind()?;
    /// let wait = &mut Wait::until(Deadline::Never);
    /// let socket = ConnectOptions::new().connect_socket(parent.address(), wait)?;
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn connect_socket(&self, address: &Address, wait: &mut Wait<'_>) -> Result<OwnedFd> {
        let until = wait.deadline;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match transport::connect(address, until.moment()) {
                Ok(socket) => {
                    transport::prepare(socket.as_fd())?;
                    return Ok(socket);
                }
                Err(error) => error,
            };
            let again = match error.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::NOENT | Errno::CONNREFUSED) => self.retry,
                // The listener's queue is full, so it is alive.
                Some(Errno::AGAIN | Errno::INTR) => true,
                Some(Errno::ACCESS | Errno::PERM) => {
                    return Err(error.with_kind(ErrorKind::PermissionDenied));
                }
                Some(Errno::TIMEDOUT) => false,
                None if error.kind() == ErrorKind::Io => false,
                _ => return Err(error),
            };
            if !again || !until.allows_waiting() {
                return Err(error.with_kind(ErrorKind::Unreachable));
            }
            wait.deadline = until.or_after(pause);
            // Nothing but a signal or the time ends this.
            let slept = Gate::default().sleep(None, Queue::Descriptor, || true, wait);
            wait.deadline = until;
            match slept {
                Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
                _ => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }
}
