//! The duct: one end of a channel of messages.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::channel::{Channel, Socket};
use crate::codec::{Decode, Encode, Json};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Wait};
use crate::transport;
use crate::wire::V1;

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
    Ok((Duct::over(a), Duct::over(b)))
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
    socket: OwnedFd,
    channel: Channel<V1>,
    buried: AtomicBool,
}

impl Core {
    fn stream(&self) -> Socket<BorrowedFd<'_>> {
        Socket(self.socket.as_fd())
    }

    fn close(&self) {
        self.channel.close(&self.stream());
        if !self.buried.swap(true, Ordering::SeqCst) {
            transport::bury(self.socket.as_fd());
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
        let mut message = Vec::new();
        codec.encode(value, &mut message).map_err(|error| {
            let text = format!(
                "could not encode the value as {}: {error}; nothing was sent",
                codec.name()
            );
            Error::new(ErrorKind::Encode, text).with_source(error)
        })?;
        self.send_bytes(&message, deadline)
    }

    fn recv_bytes(&self, deadline: Deadline) -> Result<Vec<u8>> {
        let wait = &mut Wait::until(deadline);
        self.settle(self.channel.receive(&self.stream(), wait))
    }

    fn recv<T, C: Decode<T>>(&self, codec: &C, deadline: Deadline) -> Result<T> {
        let message = self.recv_bytes(deadline)?;
        codec.decode(message).map_err(|error| {
            let text = format!("could not decode the message as {}: {error}", codec.name());
            Error::new(ErrorKind::Decode, text).with_source(error)
        })
    }

    fn recv_into(&self, place: &mut [u8], deadline: Deadline) -> Result<usize> {
        let wait = &mut Wait::until(deadline);
        self.settle(self.channel.receive_into(&self.stream(), place, wait))
    }

    fn poll(&self, timeout: Duration) -> Result<bool> {
        let wait = &mut Wait::until(Deadline::after(timeout));
        self.settle(self.channel.poll(&self.stream(), wait))
    }

    fn describe(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("socket", &self.socket)
            .field("closed", &self.channel.is_closed())
            .finish_non_exhaustive()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The rest of an accepted message gets its last chance.
        self.channel.close(&self.stream());
    }
}

macro_rules! common_methods {
    () => {
        /// Closes this end, and the other half of it if there is one. Whoever waits in it, and
        /// every later call, fails with [`ErrorKind::Closed`]; the other end sees the end of the
        /// messages. Closing again does nothing.
        ///
        /// It never blocks. A copy of this end in a forked process is not disturbed.
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// let a = std::sync::Arc::new(a);
        /// let waiting = std::thread::spawn({
        ///     let a = a.clone();
        ///     move || a.recv_bytes().unwrap_err().kind()
        /// });
        /// a.close();
        /// assert_eq!(waiting.join().expect("no panic"), ErrorKind::Closed);
        /// assert_eq!(b.recv_bytes().unwrap_err().kind(), ErrorKind::Disconnected);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn close(&self) {
            self.core.close();
        }

        /// Whether this end has been closed, by [`close`](Self::close) or because the other end
        /// broke the protocol.
        ///
        /// ```
        /// # let (a, _b) = ductworks::pair()?;
        /// assert!(!a.is_closed());
        /// a.close();
        /// assert!(a.is_closed());
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        #[must_use]
        pub fn is_closed(&self) -> bool {
            self.core.channel.is_closed()
        }

        /// The largest message, in bytes, that may be sent or received: 64 MiB unless
        /// [set](Self::set_message_limit).
        ///
        /// ```
        /// # let (a, _b) = ductworks::pair()?;
        /// assert_eq!(a.message_limit(), 64 * 1024 * 1024);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        #[must_use]
        pub fn message_limit(&self) -> usize {
            self.core.channel.message_limit()
        }

        /// Sets the largest message, in bytes, that may be sent or received. A larger one to send
        /// fails and leaves the duct usable; a larger one to receive closes it. The wire's own
        /// limit is `u32::MAX`.
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, _b) = ductworks::pair()?;
        /// a.set_message_limit(4);
        /// assert_eq!(a.send_bytes(b"12345").unwrap_err().kind(), ErrorKind::TooLarge);
        /// a.send_bytes(b"1234")?;
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn set_message_limit(&self, bytes: usize) {
            self.core.channel.set_message_limit(bytes);
        }
    };
}

macro_rules! sending_methods {
    () => {
        /// Sends a value, waiting until the system has taken all of it.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Encode`] and [`ErrorKind::TooLarge`], after which the duct is as before;
        /// [`ErrorKind::Disconnected`] if the other end is gone, though what it sent can still be
        /// received; [`ErrorKind::Closed`], [`ErrorKind::Forked`], [`ErrorKind::Io`].
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send(&vec![1, 2, 3])?;
        /// assert_eq!(b.recv::<Vec<u8>>()?, [1, 2, 3]);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send<T: ?Sized>(&self, value: &T) -> Result<()>
        where
            C: Encode<T>,
        {
            self.core.send(&self.codec, value, Deadline::Never)
        }

        /// Sends a value if that can begin at once.
        ///
        /// # Errors
        ///
        /// As for [`send`](Self::send), and [`ErrorKind::WouldBlock`] if not a byte could be sent.
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.try_send("no waiting")?;
        /// # assert_eq!(b.recv::<String>()?, "no waiting");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_send<T: ?Sized>(&self, value: &T) -> Result<()>
        where
            C: Encode<T>,
        {
            self.core.send(&self.codec, value, Deadline::Now)
        }

        /// Sends a value, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`send`](Self::send), and [`ErrorKind::TimedOut`] if not a byte could be sent.
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_timeout("a second at most", Duration::from_secs(1))?;
        /// # assert_eq!(b.recv::<String>()?, "a second at most");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send_timeout<T: ?Sized>(&self, value: &T, timeout: Duration) -> Result<()>
        where
            C: Encode<T>,
        {
            self.core.send(&self.codec, value, Deadline::after(timeout))
        }

        /// Sends bytes as they are, past the codec, waiting until the system has taken all of them.
        ///
        /// # Errors
        ///
        /// As for [`send`](Self::send).
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"\x00\xff")?;
        /// a.send_bytes(b"")?; // an empty message is one
        /// assert_eq!(b.recv_bytes()?, b"\x00\xff");
        /// assert_eq!(b.recv_bytes()?, b"");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send_bytes(&self, message: &[u8]) -> Result<()> {
            self.core.send_bytes(message, Deadline::Never)
        }

        /// Sends bytes if that can begin at once.
        ///
        /// # Errors
        ///
        /// As for [`try_send`](Self::try_send).
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// let mut sent = 0;
        /// let full = loop {
        ///     match a.try_send_bytes(&[0; 4096]) {
        ///         Ok(()) => sent += 1,
        ///         Err(error) => break error,
        ///     }
        /// };
        /// assert_eq!(full.kind(), ErrorKind::WouldBlock);
        /// for _ in 0..sent {
        ///     assert_eq!(b.recv_bytes()?.len(), 4096);
        /// # a.flush(std::time::Duration::ZERO).ok();
        /// }
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_send_bytes(&self, message: &[u8]) -> Result<()> {
            self.core.send_bytes(message, Deadline::Now)
        }

        /// Sends bytes, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`send_timeout`](Self::send_timeout).
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes_timeout(b"soon", Duration::from_millis(100))?;
        /// # assert_eq!(b.recv_bytes()?, b"soon");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn send_bytes_timeout(&self, message: &[u8], timeout: Duration) -> Result<()> {
            self.core.send_bytes(message, Deadline::after(timeout))
        }

        /// Waits for `timeout` at most until nothing is left of a message whose sending a deadline
        /// ended. Any other call on the duct pushes such a rest out as well, as far as it can.
        ///
        /// # Errors
        ///
        /// As for [`send_timeout`](Self::send_timeout).
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// let large = vec![7; 10 << 20];
        /// a.try_send_bytes(&large)?; // accepted, and partly on its way
        /// let reader = std::thread::spawn(move || b.recv_bytes());
        /// a.flush(Duration::from_secs(60))?;
        /// assert_eq!(reader.join().expect("no panic")?, large);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn flush(&self, timeout: Duration) -> Result<()> {
            let wait = &mut Wait::until(Deadline::after(timeout));
            self.core.channel.flush(&self.core.stream(), wait)
        }
    };
}

macro_rules! receiving_methods {
    () => {
        /// Receives a value, waiting for as long as it takes.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Disconnected`], [`ErrorKind::Reset`] or [`ErrorKind::Truncated`] at the
        /// end; [`ErrorKind::Decode`] if the message, which is consumed, is no `T`;
        /// [`ErrorKind::TooLarge`] or [`ErrorKind::Protocol`], which close the duct;
        /// [`ErrorKind::Closed`], [`ErrorKind::Forked`], [`ErrorKind::Io`].
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send(&("point", 1.5, 2.5))?;
        /// let (name, x, y): (String, f64, f64) = b.recv()?;
        /// # assert_eq!((name.as_str(), x, y), ("point", 1.5, 2.5));
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv<T>(&self) -> Result<T>
        where
            C: Decode<T>,
        {
            self.core.recv(&self.codec, Deadline::Never)
        }

        /// Receives a value if a whole message is there.
        ///
        /// # Errors
        ///
        /// As for [`recv`](Self::recv), and [`ErrorKind::WouldBlock`].
        ///
        /// ```
        /// # use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// assert_eq!(b.try_recv::<u8>().unwrap_err().kind(), ErrorKind::WouldBlock);
        /// a.send(&1)?;
        /// assert_eq!(b.try_recv::<u8>()?, 1);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_recv<T>(&self) -> Result<T>
        where
            C: Decode<T>,
        {
            self.core.recv(&self.codec, Deadline::Now)
        }

        /// Receives a value, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`recv`](Self::recv), and [`ErrorKind::TimedOut`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # use ductworks::ErrorKind;
        /// # let (_a, b) = ductworks::pair()?;
        /// let error = b.recv_timeout::<u8>(Duration::from_millis(1)).unwrap_err();
        /// assert_eq!(error.kind(), ErrorKind::TimedOut);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_timeout<T>(&self, timeout: Duration) -> Result<T>
        where
            C: Decode<T>,
        {
            self.core.recv(&self.codec, Deadline::after(timeout))
        }

        /// Receives a message as it is, past the codec, waiting for as long as it takes.
        ///
        /// # Errors
        ///
        /// As for [`recv`](Self::recv), without `Decode`.
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send(&[1, 2])?;
        /// assert_eq!(b.recv_bytes()?, b"[1,2]");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_bytes(&self) -> Result<Vec<u8>> {
            self.core.recv_bytes(Deadline::Never)
        }

        /// Receives a message as it is if a whole one is there.
        ///
        /// # Errors
        ///
        /// As for [`recv_bytes`](Self::recv_bytes), and [`ErrorKind::WouldBlock`].
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"here")?;
        /// assert_eq!(b.try_recv_bytes()?, b"here");
        /// assert!(b.try_recv_bytes().is_err());
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_recv_bytes(&self) -> Result<Vec<u8>> {
            self.core.recv_bytes(Deadline::Now)
        }

        /// Receives a message as it is, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`recv_bytes`](Self::recv_bytes), and [`ErrorKind::TimedOut`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"soon")?;
        /// assert_eq!(b.recv_bytes_timeout(Duration::from_secs(1))?, b"soon");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>> {
            self.core.recv_bytes(Deadline::after(timeout))
        }

        /// Receives a message into the beginning of `place`, without a copy in between, and returns
        /// its length in bytes.
        ///
        /// # Errors
        ///
        /// As for [`recv_bytes`](Self::recv_bytes), and [`ErrorKind::BufferTooSmall`], which leaves
        /// the message there for a call with more room.
        ///
        /// ```
        /// use ductworks::ErrorKind;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"hello")?;
        /// let mut place = [0; 16];
        /// assert_eq!(b.recv_into(&mut place[..2]).unwrap_err().kind(), ErrorKind::BufferTooSmall);
        /// let len = b.recv_into(&mut place)?;
        /// assert_eq!(&place[..len], b"hello");
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_into(&self, place: &mut [u8]) -> Result<usize> {
            self.core.recv_into(place, Deadline::Never)
        }

        /// Receives a message into `place` if a whole one is there.
        ///
        /// # Errors
        ///
        /// As for [`recv_into`](Self::recv_into), and [`ErrorKind::WouldBlock`].
        ///
        /// ```
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"here")?;
        /// assert_eq!(b.try_recv_into(&mut [0; 8])?, 4);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn try_recv_into(&self, place: &mut [u8]) -> Result<usize> {
            self.core.recv_into(place, Deadline::Now)
        }

        /// Receives a message into `place`, waiting for `timeout` at most.
        ///
        /// # Errors
        ///
        /// As for [`recv_into`](Self::recv_into), and [`ErrorKind::TimedOut`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// a.send_bytes(b"soon")?;
        /// assert_eq!(b.recv_into_timeout(&mut [0; 8], Duration::from_secs(1))?, 4);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn recv_into_timeout(&self, place: &mut [u8], timeout: Duration) -> Result<usize> {
            self.core.recv_into(place, Deadline::after(timeout))
        }

        /// Waits for `timeout` at most until a receive would return at once, with a whole message
        /// or with an error.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Closed`], [`ErrorKind::Forked`], [`ErrorKind::Io`].
        ///
        /// ```
        /// # use std::time::Duration;
        /// # let (a, b) = ductworks::pair()?;
        /// assert!(!b.poll(Duration::ZERO)?);
        /// a.send(&1)?;
        /// assert!(b.poll(Duration::from_secs(1))?);
        /// # Ok::<(), ductworks::Error>(())
        /// ```
        pub fn poll(&self, timeout: Duration) -> Result<bool> {
            self.core.poll(timeout)
        }
    };
}

impl Duct {
    pub(crate) fn over(socket: OwnedFd) -> Self {
        Self {
            core: Arc::new(Core {
                socket,
                channel: Channel::default(),
                buried: AtomicBool::new(false),
            }),
            codec: Json,
        }
    }

    /// Takes over a connected socket by its number, such as one that an exec'd child has inherited.
    /// The descriptor becomes close-on-exec.
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
        if descriptor < 0 {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("expected the number of a descriptor, got {descriptor}"),
            ));
        }
        // SAFETY: the caller promises that the descriptor is owned by nobody else; that it is open
        // is tested before anything relies on it.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Self::try_from(socket)
    }
}

impl TryFrom<OwnedFd> for Duct {
    type Error = Error;

    /// Takes over a connected stream socket.
    fn try_from(socket: OwnedFd) -> Result<Self> {
        transport::adopt(socket).map(Self::over)
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

    common_methods!();
    sending_methods!();
    receiving_methods!();
}

impl<C> Sender<C> {
    common_methods!();
    sending_methods!();
}

impl<C> Receiver<C> {
    common_methods!();
    receiving_methods!();
}

macro_rules! end_traits {
    ($($end:ident)*) => {$(
        impl<C> AsFd for $end<C> {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.core.socket.as_fd()
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
