//! Bytes-like Python objects.

use ductworks::{Error, ErrorKind};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySlice};

use crate::memory::Memory;

/// The most that is copied for one call of a stream, in bytes.
const CHUNK: usize = 1 << 20;

/// A part of a message that is ready to be sent.
pub(crate) enum Part<'py> {
    Native(Vec<u8>),
    Bytes(Bound<'py, PyBytes>),
    /// A buffer of the caller's, in one piece. It is held until the message is sent, so it stays
    /// where it is; but whoever changes it meanwhile, in another thread, changes what is sent.
    View(PyBuffer<u8>),
}

impl<'py> Part<'py> {
    /// The contents of a bytes-like object, without a copy where they lie in one piece.
    pub(crate) fn of(object: Bound<'py, PyAny>) -> PyResult<Self> {
        match object.cast_into::<PyBytes>() {
            Ok(bytes) => Ok(Self::Bytes(bytes)),
            Err(error) => Self::of_view(&PyMemoryView::from(&error.into_inner())?),
        }
    }

    /// The contents of a memoryview.
    pub(crate) fn of_view(view: &Bound<'py, PyMemoryView>) -> PyResult<Self> {
        if !view.getattr("c_contiguous")?.is_truthy()? {
            return copy(view).map(Self::Bytes);
        }
        let bytes = view.call_method1("cast", ("B",))?;
        PyBuffer::get(&bytes).map(Self::View)
    }

    pub(crate) fn len(&self) -> usize {
        self.as_bytes().len()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Native(bytes) => bytes,
            Self::Bytes(bytes) => bytes.as_bytes(),
            // SAFETY: a contiguous buffer of bytes, which its exporter keeps where it is for as long
            // as it is held. Only the system reads it, or a copy is made of the rest of a message.
            Self::View(view) if view.len_bytes() > 0 => unsafe {
                std::slice::from_raw_parts(view.buf_ptr().cast(), view.len_bytes())
            },
            Self::View(_) => &[],
        }
    }
}

/// The contents of a bytes-like object that is to be sent.
pub(crate) fn part<'py>(object: &Bound<'py, PyAny>, what: &str) -> PyResult<Part<'py>> {
    Part::of(object.clone()).map_err(|error| {
        let py = object.py();
        if !error.is_instance_of::<PyTypeError>(py) {
            return error;
        }
        let kind = object.get_type();
        let name = kind
            .name()
            .map_or_else(|_| "an object".into(), |name| name.to_string());
        PyTypeError::new_err(format!(
            "{what} must be bytes, bytearray or another bytes-like object, not {name}"
        ))
    })
}

/// A writable buffer in one piece, in which messages can be received.
pub(crate) struct Place {
    bytes: Py<PyAny>,
    /// Its size in bytes.
    pub(crate) len: usize,
    /// The size of its items in bytes.
    pub(crate) itemsize: usize,
}

impl Place {
    pub(crate) fn of(buffer: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = buffer.py();
        let view = PyMemoryView::from(buffer)?;
        if view.getattr(intern!(py, "readonly"))?.is_truthy()? {
            return Err(PyTypeError::new_err(
                "expected a writable buffer, got a read-only one",
            ));
        }
        let bytes = view.call_method1(intern!(py, "cast"), ("B",))?;
        Ok(Self {
            len: bytes.len()?,
            itemsize: view.getattr(intern!(py, "itemsize"))?.extract()?,
            bytes: bytes.unbind(),
        })
    }

    /// Lends what lies behind the first bytes, for one call.
    pub(crate) fn lend(&self, offset: usize) -> ductworks::Result<Memory> {
        Python::attach(|py| {
            let end = isize::try_from(self.len).unwrap_or(isize::MAX);
            let start = isize::try_from(offset).unwrap_or(isize::MAX);
            let place = section(self.bytes.bind(py), start, end)?;
            PyBuffer::get(&place).map(Memory::place)
        })
        // A view was had before, so another one can be.
        .map_err(|_: PyErr| Error::refusal(ErrorKind::InvalidInput))
    }
}

/// A part of a sequence, `object[start:end]`. (`PySlice::new` of PyO3 0.30 leaks its numbers.)
pub(crate) fn section<'py>(
    object: &Bound<'py, PyAny>,
    start: isize,
    end: isize,
) -> PyResult<Bound<'py, PyAny>> {
    let slice = object.py().get_type::<PySlice>().call1((start, end))?;
    object.get_item(slice)
}

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
    let bytes = view.call_method1("cast", ("B",))?;
    copy(&section(&bytes, 0, CHUNK as isize)?)
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
