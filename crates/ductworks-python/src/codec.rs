//! Serializers: the built-in JSON, and whatever callables the user gives.

use ductworks::wire::Body as _;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes};

use crate::buffer::contents;
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
    json::decode(payload.py(), contents(payload, "the payload")?.as_bytes())
}

/// A payload above this size, in bytes, is received in the Python object that it becomes: below it a
/// copy is cheaper.
const LARGE: usize = 64 * 1024;

/// How values become payloads.
pub(crate) enum Serializer {
    Json,
    Call(Py<PyAny>),
}

/// How payloads become values.
pub(crate) enum Deserializer {
    Json,
    Call(Py<PyAny>),
}

/// A payload that is ready to be sent.
pub(crate) enum Payload<'py> {
    Native(Vec<u8>),
    Python(Bound<'py, PyBytes>),
}

impl Payload<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Native(bytes) => bytes,
            Self::Python(bytes) => bytes.as_bytes(),
        }
    }
}

impl Serializer {
    /// The serializer for a callable; the built-in one is recognised, and then never called.
    pub(crate) fn of(callable: &Bound<'_, PyAny>) -> PyResult<Self> {
        static BUILT_IN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = callable.py();
        let built_in = BUILT_IN.import(py, "ductworks._native", "default_serializer")?;
        Ok(match callable.is(built_in) {
            true => Self::Json,
            false => Self::Call(callable.clone().unbind()),
        })
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Json => Self::Json,
            Self::Call(callable) => Self::Call(callable.clone_ref(py)),
        }
    }

    pub(crate) fn encode<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Payload<'py>> {
        match self {
            Self::Json => {
                let mut message = Vec::with_capacity(128);
                json::encode(value, &mut message)?;
                Ok(Payload::Native(message))
            }
            Self::Call(callable) => {
                let result = callable.bind(value.py()).call1((value,))?;
                contents(&result, "what serialize returns").map(Payload::Python)
            }
        }
    }
}

impl Deserializer {
    /// The deserializer for a callable; the built-in one is recognised, and then never called.
    pub(crate) fn of(callable: &Bound<'_, PyAny>) -> PyResult<Self> {
        static BUILT_IN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = callable.py();
        let built_in = BUILT_IN.import(py, "ductworks._native", "default_deserializer")?;
        Ok(match callable.is(built_in) {
            true => Self::Json,
            false => Self::Call(callable.clone().unbind()),
        })
    }

    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Json => Self::Json,
            Self::Call(callable) => Self::Call(callable.clone_ref(py)),
        }
    }

    /// The memory for a payload of `len` bytes, if it should not be Rust's.
    pub(crate) fn memory(&self, py: Python<'_>, len: usize) -> Option<Memory> {
        match self {
            Self::Json => None,
            Self::Call(_) => (len > LARGE).then(|| Memory::array(py)),
        }
    }

    /// Decodes a payload, and returns its memory if that can be used again.
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        message: Memory,
    ) -> (PyResult<Bound<'py, PyAny>>, Option<Memory>) {
        match self {
            Self::Json => (json::decode(py, message.as_slice()), Some(message)),
            // The original library passes a bytearray.
            Self::Call(callable) => {
                let (array, memory) = match message {
                    Memory::Native(bytes) => (
                        Ok(PyByteArray::new(py, &bytes)),
                        Some(Memory::Native(bytes)),
                    ),
                    Memory::Array(array) => (array.finish(py), None),
                };
                (
                    array.and_then(|array| callable.bind(py).call1((array,))),
                    memory,
                )
            }
        }
    }
}
