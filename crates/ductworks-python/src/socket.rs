//! A connected socket on its way to the object that will use it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use ductworks::engine::{self, Admitted, Connection, Link, Mark};
use ductworks::wire::{Greeting, Terms, Version};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use rustix::net::sockopt;

use crate::error::raised;

/// An owned connection, which whoever takes it over empties. What is left in it is closed with it.
#[pyclass(frozen, module = "ductworks._native")]
pub(crate) struct Socket {
    slot: Mutex<Option<Connection>>,
    /// What a handshake has agreed on.
    terms: Option<Terms>,
    /// The version of the protocol, where that is known.
    pub(crate) version: Option<Version>,
}

impl Socket {
    pub(crate) fn new(connection: impl Into<Connection>) -> Self {
        Self {
            slot: Mutex::new(Some(connection.into())),
            terms: None,
            version: None,
        }
    }

    /// A connection that was let in, or has been.
    pub(crate) fn admitted(admitted: Admitted<Greeting>) -> ductworks::Result<Self> {
        let version = match admitted.handshake {
            Some(_) => Version::V2,
            None => Version::V1,
        };
        if version == Version::V2 {
            admitted.connection.mark(Mark::V2)?;
        }
        Ok(Self {
            terms: admitted.handshake.and_then(|greeting| greeting.agreed()),
            version: Some(version),
            ..Self::new(admitted.connection)
        })
    }

    /// What a handshake has agreed on.
    pub(crate) fn terms(&self) -> Option<&Terms> {
        self.terms.as_ref()
    }

    fn give(&self) -> PyResult<Connection> {
        self.take()
            .ok_or_else(|| PyValueError::new_err("the socket has been given away already"))
    }

    /// Hands the connection over.
    pub(crate) fn take(&self) -> Option<Connection> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()
    }
}

#[pymethods]
impl Socket {
    /// The number of the descriptor; -1 when it has been given away or closed.
    fn fileno(&self) -> RawFd {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref()
            .map_or(-1, |connection| connection.as_fd().as_raw_fd())
    }

    /// Gives the number of the descriptor away; -1 when that has been done before. With TLS the descriptor
    /// alone would be of no use.
    fn detach(&self) -> PyResult<RawFd> {
        match self.take().map(Connection::into_parts) {
            None => Ok(-1),
            Some((socket, None)) => Ok(socket.into_raw_fd()),
            Some((_, Some(_))) => Err(PyValueError::new_err("the connection is encrypted")),
        }
    }

    /// Closes the descriptor, if it is still here.
    fn close(&self) {
        drop(self.take());
    }
}

/// The two ends of a new pair of ducts.
#[pyfunction]
pub(crate) fn socket_pair(py: Python<'_>) -> PyResult<(Socket, Socket)> {
    marked_pair(py, Mark::V2)
}

/// The two ends of a new `Pipe`.
#[pyfunction]
pub(crate) fn pipe(py: Python<'_>) -> PyResult<(Socket, Socket)> {
    marked_pair(py, Mark::Pipe)
}

/// Two connected Unix sockets that say themselves what they are, however they get to another process.
fn marked_pair(py: Python<'_>, mark: Mark) -> PyResult<(Socket, Socket)> {
    let (a, b) = engine::socket_pair().map_err(|error| raised(py, error))?;
    for end in [&a, &b] {
        mark.put(end).map_err(|error| raised(py, error))?;
    }
    Ok((Socket::new(a), Socket::new(b)))
}

/// Takes over what a constructor was given: a [`Socket`], or the number of a descriptor, which from
/// now on belongs to the new object.
pub(crate) fn take_over(handle: &Bound<'_, PyAny>) -> PyResult<Connection> {
    match handle.cast::<Socket>() {
        Ok(socket) => socket.get().give(),
        // SAFETY: the caller of a constructor that takes a number gives the number up, as the class's
        // documentation says.
        Err(_) => Ok(unsafe { OwnedFd::from_raw_fd(number_of(handle)?) }.into()),
    }
}

/// The same for a constructor that takes connected stream sockets only. Until this has returned, a number is
/// the caller's, whatever fails; `prepare` does what else may fail.
pub(crate) fn take_over_stream(
    handle: &Bound<'_, PyAny>,
    prepare: impl FnOnce(Link<'_>) -> ductworks::Result<()>,
) -> PyResult<Connection> {
    if let Ok(socket) = handle.cast::<Socket>() {
        let connection = socket.get().give()?;
        prepare(connection.link()).map_err(|error| raised(handle.py(), error))?;
        return Ok(connection);
    }
    let number = number_of(handle)?;
    // SAFETY: the number is not negative, and is only looked at: one that is not open gives an error.
    let given = unsafe { BorrowedFd::borrow_raw(number) };
    engine::adopt(given)
        .and_then(|()| prepare(Link::new(given, None)))
        .map_err(|error| raised(handle.py(), error))?;
    // SAFETY: it is open, and the caller gives it up, as the class's documentation says.
    Ok(unsafe { OwnedFd::from_raw_fd(number) }.into())
}

/// The number that a constructor was given.
fn number_of(handle: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let index = handle.call_method0("__index__").map_err(|_| {
        PyTypeError::new_err(format!(
            "handle must be the number of a descriptor, not {}",
            handle.get_type()
        ))
    })?;
    let number: RawFd = index
        .extract()
        .map_err(|_| PyValueError::new_err("invalid handle"))?;
    match number < 0 {
        true => Err(PyValueError::new_err("invalid handle")),
        false => Ok(number),
    }
}

/// Whether a descriptor is a socket: other descriptors are read and written in other ways.
pub(crate) fn is_socket(descriptor: impl AsFd) -> bool {
    sockopt::socket_type(descriptor.as_fd()).is_ok()
}
