//! Bytes-like Python objects.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};

/// The most that is copied for one call of a stream, in bytes.
const CHUNK: usize = 1 << 20;

/// The contents of a bytes-like object: a bytes object as it is, anything else as a copy, since its
/// memory could be changed while the interpreter is released. `fits` may refuse the size before the
/// copy.
pub(crate) fn contents<'py>(
    object: &Bound<'py, PyAny>,
    what: &str,
    fits: impl FnOnce(usize) -> PyResult<()>,
) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let view = view(object, what)?;
    fits(size(&view)?)?;
    copy(&view)
}

/// As [`contents`], or only the beginning of what would be a long copy: a stream need not take more
/// at once.
pub(crate) fn beginning<'py>(
    object: &Bound<'py, PyAny>,
    what: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let view = view(object, what)?;
    if size(&view)? <= CHUNK {
        return copy(&view);
    }
    let first = PySlice::new(object.py(), 0, CHUNK as isize, 1);
    copy(&view.call_method1("cast", ("B",))?.get_item(first)?)
}

fn view<'py>(object: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyAny>> {
    let view = PyMemoryView::from(object).map_err(|_| {
        let name = object
            .get_type()
            .name()
            .map_or_else(|_| "an object".into(), |name| name.to_string());
        PyTypeError::new_err(format!(
            "{what} must be bytes, bytearray or another bytes-like object, not {name}"
        ))
    })?;
    Ok(view.into_any())
}

fn size(view: &Bound<'_, PyAny>) -> PyResult<usize> {
    view.getattr("nbytes")?.extract()
}

fn copy<'py>(view: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(view.call_method0("tobytes")?.cast_into()?)
}
