//! Any Python object with the methods of a raw duct, as a stream.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;

use ductworks::engine::Stream;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use crate::error::is_timeout;

/// The most that is read or written by one call of the object's methods, in bytes: each call copies.
const CHUNK: usize = 1 << 20;

/// The stream that an object's `send` and `recv_into` are. They may block, and raise what they like.
pub(crate) struct Foreign<'a>(pub(crate) &'a Py<PyAny>);

impl Foreign<'_> {
    fn count(result: &Bound<'_, PyAny>, method: &str, most: usize) -> PyResult<usize> {
        let count = result.extract::<usize>().map_err(|_| {
            PyTypeError::new_err(format!(
                "socket_duct.{method}() must return the number of bytes as an int, got {result}"
            ))
        })?;
        if count > most {
            return Err(PyValueError::new_err(format!(
                "socket_duct.{method}() returned {count}, but was given {most} bytes"
            )));
        }
        Ok(count)
    }
}

/// A timeout of the object is told apart, so that a message of which a part was written before it
/// counts as accepted.
fn failure(error: PyErr) -> io::Error {
    match Python::attach(|py| is_timeout(py, &error)) {
        true => io::Error::new(io::ErrorKind::TimedOut, error),
        false => io::Error::other(error),
    }
}

impl Stream for Foreign<'_> {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn read(&self, place: &mut [u8]) -> io::Result<usize> {
        let most = place.len().min(CHUNK);
        Python::attach(|py| {
            let memory = PyByteArray::new_with(py, most, |_| Ok(()))?;
            let view = PyMemoryView::from(&memory)?;
            let result = self.0.bind(py).call_method1("recv_into", (&view,))?;
            let count = Self::count(&result, "recv_into", most)?;
            place[..count].copy_from_slice(&memory.to_vec()[..count]);
            Ok(count)
        })
        .map_err(failure)
    }

    fn peek(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn available(&self) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The parts go out as one piece, for the sake of objects that keep the borders of what they are
    /// given.
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut piece = Vec::new();
        for part in parts {
            let room = CHUNK - piece.len();
            piece.extend_from_slice(&part[..part.len().min(room)]);
        }
        Python::attach(|py| {
            let view = PyMemoryView::from(PyBytes::new(py, &piece).as_any())?;
            let result = self.0.bind(py).call_method1("send", (view,))?;
            Self::count(&result, "send", piece.len())
        })
        .map_err(failure)
    }
}
