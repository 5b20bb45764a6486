//! Where payloads are received: in Rust's memory, at once in the Python object that they become, or
//! in a buffer of the caller's.

use std::io;
use std::mem::MaybeUninit;
use std::slice;

use ductworks::wire::{Body, HEAD_MAX};
use pyo3::buffer::PyBuffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

/// A payload above this size, in bytes, is received in the Python object that it becomes: below it a
/// copy is cheaper.
pub(crate) const LARGE: usize = 16 * 1024;

/// The memory of a payload.
pub(crate) enum Memory {
    Native(Vec<u8>),
    Array(Array),
    Bytes(Bytes),
    Place(Place),
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

/// A bytes object for a payload whose length is announced. A bytes object cannot grow, so the
/// beginning is received in a vector, until the memory for the whole may be had.
pub(crate) struct Bytes {
    announced: usize,
    beginning: Vec<u8>,
    whole: Option<(Py<PyBytes>, *mut u8)>,
    len: usize,
}

// SAFETY: the pointer is to the memory of the object beside it, which may be used from any thread,
// and to which nobody else has a reference.
unsafe impl Send for Bytes {}

/// The beginning of a writable buffer, for one call: when that ends early, what has arrived moves
/// into a vector. The interpreter is released meanwhile, so another thread of the program could use
/// the buffer, as with `socket.recv_into`; nothing here reads what it might write there.
pub(crate) struct Place {
    view: PyBuffer<u8>,
    len: usize,
}

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

    /// A bytes object for a payload of so many bytes.
    pub(crate) fn bytes(announced: usize) -> Self {
        Self::Bytes(Bytes {
            announced,
            beginning: Vec::new(),
            whole: None,
            len: 0,
        })
    }

    /// A buffer that is known to be writable and contiguous.
    pub(crate) fn place(view: PyBuffer<u8>) -> Self {
        Self::Place(Place { view, len: 0 })
    }

    /// The complete payload as a bytes object, and the memory if that can be used again.
    pub(crate) fn into_bytes(self, py: Python<'_>) -> (Bound<'_, PyBytes>, Option<Self>) {
        match self {
            Self::Bytes(Bytes {
                whole: Some((object, _)),
                announced,
                len,
                ..
            }) if len == announced => (object.into_bound(py), None),
            Self::Native(bytes) => (PyBytes::new(py, &bytes), Some(Self::Native(bytes))),
            other => (PyBytes::new(py, other.as_slice()), None),
        }
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

    fn reserve(&mut self, total: usize) -> io::Result<()> {
        Python::attach(|py| {
            let object = self.object.bind(py);
            object
                .resize(total)
                .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
            self.start = object.data();
            self.capacity = total;
            Ok(())
        })
    }
}

impl Bytes {
    fn reserve(&mut self, total: usize) -> io::Result<()> {
        if total < self.announced {
            // No more than half of it is there twice, when it moves into the object: the two together
            // are never more than the message.
            let most = (self.announced / 2).max(HEAD_MAX);
            return Body::reserve(&mut self.beginning, total.min(most));
        }
        Python::attach(|py| {
            let size = self
                .announced
                .try_into()
                .map_err(|_| io::ErrorKind::OutOfMemory)?;
            // SAFETY: the arguments are as documented, and the result is checked. A bytes object
            // may be filled as long as nobody else has it (Bytes Objects, Python/C API manual).
            let object: Bound<'_, PyBytes> = unsafe {
                let object = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
                Bound::from_owned_ptr_or_err(py, object)
                    .map_err(|_| io::ErrorKind::OutOfMemory)?
                    .cast_into_unchecked()
            };
            // SAFETY: it is a bytes object.
            let start = unsafe { ffi::PyBytes_AsString(object.as_ptr()) }.cast::<u8>();
            // SAFETY: the beginning is no longer than the whole, and the two do not overlap.
            unsafe {
                std::ptr::copy_nonoverlapping(self.beginning.as_ptr(), start, self.len);
            }
            self.beginning = Vec::new();
            self.whole = Some((object.unbind(), start));
            Ok(())
        })
    }
}

impl Place {
    fn start(&self) -> *mut u8 {
        self.view.buf_ptr().cast()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::Native(Vec::new())
    }
}

/// The place behind `len` of `capacity` bytes.
///
/// # Safety
///
/// `start` points to `capacity` bytes that nothing else in Rust reads or writes while the slice is in
/// use.
unsafe fn behind<'a>(start: *mut u8, len: usize, capacity: usize) -> &'a mut [MaybeUninit<u8>] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts_mut(start.add(len).cast(), capacity - len) }
}

// SAFETY: for vectors as in their own implementation. A bytearray's bytes are `capacity` many from
// `start` on, and it moves or changes them only when it is resized, which is done here alone. A bytes
// object never moves, and a buffer's exporter keeps it in its place for as long as it is held.
unsafe impl Body for Memory {
    fn len(&self) -> usize {
        match self {
            Self::Native(bytes) => bytes.len(),
            Self::Array(array) => array.len,
            Self::Bytes(bytes) => bytes.len,
            Self::Place(place) => place.len,
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Native(bytes) => bytes.capacity(),
            Self::Array(array) => array.capacity,
            Self::Bytes(bytes) if bytes.whole.is_some() => bytes.announced,
            Self::Bytes(bytes) => bytes.beginning.capacity().min(bytes.announced),
            Self::Place(place) => place.view.len_bytes(),
        }
    }

    fn reserve(&mut self, total: usize) -> io::Result<()> {
        match self {
            Self::Native(bytes) => Body::reserve(bytes, total),
            Self::Array(array) => array.reserve(total),
            Self::Bytes(bytes) => bytes.reserve(total),
            Self::Place(place) if total <= place.view.len_bytes() => Ok(()),
            Self::Place(_) => Err(io::ErrorKind::OutOfMemory.into()),
        }
    }

    fn spare(&mut self) -> &mut [MaybeUninit<u8>] {
        match self {
            Self::Native(bytes) => bytes.spare_capacity_mut(),
            // SAFETY: it is the bytearray's, which only this value can reach.
            Self::Array(array) => unsafe { behind(array.start, array.len, array.capacity) },
            Self::Bytes(bytes) => match bytes.whole {
                // SAFETY: it is the bytes object's, which only this value can reach.
                Some((_, start)) => unsafe { behind(start, bytes.len, bytes.announced) },
                None => bytes.beginning.spare_capacity_mut(),
            },
            // SAFETY: the buffer is writable and contiguous, as `place` demands. No other Rust code
            // looks at it; what threads of Python do there is their own affair (see `Place`).
            Self::Place(place) => unsafe {
                behind(place.start(), place.len, place.view.len_bytes())
            },
        }
    }

    unsafe fn filled(&mut self, count: usize) {
        match self {
            // SAFETY: the caller's promise.
            Self::Native(bytes) => unsafe { Body::filled(bytes, count) },
            Self::Array(array) => array.len += count,
            Self::Bytes(bytes) => {
                if bytes.whole.is_none() {
                    // SAFETY: the caller's promise.
                    unsafe { Body::filled(&mut bytes.beginning, count) };
                }
                bytes.len += count;
            }
            Self::Place(place) => place.len += count,
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Native(bytes) => bytes,
            // SAFETY: the first `len` bytes have been filled, and nobody else can reach them.
            Self::Array(array) => unsafe { slice::from_raw_parts(array.start, array.len) },
            Self::Bytes(bytes) => match bytes.whole {
                // SAFETY: as above.
                Some((_, start)) => unsafe { slice::from_raw_parts(start, bytes.len) },
                None => &bytes.beginning,
            },
            // SAFETY: the exporter keeps the memory, of which the first `len` bytes are asked for.
            Self::Place(place) => unsafe { slice::from_raw_parts(place.start(), place.len) },
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Native(bytes) => bytes.clear(),
            Self::Array(array) => array.len = 0,
            Self::Bytes(bytes) => *self = Self::bytes(bytes.announced),
            Self::Place(place) => place.len = 0,
        }
    }

    fn vacate(&mut self) {
        if let Self::Place(_) = self {
            *self = Self::Native(self.as_slice().to_vec());
        }
    }
}
