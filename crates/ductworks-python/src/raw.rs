//! The raw duct: one end of a byte stream, under the message duct or by itself.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ductworks::ErrorKind;
use ductworks::engine::{
    self, Channel, Deadline, Door, Gate, Interest, Mark, Socket, Stream, Wait,
};
use ductworks::wire::Version;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyConnectionAbortedError, PyOSError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{IntoPyDict, PyBytes, PyType};
use pyo3::{PyTypeInfo, intern};
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, sockopt};

use crate::buffer::beginning;
use crate::error::{is_timeout, local_fault, not_connected, raised};
use crate::hook::{blocking, deadline};
use crate::memory::Memory;
use crate::rendezvous::SecondDoor;

/// The base of the package's raw ducts. It sends and receives; its subclasses say how the socket
/// comes to be and to its end.
#[pyclass(frozen, subclass, module = "ductworks._native")]
pub(crate) struct RawDuct {
    link: Mutex<Option<Arc<Link>>>,
    /// What a thread that waits for a connection waits at.
    listening: Mutex<Arc<Gate>>,
}

/// One connection of a raw duct.
pub(crate) struct Link {
    pub(crate) channel: Channel<Version, Memory>,
    socket: Py<PyAny>,
    /// The descriptor, if the socket is an ordinary one and the duct's methods are those of this
    /// module, so that nobody can tell whether they are called.
    plain: Option<RawFd>,
}

impl Link {
    /// The socket as a native stream, if it is a plain one.
    pub(crate) fn stream(&self) -> Option<Socket<BorrowedFd<'_>>> {
        // SAFETY: the number is that of `self.socket`, which is alive and which this package closes
        // only after `Channel::close`, that is when no thread is inside a call on the stream.
        let borrow = |number| unsafe { BorrowedFd::borrow_raw(number) };
        self.plain.map(|number| Socket(borrow(number)))
    }

    /// How long one call may take, in seconds: the timeout of the socket.
    pub(crate) fn timeout(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        let socket = self.socket.bind(py);
        match self.plain {
            Some(_) => socket.getattr(intern!(py, "timeout"))?.extract(),
            None => socket.call_method0(intern!(py, "gettimeout"))?.extract(),
        }
    }

    /// Whether the number of its descriptor is still that of its socket.
    fn has_its_number(&self, py: Python<'_>) -> bool {
        let number = self.fileno(py).ok();
        self.plain.is_none_or(|plain| number == Some(plain))
    }

    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.socket
            .bind(py)
            .call_method0(intern!(py, "fileno"))?
            .extract()
    }

    /// Waits until the socket is ready.
    fn wait(&self, py: Python<'_>, interest: Interest, until: Deadline) -> PyResult<()> {
        let number = self.fileno(py)?;
        wait_at(py, self.channel.gate(), number, interest, until)
    }
}

fn wait_at(
    py: Python<'_>,
    gate: &Gate,
    number: RawFd,
    interest: Interest,
    until: Deadline,
) -> PyResult<()> {
    if number < 0 {
        return Err(local_fault(py, "the local socket has been closed"));
    }
    // SAFETY: the number was open a moment ago, and is waited for only. Should it be closed
    // meanwhile, the wait ends, with an error or for nothing.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    blocking(py, until, |wait| gate.wait(descriptor, interest, wait)).map_err(|error| {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::BADF) => local_fault(py, "Local socket has an error condition set!"),
            _ => raised(py, error),
        }
    })
}

/// An epoll instance that is ready when somebody is at either of the two.
fn watch_both(py: Python<'_>, listener: RawFd, door: &Door) -> PyResult<OwnedFd> {
    if listener < 0 {
        return Err(local_fault(py, "the local socket has been closed"));
    }
    // SAFETY: the listener's object, which the caller holds, says that this is its descriptor.
    let listener = unsafe { BorrowedFd::borrow_raw(listener) };
    let watch = || {
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for each in [listener, door.as_fd()] {
            let data = epoll::EventData::new_u64(0);
            epoll::add(&both, each, data, epoll::EventFlags::IN)?;
        }
        Ok(both)
    };
    watch().map_err(|error: Errno| std::io::Error::from(error).into())
}

/// An object of the `socket` module for a descriptor.
fn python_socket(py: Python<'_>, socket: OwnedFd) -> PyResult<Bound<'_, PyAny>> {
    let class = py.import("socket")?.getattr("socket")?;
    let number = socket.into_raw_fd();
    class.call((), Some(&[("fileno", number)].into_py_dict(py)?))
}

#[pymethods]
impl RawDuct {
    /// A subclass initialises itself, in `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            link: Mutex::new(None),
            listening: Mutex::new(Arc::default()),
        }
    }

    /// Makes a connected socket the one of this duct. Version 2 of the protocol is only for sockets that
    /// are plain.
    #[pyo3(signature = (socket, protocol = 1))]
    fn _attach(slf: &Bound<'_, Self>, socket: Bound<'_, PyAny>, protocol: u8) -> PyResult<()> {
        let plain = match uses_own_methods(slf)? {
            true => plain_descriptor(&socket)?,
            false => None,
        };
        let version = match protocol {
            2 => Version::V2,
            _ => Version::V1,
        };
        let link = Link {
            channel: Channel::new(version),
            socket: socket.unbind(),
            plain,
        };
        if version == Version::V2
            && let Some(stream) = link.stream()
        {
            Mark::V2
                .put(stream.0)
                .map_err(|error| raised(slf.py(), error))?;
        }
        let before = slf.get().slot().replace(Arc::new(link));
        drop(before); // Not under the lock: a socket of the user's may run code as it goes.
        Ok(())
    }

    /// Whether the methods that move data are those of this class.
    fn _is_plain(slf: &Bound<'_, Self>) -> PyResult<bool> {
        uses_own_methods(slf)
    }

    /// Says farewell as its process ends, unless this is a forked copy that was never used.
    fn _leave(&self, py: Python<'_>) {
        let Some(link) = self.link() else { return };
        let channel = &link.channel;
        if *channel.framing() == Version::V2
            && !channel.is_idle_copy()
            && link.has_its_number(py)
            && let Some(stream) = link.stream()
        {
            py.detach(|| channel.close(&stream));
        }
    }

    /// Takes the socket away again: whoever waits in it fails with NotConnectedException, and when
    /// this returns nobody uses the socket any more. None if there is none.
    fn _detach(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let gate = std::mem::take(&mut *lock(&self.listening));
        gate.shut();
        let link = self.slot().take()?;
        let is_its_own = link.has_its_number(py);
        py.detach(|| match link.stream() {
            Some(stream) if is_its_own => link.channel.close(&stream),
            // Where the program has closed the socket itself, the number is somebody else's.
            _ => link.channel.gate().shut(),
        });
        Some(link.socket.clone_ref(py))
    }

    /// The connected socket, or None.
    #[getter]
    fn _socket(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.slot().as_ref().map(|link| link.socket.clone_ref(py))
    }

    /// Waits for a connection that may come in, and returns its socket and the version of the protocol
    /// that is spoken there, or None when the time is up. Processes of other users are turned away.
    #[pyo3(signature = (listener, timeout, second = None))]
    fn _accept<'py>(
        &self,
        py: Python<'py>,
        listener: &Bound<'py, PyAny>,
        timeout: Option<f64>,
        second: Option<&SecondDoor>,
    ) -> PyResult<Option<(Bound<'py, PyAny>, u8)>> {
        let until = deadline(timeout)?;
        let gate = Arc::clone(&*lock(&self.listening));
        let number = || listener.call_method0("fileno")?.extract();
        let both = match second {
            Some(SecondDoor(door)) => Some((door, watch_both(py, number()?, door)?)),
            None => None,
        };
        loop {
            if let Some((door, both)) = &both {
                let either = both.as_raw_fd();
                match wait_at(py, &gate, either, Interest::Readable, until) {
                    Ok(()) => {}
                    Err(error) if is_timeout(py, &error) => return Ok(None),
                    Err(error) => return Err(error),
                }
                match door.accept(&mut Wait::until(Deadline::Now)) {
                    Ok(socket) => return Ok(Some((python_socket(py, socket)?, 2))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(raised(py, error)),
                }
            }
            let here = match both {
                Some(_) => Deadline::Now,
                None => until,
            };
            match wait_at(py, &gate, number()?, Interest::Readable, here) {
                Ok(()) => {}
                // Whoever was at the other door may have been a stranger.
                Err(error) if is_timeout(py, &error) && both.is_some() => continue,
                Err(error) if is_timeout(py, &error) => return Ok(None),
                Err(error) => return Err(error),
            }
            let connection = match listener.call_method0("accept") {
                Ok(accepted) => accepted.get_item(0)?,
                // It has gone again.
                Err(error) if is_timeout(py, &error) => continue,
                Err(error) if error.is_instance_of::<PyConnectionAbortedError>(py) => continue,
                Err(error) => return Err(error),
            };
            match prepare(&connection) {
                Ok(()) => return Ok(Some((connection, 1))),
                Err(_) => connection.call_method0("close")?,
            };
        }
    }

    /// Sends bytes to the other end, as a stream: maybe not all of them.
    #[pyo3(signature = (byte_array, flags = None))]
    fn send(
        &self,
        py: Python<'_>,
        byte_array: &Bound<'_, PyAny>,
        flags: Option<u32>,
    ) -> PyResult<usize> {
        let link = self.connected(py, "send data")?;
        let Some(stream) = link.stream() else {
            let socket = link.socket.bind(py);
            let sent = match flags {
                None => socket.call_method1("send", (byte_array,)),
                Some(flags) => socket.call_method1("send", (byte_array, flags)),
            };
            return sent?.extract();
        };
        let bytes = beginning(byte_array, "what is sent")?;
        let flags = SendFlags::from_bits_retain(flags.unwrap_or(0));
        let all = flags | SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        link.transfer(
            py,
            Interest::Writable,
            flags.contains(SendFlags::DONTWAIT),
            || rustix::net::send(stream.0, bytes.as_bytes(), all),
        )
    }

    /// Receives at most `buff_size` bytes; none at the end.
    #[pyo3(signature = (buff_size, flags = None))]
    fn recv<'py>(
        &self,
        py: Python<'py>,
        buff_size: isize,
        flags: Option<u32>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let link = self.connected(py, "receive data")?;
        let Some(stream) = link.stream() else {
            let socket = link.socket.bind(py);
            return match flags {
                None => socket.call_method1("recv", (buff_size,)),
                Some(flags) => socket.call_method1("recv", (buff_size, flags)),
            };
        };
        let size = usize::try_from(buff_size).map_err(|_| {
            PyValueError::new_err(format!("buff_size must not be negative, got {buff_size}"))
        })?;
        let flags = RecvFlags::from_bits_retain(flags.unwrap_or(0));
        let mut bytes = Vec::new();
        if size == 0 {
            return Ok(PyBytes::new(py, &bytes).into_any());
        }
        link.transfer(
            py,
            Interest::Readable,
            flags.contains(RecvFlags::DONTWAIT),
            || {
                // No more memory than there is data.
                let ready = stream.available().unwrap_or(0).max(1).min(size);
                bytes.resize(ready, 0);
                let (count, _) =
                    rustix::net::recv(stream.0, &mut bytes[..], flags | RecvFlags::DONTWAIT)?;
                bytes.truncate(count);
                Ok(count)
            },
        )?;
        Ok(PyBytes::new(py, &bytes).into_any())
    }

    /// Receives into a writable buffer and returns the number of bytes; zero at the end.
    #[pyo3(signature = (buffer, recv_num_bytes = None, flags = None))]
    fn recv_into(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        recv_num_bytes: Option<isize>,
        flags: Option<u32>,
    ) -> PyResult<usize> {
        let link = self.connected(py, "receive data")?;
        let number = recv_num_bytes.unwrap_or(0);
        let Some(stream) = link.stream() else {
            let arguments = (buffer, number, flags.unwrap_or(0));
            return link
                .socket
                .bind(py)
                .call_method1("recv_into", arguments)?
                .extract();
        };
        let view = PyBuffer::<u8>::get(buffer)?;
        if view.readonly() || !view.is_c_contiguous() {
            return Err(PyTypeError::new_err(
                "buffer must be writable and contiguous",
            ));
        }
        // As for socket.recv_into: zero stands for the whole buffer.
        let size = match usize::try_from(number) {
            Ok(0) => view.len_bytes(),
            Ok(size) if size <= view.len_bytes() => size,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "recv_num_bytes must be from 0 to the buffer's {} bytes, got {number}",
                    view.len_bytes()
                )));
            }
        };
        if size == 0 {
            return Ok(0);
        }
        let flags = RecvFlags::from_bits_retain(flags.unwrap_or(0));
        link.transfer(
            py,
            Interest::Readable,
            flags.contains(RecvFlags::DONTWAIT),
            || {
                // SAFETY: `view` keeps the memory, which is writable, contiguous and at least `size`
                // bytes long, in its place; the interpreter is attached, and its lock keeps other
                // threads from it for the length of this call, which does not block.
                let place =
                    unsafe { std::slice::from_raw_parts_mut(view.buf_ptr().cast::<u8>(), size) };
                rustix::net::recv(stream.0, place, flags | RecvFlags::DONTWAIT)
                    .map(|(count, _)| count)
            },
        )
    }

    /// Waits until something can be received, or the end has come; False when the time is up.
    #[pyo3(signature = (timeout = Some(60.0)), text_signature = "($self, timeout=60)")]
    fn poll(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let until = deadline(timeout)?;
        let link = self.connected(py, "poll for data")?;
        match link.wait(py, Interest::Readable, until) {
            Ok(()) => Ok(true),
            Err(error) if is_timeout(py, &error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The descriptor of the connected socket, for event loops.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.connected(py, "have a file descriptor")?.fileno(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A link that is in use elsewhere is reachable from there.
        match self.link.try_lock().as_deref() {
            // A plain socket refers to nothing, so no cycle goes through it; and it must not be
            // finalised before the duct that uses its descriptor.
            Ok(Some(link)) if link.plain.is_none() => visit.call(&link.socket),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let before = self.slot().take();
        drop(before);
    }
}

impl RawDuct {
    /// The connection, or NotConnectedException.
    pub(crate) fn connected(&self, py: Python<'_>, doing: &str) -> PyResult<Arc<Link>> {
        let link = self.link().ok_or_else(|| not_connected(py, doing))?;
        match link.plain {
            Some(number) if link.fileno(py)? != number => {
                Err(local_fault(py, "the local socket has been closed"))
            }
            _ => Ok(link),
        }
    }

    /// The connection, if there is one.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.slot().clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
        lock(&self.link)
    }
}

impl Link {
    /// Tries until something could be transferred, for as long as the socket's timeout allows.
    fn transfer(
        &self,
        py: Python<'_>,
        interest: Interest,
        at_once: bool,
        mut attempt: impl FnMut() -> rustix::io::Result<usize>,
    ) -> PyResult<usize> {
        let mut until = None;
        loop {
            let outcome = {
                let active = self.channel.gate().enter();
                let _active = active.map_err(|error| raised(py, error))?;
                attempt()
            };
            match outcome {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !at_once => {
                    let until = match until {
                        Some(until) => until,
                        None => *until.insert(deadline(self.timeout(py)?)?),
                    };
                    self.wait(py, interest, until)?;
                }
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
        }
    }
}

/// Checks that the process at the other end of a Unix socket, given by its descriptor, runs as the
/// same user as this one. Other sockets pass.
#[pyfunction]
pub(crate) fn verify_peer(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    if descriptor < 0 {
        return Err(PyOSError::new_err((
            Errno::BADF.raw_os_error(),
            "the socket is closed",
        )));
    }
    // SAFETY: it is the caller's own socket, and is only asked who is at its other end.
    let socket = unsafe { BorrowedFd::borrow_raw(descriptor) };
    engine::verify_peer(socket).map_err(|error| raised(py, error))
}

/// Makes an accepted socket ready, unless it is a stranger's. One without a descriptor is the
/// business of whoever made it.
fn prepare(connection: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = connection.py();
    let Ok(number) = connection.call_method0(intern!(py, "fileno")) else {
        return Ok(());
    };
    let number: RawFd = number.extract()?;
    if number < 0 {
        return Ok(());
    }
    // SAFETY: it is the open descriptor of the object that is borrowed here.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    // A TCP one has inherited the options that its listener's constructor chose.
    if sockopt::socket_domain(socket) != Ok(AddressFamily::UNIX) {
        return Ok(());
    }
    match engine::prepare(socket) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(raised(py, error)),
        _ => Ok(()), // What cannot be tuned can still be used.
    }
}

/// The descriptor, if this is exactly a `socket.socket`, connected as a Unix or TCP stream.
fn plain_descriptor(socket: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    static SOCKET: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = socket.py();
    if !socket.get_type().is(SOCKET.import(py, "socket", "socket")?) {
        return Ok(None);
    }
    let number: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
    if number < 0 {
        return Ok(None);
    }
    // SAFETY: it is the open descriptor of the socket object, which is borrowed here.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let stream = sockopt::socket_type(descriptor) == Ok(SocketType::STREAM);
    let family = sockopt::socket_domain(descriptor);
    let known = [
        AddressFamily::UNIX,
        AddressFamily::INET,
        AddressFamily::INET6,
    ];
    Ok((stream && family.is_ok_and(|family| known.contains(&family))).then_some(number))
}

/// Whether a subclass leaves the methods that move data as they are.
fn uses_own_methods(duct: &Bound<'_, RawDuct>) -> PyResult<bool> {
    let own = RawDuct::type_object(duct.py());
    let class = duct.get_type();
    for name in ["send", "recv", "recv_into", "poll"] {
        if !class.getattr(name)?.is(&own.getattr(name)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
