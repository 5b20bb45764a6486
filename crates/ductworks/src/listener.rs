//! Many children on one address.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::channel::DEFAULT_MESSAGE_LIMIT;
use crate::door::Door;
use crate::duct::Duct;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::{Error, Result};
use crate::gate::{Deadline, Wait};
use crate::lobby::{Admitted, Lobby, Refusal};
use crate::ticket::Ticket;
use crate::transport::Wire;
use crate::wire::{Admission, Greeting, Terms, Token};

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
    message_limit: usize,
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
    v1: bool,
    reusable: bool,
    handshake_timeout: Duration,
    message_limit: usize,
    codec: String,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 128,
            insecure_network: false,
            v1: false,
            reusable: false,
            handshake_timeout: Duration::from_secs(10),
            message_limit: DEFAULT_MESSAGE_LIMIT,
            codec: String::new(),
        }
    }
}

impl ListenOptions {
    /// The defaults: a token that admits one after the other, 10 seconds for a handshake, messages of
    /// up to 64 MiB, a backlog of 128, and the loopback interface only.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many connections may wait to be accepted (`listen(2)`); more are made to wait or try
    /// again.
    pub fn backlog(mut self, connections: u16) -> Self {
        self.backlog = connections;
        self
    }

    /// Allows a TCP address that other hosts can reach. Whoever can read along there can read and
    /// change what is sent, the token's proof notwithstanding.
    pub fn insecure_network(mut self, allow: bool) -> Self {
        self.insecure_network = allow;
        self
    }

    /// Listens for those who speak version 1 of the protocol, the original library among them. They
    /// bring no token: whoever can reach the address is let in. At a Unix address version 2 is spoken
    /// with those who know it, without a token either.
    pub fn v1(mut self, allow: bool) -> Self {
        self.v1 = allow;
        self
    }

    /// Lets one ticket admit any number of children. Without, each admits one, and then the listener
    /// has another.
    pub fn reusable(mut self, reusable: bool) -> Self {
        self.reusable = reusable;
        self
    }

    /// How long a handshake may take. Who is slower is turned away.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
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
        let wires = match address.path() {
            Some(_) => self.wires(),
            None if self.v1 => &[Wire::Plain],
            None => &[Wire::V2],
        };
        let door = Door::bind(&address, wires, self.backlog, self.insecure_network)?;
        self.listen(door)
    }

    /// Listens at a private, random Unix address.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind_private`].
    pub fn bind_private(&self) -> Result<Listener> {
        self.listen(Door::bind_private(self.wires(), self.backlog)?)
    }

    /// The name for version 2 is bound first; see [`connect`](crate::connect).
    fn wires(&self) -> &'static [Wire] {
        match self.v1 {
            true => &[Wire::V2, Wire::Plain],
            false => &[Wire::V2],
        }
    }

    fn listen(&self, door: Door) -> Result<Listener> {
        let admission = match self.v1 {
            true => None,
            false => Some(Arc::new(Admission::new(Token::generate()?, self.reusable))),
        };
        let terms = Terms {
            limit: self.message_limit as u64,
            codec: self.codec.clone(),
        };
        let lobby = Lobby::new(Wire::V2, self.handshake_timeout, {
            let admission = admission.clone();
            move || {
                let nonce = Greeting::nonce()?;
                Ok(Greeting::server(admission.as_ref(), &terms, nonce, [0; 32]))
            }
        });
        Ok(Listener {
            door,
            lobby,
            admission,
            message_limit: self.message_limit,
        })
    }
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

    pub(crate) fn accept_until(&self, deadline: Deadline) -> Result<Duct> {
        let admitted = self.accept_admitted(&mut Wait::until(deadline))?;
        Duct::admitted(admitted, self.message_limit)
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
    /// [`ErrorKind::Closed`]. Ducts that were accepted go on.
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
    }
}

impl AsFd for Listener {
    /// Readable when somebody waits to be accepted.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.door.as_fd()
    }
}
