//! Where payloads are received: in Rust's memory, or at once in the Python object that they become.

use std::io;
use std::mem::MaybeUninit;
use std::slice;

use ductworks::wire::Body;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

/// The memory of a payload.
pub(crate) enum Memory {
    Native(Vec<u8>),
    Array(Array),
}

/// A bytearray that grows as its payload arrives. Nothing else refers to it until it is complete.
pub(crate) struct Array {
    object: Py<PyByteArray>,
    start: *mut u8,
    capacity: usize,
    len: usize,
}

// SAFETY: `start` points into `object`, which may be used from any thread, and to which nobody else
// has a reference.
unsafe impl Send for Array {}

impl Memory {
    /// An empty bytearray.
    pub(crate) fn array(py: Python<'_>) -> Self {
        let object = PyByteArray::new(py, &[]);
        Self::Array(Array {
            start: object.data(),
            object: object.unbind(),
            capacity: 0,
            len: 0,
        })
    }
}

impl Array {
    /// The complete payload.
    pub(crate) fn finish(self, py: Python<'_>) -> PyResult<Bound<'_, PyByteArray>> {
        let object = self.object.into_bound(py);
        if self.capacity != self.len {
            object.resize(self.len)?;
        }
        Ok(object)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::Native(Vec::new())
    }
}

// SAFETY: for the vector as in its own implementation. A bytearray's bytes are `capacity` many from
// `start` on, and it moves or changes them only when it is resized, which is done here alone.
unsafe impl Body for Memory {
    fn len(&self) -> usize {
        match self {
            Self::Native(bytes) => bytes.len(),
            Self::Array(array) => array.len,
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Native(bytes) => bytes.capacity(),
            Self::Array(array) => array.capacity,
        }
    }

    fn reserve(&mut self, total: usize) -> io::Result<()> {
        match self {
            Self::Native(bytes) => Body::reserve(bytes, total),
            Self::Array(array) => Python::attach(|py| {
                let object = array.object.bind(py);
                object
                    .resize(total)
                    .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
                array.start = object.data();
                array.capacity = total;
                Ok(())
            }),
        }
    }

    fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        match self {
            Self::Native(bytes) => bytes.spare_capacity_mut(),
            // SAFETY: the bytes from `len` to `capacity` belong to the bytearray, which only this
            // value can reach, and it is borrowed for as long as the slice is.
            Self::Array(array) => unsafe {
                let behind = array.start.add(array.len).cast();
                slice::from_raw_parts_mut(behind, array.capacity - array.len)
            },
        }
    }

    unsafe fn filled(&mut self, count: usize) {
        match self {
            // SAFETY: the caller's promise.
            Self::Native(bytes) => unsafe { Body::filled(bytes, count) },
            Self::Array(array) => array.len += count,
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Native(bytes) => bytes,
            // SAFETY: the first `len` bytes have been filled, and nobody else can reach them.
            Self::Array(array) => unsafe { slice::from_raw_parts(array.start, array.len) },
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Native(bytes) => bytes.clear(),
            Self::Array(array) => array.len = 0,
        }
    }
}
