//! One parent and one child that find each other by an address.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::address::Address;
use crate::connect::ConnectOptions;
use crate::duct::Duct;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Deadline;
use crate::listener::{ListenOptions, Listener};
use crate::ticket::Ticket;

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
    /// let duct = parent.listen(Duration::from_secs(30))?;
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
