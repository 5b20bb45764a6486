//! Coming by the connections of ducts: listening, and connecting.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use ductworks::engine::{Door, Refusal, Wait, Wire};
use ductworks::{Address, ConnectOptions, ErrorKind, ListenOptions, Ticket};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use rustix::io::Errno;

use crate::error::raised;
use crate::hook::{Signals, blocking, deadline};
use crate::listener::{failed, patience};
use crate::message::message_limit;
use crate::socket::Socket;
use crate::tls;

/// Accepts connections at one address, from whoever proves to know its token.
#[pyclass(frozen, module = "ductworks._native")]
pub(crate) struct DuctListener(ductworks::Listener);

#[pymethods]
impl DuctListener {
    /// Listens at an address, or at a private one.
    #[new]
    #[pyo3(signature = (
        address, *, backlog, insecure, v1, reusable, handshake_timeout, limit, keepalive, codec,
        certfile, keyfile, cafile, token, advertise
    ))]
    #[expect(clippy::too_many_arguments, reason = "they have names in Python")]
    fn new(
        py: Python<'_>,
        address: Option<&str>,
        backlog: i64,
        insecure: bool,
        v1: bool,
        reusable: bool,
        handshake_timeout: f64,
        limit: i128,
        keepalive: Option<f64>,
        codec: &str,
        certfile: Option<PathBuf>,
        keyfile: Option<PathBuf>,
        cafile: Option<PathBuf>,
        token: bool,
        advertise: Option<&str>,
    ) -> PyResult<Self> {
        // The system has its own bounds, and takes the nearest.
        let backlog = u16::try_from(backlog.max(0)).unwrap_or(u16::MAX);
        let mut options = ListenOptions::new()
            .backlog(backlog)
            .insecure_network(insecure)
            .v1(v1)
            .reusable(reusable)
            .handshake_timeout(patience(handshake_timeout)?)
            .message_limit(message_limit(limit)?)
            .codec_name(codec)
            .without_token(!token);
        if let Some(seconds) = keepalive {
            options = options.keepalive(keepalive_of(seconds)?);
        }
        if let Some(identity) = tls::identity(py, certfile, keyfile)? {
            options = options.identity(identity);
        }
        if let Some(roots) = tls::roots(py, cafile)? {
            options = options.client_roots(roots);
        }
        if let Some(host) = advertise {
            options = options.advertise(host);
        }
        let listener = py.detach(|| match address {
            Some(address) => options.bind(address),
            None => options.bind_private(),
        });
        let listener = listener.map_err(|error| failed(py, error))?;
        Ok(Self(listener.with_log(tell)))
    }

    /// Where to connect.
    #[getter]
    fn address(&self) -> String {
        self.0.address().to_string()
    }

    /// What the next child needs to be let in.
    #[getter]
    fn ticket(&self) -> String {
        self.0.ticket().to_string()
    }

    /// Whether it has been closed.
    #[getter]
    fn closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Waits for somebody who may come in.
    #[pyo3(signature = (timeout = None))]
    fn accept(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Socket> {
        let until = deadline(timeout)?;
        let admitted = blocking(py, until, |wait| self.0.accept_admitted(wait));
        admitted
            .and_then(Socket::admitted)
            .map_err(|error| failed(py, error))
    }

    /// The descriptor, readable when there is reason to accept; -1 when it has been closed.
    fn fileno(&self) -> RawFd {
        match self.0.is_closed() {
            true => -1,
            false => self.0.as_fd().as_raw_fd(),
        }
    }

    /// Stops listening and removes the name. Whoever waits in `accept` fails.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }
}

/// Connects with a ticket, or to an address that asks for none.
#[pyfunction]
#[pyo3(signature = (
    ticket, *, timeout, v1, handshake_timeout, limit, keepalive, codec, certfile, keyfile, cafile
))]
#[expect(clippy::too_many_arguments, reason = "they have names in Python")]
pub(crate) fn connect_duct(
    py: Python<'_>,
    ticket: &str,
    timeout: Option<f64>,
    v1: bool,
    handshake_timeout: f64,
    limit: i128,
    keepalive: Option<f64>,
    codec: &str,
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
    cafile: Option<PathBuf>,
) -> PyResult<Socket> {
    let until = deadline(timeout)?;
    let ticket: Ticket = ticket.parse().map_err(|error| failed(py, error))?;
    let mut options = ConnectOptions::new()
        .v1(v1)
        .handshake_timeout(patience(handshake_timeout)?)
        .message_limit(message_limit(limit)?)
        .codec_name(codec);
    if let Some(seconds) = keepalive {
        options = options.keepalive(keepalive_of(seconds)?);
    }
    if let Some(identity) = tls::identity(py, certfile, keyfile)? {
        options = options.identity(identity);
    }
    if let Some(roots) = tls::roots(py, cafile)? {
        options = options.roots(roots);
    }
    let connected = py.detach(|| {
        let mut signals = Signals;
        let wait = &mut Wait::hooked(until, &mut signals);
        let admitted = options.connect_admitted(&ticket, wait)?;
        Socket::admitted(admitted)
    });
    connected.map_err(|error| match error.kind() {
        // Not a timeout of the caller's, nor an end of messages: there never was a duct.
        ErrorKind::Disconnected | ErrorKind::Truncated | ErrorKind::PeerDied => {
            let number = Errno::CONNRESET.raw_os_error();
            PyOSError::new_err((number, error.to_string()))
        }
        ErrorKind::Reset => raised(py, error),
        _ => failed(py, error),
    })
}

/// A keepalive as Python programs give it. One that is too short is refused by the engine.
pub(crate) fn keepalive_of(seconds: f64) -> PyResult<Duration> {
    match seconds.is_nan() || seconds < 0.0 {
        true => Err(PyValueError::new_err(format!(
            "expected a keepalive of at least a second, got {seconds}"
        ))),
        false => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)),
    }
}

/// The address without the secret of a ticket.
#[pyfunction]
pub(crate) fn address_of(py: Python<'_>, ticket: &str) -> PyResult<String> {
    let ticket: Ticket = ticket.parse().map_err(|error| failed(py, error))?;
    Ok(ticket.address().to_string())
}

/// Whether a text is a ticket with a token, perhaps with a slip in it.
#[pyfunction]
pub(crate) fn is_ticket(text: &str) -> bool {
    ductworks::engine::is_ticket(text)
}

/// A text about an address without what may be a secret.
#[pyfunction]
pub(crate) fn masked(text: &str) -> String {
    ductworks::engine::masked(text)
}

/// Lets the program know of somebody who was refused, through its own logging.
pub(crate) fn tell(refusal: &Refusal) {
    Python::attach(|py| {
        let log = || -> PyResult<()> {
            let logger = py
                .import("logging")?
                .call_method1("getLogger", ("ductworks",))?;
            let arguments = ("refused %s: %s", &refusal.peer, &refusal.reason);
            logger.call_method1("warning", arguments).map(drop)
        };
        if let Err(error) = log() {
            error.write_unraisable(py, None);
        }
    });
}

/// The second name of a parent of the original's API, at which version 2 is spoken.
#[pyclass(frozen, module = "ductworks._native")]
pub(crate) struct SecondDoor(pub(crate) Door);

#[pymethods]
impl SecondDoor {
    /// Listens beside a path. None where that cannot be: the path is too long for another name, or
    /// the name is left of somebody who is gone. Those who know version 2 find out.
    #[staticmethod]
    fn beside(py: Python<'_>, path: &str, backlog: u16) -> PyResult<Option<Self>> {
        let Ok(address) = Address::unix(path) else {
            return Ok(None); // Its own binding will tell what is wrong with it.
        };
        match Door::bind(&address, &[Wire::V2], backlog, false) {
            Ok(door) => Ok(Some(Self(door))),
            Err(error) if error.kind() == ErrorKind::InvalidAddress => Ok(None),
            Err(error) => match Door::is_abandoned(&address, Wire::V2) {
                true => Ok(None),
                false => Err(failed(py, error)),
            },
        }
    }

    /// Stops listening and removes the name.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.0.close());
    }

    fn fileno(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Connects to a path: a socket and the version of the protocol that is spoken over it. One attempt,
/// which does not wait.
#[pyfunction]
pub(crate) fn connect_either(py: Python<'_>, path: &str) -> PyResult<(Socket, u8)> {
    let connected = ductworks::engine::connect_either(path.as_ref());
    let (socket, wire) = connected.map_err(|error| failed(py, error))?;
    let protocol = match wire {
        Wire::Plain => 1,
        Wire::V2 => 2,
    };
    Ok((Socket::new(socket), protocol))
}
