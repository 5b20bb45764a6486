//! Descriptors that go along with messages.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::duct::Duct;

/// Copies of what an iterable holds: numbers, or objects that have one.
pub(crate) fn copies(objects: &Bound<'_, PyAny>) -> PyResult<Vec<OwnedFd>> {
    objects.try_iter()?.map(|each| copy(&each?)).collect()
}

fn copy(object: &Bound<'_, PyAny>) -> PyResult<OwnedFd> {
    if let Ok(duct) = object.cast::<Duct>() {
        duct.get().share(object.py())?;
    }
    let number = match object.extract::<RawFd>() {
        Ok(number) => number,
        Err(_) => object
            .call_method0("fileno")
            .map_err(|error| match object.hasattr("fileno") {
                Ok(true) => error,
                _ => PyTypeError::new_err(format!(
                    "fds must be numbers of descriptors or objects with a fileno(), not {}",
                    object.get_type()
                )),
            })?
            .extract()?,
    };
    if number < 0 {
        return Err(PyValueError::new_err(format!(
            "expected the number of an open descriptor, got {number}"
        )));
    }
    // SAFETY: the number is only looked at, by a call that fails if it is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    descriptor.try_clone_to_owned().map_err(|error| {
        let text = format!("the descriptor {number} cannot be copied: {error}");
        PyOSError::new_err((error.raw_os_error(), text))
    })
}
