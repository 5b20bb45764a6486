//! The one error type of the crate.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::{fmt, io};

/// A result whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, in a form that a program can act on.
///
/// New kinds may be added; match with a wildcard arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This end was closed, before or during the call.
    Closed,
    /// The other end is gone, and every message it sent has been received.
    Disconnected,
    /// The connection was reset between two messages: the other end died or closed without reading
    /// everything that it had been sent. Messages may have been lost.
    Reset,
    /// The other end is gone without the farewell that version 2 of the protocol owes: it was killed,
    /// crashed, or was cut off. Every message that came from it has been received.
    PeerDied,
    /// The other end went away in the middle of a message.
    Truncated,
    /// The deadline passed. Nothing was lost; the call may be made again.
    TimedOut,
    /// A `try_` call would have had to wait. Nothing was lost; the call may be made again.
    WouldBlock,
    /// The caller's [`Hook`](crate::engine::Hook) asked to stop. Nothing was lost.
    Interrupted,
    /// A message is larger than the limit. On the sending side nothing was written and the duct
    /// stays usable; on the receiving side the duct is closed.
    TooLarge,
    /// The message does not fit into the caller's buffer. It was not consumed.
    BufferTooSmall,
    /// The other end does not speak the protocol. The duct is closed.
    Protocol,
    /// The value could not be encoded. Nothing was written.
    Encode,
    /// The message could not be decoded. It is consumed, and the duct stays usable.
    Decode,
    /// The address is malformed, too long, or not of a kind that the call can use.
    InvalidAddress,
    /// An argument or descriptor is not one that the call can use.
    InvalidInput,
    /// Nobody listened at the address until the deadline.
    Unreachable,
    /// The other end runs as another user, or the system refuses access to the address.
    PermissionDenied,
    /// This parent already has its child.
    AlreadyConnected,
    /// The process was forked while this duct was in the middle of a message, which only the
    /// process that began it can finish.
    Forked,
    /// The operation was begun inside another one of the same direction, on the same duct and
    /// thread: by a signal handler, say. It could never have its turn. Nothing was lost.
    Reentered,
    /// The other end has not received everything; see [`Error::unreceived`].
    Undrained,
    /// Any other failure of the operating system; see [`Error::raw_os_error`].
    Io,
}

/// Everything that can go wrong in this crate: a [kind](ErrorKind) and a text for people.
///
/// The text says what was expected, what came, and, where it can, what to do.
///
/// ```
/// use ductworks::ErrorKind;
///
/// let (a, b) = ductworks::pair()?;
/// drop(b);
/// let error = a.recv::<String>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Disconnected);
/// # Ok::<(), ductworks::Error>(())
/// ```
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    os: Option<i32>,
    unreceived: Option<u64>,
    source: Option<Source>,
}

impl Error {
    /// The error with which a caller of the [engine](crate::engine) refuses a message that it was
    /// asked about.
    ///
    /// ```
    /// use ductworks::{Error, ErrorKind};
    ///
    /// assert_eq!(Error::refusal(ErrorKind::BufferTooSmall).kind(), ErrorKind::BufferTooSmall);
    /// ```
    #[must_use]
    pub fn refusal(kind: ErrorKind) -> Self {
        let text = match kind {
            ErrorKind::Closed => "this end has been closed",
            _ => "the caller refused the message",
        };
        Self::new(kind, text)
    }

    /// The error for a message that does not fit into a buffer, sizes in bytes.
    ///
    /// ```
    /// let error = ductworks::Error::too_small(10, 4);
    /// assert!(error.to_string().contains("10 bytes"));
    /// ```
    #[must_use]
    pub fn too_small(message: usize, room: usize) -> Self {
        let text = format!("the message has {message} bytes, and the buffer has room for {room}");
        Self::new(ErrorKind::BufferTooSmall, text)
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            os: None,
            unreceived: None,
            source: None,
        }
    }

    /// A failure of a system call; `doing` completes the sentence "could not ...".
    pub(crate) fn os(doing: impl fmt::Display, error: impl Into<io::Error>) -> Self {
        let error: io::Error = error.into();
        // A stream may have had more to say.
        let error = match error.downcast::<Self>() {
            Ok(own) => return own,
            Err(error) => error,
        };
        let os = error.raw_os_error();
        let message = format!("could not {doing}: {error}").into();
        Self {
            kind: ErrorKind::Io,
            message,
            os,
            unreceived: None,
            // An error without a number carries what a stream's or hook's author put in.
            source: match os {
                Some(_) => None,
                None => error.into_inner(),
            },
        }
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn with_advice(mut self, advice: &str) -> Self {
        self.message = format!("{}; {advice}", self.message).into();
        self
    }

    pub(crate) fn with_unreceived(mut self, messages: u64) -> Self {
        self.unreceived = Some(messages);
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The class of the error.
    ///
    /// ```
    /// # use ductworks::{Address, ErrorKind};
    /// let error = "carrier-pigeon:coop".parse::<Address>().unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::InvalidAddress);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The error number of the operating system (`errno`), where one was the cause.
    ///
    /// ```
    /// # use ductworks::Listener;
    /// let error = Listener::bind("unix:/does/not/exist/duct").unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(2)); // ENOENT
    /// ```
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.os
    }

    /// How many messages the other end had not received when waiting for that was
    /// [in vain](ErrorKind::Undrained): so many at most, and maybe fewer.
    ///
    /// ```
    /// # use std::time::Duration;
    /// let (a, _b) = ductworks::pair()?;
    /// a.send("nobody receives this")?;
    /// let error = a.drain(Duration::ZERO).unwrap_err();
    /// assert_eq!(error.unreceived(), Some(1));
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn unreceived(&self) -> Option<u64> {
        self.unreceived
    }

    /// Takes out the error that a codec, a stream or a hook of the caller raised, if one was the
    /// cause.
    ///
    /// ```
    /// # let (a, b) = ductworks::pair()?;
    /// a.send_bytes(b"not JSON")?;
    /// let error = b.recv::<u32>().unwrap_err();
    /// let source = error.into_source().expect("the codec's own error");
    /// assert!(source.is::<serde_json::Error>());
    /// # Ok::<(), ductworks::Error>(())
    /// ```
    #[must_use]
    pub fn into_source(self) -> Option<Box<dyn StdError + Send + Sync + 'static>> {
        self.source
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("kind", &self.kind)
            .field("message", &self.message);
        if let Some(os) = &self.os {
            out.field("os", os);
        }
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        use io::ErrorKind as Io;
        let kind = match error.kind {
            ErrorKind::Closed => Io::NotConnected,
            ErrorKind::Disconnected | ErrorKind::PeerDied | ErrorKind::Truncated => {
                Io::UnexpectedEof
            }
            ErrorKind::Reset => Io::ConnectionReset,
            ErrorKind::TimedOut | ErrorKind::Undrained => Io::TimedOut,
            ErrorKind::WouldBlock => Io::WouldBlock,
            ErrorKind::Interrupted => Io::Interrupted,
            ErrorKind::TooLarge | ErrorKind::Protocol | ErrorKind::Encode | ErrorKind::Decode => {
                Io::InvalidData
            }
            ErrorKind::BufferTooSmall
            | ErrorKind::InvalidAddress
            | ErrorKind::InvalidInput
            | ErrorKind::AlreadyConnected => Io::InvalidInput,
            ErrorKind::Unreachable => Io::ConnectionRefused,
            ErrorKind::PermissionDenied => Io::PermissionDenied,
            ErrorKind::Forked | ErrorKind::Reentered => Io::Other,
            ErrorKind::Io => error
                .os
                .map_or(Io::Other, |os| io::Error::from_raw_os_error(os).kind()),
        };
        io::Error::new(kind, error)
    }
}
