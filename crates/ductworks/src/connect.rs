//! How to connect.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::address::Address;
use crate::connection::Connection;
use crate::duct::{Duct, Settings, settings_methods};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Gate, Queue, Wait};
use crate::lobby::{Admitted, greet};
use crate::ticket::Ticket;
use crate::transport::{self, Wire};
#[cfg(feature = "tls")]
use crate::transport::{Connector, Identity, Roots, Session};
use crate::wire::Greeting;

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
    settings: Settings,
    #[cfg(feature = "tls")]
    identity: Option<Identity>,
    #[cfg(feature = "tls")]
    roots: Option<Roots>,
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
            settings: Settings::default(),
            #[cfg(feature = "tls")]
            identity: None,
            #[cfg(feature = "tls")]
            roots: None,
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

    settings_methods!();

    /// Who vouches for a listener at a `tls:` address without a pin: without this, whom the
    /// [system](Roots::system) trusts. A pin needs nobody.
    #[cfg(feature = "tls")]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// The key and certificate to show to a listener that
    /// [asks for one](crate::ListenOptions::client_roots).
    #[cfg(feature = "tls")]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// As for [`connect`](crate::connect).
    pub fn connect<T>(&self, ticket: T) -> Result<Duct>
    where
        T: TryInto<Ticket>,
        T::Error: Into<Error>,
    {
        let ticket = ticket.try_into().map_err(Into::into)?;
        let wait = &mut Wait::until(Deadline::after(self.timeout));
        let admitted = self.connect_admitted(&ticket, wait)?;
        Duct::admitted(admitted, &self.settings)
    }

    /// Connects, for those who make something else of it than a [`Duct`]. It is tried until the
    /// deadline of `wait`, whatever the [timeout](Self::timeout).
    ///
    /// # Errors
    ///
    /// As for [`connect`](crate::connect), and [`ErrorKind::Interrupted`].
    pub fn connect_admitted(
        &self,
        ticket: &Ticket,
        wait: &mut Wait<'_>,
    ) -> Result<Admitted<Greeting>> {
        let (address, token) = (ticket.address(), ticket.token());
        self.check(ticket)?;
        #[cfg(feature = "tls")]
        let session = match address.is_tls() {
            true => Some(Session::connecting(Connector::new(
                address,
                self.roots.as_ref(),
                self.identity.as_ref(),
            )?)?),
            false => None,
        };
        #[cfg(not(feature = "tls"))]
        let session = match address.is_tls() {
            true => return Err(transport::no_tls_here(address)),
            false => None,
        };
        let (socket, wire) = self.reach(wait, |deadline| match address.path() {
            Some(path) if token.is_none() => transport::connect_either(path),
            None if self.v1 => {
                transport::connect(address, deadline).map(|socket| (socket, Wire::Plain))
            }
            _ => transport::connect_v2(address, deadline).map(|socket| (socket, Wire::V2)),
        })?;
        let connection = Connection::new(socket, session);
        let mut handshake = None;
        if wire == Wire::V2 {
            let terms = self.settings.terms(address);
            let greeting = Greeting::client(token, &terms, Greeting::nonce()?);
            let until = wait.deadline;
            wait.deadline = Deadline::after(self.handshake_timeout);
            let greeted = greet(&connection, greeting, wait);
            wait.deadline = until;
            handshake = Some(greeted.map_err(|error| not_let_in(address, error))?);
        }
        Ok(Admitted {
            connection,
            handshake,
        })
    }

    /// Checks that the options mean something with the ticket: one that is ignored could be the one that
    /// somebody relies on.
    fn check(&self, ticket: &Ticket) -> Result<()> {
        let refuse = |fault: &'static str| Err(Error::new(ErrorKind::InvalidInput, fault));
        let address = ticket.address();
        self.settings.check()?;
        if self.v1 && address.is_tls() {
            return Err(transport::v1_over_tls());
        }
        if self.v1 && ticket.token().is_some() {
            return refuse(
                "version 1 of the protocol knows no token: leave v1 out, or connect to the address alone",
            );
        }
        #[cfg(feature = "tls")]
        if !address.is_tls() && (self.identity.is_some() || self.roots.is_some()) {
            return refuse("certificates are shown and asked for at tls: addresses only");
        }
        Ok(())
    }

    /// Connects a socket, for those who make something else of it than a duct. It is tried until the
    /// deadline of `wait`, whatever the [timeout](Self::timeout).
    ///
    /// # Errors
    ///
    /// As for [`connect`](crate::connect), and [`ErrorKind::Interrupted`].
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
        transport::refuse_tls(address)?;
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
    let shown = address.shown();
    match error.kind() {
        ErrorKind::TimedOut => Error::new(
            ErrorKind::TimedOut,
            format!("timed out: {shown} was reached, but its listener did not accept"),
        ),
        kind @ (ErrorKind::PermissionDenied | ErrorKind::Protocol) => {
            Error::new(kind, format!("{shown}: {error}"))
        }
        ErrorKind::Disconnected | ErrorKind::Reset | ErrorKind::Truncated => {
            let kind = error.kind();
            let text = format!("{shown}: the listener went away before it accepted: {error}");
            Error::new(kind, text)
        }
        _ => error,
    }
}
