//! The message duct: whole Python values over a raw duct, or over any object like one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ductworks::engine::{Channel, DEFAULT_MESSAGE_LIMIT, Deadline, Wait};
use ductworks::wire::{Control, Greeting, Hello, Mode, Version};
use ductworks::{Error, ErrorKind};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

use crate::codec::{Deserializer, Serializer};
use crate::error::raised;
use crate::exchange::{self, would_block};
use crate::foreign::Foreign;
use crate::hook::{blocking, deadline};
use crate::memory::Memory;
use crate::raw::{Link, RawDuct};

/// The base of the package's message ducts: it sends, receives and polls.
#[pyclass(frozen, subclass, module = "ductworks._native")]
pub(crate) struct MessageDuct {
    parts: Mutex<Parts>,
    limit: AtomicUsize,
}

/// What a message duct is put together from.
#[derive(Default)]
struct Parts {
    socket_duct: Option<Py<PyAny>>,
    serialize: Option<Serializer>,
    deserialize: Option<Deserializer>,
    lock: Option<Py<PyAny>>,
    /// The state of the wire over an object that is no raw duct of ours.
    foreign: Arc<Channel<Version, Memory>>,
}

/// Where messages go.
enum Route {
    /// A socket that this module works on by itself.
    Native(Arc<Link>),
    /// The methods of an object, and the state of the wire over it.
    Object(Py<PyAny>, Arc<Channel<Version, Memory>>),
    /// The methods of a raw duct whose socket or class is not the ordinary one.
    Overridden(Py<PyAny>, Arc<Link>),
}

impl Route {
    fn channel(&self) -> &Channel<Version, Memory> {
        match self {
            Self::Native(link) | Self::Overridden(_, link) => &link.channel,
            Self::Object(_, channel) => channel,
        }
    }
}

/// The user's lock, while it is held.
struct Locked<'py>(Option<Bound<'py, PyAny>>);

impl<'py> Locked<'py> {
    fn acquire(lock: Option<&Bound<'py, PyAny>>) -> PyResult<Self> {
        let Some(lock) = lock else {
            return Ok(Self(None));
        };
        let py = lock.py();
        let answer = lock.call_method0(intern!(py, "acquire"))?;
        // Locks of many kinds say so; others say nothing.
        if answer.extract::<bool>().is_ok_and(|acquired| !acquired) {
            return Err(PyRuntimeError::new_err(
                "lock.acquire() returned False: the lock was not acquired",
            ));
        }
        Ok(Self(Some(lock.clone())))
    }

    fn release(self) -> PyResult<()> {
        match self.0 {
            Some(lock) => lock.call_method0(intern!(lock.py(), "release")).map(drop),
            None => Ok(()),
        }
    }

    /// Runs the operation with the lock held.
    fn with<T>(
        lock: Option<&Bound<'py, PyAny>>,
        operation: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<T> {
        let locked = Self::acquire(lock)?;
        let outcome = operation();
        let released = locked.release();
        // What the operation raised says more than what its lock did.
        outcome.and_then(|value| released.map(|()| value))
    }
}

#[pymethods]
impl MessageDuct {
    /// A subclass initialises itself, in `__init__`.
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            parts: Mutex::default(),
            limit: AtomicUsize::new(DEFAULT_MESSAGE_LIMIT),
        }
    }

    /// The raw duct below, or an object with the methods of one.
    #[getter]
    fn socket_duct(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts()
            .socket_duct
            .as_ref()
            .map(|duct| duct.clone_ref(py))
    }

    #[setter]
    fn set_socket_duct(&self, socket_duct: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut self.parts().socket_duct, socket_duct);
        drop(before);
    }

    /// The callable that makes a bytes-like object of a value.
    #[getter]
    fn serialize(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts()
            .serialize
            .as_ref()
            .map(|it| it.callable().clone_ref(py))
    }

    #[setter]
    fn set_serialize(&self, serialize: &Bound<'_, PyAny>) -> PyResult<()> {
        must_be_callable(serialize, "serialize")?;
        let new = Serializer::of(serialize)?;
        let before = self.parts().serialize.replace(new);
        drop(before);
        Ok(())
    }

    /// The callable that makes a value of a bytearray.
    #[getter]
    fn deserialize(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts()
            .deserialize
            .as_ref()
            .map(|it| it.callable().clone_ref(py))
    }

    #[setter]
    fn set_deserialize(&self, deserialize: &Bound<'_, PyAny>) -> PyResult<()> {
        must_be_callable(deserialize, "deserialize")?;
        let new = Deserializer::of(deserialize)?;
        let before = self.parts().deserialize.replace(new);
        drop(before);
        Ok(())
    }

    /// An object with acquire and release, held while a message is transferred, or None.
    #[getter]
    fn lock(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.parts().lock.as_ref().map(|lock| lock.clone_ref(py))
    }

    #[setter]
    fn set_lock(&self, lock: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut self.parts().lock, lock);
        drop(before);
    }

    /// The largest message, in bytes, that may be sent or received. Default: 64 MiB.
    #[getter]
    fn max_message_size(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_max_message_size(&self, py: Python<'_>, bytes: i128) -> PyResult<()> {
        self.limit.store(message_limit(bytes)?, Ordering::Relaxed);
        if self.parts().lock.is_none() {
            // Else somebody may be in the middle of a message.
            self.announce(py);
        }
        Ok(())
    }

    /// Tells the other end the limit, where it speaks version 2 of the protocol.
    fn _announce(&self, py: Python<'_>) {
        self.announce(py);
    }

    /// Send a value to the other end, if connected.
    fn send(slf: &Bound<'_, Self>, payload: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, duct) = (slf.py(), slf.get());
        let (serializer, lock) = {
            let parts = duct.parts();
            let serializer = parts.serialize.as_ref().ok_or_else(not_initialised)?;
            (serializer.clone_ref(py), parts.bound_lock(py))
        };
        let route = duct.route(py, "send data")?;
        let fits = |len| {
            route
                .channel()
                .check_size(len)
                .map_err(|error| raised(py, error))
        };
        let message = serializer.encode(payload, fits)?;
        let message = message.as_bytes();
        Locked::with(lock.as_ref(), || {
            let outcome = match &route {
                Route::Native(link) => send_native(py, link, message)?,
                Route::Object(object, _) | Route::Overridden(object, _) => {
                    blocking(py, Deadline::Never, |wait| {
                        route.channel().send(&Foreign(object), &[message], wait)
                    })
                }
            };
            outcome.map_err(|error| raised(py, error))
        })
    }

    /// Receive a value from the other end, if connected, waiting for it.
    fn recv<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, duct) = (slf.py(), slf.get());
        let (deserializer, lock) = {
            let parts = duct.parts();
            let deserializer = parts.deserialize.as_ref().ok_or_else(not_initialised)?;
            (deserializer.clone_ref(py), parts.bound_lock(py))
        };
        let route = duct.route(py, "receive data")?;
        let message = match &route {
            Route::Native(link) => receive_native(py, link, &deserializer, lock.as_ref())?,
            Route::Object(object, _) | Route::Overridden(object, _) => {
                push_rest(py, object, route.channel());
                Locked::with(lock.as_ref(), || {
                    Ok(blocking(py, Deadline::Never, |wait| {
                        route.channel().receive(&Foreign(object), wait)
                    }))
                })?
            }
        };
        let message = message.map_err(|error| duct.receive_failed(slf, &route, error))?;
        let (value, memory) = deserializer.decode(py, message);
        if let Some(memory) = memory {
            route.channel().recycle(memory);
        }
        value
    }

    /// Wait until a whole message can be received at once, or the end has come; False when the time
    /// is up.
    #[pyo3(signature = (timeout = Some(60.0)), text_signature = "($self, timeout=60)")]
    fn poll(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<bool> {
        let (py, duct) = (slf.py(), slf.get());
        let until = deadline(timeout)?;
        let route = duct.route(py, "poll for data")?;
        let link = match &route {
            Route::Native(link) => link,
            Route::Object(object, _) | Route::Overridden(object, _) => {
                push_rest(py, object, route.channel());
                return object
                    .bind(py)
                    .call_method1("poll", (timeout,))?
                    .is_truthy();
            }
        };
        let Some(stream) = link.stream() else {
            return Ok(false);
        };
        // By itself, since the parts are not to be held while it waits.
        let lock = duct.parts().bound_lock(py);
        let outcome = if lock.is_some() {
            // Another process may share this end, so nothing of a message may be taken from it here.
            readable_message(py, link, lock.as_ref(), until)?
        } else {
            match link.channel.poll(&stream, &mut Wait::until(Deadline::Now)) {
                Ok(false) if until != Deadline::Now => {
                    blocking(py, until, |wait| link.channel.poll(&stream, wait))
                }
                outcome => outcome,
            }
        };
        outcome.map_err(|error| duct.receive_failed(slf, &route, error))
    }

    /// The descriptor of the connection, for event loops.
    fn fileno<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let object = slf.get().socket_duct(py).ok_or_else(not_initialised)?;
        let object = object.into_bound(py);
        // An object made for the published version of the original has only the older name.
        match object.getattr_opt("fileno")? {
            Some(method) => method.call0(),
            None => object.call_method0("get_conn_file_descriptor"),
        }
    }

    /// Close the duct below. Whoever waits in it fails with NotConnectedException. Closing again
    /// does nothing.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let (object, foreign) = {
            let mut parts = slf.get().parts();
            let object = parts.socket_duct.as_ref().map(|duct| duct.clone_ref(py));
            (object, std::mem::take(&mut parts.foreign))
        };
        foreign.gate().shut();
        match object {
            Some(object) => object.bind(py).call_method0("close").map(drop),
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(parts) = self.parts.try_lock() else {
            return Ok(()); // In use, hence reachable.
        };
        visit.call(&parts.socket_duct)?;
        visit.call(&parts.lock)?;
        visit.call(parts.serialize.as_ref().map(Serializer::callable))?;
        visit.call(parts.deserialize.as_ref().map(Deserializer::callable))
    }

    fn __clear__(&self) {
        let parts = std::mem::take(&mut *self.parts());
        drop(parts);
    }
}

impl MessageDuct {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Best effort: who has no room for it, or is gone, learns of the limit from a larger message.
    fn announce(&self, py: Python<'_>) {
        let Some(duct) = self.socket_duct(py) else {
            return;
        };
        let Ok(raw) = duct.bind(py).cast::<RawDuct>() else {
            return;
        };
        let Some(link) = raw.get().link() else { return };
        let (Some(stream), Ok(nonce)) = (link.stream(), Greeting::nonce()) else {
            return;
        };
        if *link.channel.framing() == Version::V2 {
            let hello = Hello::new(Mode::Open, self.max_message_size() as u64, "", nonce);
            let now = &mut Wait::until(Deadline::Now);
            let _ = link.channel.say(&stream, &Control::Hello(hello), now);
        }
    }

    fn route(&self, py: Python<'_>, doing: &str) -> PyResult<Route> {
        let (object, foreign) = {
            let parts = self.parts();
            let object = parts.socket_duct.as_ref().ok_or_else(not_initialised)?;
            (object.clone_ref(py), Arc::clone(&parts.foreign))
        };
        let route = match object.bind(py).cast::<RawDuct>() {
            Ok(raw) => {
                let link = raw.get().connected(py, doing)?;
                match link.stream() {
                    Some(_) => Route::Native(link),
                    None => Route::Overridden(object, link),
                }
            }
            Err(_) => Route::Object(object, foreign),
        };
        route.channel().set_message_limit(self.max_message_size());
        Ok(route)
    }

    /// Makes the exception, and closes the duct if the other end broke the protocol.
    fn receive_failed(&self, slf: &Bound<'_, Self>, route: &Route, error: Error) -> PyErr {
        if route.channel().violation().is_some() {
            // The violation is what is to be told, whatever a destructor raises.
            let _ = slf.call_method0("close");
        }
        raised(slf.py(), error)
    }
}

impl Parts {
    fn bound_lock<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.lock.as_ref().map(|lock| lock.bind(py).clone())
    }
}

fn send_native(py: Python<'_>, link: &Link, message: &[u8]) -> PyResult<ductworks::Result<()>> {
    let Some(stream) = link.stream() else {
        return Ok(Ok(()));
    };
    let until = deadline(link.timeout(py)?)?;
    Ok(exchange::send(
        py,
        &link.channel,
        &stream,
        &[message],
        until,
    ))
}

fn receive_native(
    py: Python<'_>,
    link: &Link,
    deserializer: &Deserializer,
    lock: Option<&Bound<'_, PyAny>>,
) -> PyResult<ductworks::Result<Memory>> {
    let Some(stream) = link.stream() else {
        return Ok(Ok(Memory::default()));
    };
    let channel = &link.channel;
    let memory = |message| Ok(deserializer.memory(message));
    let until = deadline(link.timeout(py)?)?;
    if lock.is_none() {
        return Ok(exchange::receive(py, channel, &stream, memory, until));
    }
    // A lock that both directions share, and other processes perhaps, is held for a transfer, never
    // for the wait before it.
    loop {
        if !channel.has_partial() {
            // Nothing is taken without the lock, not even at the deadline.
            if let Err(error) = blocking(py, until, |wait| channel.wait_readable(&stream, wait)) {
                return Ok(Err(error));
            }
        }
        let outcome = Locked::with(lock, || {
            let outcome = exchange::receive_small(channel, &stream, memory);
            if would_block(&outcome) && channel.has_partial() {
                return Ok(exchange::receive_waiting(
                    py, channel, &stream, memory, until,
                ));
            }
            Ok(outcome)
        })?;
        if !would_block(&outcome) || until == Deadline::Now {
            return Ok(outcome);
        }
    }
}

/// Lets the rest of an accepted message go out before anything else. A failure is for the next send
/// to report: it must not hide what can be received.
fn push_rest(py: Python<'_>, object: &Py<PyAny>, channel: &Channel<Version, Memory>) {
    if channel.has_unsent() {
        let _ = blocking(py, Deadline::Never, |wait| {
            channel.flush(&Foreign(object), wait)
        });
    }
}

/// Waits until something can be received that is not for the duct itself. False when the time is up.
fn readable_message(
    py: Python<'_>,
    link: &Link,
    lock: Option<&Bound<'_, PyAny>>,
    until: Deadline,
) -> PyResult<ductworks::Result<bool>> {
    loop {
        let outcome = readable(py, link, until);
        if !matches!(outcome, Ok(true)) || *link.channel.framing() == Version::V1 {
            return Ok(outcome);
        }
        if let Some(stream) = link.stream() {
            let heard = Locked::with(lock, || Ok(link.channel.hear(&stream)))?;
            if let Err(error) = heard {
                return Ok(Err(error));
            }
        }
        let outcome = readable(py, link, Deadline::Now);
        if !matches!(outcome, Ok(false)) || until == Deadline::Now {
            return Ok(outcome);
        }
    }
}

/// Waits until something can be read, and takes nothing. False when the time is up.
fn readable(py: Python<'_>, link: &Link, until: Deadline) -> ductworks::Result<bool> {
    let Some(stream) = link.stream() else {
        return Ok(false);
    };
    let outcome = blocking(py, until, |wait| link.channel.wait_readable(&stream, wait));
    match outcome {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Ok(false),
            ErrorKind::Reset | ErrorKind::PeerDied => Ok(true),
            _ => Err(error),
        },
    }
}

fn must_be_callable(object: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    match object.is_callable() {
        true => Ok(()),
        false => Err(PyTypeError::new_err(format!(
            "{name} must be callable, got {object}"
        ))),
    }
}

fn not_initialised() -> PyErr {
    PyRuntimeError::new_err("the duct has not been initialised: __init__ was not called, or failed")
}

/// The limit that a number of bytes is, if memory can hold so many. Version 1 of the protocol cannot
/// express more than 4 GiB, whatever the limit.
pub(crate) fn message_limit(bytes: i128) -> PyResult<usize> {
    let most = isize::MAX as u64;
    match usize::try_from(bytes) {
        Ok(size) if size as u64 <= most => Ok(size),
        _ => Err(PyValueError::new_err(format!(
            "max_message_size must be from 0 to {most} bytes, got {bytes}"
        ))),
    }
}
