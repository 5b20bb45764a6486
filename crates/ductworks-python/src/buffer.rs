//! Bytes-like Python objects.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

/// The contents of a bytes-like object: a bytes object as it is, anything else as a copy, since its
/// memory could be changed while the interpreter is released.
pub(crate) fn contents<'py>(
    object: &Bound<'py, PyAny>,
    what: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let view = PyMemoryView::from(object).map_err(|_| {
        let name = object
            .get_type()
            .name()
            .map_or_else(|_| "an object".into(), |name| name.to_string());
        PyTypeError::new_err(format!(
            "{what} must be bytes, bytearray or another bytes-like object, not {name}"
        ))
    })?;
    Ok(view.call_method0("tobytes")?.cast_into()?)
}
