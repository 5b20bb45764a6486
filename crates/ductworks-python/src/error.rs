//! The crate's errors as the package's exceptions.

use ductworks::{Error, ErrorKind};
use pyo3::exceptions::{
    PyBlockingIOError, PyConnectionResetError, PyOSError, PyPermissionError, PyRuntimeError,
    PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use rustix::io::Errno;

macro_rules! classes {
    ($($function:ident: $module:literal $name:literal;)*) => {$(
        fn $function(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
            static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            CLASS.import(py, $module, $name)
        }
    )*};
}

classes! {
    not_connected_class: "ductworks.base_duct" "NotConnectedException";
    local_fault_class: "ductworks.base_duct" "LocalSocketFault";
    protocol_class: "ductworks.message_duct" "MessageProtocolException";
    closed_class: "ductworks.message_duct" "RemoteDuctClosed";
    truncated_class: "ductworks.message_duct" "RemoteDuctTruncated";
    died_class: "ductworks.message_duct" "RemoteDuctDied";
    reset_class: "ductworks.message_duct" "RemoteDuctReset";
    timeout_class: "socket" "timeout";
    too_small_class: "ductworks.errors" "BufferTooSmall";
    not_drained_class: "ductworks.errors" "NotDrained";
}

fn build(class: PyResult<&Bound<'_, PyType>>, text: String) -> PyErr {
    match class {
        Ok(class) => PyErr::from_type(class.clone(), (text,)),
        Err(error) => error,
    }
}

fn build_numbered(class: PyResult<&Bound<'_, PyType>>, number: i32, text: String) -> PyErr {
    match class {
        Ok(class) => PyErr::from_type(class.clone(), (number, text)),
        Err(error) => error,
    }
}

/// The exception for an error of the crate.
pub(crate) fn raised(py: Python<'_>, error: Error) -> PyErr {
    let (kind, number, text) = (error.kind(), error.raw_os_error(), error.to_string());
    if let Some(unreceived) = error.unreceived() {
        return match not_drained_class(py) {
            Ok(class) => PyErr::from_type(class.clone(), (text, unreceived)),
            Err(error) => error,
        };
    }
    if let Some(Ok(exception)) = error.into_source().map(|source| source.downcast::<PyErr>()) {
        return *exception; // What came out of Python code goes back as it was.
    }
    match (kind, number) {
        (ErrorKind::Closed, _) => build(not_connected_class(py), text),
        (ErrorKind::Disconnected, None) => build(closed_class(py), text),
        (ErrorKind::PeerDied, _) => build(died_class(py), text),
        (ErrorKind::Truncated, _) => build(truncated_class(py), text),
        (ErrorKind::Reset, _) => {
            build_numbered(reset_class(py), Errno::CONNRESET.raw_os_error(), text)
        }
        (ErrorKind::TimedOut, _) => build(timeout_class(py), text),
        (ErrorKind::WouldBlock, _) => {
            PyBlockingIOError::new_err((Errno::AGAIN.raw_os_error(), text))
        }
        (ErrorKind::TooLarge | ErrorKind::Protocol, _) => build(protocol_class(py), text),
        (ErrorKind::InvalidInput, None) => PyValueError::new_err(text),
        (ErrorKind::BufferTooSmall, _) => build(too_small_class(py), text),
        (ErrorKind::Forked, _) => build(local_fault_class(py), text),
        // As for a reentrant call on a file of Python's own.
        (ErrorKind::Reentered, _) => PyRuntimeError::new_err(text),
        (ErrorKind::PermissionDenied, number) => {
            PyPermissionError::new_err((number.unwrap_or(Errno::ACCESS.raw_os_error()), text))
        }
        // Not the TimeoutError that the number would make of it: that is for the caller's own time.
        (ErrorKind::Disconnected, Some(number)) if number == Errno::TIMEDOUT.raw_os_error() => {
            PyConnectionResetError::new_err((number, text))
        }
        // OSError picks its own subclass by the number, as for BrokenPipeError.
        (_, Some(number)) => PyOSError::new_err((number, text)),
        (_, None) => PyOSError::new_err(text),
    }
}

/// Whether an operation ended by its deadline.
pub(crate) fn is_timeout(py: Python<'_>, error: &PyErr) -> bool {
    // Before Python 3.10 the two were different classes.
    error.is_instance_of::<PyTimeoutError>(py)
        || error.is_instance_of::<PyBlockingIOError>(py)
        || timeout_class(py).is_ok_and(|class| error.is_instance(py, class))
}

/// The exception for the use of a duct that is not connected.
pub(crate) fn not_connected(py: Python<'_>, doing: &str) -> PyErr {
    let text = format!("Must be connected to other end to {doing}!");
    build(not_connected_class(py), text)
}

/// The exception for a local socket that is of no use any more.
pub(crate) fn local_fault(py: Python<'_>, text: &str) -> PyErr {
    build(local_fault_class(py), text.to_owned())
}
