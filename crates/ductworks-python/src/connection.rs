//! The connection of `multiprocessing`: its semantics on this package's engine.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use ductworks::engine::{Announced, Deadline, Mark, Wait};
use ductworks::wire::{Body, Multiprocessing, Pipe};
use ductworks::{Error, ErrorKind};
use pyo3::exceptions::{PyEOFError, PyOSError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyMemoryView, PyType};

use crate::buffer::{Part, Place, section};
use crate::end::End;
use crate::error::raised;
use crate::hook::{blocking, deadline};
use crate::memory::{LARGE, Memory};
use crate::pickle;
use crate::socket::take_over;
use crate::stats::Stats;

/// The base of `ductworks.connection.Connection`.
#[pyclass(frozen, subclass, module = "ductworks._native")]
pub(crate) struct Connection {
    end: Either,
    readable: AtomicBool,
    writable: bool,
    /// A reset of the connection has been told.
    reset: AtomicBool,
}

/// An end of a `Pipe`, or of whatever speaks multiprocessing's wire.
enum Either {
    Pipe(End<Pipe>),
    Stock(End<Multiprocessing>),
}

macro_rules! with {
    ($either:expr, $end:ident => $use:expr) => {
        match &$either {
            Either::Pipe($end) => $use,
            Either::Stock($end) => $use,
        }
    };
}

#[pymethods]
impl Connection {
    /// Takes over a descriptor: its number, or a socket of this module.
    #[new]
    #[pyo3(signature = (handle, readable = true, writable = true))]
    fn new(handle: &Bound<'_, PyAny>, readable: bool, writable: bool) -> PyResult<Self> {
        if !readable && !writable {
            return Err(PyValueError::new_err(
                "at least one of `readable` and `writable` must be True",
            ));
        }
        let descriptor = take_over(handle)?;
        let end = match Mark::of(&descriptor) {
            Some(Mark::Pipe) => Either::Pipe(End::new(descriptor, Pipe, usize::MAX)),
            _ => Either::Stock(End::new(descriptor, Multiprocessing, usize::MAX)),
        };
        Ok(Self {
            end,
            readable: AtomicBool::new(readable),
            writable,
            reset: AtomicBool::new(false),
        })
    }

    /// Whether this end has been closed.
    #[getter]
    fn closed(&self) -> bool {
        with!(self.end, end => end.is_closed())
    }

    /// Whether this end may receive.
    #[getter]
    fn readable(&self) -> bool {
        self.readable.load(Ordering::Relaxed)
    }

    /// Whether this end may send.
    #[getter]
    fn writable(&self) -> bool {
        self.writable
    }

    /// The descriptor, for event loops: it is readable whenever a message waits.
    fn fileno(&self) -> PyResult<RawFd> {
        with!(self.end, end => end.fileno()).ok_or_else(handle_is_closed)
    }

    /// Close this end. Whoever waits in it fails with OSError. Closing again does nothing.
    fn close(&self, py: Python<'_>) {
        py.detach(|| with!(self.end, end => end.close()));
    }

    /// Send an object: its pickle.
    fn send(&self, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        self.may_write()?;
        let parts = pickle::encode(obj, matches!(self.end, Either::Pipe(_)))?;
        self.send_parts(obj.py(), &parts)
    }

    /// Receive an object, waiting for it.
    fn recv<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.may_read()?;
        let memory = |message: Announced| {
            let at_once = message.len > LARGE && message.is_new();
            Ok(at_once.then(|| Python::attach(Memory::array)))
        };
        let message = self.receive(py, memory)?;
        let (value, memory) = pickle::decode(py, message);
        with!(self.end, end => end.recycle(memory));
        value
    }

    /// Send the bytes of a bytes-like object, or `size` bytes of it from `offset` on.
    #[pyo3(signature = (buf, offset = 0, size = None))]
    fn send_bytes(
        &self,
        buf: &Bound<'_, PyAny>,
        offset: isize,
        size: Option<isize>,
    ) -> PyResult<()> {
        self.may_write()?;
        let part = match (buf.cast::<PyBytes>(), offset, size) {
            (Ok(bytes), 0, None) => Part::Bytes(bytes.clone()),
            _ => range(buf, offset, size)?,
        };
        self.send_parts(buf.py(), &[part])
    }

    /// Receive the bytes of a message, waiting for it.
    #[pyo3(signature = (maxlength = None))]
    fn recv_bytes<'py>(
        &self,
        py: Python<'py>,
        maxlength: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.may_read()?;
        let most = match maxlength {
            None => usize::MAX,
            Some(most) if most.lt(0)? => {
                return Err(PyValueError::new_err("negative maxlength"));
            }
            // No message is longer than what a usize can hold.
            Some(most) => most.extract().unwrap_or(usize::MAX),
        };
        let memory = |message: Announced| {
            if message.len > most {
                return Err(Error::refusal(ErrorKind::BufferTooSmall));
            }
            let at_once = message.len > LARGE && message.is_new();
            Ok(at_once.then(|| Memory::bytes(message.len)))
        };
        let (bytes, memory) = self.receive(py, memory)?.into_bytes(py);
        with!(self.end, end => end.recycle(memory));
        Ok(bytes)
    }

    /// Receive the bytes of a message into a writable buffer, from `offset` bytes on, and return
    /// their number.
    #[pyo3(signature = (buf, offset = 0))]
    fn recv_bytes_into<'py>(
        &self,
        py: Python<'py>,
        buf: &Bound<'py, PyAny>,
        offset: isize,
    ) -> PyResult<usize> {
        self.may_read()?;
        let place = Place::of(buf)?;
        let offset =
            usize::try_from(offset).map_err(|_| PyValueError::new_err("negative offset"))?;
        let Some(room) = place.len.checked_sub(offset) else {
            return Err(PyValueError::new_err("offset too large"));
        };
        // The first whole item behind the offset is where multiprocessing begins, too.
        let start = offset - offset % place.itemsize.max(1);
        let memory = |message: Announced| match message.len <= room {
            true => place.lend(start).map(Some),
            false => Ok(message.is_new().then(|| Memory::bytes(message.len))),
        };
        match self.receive(py, memory)? {
            message @ Memory::Place(_) => Ok(message.len()),
            other => Err(too_short(other.into_bytes(py).0)),
        }
    }

    /// Whether something can be received, waiting up to `timeout` seconds for it; None waits for
    /// ever. True at the end, too.
    #[pyo3(signature = (timeout = Some(0.0)), text_signature = "($self, timeout=0.0)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.may_read()?;
        let until = deadline(timeout.map(|seconds| seconds.max(0.0)))?;
        let now = &mut Wait::until(Deadline::Now);
        let wait_readable = |wait: &mut Wait<'_>| with!(self.end, end => end.wait_readable(wait));
        let outcome = match wait_readable(now) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && until != Deadline::Now => {
                blocking(py, until, wait_readable)
            }
            outcome => outcome,
        };
        match outcome {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Ok(false),
                ErrorKind::Disconnected | ErrorKind::Reset => Ok(true),
                _ => Err(self.failed(py, error)),
            },
        }
    }

    /// What has gone through this end, counted in this process.
    fn stats(&self) -> Stats {
        with!(self.end, end => end.channel.stats()).into()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyAny>) {
        self.close(py);
    }
}

impl Connection {
    fn may_read(&self) -> PyResult<()> {
        match (self.closed(), self.readable()) {
            (true, _) => Err(handle_is_closed()),
            (_, false) => Err(PyOSError::new_err("connection is write-only")),
            _ => Ok(()),
        }
    }

    fn may_write(&self) -> PyResult<()> {
        match (self.closed(), self.writable) {
            (true, _) => Err(handle_is_closed()),
            (_, false) => Err(PyOSError::new_err("connection is read-only")),
            _ => Ok(()),
        }
    }

    fn send_parts(&self, py: Python<'_>, parts: &[Part<'_>]) -> PyResult<()> {
        let outcome = with!(self.end, end => end.send(py, parts, Deadline::Never));
        outcome.map_err(|error| self.failed(py, error))
    }

    fn receive(
        &self,
        py: Python<'_>,
        memory: impl Fn(Announced) -> ductworks::Result<Option<Memory>> + Send + Sync,
    ) -> PyResult<Memory> {
        let outcome = with!(self.end, end => end.receive(py, memory, Deadline::Never));
        outcome.map_err(|error| self.failed(py, error))
    }

    /// The exception that multiprocessing raises for the same.
    fn failed(&self, py: Python<'_>, error: Error) -> PyErr {
        if with!(self.end, end => end.channel.violation().is_some()) {
            self.close(py);
        }
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::Closed, _) => handle_is_closed(),
            (ErrorKind::Disconnected, None) => PyEOFError::new_err(()),
            (ErrorKind::Truncated, _) => PyOSError::new_err("got end of file during message"),
            (ErrorKind::BufferTooSmall, _) => {
                // The message is left there, so there is nothing more to be received.
                match self.writable {
                    true => self.readable.store(false, Ordering::Relaxed),
                    false => self.close(py),
                }
                PyOSError::new_err("bad message length")
            }
            (ErrorKind::Protocol | ErrorKind::Forked, _) => PyOSError::new_err(error.to_string()),
            // The system tells of a reset once, and from then on of the end.
            (ErrorKind::Reset, _) if self.reset.swap(true, Ordering::Relaxed) => {
                PyEOFError::new_err(())
            }
            (_, Some(number)) => system_error(py, number),
            _ => raised(py, error),
        }
    }
}

fn handle_is_closed() -> PyErr {
    PyOSError::new_err("handle is closed")
}

/// An error of the system's, with its own text and nothing else, as multiprocessing has it.
fn system_error(py: Python<'_>, number: i32) -> PyErr {
    let text = py
        .import("os")
        .and_then(|os| os.call_method1("strerror", (number,)))
        .map(Bound::unbind);
    match text {
        Ok(text) => PyOSError::new_err((number, text)),
        Err(error) => error,
    }
}

fn too_short(message: Bound<'_, PyBytes>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(message.py(), "multiprocessing", "BufferTooShort") {
        Ok(class) => PyErr::from_type(class.clone(), (message.unbind(),)),
        Err(error) => error,
    }
}

/// So many bytes of a bytes-like object.
fn range<'py>(buf: &Bound<'py, PyAny>, offset: isize, size: Option<isize>) -> PyResult<Part<'py>> {
    let py = buf.py();
    let mut view = PyMemoryView::from(buf)?.into_any();
    if view.getattr(intern!(py, "itemsize"))?.gt(1)? {
        view = view.call_method1(intern!(py, "cast"), ("B",))?;
    }
    let len: isize = view.getattr(intern!(py, "nbytes"))?.extract()?;
    let refuse = |why| Err(PyValueError::new_err(why));
    if offset < 0 {
        return refuse("offset is negative");
    }
    if len < offset {
        return refuse("buffer length < offset");
    }
    let end = match size {
        None => len,
        Some(size) if size < 0 => return refuse("size is negative"),
        Some(size) => match offset.checked_add(size) {
            Some(end) if end <= len => end,
            _ => return refuse("buffer length < offset + size"),
        },
    };
    Part::of_view(section(&view, offset, end)?.cast()?)
}
