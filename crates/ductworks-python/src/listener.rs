//! Coming by the connections of multiprocessing: listening, and connecting.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use ductworks::engine::{Connection, Deadline, Door, Lobby, Wait, Wire, greet};
use ductworks::wire::Challenge;
use ductworks::{Address, ConnectOptions, Error, ErrorKind};
use pyo3::exceptions::{PyEOFError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

use crate::error::raised;
use crate::hook::{Signals, blocking, deadline};
use crate::rendezvous::tell;
use crate::socket::Socket;

/// Accepts connected sockets at one address, after the authentication of `multiprocessing` where there
/// is a key.
#[pyclass(frozen, module = "ductworks._native")]
pub(crate) struct Listener {
    door: Door,
    lobby: Option<Lobby<Challenge>>,
}

#[pymethods]
impl Listener {
    /// Listens at an address, or at a private one.
    #[new]
    #[pyo3(signature = (
        address = None, *, backlog = 128, insecure = false, authkey = None, handshake_timeout = 10.0
    ))]
    fn new(
        py: Python<'_>,
        address: Option<&str>,
        backlog: i64,
        insecure: bool,
        authkey: Option<&Bound<'_, PyBytes>>,
        handshake_timeout: f64,
    ) -> PyResult<Self> {
        // The system has its own bounds, and takes the nearest.
        let backlog = u16::try_from(backlog.max(0)).unwrap_or(u16::MAX);
        let wires = &[Wire::Plain];
        let door = py.detach(|| match address {
            Some(address) => Door::bind(&address.parse()?, wires, backlog, insecure),
            None => Door::bind_private(wires, backlog),
        });
        let lobby = authkey.map(|key| -> PyResult<_> {
            let key = key.as_bytes().to_vec();
            let make = move || Challenge::nonce().map(|nonce| Challenge::listener(&key, nonce));
            Ok(Lobby::new(Wire::Plain, patience(handshake_timeout)?, make).with_log(tell))
        });
        Ok(Self {
            door: door.map_err(|error| failed(py, error))?,
            lobby: lobby.transpose()?,
        })
    }

    /// Where to connect.
    #[getter]
    fn address(&self) -> String {
        self.door.address().to_string()
    }

    /// Whether it has been closed.
    #[getter]
    fn closed(&self) -> bool {
        self.door.is_closed()
    }

    /// Waits for somebody to connect, and to prove that they know the key if there is one. Those who
    /// do not are turned away, and waiting goes on.
    #[pyo3(signature = (timeout = None))]
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Socket> {
        let until = deadline(timeout)?;
        let accepted = blocking(py, until, |wait| match &self.lobby {
            Some(lobby) => lobby
                .accept(&self.door, wait)
                .map(|admitted| admitted.connection),
            None => self.door.accept(wait).map(Connection::from),
        });
        accepted.map(Socket::new).map_err(|error| failed(py, error))
    }

    /// The descriptor, readable when somebody waits to be accepted; -1 when it has been closed.
    fn fileno(&self) -> RawFd {
        match self.door.is_closed() {
            true => -1,
            false => self.door.as_fd().as_raw_fd(),
        }
    }

    /// Stops listening and removes the name. Whoever waits in `accept` fails.
    fn close(&self, py: Python<'_>) {
        py.detach(|| {
            self.door.close();
            if let Some(lobby) = &self.lobby {
                lobby.close();
            }
        });
    }
}

/// Connects to an address, and proves to know the key if there is one.
#[pyfunction]
#[pyo3(signature = (address, *, timeout, retry = true, authkey = None, handshake_timeout = 10.0))]
pub(crate) fn connect(
    py: Python<'_>,
    address: &str,
    timeout: Option<f64>,
    retry: bool,
    authkey: Option<&Bound<'_, PyBytes>>,
    handshake_timeout: f64,
) -> PyResult<Socket> {
    let until = deadline(timeout)?;
    let patience = patience(handshake_timeout)?;
    let key = authkey.map(|key| key.as_bytes().to_vec());
    py.detach(|| {
        let mut signals = Signals;
        let socket = address.parse::<Address>().and_then(|address| {
            let wait = &mut Wait::hooked(until, &mut signals);
            ConnectOptions::new()
                .retry(retry)
                .connect_socket(&address, wait)
        });
        let socket = socket.map_err(|error| (failed as Raise, error))?;
        let connection = Connection::from(socket);
        if let Some(key) = key {
            let wait = &mut Wait::hooked(Deadline::after(patience), &mut signals);
            Challenge::nonce()
                .and_then(|nonce| greet(&connection, Challenge::client(&key, nonce), wait))
                .map_err(|error| (greeting_failed as Raise, error))?;
        }
        Ok(Socket::new(connection))
    })
    .map_err(|(raise, error): (Raise, Error)| raise(py, error))
}

type Raise = fn(Python<'_>, Error) -> PyErr;

pub(crate) fn patience(seconds: f64) -> PyResult<Duration> {
    match deadline(Some(seconds))? {
        Deadline::Now => Ok(Duration::ZERO),
        _ => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
    }
}

pub(crate) fn failed(py: Python<'_>, error: Error) -> PyErr {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => PyTimeoutError::new_err(error.to_string()),
        ErrorKind::InvalidAddress => PyValueError::new_err(error.to_string()),
        _ => raised(py, error),
    }
}

/// The exception that multiprocessing raises for the same.
fn greeting_failed(py: Python<'_>, error: Error) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let is_refusal = matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::TooLarge | ErrorKind::Protocol
    );
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::Truncated if error.raw_os_error().is_none() => {
            PyEOFError::new_err(())
        }
        _ if is_refusal => match CLASS.import(py, "multiprocessing", "AuthenticationError") {
            Ok(class) => PyErr::from_type(class.clone(), (error.to_string(),)),
            Err(error) => error,
        },
        _ => failed(py, error),
    }
}
