//! The modern duct: whole messages through a codec, with a timeout for every call.

use std::os::fd::{IntoRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use ductworks::engine::{Announced, DEFAULT_MESSAGE_LIMIT, Deadline, Mark, Wait};
use ductworks::wire::{Body, Version};
use ductworks::{Error, ErrorKind};
use pyo3::exceptions::{PyBlockingIOError, PyTimeoutError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};
use rustix::io::Errno;

use crate::buffer::{Part, Place, part};
use crate::codec::Codec;
use crate::descriptors;
use crate::end::End;
use crate::error::raised;
use crate::hook::{blocking, deadline};
use crate::message::message_limit;
use crate::rendezvous::keepalive_of;
use crate::socket::{Socket, take_over_stream};
use crate::stats::Stats;

/// The base of `ductworks.Duct`.
#[pyclass(frozen, subclass, module = "ductworks._native")]
pub(crate) struct Duct {
    end: End<Version>,
    codec: Codec,
    address: Option<String>,
    /// In seconds.
    keepalive: Option<f64>,
    /// The other end's messages have come to their end.
    ended: AtomicBool,
}

#[pymethods]
impl Duct {
    /// Takes over a connected socket: its number, or a socket of this module.
    #[new]
    #[pyo3(signature = (
        socket,
        codec,
        *,
        address = None,
        max_message_size = DEFAULT_MESSAGE_LIMIT as i128,
        protocol = None,
        keepalive = None
    ))]
    fn new(
        socket: &Bound<'_, PyAny>,
        codec: &Bound<'_, PyAny>,
        address: Option<String>,
        max_message_size: i128,
        protocol: Option<u8>,
        keepalive: Option<f64>,
    ) -> PyResult<Self> {
        let admitted = socket.cast::<Socket>().map(Bound::get).ok();
        let given = match protocol {
            None => admitted.and_then(|socket| socket.version),
            Some(1) => Some(Version::V1),
            Some(2) => Some(Version::V2),
            Some(other) => {
                let text = format!("protocol must be 1 or 2, got {other}");
                return Err(PyValueError::new_err(text));
            }
        };
        let codec = Codec::of(codec)?;
        let limit = message_limit(max_message_size)?;
        let patience = keepalive.map(keepalive_of).transpose()?;
        let connection = take_over_stream(socket, |link| {
            patience.map_or(Ok(()), |patience| link.set_keepalive(Some(patience)))
        })?;
        let is_marked = Mark::of(&connection) == Some(Mark::V2);
        let version = given.unwrap_or(match is_marked {
            true => Version::V2,
            false => Version::V1,
        });
        let end = End::new(connection, version, limit);
        if admitted.is_none() {
            end.channel.take_over();
        }
        // The mark is ours, and so are both ends.
        let mut takes_descriptors = is_marked;
        if let Some(terms) = admitted.and_then(Socket::terms) {
            end.channel.agree_on_limit(terms.limit);
            takes_descriptors = terms.descriptors;
        }
        end.channel.agree_on_descriptors(takes_descriptors);
        // The socket has it since before it was taken.
        end.channel.set_patience(patience);
        Ok(Self {
            codec,
            end,
            address,
            keepalive,
            ended: AtomicBool::new(false),
        })
    }

    /// `Duct[Sent, Received]`, for annotations.
    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let alias = class.py().import("types")?.getattr("GenericAlias")?;
        alias.call1((class, item))
    }

    /// Whether this end has been closed, by `close()` or because the other end broke the protocol.
    #[getter]
    fn closed(&self) -> bool {
        self.end.is_closed()
    }

    /// Where the duct was connected, as a string; None for one of a pair.
    #[getter]
    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The codec: the name of a built-in one, or an object with `encode` and `decode`.
    #[getter]
    fn codec<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let name = match &self.codec {
            Codec::Json => intern!(py, "json"),
            Codec::Pickle => intern!(py, "pickle"),
            Codec::Raw => intern!(py, "raw"),
            Codec::Object(codec) => return codec.bind(py).clone(),
        };
        name.clone().into_any()
    }

    /// The version of the protocol that is spoken: 1 is the original's.
    #[getter]
    fn protocol(&self) -> u8 {
        match self.end.channel.framing() {
            Version::V1 => 1,
            Version::V2 => 2,
        }
    }

    /// The largest message, in bytes, that may be sent or received.
    #[getter]
    fn max_message_size(&self) -> usize {
        self.end.channel.message_limit()
    }

    /// Within how many seconds, and one more, it notices that the other host is gone; None where that is
    /// left to the system.
    #[getter]
    fn keepalive(&self) -> Option<f64> {
        self.keepalive
    }

    /// The descriptor, for event loops: it is readable whenever a message waits.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        let closed = || self.failed(py, Error::refusal(ErrorKind::Closed));
        self.end.fileno().ok_or_else(closed)
    }

    /// Close this end. Whoever waits in it, and every later call, fails with DuctClosed. Closing
    /// again does nothing.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.end.close());
    }

    /// Give the descriptor up and return its number, for a child that is to inherit it, say. The other
    /// end does not notice, and this duct is closed. ValueError in the middle of a message.
    fn detach(&self, py: Python<'_>) -> PyResult<RawFd> {
        match py.detach(|| self.end.detach()) {
            Ok(Some(descriptor)) => Ok(descriptor.into_raw_fd()),
            Ok(None) => Err(self.failed(py, Error::refusal(ErrorKind::Closed))),
            Err(error) => Err(raised(py, error)),
        }
    }

    /// Notes that another process has been given a copy of this end.
    #[pyo3(name = "_share")]
    pub(crate) fn share(&self, py: Python<'_>) -> PyResult<()> {
        self.end
            .check_portable()
            .map_err(|error| raised(py, error))?;
        let shared = self.end.channel.share();
        shared.map_err(|error| raised(py, error))
    }

    /// Closes this end as its process ends, unless it is a forked copy that was never used.
    fn _leave(&self, py: Python<'_>) {
        if !self.end.channel.is_idle_copy() {
            py.detach(|| self.end.close());
        }
    }

    /// End the direction in which this end sends, once everything accepted has gone out. The other end
    /// receives all of it and then the end; this end can still receive.
    #[pyo3(signature = (timeout = None))]
    fn finish(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let until = deadline(timeout)?;
        let line = self.end.line();
        blocking(py, until, |wait| self.end.channel.finish(&line, wait))
            .map_err(|error| self.failed(py, error))
    }

    /// Wait until the other end has received everything that was sent. NotDrained, whose `unreceived`
    /// is how many messages it had not received at most, if the time is up or it is gone. ValueError
    /// where it speaks version 1 of the protocol, which has no word for this.
    ///
    /// Messages of the other direction are not received here meanwhile: where some may stand in front
    /// of the answer, another thread has to receive them. An end that has finished sending cannot answer.
    #[pyo3(signature = (timeout = None))]
    fn drain(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let until = deadline(timeout)?;
        let line = self.end.line();
        blocking(py, until, |wait| self.end.channel.drain(&line, wait))
            .map_err(|error| self.failed(py, error))
    }

    /// Send a value.
    #[pyo3(signature = (value, timeout = None))]
    fn send(&self, value: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let until = deadline(timeout)?;
        self.send_parts(value.py(), &self.codec.encode(value)?, until)
    }

    /// Receive a value, waiting for it.
    #[pyo3(signature = (timeout = None))]
    fn recv<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let until = deadline(timeout)?;
        self.receive_value(py, until)
            .map_err(|error| self.failed(py, error))?
    }

    /// Receive a value that is here already. BlockingIOError if there is no whole message.
    fn try_recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.receive_value(py, Deadline::Now) {
            Ok(value) => value,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(PyBlockingIOError::new_err(
                (Errno::AGAIN.raw_os_error(), "no whole message is here"),
            )),
            Err(error) => Err(self.failed(py, error)),
        }
    }

    /// Send the bytes of a bytes-like object, past the codec.
    #[pyo3(signature = (data, timeout = None))]
    fn send_bytes(&self, data: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let until = deadline(timeout)?;
        self.send_parts(data.py(), &[part(data, "data")?], until)
    }

    /// Receive the bytes of a message, past the codec.
    #[pyo3(signature = (timeout = None))]
    fn recv_bytes<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let until = deadline(timeout)?;
        let memory = |message: Announced| Ok(Codec::Raw.memory(message));
        let message = self
            .end
            .receive(py, memory, until)
            .map_err(|error| self.failed(py, error))?;
        let (bytes, memory) = message.into_bytes(py);
        self.end.recycle(memory);
        Ok(bytes)
    }

    /// Receive the bytes of a message into the beginning of a writable buffer, and return their
    /// number. A message that does not fit stays there, and BufferTooSmall is raised.
    #[pyo3(signature = (buffer, timeout = None))]
    fn recv_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<usize> {
        let until = deadline(timeout)?;
        let place = Place::of(buffer)?;
        let memory = |message: Announced| match message.len <= place.len {
            true => place.lend(0).map(Some),
            false => Err(Error::too_small(message.len, place.len)),
        };
        let message = self
            .end
            .receive(py, memory, until)
            .map_err(|error| self.failed(py, error))?;
        Ok(message.len())
    }

    /// Send a value, and open files, sockets or ducts with it.
    #[pyo3(signature = (value, fds, timeout = None))]
    fn send_fds(
        &self,
        value: &Bound<'_, PyAny>,
        fds: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let until = deadline(timeout)?;
        let descriptors = descriptors::copies(fds)?;
        let parts = self.codec.encode(value)?;
        let outcome = self.end.send_with(value.py(), &parts, descriptors, until);
        outcome.map_err(|error| self.failed(value.py(), error))
    }

    /// Receive a value, and the numbers of the descriptors that came with it.
    #[pyo3(signature = (timeout = None))]
    fn recv_fds<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<f64>,
    ) -> PyResult<(Bound<'py, PyAny>, Vec<RawFd>)> {
        let until = deadline(timeout)?;
        let memory = |message: Announced| Ok(self.codec.memory(message));
        let received = self.end.receive_with(py, memory, until);
        let (message, descriptors) = received.map_err(|error| self.failed(py, error))?;
        let (value, memory) = self.codec.decode(py, message);
        self.end.recycle(memory);
        // Where the value cannot be decoded, they are closed.
        let value = value?;
        let numbers = descriptors.into_iter().map(IntoRawFd::into_raw_fd);
        Ok((value, numbers.collect()))
    }

    /// Whether a receive would return at once, with a whole message or an error, waiting up to
    /// `timeout` seconds for it; None waits for ever.
    #[pyo3(signature = (timeout = Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let until = deadline(timeout)?;
        let (channel, line) = (&self.end.channel, self.end.line());
        let outcome = match channel.poll(&line, &mut Wait::until(Deadline::Now)) {
            Ok(false) if until != Deadline::Now => {
                blocking(py, until, |wait| channel.poll(&line, wait))
            }
            outcome => outcome,
        };
        outcome.map_err(|error| self.failed(py, error))
    }

    /// What has gone through this end, counted in this process.
    fn stats(&self) -> Stats {
        self.end.channel.stats().into()
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// The next message, until the other end has closed.
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.receive_value(py, Deadline::Never) {
            Ok(value) => value.map(Some),
            Err(error) if error.kind() == ErrorKind::Disconnected => {
                self.ended.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(self.failed(py, error)),
        }
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let codec = match &self.codec {
            Codec::Object(codec) => match codec.bind(py).getattr_opt("name")? {
                Some(name) => name.str()?.to_string(),
                None => codec.bind(py).get_type().name()?.to_string(),
            },
            _ => self.codec(py).to_string(),
        };
        let state = match self.end.fileno() {
            None => "closed".into(),
            Some(number) if self.ended.load(Ordering::Relaxed) => format!("ended, fd {number}"),
            Some(number) => format!("open, fd {number}"),
        };
        let address = self.address.as_deref().unwrap_or("pair");
        Ok(format!("<ductworks.Duct {address}, {codec}, {state}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.codec {
            Codec::Object(codec) => visit.call(codec),
            _ => Ok(()),
        }
    }
}

impl Duct {
    fn send_parts(&self, py: Python<'_>, parts: &[Part<'_>], until: Deadline) -> PyResult<()> {
        let outcome = self.end.send(py, parts, until);
        outcome.map_err(|error| self.failed(py, error))
    }

    fn receive_value<'py>(
        &self,
        py: Python<'py>,
        until: Deadline,
    ) -> ductworks::Result<PyResult<Bound<'py, PyAny>>> {
        let memory = |message: Announced| Ok(self.codec.memory(message));
        let message = self.end.receive(py, memory, until)?;
        let (value, memory) = self.codec.decode(py, message);
        self.end.recycle(memory);
        Ok(value)
    }

    fn failed(&self, py: Python<'_>, error: Error) -> PyErr {
        if self.end.channel.violation().is_some() {
            self.end.close();
        }
        match error.kind() {
            ErrorKind::Disconnected if error.raw_os_error().is_none() => {
                self.ended.store(true, Ordering::Relaxed);
                raised(py, error)
            }
            ErrorKind::TimedOut => PyTimeoutError::new_err(error.to_string()),
            ErrorKind::WouldBlock => {
                PyTimeoutError::new_err("timed out: nothing could be done at once")
            }
            _ => raised(py, error),
        }
    }
}
