//! Pickles, with large buffers beside them.
//!
//! The format is described in docs/other-wires.md, "Pickles with buffers".

mod plain;

use std::sync::{Mutex, PoisonError};

use ductworks::wire::Body as _;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyBufferError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyDict, PyMemoryView, PyType};

use crate::buffer::{Part, section};
use crate::memory::Memory;

/// The first byte of a pickle with buffers: no opcode of any protocol, so that no pickle begins so.
const WITH_BUFFERS: u8 = 0xff;
const VERSION: u8 = 1;

/// Each buffer begins at a multiple of this many bytes in the message, for the sake of numbers that
/// processors read best where they are aligned.
const ALIGNMENT: usize = 16;

const PROTOCOL: u8 = 5;

/// A smaller buffer, in bytes, is copied into the pickle: that costs less than a part of its own.
const LEAST_BUFFER: usize = 16 * 1024;

/// The parts of the message for a value. `beside` allows for buffers beside the pickle: the other end
/// must be one of ours.
pub(crate) fn encode<'py>(value: &Bound<'py, PyAny>, beside: bool) -> PyResult<Vec<Part<'py>>> {
    let py = value.py();
    if let Some(pickle) = plain::write(value) {
        return Ok(vec![Part::Native(pickle)]);
    }
    // Looked up each time: programs register reducers with it, and some replace it.
    let reduction = py.import(intern!(py, "multiprocessing.reduction"))?;
    let pickler = reduction.getattr(intern!(py, "ForkingPickler"))?;
    let output = Bound::new(py, Output::default())?;
    let pickler = match beside {
        true => pickler.call1((&output, PROTOCOL, true, &output))?,
        // The default, as multiprocessing: who is at the other end may be an older Python.
        false => pickler.call1((&output,))?,
    };
    pickler.call_method1(intern!(py, "dump"), (value,))?;
    output.get().finish(py)
}

/// What a pickler writes to, and gives its buffers to.
#[pyclass(frozen, module = "ductworks._native")]
#[derive(Default)]
struct Output {
    pickle: Mutex<Vec<Py<PyAny>>>,
    buffers: Mutex<Vec<PyBuffer<u8>>>,
}

#[pymethods]
impl Output {
    /// Takes a piece of the pickle. A large bytes object is handed over as it is.
    fn write(&self, piece: Py<PyAny>) {
        self.pickle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(piece);
    }

    /// Takes a buffer, or says that it belongs into the pickle.
    fn __call__(&self, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = buffer.py();
        let raw = match buffer.call_method0(intern!(py, "raw")) {
            Ok(raw) => raw,
            // Its memory is in pieces.
            Err(error) if error.is_instance_of::<PyBufferError>(py) => return Ok(true),
            Err(error) => return Err(error),
        };
        let view = PyBuffer::get(&raw)?;
        if view.len_bytes() < LEAST_BUFFER {
            return Ok(true);
        }
        self.buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(view);
        Ok(false)
    }
}

impl Output {
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Vec<Part<'py>>> {
        let pieces =
            std::mem::take(&mut *self.pickle.lock().unwrap_or_else(PoisonError::into_inner));
        let buffers =
            std::mem::take(&mut *self.buffers.lock().unwrap_or_else(PoisonError::into_inner));
        let pickle = pieces
            .into_iter()
            .map(|piece| Part::of(piece.into_bound(py)))
            .collect::<PyResult<Vec<_>>>()?;
        if buffers.is_empty() {
            return Ok(pickle);
        }
        let pickle_len: usize = pickle.iter().map(Part::len).sum();
        let lengths =
            std::iter::once(pickle_len).chain(buffers.iter().map(|buffer| buffer.len_bytes()));
        let head = head(lengths);
        let mut end = head.len() + pickle_len;
        let mut parts = vec![Part::Native(head)];
        parts.extend(pickle);
        for buffer in buffers {
            let padding = end.next_multiple_of(ALIGNMENT) - end;
            if padding > 0 {
                parts.push(Part::Native(vec![0; padding]));
            }
            end += padding + buffer.len_bytes();
            parts.push(Part::View(buffer));
        }
        Ok(parts)
    }
}

/// The head of a pickle with buffers, from the lengths of the pickle and of each buffer.
fn head(lengths: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut head = vec![WITH_BUFFERS, VERSION, 0, 0, 0, 0, 0, 0];
    let mut count = 0u32;
    for length in lengths {
        head.extend_from_slice(&(length as u64).to_be_bytes());
        count += 1;
    }
    head[4..8].copy_from_slice(&(count - 1).to_be_bytes());
    head
}

/// The value of a message, and its memory if that can be used again.
pub(crate) fn decode(
    py: Python<'_>,
    message: Memory,
) -> (PyResult<Bound<'_, PyAny>>, Option<Memory>) {
    if let Memory::Native(bytes) = &message
        && let Some(value) = plain::read(py, bytes)
    {
        return (Ok(value), Some(message));
    }
    let beside = message.as_slice().first() == Some(&WITH_BUFFERS);
    let (object, memory) = match message {
        Memory::Array(array) => (array.finish(py).map(Bound::into_any), None),
        other if beside => (Ok(PyByteArray::new(py, other.as_slice()).into_any()), None),
        other => {
            let (bytes, memory) = other.into_bytes(py);
            (Ok(bytes.into_any()), memory)
        }
    };
    let value = object.and_then(|object| match beside {
        true => load_with_buffers(&object),
        false => loads(py)?.call1((object,)),
    });
    (value, memory)
}

fn loads(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    LOADS.import(py, "pickle", "loads")
}

fn load_with_buffers<'py>(message: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = message.py();
    let ranges = {
        let array = message.cast::<PyByteArray>()?;
        // SAFETY: nobody else has the bytearray yet, and no code of Python runs while it is read.
        ranges(unsafe { array.as_bytes() })
    };
    let ranges = ranges.ok_or_else(|| {
        static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        match CLASS.import(py, "pickle", "UnpicklingError") {
            Ok(class) => PyErr::from_type(
                class.clone(),
                ("expected a pickle with buffers, but the lengths in its head do not fit it",),
            ),
            Err(error) => error,
        }
    })?;
    let view = PyMemoryView::from(message)?;
    let mut parts = ranges
        .into_iter()
        .map(|(start, end)| section(&view, start, end));
    let Some(pickle) = parts.next() else {
        return loads(py)?.call1((message,));
    };
    let buffers = parts.collect::<PyResult<Vec<_>>>()?;
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "buffers"), buffers)?;
    loads(py)?.call((pickle?,), Some(&keywords))
}

/// Where the pickle and the buffers of a message lie; nothing if its head and its length disagree.
fn ranges(message: &[u8]) -> Option<Vec<(isize, isize)>> {
    let (head, lengths) = message.split_at_checked(8)?;
    let [WITH_BUFFERS, VERSION, 0, 0, count @ ..] = head else {
        return None;
    };
    let count = usize::try_from(u32::from_be_bytes(count.try_into().ok()?)).ok()? + 1;
    let lengths = lengths.get(..count.checked_mul(8)?)?;
    let mut end = head.len() + lengths.len();
    let mut ranges = Vec::with_capacity(count);
    for length in lengths.as_chunks::<8>().0 {
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let start = match ranges.is_empty() {
            true => end, // The pickle follows the head.
            false => end.checked_next_multiple_of(ALIGNMENT)?,
        };
        end = start.checked_add(length)?;
        ranges.push((start.try_into().ok()?, end.try_into().ok()?));
    }
    (end == message.len()).then_some(ranges)
}
