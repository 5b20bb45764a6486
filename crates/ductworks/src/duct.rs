//! The duct: one end of a channel of messages.

mod descriptors;
mod methods;
mod settings;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::channel::{Announced, Channel, Stats};
use crate::codec::{Decode, Encode, Json};
use crate::connection::{Connection, Link};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Wait};
use crate::lobby::Admitted;
use crate::memory::Memory;
use crate::transport::{self, Mark};
use crate::wire::{Body, Greeting, Version};
use descriptors::{descriptor_receiving_methods, descriptor_sending_methods};
use methods::{common_methods, receiving_methods, sending_methods};
pub(crate) use settings::{Settings, settings_methods};

/// Makes two connected ducts.
///
/// # Errors
///
/// [`ErrorKind::Io`] if the process has no descriptors left.
///
/// ```
/// let (a, b) = ductworks::pair()?;
/// a.send("hello world")?;
/// let text: String = b.recv()?;
/// assert_eq!(text, "hello world");
/// # Ok::<(), ductworks::Error>(())
/// ```
pub fn pair() -> Result<(Duct, Duct)> {
    let (a, b) = transport::pair()?;
    for end in [&a, &b] {
        Mark::V2.put(end)?;
    }
    Ok((Duct::marked(a), Duct::marked(b)))
}

/// One end of a channel of messages: one send is one recv.
///
/// All methods take `&self`, and all may run at the same time on several threads. Sending and
/// receiving have a lock each, so neither direction waits for the other; of several senders or
/// receivers, each has its turn with a whole message.
///
/// # Waiting
///
/// Every operation has three forms. The plain one waits for as long as it takes, the `try_` one
/// does not wait and fails with [`ErrorKind::WouldBlock`], and the `_timeout` one fails with
/// [`ErrorKind::TimedOut`]. A failure of either kind loses nothing, at whatever byte it comes: a
/// message that was received in part is completed by the next call, and one that was sent in part
/// counts as sent, its rest going out before anything else. So these two kinds of a send mean that
/// not a byte was sent.
///
/// # The end
///
/// When the other end has closed, what it sent arrives first, and then every receive fails with
/// [`ErrorKind::Disconnected`], or with [`ErrorKind::Truncated`] where it went away in the middle of
/// a message. A `send` that succeeded means that the message is on its way, not that it arrived.
///
/// A duct that is dropped closes. [`std::process::exit`] drops nothing: close the ducts before it, or the
/// other end is told that this process died ([`ErrorKind::PeerDied`]).
///
/// # Descriptors
///
/// The socket ([`AsFd`]) may be given to `poll(2)` and the like at any moment: a message that waits
/// makes it readable, since the duct never reads past the message it returns.
///
/// ```
/// use std::time::Duration;
/// use ductworks::ErrorKind;
///
/// let (a, b) = ductworks::pair()?;
/// assert_eq!(b.try_recv::<u32>().unwrap_err().kind(), ErrorKind::WouldBlock);
/// a.send(&7)?;
/// assert_eq!(b.recv_timeout::<u32>(Duration::from_secs(1))?, 7);
///
/// drop(a);
/// assert_eq!(b.recv::<u32>().unwrap_err().kind(), ErrorKind::Disconnected);
/// # Ok::<(), ductworks::Error>(())
/// ```
pub struct Duct<C = Json> {
    core: Arc<Core>,
    codec: C,
}

/// The sending half of a duct; see [`Duct::split`].
pub struct Sender<C = Json> {
    core: Arc<Core>,
    codec: C,
}

/// The receiving half of a duct; see [`Duct::split`].
pub struct Receiver<C = Json> {
    core: Arc<Core>,
    codec: C,
}

/// What the halves of a duct share.
struct Core {
    connection: Connection,
    channel: Channel<Version, Memory>,
    buried: AtomicBool,
}

impl Core {
    fn stream(&self) -> Link<'_> {
        self.connection.link()
    }

    fn close(&self) {
        self.channel.close(&self.stream());
        if !self.buried.swap(true, Ordering::SeqCst) {
            transport::bury(self.connection.as_fd());
        }
    }

    /// Lets the other end know at once where a violation of the protocol has closed the channel.
    fn settle<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_err() && self.channel.violation().is_some() {
            self.close();
        }
        outcome
    }

    fn send_bytes(&self, message: &[u8], deadline: Deadline) -> Result<()> {
        self.channel
            .send(&self.stream(), &[message], &mut Wait::until(deadline))
    }

    fn send<T: ?Sized, C: Encode<T>>(
        &self,
        codec: &C,
        value: &T,
        deadline: Deadline,
    ) -> Result<()> {
        self.send_bytes(&encoded(codec, value)?, deadline)
    }

    fn send_with<T: ?Sized, C: Encode<T>>(
        &self,
        codec: &C,
        value: &T,
        descriptors: &[impl AsFd],
        deadline: Deadline,
    ) -> Result<()> {
        let message = encoded(codec, value)?;
        // Copies, since a part of the message may have to go out after the call.
        let copies = descriptors
            .iter()
            .map(|each| each.as_fd().try_clone_to_owned())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Error::os("copy the descriptors to send", error))?;
        let wait = &mut Wait::until(deadline);
        self.channel
            .send_with(&self.stream(), &[&message], copies, wait)
    }

    fn recv_bytes(&self, deadline: Deadline) -> Result<Vec<u8>> {
        let wait = &mut Wait::until(deadline);
        let outcome = self.channel.receive(&self.stream(), wait);
        self.settle(outcome).map(Memory::into_vec)
    }

    fn recv<T, C: Decode<T>>(&self, codec: &C, deadline: Deadline) -> Result<T> {
        decoded(codec, self.recv_bytes(deadline)?)
    }

    fn recv_with<T, C: Decode<T>>(
        &self,
        codec: &C,
        deadline: Deadline,
    ) -> Result<(T, Vec<OwnedFd>)> {
        let wait = &mut Wait::until(deadline);
        let outcome = self
            .channel
            .receive_with(&self.stream(), |_| Ok(None), wait);
        let (message, descriptors) = self.settle(outcome)?;
        Ok((decoded(codec, message.into_vec())?, descriptors))
    }

    fn recv_into(&self, place: &mut [u8], deadline: Deadline) -> Result<usize> {
        let wait = &mut Wait::until(deadline);
        let room = place.len();
        let lend = |message: Announced| match message.len <= room {
            true => Ok(Some(Memory::lent(place))),
            false => Err(Error::too_small(message.len, room)),
        };
        // It is where it was lent to be.
        let outcome = self.channel.receive_in(&self.stream(), lend, wait);
        self.settle(outcome).map(|message| message.len())
    }

    fn finish(&self, deadline: Deadline) -> Result<()> {
        let wait = &mut Wait::until(deadline);
        self.channel.finish(&self.stream(), wait)
    }

    fn drain(&self, timeout: Duration) -> Result<()> {
        let wait = &mut Wait::until(Deadline::after(timeout));
        self.settle(self.channel.drain(&self.stream(), wait))
    }

    fn set_keepalive(&self, patience: Option<Duration>) -> Result<()> {
        self.connection.link().set_keepalive(patience)?;
        self.channel.set_patience(patience);
        Ok(())
    }

    fn poll(&self, timeout: Duration) -> Result<bool> {
        let wait = &mut Wait::until(Deadline::after(timeout));
        self.settle(self.channel.poll(&self.stream(), wait))
    }

    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("socket", &self.connection.as_fd())
            .field("closed", &self.channel.is_closed())
            .finish_non_exhaustive()
    }
}

fn encoded<T: ?Sized, C: Encode<T>>(codec: &C, value: &T) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    codec.encode(value, &mut message).map_err(|error| {
        let text = format!(
            "could not encode the value as {}: {error}; nothing was sent",
            codec.name()
        );
        Error::new(ErrorKind::Encode, text).with_source(error)
    })?;
    Ok(message)
}

fn decoded<T, C: Decode<T>>(codec: &C, message: Vec<u8>) -> Result<T> {
    codec.decode(message).map_err(|error| {
        let text = format!("could not decode the message as {}: {error}", codec.name());
        Error::new(ErrorKind::Decode, text).with_source(error)
    })
}

impl Drop for Core {
    fn drop(&mut self) {
        // The rest of an accepted message gets its last chance.
        self.channel.close(&self.stream());
    }
}

impl Duct {
    pub(crate) fn over(connection: impl Into<Connection>, version: Version) -> Self {
        Self {
            core: Arc::new(Core {
                connection: connection.into(),
                channel: Channel::new(version),
                buried: AtomicBool::new(false),
            }),
            codec: Json,
        }
    }

    /// Takes over a connected socket by its number, such as one that an exec'd child has inherited.
    /// The descriptor becomes close-on-exec.
    ///
    /// One end of a [`pair`], or of a connection that this crate has made, goes on as what it was. Over
    /// any other socket version 1 of the protocol is spoken.
    ///
    /// Safe code that already owns the descriptor uses `Duct::try_from` instead.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] if it is no connected stream socket;
    /// [`ErrorKind::PermissionDenied`] if the other end of a Unix socket runs as another user.
    ///
    /// # Safety
    ///
    /// Nothing else in the process may own the descriptor: it is closed with the duct.
    ///
    /// ```
    /// use ductworks::Duct;
    /// use std::os::fd::IntoRawFd;
    ///
    /// let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    /// // SAFETY: the number was just given up by its only owner.
    /// let a = unsafe { Duct::from_inherited(ours.into_raw_fd())? };
    /// let b = Duct::try_from(std::os::fd::OwnedFd::from(theirs))?;
    /// a.send("adopted")?;
    /// assert_eq!(b.recv::<String>()?, "adopted");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn from_inherited(descriptor: RawFd) -> Result<Self> {
        let refuse = |why: &str| {
            let text =
                format!("expected the number of an open descriptor, got {descriptor}: {why}");
            Err(Error::new(ErrorKind::InvalidInput, text))
        };
        if descriptor < 0 {
            return refuse("it is negative");
        }
        // SAFETY: the number is not negative, and is only looked at: one that is not open gives an
        // error. What is refused stays open, for it may be somebody else's.
        transport::adopt(unsafe { BorrowedFd::borrow_raw(descriptor) })?;
        // SAFETY: it is open, and the caller promises that nobody else owns it.
        Ok(Self::adopted(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// A duct over a connection that a listener has accepted, or that has been made to one.
    pub(crate) fn admitted(admitted: Admitted<Greeting>, settings: &Settings) -> Result<Self> {
        let version = match admitted.handshake {
            Some(_) => Version::V2,
            None => Version::V1,
        };
        if version == Version::V2 {
            admitted.connection.mark(Mark::V2)?;
        }
        let duct = Self::over(admitted.connection, version);
        duct.core.channel.set_message_limit(settings.message_limit);
        if let Some(terms) = admitted.handshake.and_then(|greeting| greeting.agreed()) {
            duct.core.channel.agree_on_limit(terms.limit);
            duct.core.channel.agree_on_descriptors(terms.descriptors);
        }
        if settings.keepalive.is_some() {
            duct.set_keepalive(settings.keepalive)?;
        }
        Ok(duct)
    }

    /// A duct over a socket from elsewhere, through which messages may have been sent before.
    fn adopted(socket: OwnedFd) -> Self {
        let duct = Self::marked(socket);
        duct.core.channel.take_over();
        duct
    }

    /// A duct over a socket that bears a mark where both its ends are ours.
    fn marked(socket: OwnedFd) -> Self {
        let version = match Mark::of(&socket) {
            Some(Mark::V2) => Version::V2,
            _ => Version::V1,
        };
        let duct = Self::over(socket, version);
        // The mark is ours, and so are both ends.
        duct.core
            .channel
            .agree_on_descriptors(version == Version::V2);
        duct
    }
}

impl TryFrom<OwnedFd> for Duct {
    type Error = Error;

    /// Takes over a connected stream socket.
    fn try_from(socket: OwnedFd) -> Result<Self> {
        transport::adopt(socket.as_fd()).map(|()| Self::adopted(socket))
    }
}

impl<C> Duct<C> {
    /// The same duct with another codec.
    ///
    /// ```
    /// use ductworks::Raw;
    /// # let (a, b) = ductworks::pair()?;
    /// a.with_codec(Raw).send("plain text")?;
    /// assert_eq!(b.recv_bytes()?, b"plain text");
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn with_codec<D>(self, codec: D) -> Duct<D> {
        Duct {
            core: self.core,
            codec,
        }
    }

    /// Takes the duct apart into a half that sends and one that receives. The connection ends when
    /// both are gone, or either is [closed](Sender::close).
    ///
    /// ```
    /// # let (a, b) = ductworks::pair()?;
    /// let (tx, rx) = a.split();
    /// let echo = std::thread::spawn(move || b.send(&b.recv::<u32>()?));
    /// tx.send(&5)?;
    /// assert_eq!(rx.recv::<u32>()?, 5);
    /// # echo.join().expect("no panic")?;
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn split(self) -> (Sender<C>, Receiver<C>)
    where
        C: Clone,
    {
        let sender = Sender {
            core: Arc::clone(&self.core),
            codec: self.codec.clone(),
        };
        let receiver = Receiver {
            core: self.core,
            codec: self.codec,
        };
        (sender, receiver)
    }

    /// Gives the socket up, for a child that is to inherit it, say: there it becomes the same duct by
    /// [`from_inherited`](Duct::from_inherited). The other end does not notice. What is left of this
    /// duct, another half of it or so, is closed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] in the middle of a message, or where the connection is encrypted;
    /// [`ErrorKind::Closed`], [`ErrorKind::Io`].
    ///
    /// ```
    /// use ductworks::Duct;
    /// use std::process::{Command, Stdio};
    ///
    /// let (ours, theirs) = ductworks::pair()?;
    /// # let program = "true";
    /// let mut worker = Command::new(program)
    ///     .stdin(Stdio::from(theirs.into_descriptor()?)) // Duct::from_inherited(0) over there
    ///     .spawn()?;
    /// # worker.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_descriptor(self) -> Result<OwnedFd> {
        let core = &self.core;
        let copy = {
            let _active = core.channel.gate().enter()?;
            core.stream().check_portable()?;
            let copy = core.connection.as_fd().try_clone_to_owned();
            copy.map_err(|e| Error::os("copy the descriptor", e))?
        };
        core.channel.abandon(&core.stream())?;
        core.close();
        Ok(copy)
    }

    common_methods!();
    sending_methods!();
    descriptor_sending_methods!();
    receiving_methods!();
    descriptor_receiving_methods!();
}

impl<C> Sender<C> {
    common_methods!();
    sending_methods!();
    descriptor_sending_methods!();
}

impl<C> Receiver<C> {
    common_methods!();
    receiving_methods!();
    descriptor_receiving_methods!();
}

macro_rules! end_traits {
    ($($end:ident)*) => {$(
        impl<C> AsFd for $end<C> {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.core.connection.as_fd()
            }
        }

        impl<C> fmt::Debug for $end<C> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.core.describe(stringify!($end), f)
            }
        }
    )*};
}

end_traits!(Duct Sender Receiver);
