//! Many children on one address.

mod options;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::door::{Door, Refusal};
use crate::duct::{Duct, Settings};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use crate::gate::{Deadline, Wait};
use crate::lobby::{Admitted, Lobby};
use crate::ticket::Ticket;
use crate::wire::{Admission, Greeting};

pub use options::ListenOptions;

/// Accepts any number of ducts at one address, from whoever proves to know its token.
///
/// A Unix address admits only processes of the same user besides; others are turned away, and
/// listening goes on. Its name is removed when the listener is closed or dropped, by the process that
/// made it.
///
/// ```
/// use ductworks::{ListenOptions, connect};
///
/// let listener = ListenOptions::new().reusable(true).bind("tcp:127.0.0.1:0")?;
/// let workers: Vec<_> = (1..=2)
///     .map(|number| {
///         let ticket = listener.ticket();
///         std::thread::spawn(move || connect(ticket)?.send(&number))
///     })
///     .collect();
/// let mut sum = 0;
/// for _ in &workers {
///     sum += listener.accept()?.recv::<u32>()?;
/// }
/// assert_eq!(sum, 3);
/// # for worker in workers { worker.join().expect("no panic")?; }
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    door: Door,
    lobby: Lobby<Greeting>,
    admission: Option<Arc<Admission>>,
    settings: Settings,
}

impl Listener {
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

    /// Where to connect. There is no secret in it.
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
        self.door.address()
    }

    /// What the next child needs to be let in. Unless the ticket is
    /// [reusable](ListenOptions::reusable), there is another one after each that was accepted.
    ///
    /// ```
    /// # use ductworks::Listener;
    /// # let listener = Listener::bind_private()?;
    /// let mut worker = std::process::Command::new("worker");
    /// worker.env("DUCT", listener.ticket().to_string());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn ticket(&self) -> Ticket {
        let token = self.admission.as_ref().map(|admission| admission.token());
        Ticket::new(self.address().clone(), token)
    }

    /// The same listener, which tells of everybody whom it turns away. With the feature `tracing` there
    /// is an event for each in any case.
    #[must_use]
    pub fn with_log(mut self, log: impl Fn(&Refusal) + Send + Sync + 'static) -> Self {
        self.lobby = self.lobby.with_log(log);
        self
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
    /// # let ticket = listener.ticket();
    /// let child = std::thread::spawn(move || connect(ticket)?.recv::<u8>());
    /// let duct = listener.accept()?;
    /// # duct.send(&1)?; assert_eq!(child.join().expect("no panic")?, 1);
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
        self.door.is_closed()
    }

    #[cfg(feature = "tls")]
    fn secured(mut self, acceptor: crate::transport::Acceptor) -> Self {
        self.lobby = self.lobby.with_tls(acceptor);
        self
    }

    pub(crate) fn accept_until(&self, deadline: Deadline) -> Result<Duct> {
        let admitted = self.accept_admitted(&mut Wait::until(deadline))?;
        Duct::admitted(admitted, &self.settings)
    }

    /// Accepts a connection, for those who make something else of it than a [`Duct`].
    ///
    /// # Errors
    ///
    /// As for [`accept`](Self::accept), and [`ErrorKind::WouldBlock`], [`ErrorKind::TimedOut`],
    /// [`ErrorKind::Interrupted`].
    pub fn accept_admitted(&self, wait: &mut Wait<'_>) -> Result<Admitted<Greeting>> {
        self.lobby.accept(&self.door, wait)
    }

    /// Stops listening and removes the name. Whoever waits in it, and every later call, fails with
    /// [`ErrorKind::Closed`]. Who is in the middle of their handshake is let go; ducts that were
    /// accepted go on.
    ///
    /// ```
    /// # use ductworks::{Listener, ErrorKind};
    /// let listener = Listener::bind_private()?;
    /// listener.close();
    /// let directory = listener.address().path().and_then(|path| path.parent());
    /// assert!(!directory.expect("a Unix address").exists());
    /// assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::Closed);
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    pub fn close(&self) {
        self.door.close();
        self.lobby.close();
    }
}

impl AsFd for Listener {
    /// Readable when somebody waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.door.as_fd()
    }
}
