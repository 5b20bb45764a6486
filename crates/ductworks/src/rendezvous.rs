//! One parent and one child that find each other by an address.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::address::Address;
use crate::channel::DEFAULT_MESSAGE_LIMIT;
use crate::duct::Duct;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Gate, Queue, Wait};
use crate::listener::{ListenOptions, Listener};
use crate::lobby::{Admitted, greet};
use crate::ticket::Ticket;
use crate::transport::{self, Wire};
use crate::wire::{Greeting, Terms};

/// The side that binds an address, hands it to a child, and waits for the child to connect. Then the
/// name is gone, and the two are connected as if by an anonymous pair.
///
/// ```
/// use ductworks::{Parent, connect};
/// use std::time::Duration;
///
/// let parent = Parent::bind()?;
/// let ticket = parent.ticket().to_string(); // a secret, for the child's environment
///
/// let child = std::thread::spawn(move || connect(ticket)?.send("hello, parent"));
///
/// let duct = parent.listen(Duration::from_secs(60))?;
/// assert_eq!(duct.recv::<String>()?, "hello, parent");
/// # child.join().expect("no panic")?;
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Debug)]
pub struct Parent {
    ticket: Ticket,
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

    /// Where the child is to connect. There is no secret in it.
    ///
    /// ```
    /// # use ductworks::Parent;
    /// let parent = Parent::bind_to("tcp:127.0.0.1:0")?;
    /// println!("waiting for a child at {}", parent.address());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn address(&self) -> &Address {
        self.ticket.address()
    }

    /// What the child needs to be let in: the address, and a token that admits one.
    ///
    /// ```
    /// # use ductworks::Parent;
    /// # let parent = Parent::bind()?;
    /// let mut worker = std::process::Command::new("worker");
    /// worker.env("DUCT", parent.ticket().to_string());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
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
    /// let ticket = parent.ticket().clone();
    /// let child = std::thread::spawn(|| connect(ticket));
    /// let duct = parent.listen(Duration::from_secs(1))?;
    /// # let child = child.join().expect("no panic")?;
    /// assert!(connect(parent.ticket()).is_err());
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
    /// let directory = parent.address().path().and_then(|path| path.parent());
    /// assert!(!directory.expect("a Unix address").exists());
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
            ticket: listener.ticket(),
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

/// Connects with a ticket, or to an address that asks for none, trying again for up to 5 seconds while
/// nobody listens there. Then the listener has a minute to accept. See [`ConnectOptions`] for other
/// times.
///
/// # Errors
///
/// [`ErrorKind::InvalidAddress`]; [`ErrorKind::Unreachable`]; [`ErrorKind::PermissionDenied`] if the
/// listener runs as another user, refuses the ticket, or does not know its token itself;
/// [`ErrorKind::TimedOut`] if it does not accept; [`ErrorKind::Disconnected`] and its like if it went
/// away meanwhile; [`ErrorKind::Protocol`] if it speaks something else; [`ErrorKind::Io`].
///
/// ```
/// use ductworks::{Parent, connect};
/// # use std::time::Duration;
///
/// let parent = Parent::bind()?;
/// let ticket = parent.ticket().to_string();
/// let child = std::thread::spawn(move || connect(ticket)?.send("here"));
/// # let duct = parent.listen(Duration::from_secs(10))?;
/// # child.join().expect("no panic")?;
/// # Ok::<(), ductworks::Error>(())
/// ```
pub fn connect<T>(ticket: T) -> Result<Duct>
where
    T: TryInto<Ticket>,
    T::Error: Into<Error>,
{
    ConnectOptions::new().connect(ticket)
}

/// How to connect, where the defaults do not fit.
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
    handshake_timeout: Duration,
    retry: bool,
    v1: bool,
    message_limit: usize,
    codec: String,
}

/// The pauses between attempts begin with this one and double.
const FIRST_PAUSE: Duration = Duration::from_millis(1);

/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(60),
            retry: true,
            v1: false,
            message_limit: DEFAULT_MESSAGE_LIMIT,
            codec: String::new(),
        }
    }
}

impl ConnectOptions {
    /// The defaults: 5 seconds, with retries, 60 seconds for the listener to accept, and messages of up
    /// to 64 MiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to try to reach the listener, all attempts together.
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

    /// How long to wait for a listener that was reached: it answers when its program accepts.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Speaks version 1 of the protocol at a TCP address, which cannot tell itself. At a Unix address
    /// that is found out.
    pub fn v1(mut self, speak: bool) -> Self {
        self.v1 = speak;
        self
    }

    /// The largest message, in bytes, that may be sent or received: the smaller of what both sides
    /// say holds.
    pub fn message_limit(mut self, bytes: usize) -> Self {
        self.message_limit = bytes;
        self
    }

    /// The name of the codec that the other side has to use too. Unless both sides name theirs,
    /// nothing is compared.
    pub fn codec_name(mut self, name: impl Into<String>) -> Self {
        self.codec = name.into();
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// As for [`connect`].
    pub fn connect<T>(&self, ticket: T) -> Result<Duct>
    where
        T: TryInto<Ticket>,
        T::Error: Into<Error>,
    {
        let ticket = ticket.try_into().map_err(Into::into)?;
        let wait = &mut Wait::until(Deadline::after(self.timeout));
        Duct::admitted(self.connect_admitted(&ticket, wait)?, self.message_limit)
    }

    /// Connects, for those who make something else of it than a [`Duct`]. It is tried until the
    /// deadline of `wait`, whatever the [timeout](Self::timeout).
    ///
    /// # Errors
    ///
    /// As for [`connect`], and [`ErrorKind::Interrupted`].
    pub fn connect_admitted(
        &self,
        ticket: &Ticket,
        wait: &mut Wait<'_>,
    ) -> Result<Admitted<Greeting>> {
        let (address, token) = (ticket.address(), ticket.token());
        let (socket, wire) = self.reach(wait, |deadline| match address.path() {
            Some(path) if token.is_none() => transport::connect_either(path),
            None if self.v1 => {
                transport::connect(address, deadline).map(|socket| (socket, Wire::Plain))
            }
            _ => transport::connect_v2(address, deadline).map(|socket| (socket, Wire::V2)),
        })?;
        let mut handshake = None;
        if wire == Wire::V2 {
            let terms = Terms {
                limit: self.message_limit as u64,
                codec: self.codec.clone(),
            };
            let greeting = Greeting::client(token, &terms, Greeting::nonce()?, [0; 32]);
            let until = wait.deadline;
            wait.deadline = Deadline::after(self.handshake_timeout);
            let greeted = greet(&socket, greeting, wait);
            wait.deadline = until;
            handshake = Some(greeted.map_err(|error| not_let_in(address, error))?);
        }
        Ok(Admitted { socket, handshake })
    }

    /// Connects a socket, for those who make something else of it than a duct. It is tried until the
    /// deadline of `wait`, whatever the [timeout](Self::timeout).
    ///
    /// # Errors
    ///
    /// As for [`connect`], and [`ErrorKind::Interrupted`].
    ///
    /// ```
    /// # use ductworks::ConnectOptions;
    /// use ductworks::engine::{Deadline, Door, Wait, Wire};
    /// let door = Door::bind_private(&[Wire::Plain], 128)?;
    /// let wait = &mut Wait::until(Deadline::Now);
    /// let socket = ConnectOptions::new().connect_socket(door.address(), wait)?;
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn connect_socket(&self, address: &Address, wait: &mut Wait<'_>) -> Result<OwnedFd> {
        self.reach(wait, |deadline| {
            transport::connect(address, deadline).map(|socket| (socket, ()))
        })
        .map(|(socket, ())| socket)
    }

    /// Makes attempts until one succeeds, or none is worth the trouble.
    fn reach<T>(
        &self,
        wait: &mut Wait<'_>,
        attempt: impl Fn(Option<Instant>) -> Result<(OwnedFd, T)>,
    ) -> Result<(OwnedFd, T)> {
        let until = wait.deadline;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match attempt(until.moment()) {
                Ok((socket, facts)) => {
                    transport::prepare(socket.as_fd())?;
                    return Ok((socket, facts));
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

/// Says whose handshake it was that failed.
fn not_let_in(address: &Address, error: Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut => Error::new(
            ErrorKind::TimedOut,
            format!("timed out: {address} was reached, but its listener did not accept"),
        ),
        ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::PermissionDenied, format!("{address}: {error}"))
        }
        ErrorKind::Disconnected | ErrorKind::Reset | ErrorKind::Truncated => {
            let kind = error.kind();
            let text = format!("{address}: the listener went away before it accepted: {error}");
            Error::new(kind, text)
        }
        _ => error,
    }
}
