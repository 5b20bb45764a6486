//! Serializers: the built-in JSON, and whatever callables the user gives.

use ductworks::engine::Announced;
use ductworks::wire::Body as _;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes};

use crate::buffer::{Part, contents};
use crate::json;
use crate::memory::Memory;

/// Encodes a value as `json.dumps(payload).encode("utf-8")` does.
#[pyfunction]
pub(crate) fn default_serializer<'py>(
    payload: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut message = Vec::new();
    json::encode(payload, &mut message)?;
    Ok(PyBytes::new(payload.py(), &message))
}

/// Decodes a value as `json.loads(payload.decode("utf-8"))` does.
#[pyfunction]
pub(crate) fn default_deserializer<'py>(
    payload: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    json::decode(
        payload.py(),
        contents(payload, "the payload", |_| Ok(()))?.as_bytes(),
    )
}

/// A payload above this size, in bytes, is received in the Python object that it becomes: below it a
/// copy is cheaper.
const LARGE: usize = 16 * 1024;

/// How values become payloads.
pub(crate) struct Serializer {
    callable: Py<PyAny>,
    /// It is the built-in one, and is never called.
    json: bool,
}

/// How payloads become values.
pub(crate) struct Deserializer {
    callable: Py<PyAny>,
    /// It is the built-in one, and is never called.
    json: bool,
}

impl Serializer {
    /// The serializer that a callable is.
    pub(crate) fn of(callable: &Bound<'_, PyAny>) -> PyResult<Self> {
        static BUILT_IN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let built_in = BUILT_IN.import(callable.py(), "ductworks._native", "default_serializer")?;
        Ok(Self {
            callable: callable.clone().unbind(),
            json: callable.is(built_in),
        })
    }

    /// The callable, for the user to see and the garbage collector to visit.
    pub(crate) fn callable(&self) -> &Py<PyAny> {
        &self.callable
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            callable: self.callable.clone_ref(py),
            json: self.json,
        }
    }

    /// The payload for a value, if its size fits.
    pub(crate) fn encode<'py>(
        &self,
        value: &Bound<'py, PyAny>,
        fits: impl FnOnce(usize) -> PyResult<()>,
    ) -> PyResult<Part<'py>> {
        if self.json {
            let mut message = Vec::with_capacity(128);
            json::encode(value, &mut message)?;
            return Ok(Part::Native(message));
        }
        let result = self.callable.bind(value.py()).call1((value,))?;
        contents(&result, "what serialize returns", fits).map(Part::Bytes)
    }
}

impl Deserializer {
    /// The deserializer that a callable is.
    pub(crate) fn of(callable: &Bound<'_, PyAny>) -> PyResult<Self> {
        static BUILT_IN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let built_in =
            BUILT_IN.import(callable.py(), "ductworks._native", "default_deserializer")?;
        Ok(Self {
            callable: callable.clone().unbind(),
            json: callable.is(built_in),
        })
    }

    /// The callable, for the user to see and the garbage collector to visit.
    pub(crate) fn callable(&self) -> &Py<PyAny> {
        &self.callable
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            callable: self.callable.clone_ref(py),
            json: self.json,
        }
    }

    /// The memory for a message, if it should not be Rust's.
    pub(crate) fn memory(&self, message: Announced) -> Option<Memory> {
        let fresh = message.arrived == 0;
        (fresh && !self.json && message.len > LARGE).then(|| Python::attach(Memory::array))
    }

    /// Decodes a payload, and returns its memory if that can be used again.
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        message: Memory,
    ) -> (PyResult<Bound<'py, PyAny>>, Option<Memory>) {
        if self.json {
            return (json::decode(py, message.as_slice()), Some(message));
        }
        // The original library passes a bytearray.
        let (array, memory) = match message {
            Memory::Native(bytes) => {
                let array = PyByteArray::new(py, &bytes);
                (Ok(array), Some(Memory::Native(bytes)))
            }
            Memory::Array(array) => (array.finish(py), None),
            // No call of this class asks for memory of another kind.
            other => (Ok(PyByteArray::new(py, other.as_slice())), None),
        };
        let value = array.and_then(|array| self.callable.bind(py).call1((array,)));
        (value, memory)
    }
}
