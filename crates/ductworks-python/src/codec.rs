//! How values become messages: for a modern duct its codec, for one of the original's two callables.

use ductworks::engine::Announced;
use ductworks::wire::Body as _;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyBytes, PyString};

use crate::buffer::{Part, contents, part};
use crate::json;
use crate::memory::{LARGE, Memory};
use crate::pickle;

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

/// How values become messages.
pub(crate) enum Codec {
    Json,
    Pickle,
    Raw,
    Object(Py<PyAny>),
}

impl Codec {
    pub(crate) fn of(codec: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(name) = codec.cast::<PyString>() else {
            return Ok(Self::Object(codec.clone().unbind()));
        };
        match name.to_str()? {
            "json" => Ok(Self::Json),
            "pickle" => Ok(Self::Pickle),
            "raw" => Ok(Self::Raw),
            other => Err(PyValueError::new_err(format!(
                "the built-in codecs are json, pickle and raw, got {other}"
            ))),
        }
    }

    pub(crate) fn encode<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Vec<Part<'py>>> {
        let py = value.py();
        match self {
            Self::Json => {
                let mut message = Vec::with_capacity(128);
                json::encode(value, &mut message)?;
                Ok(vec![Part::Native(message)])
            }
            Self::Pickle => pickle::encode(value, true),
            Self::Raw => Ok(vec![part(value, "a raw duct sends bytes, and value")?]),
            Self::Object(codec) => {
                let encoded = codec.call_method1(py, intern!(py, "encode"), (value,))?;
                Ok(vec![part(
                    encoded.bind(py),
                    "what the codec's encode() returns",
                )?])
            }
        }
    }

    /// The memory for a message, if it should not be Rust's.
    pub(crate) fn memory(&self, message: Announced) -> Option<Memory> {
        if message.len <= LARGE || !message.is_new() {
            return None;
        }
        match self {
            Self::Json => None,
            Self::Pickle => Some(Python::attach(Memory::array)),
            Self::Raw | Self::Object(_) => Some(Memory::bytes(message.len)),
        }
    }

    /// The value of a message, and its memory if that can be used again.
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        message: Memory,
    ) -> (PyResult<Bound<'py, PyAny>>, Option<Memory>) {
        match self {
            Self::Json => (json::decode(py, message.as_slice()), Some(message)),
            Self::Pickle => pickle::decode(py, message),
            Self::Raw => {
                let (bytes, memory) = message.into_bytes(py);
                (Ok(bytes.into_any()), memory)
            }
            Self::Object(codec) => {
                let (bytes, memory) = message.into_bytes(py);
                let value = codec.bind(py).call_method1(intern!(py, "decode"), (bytes,));
                (value, memory)
            }
        }
    }
}

/// How values become payloads on a duct of the original's.
pub(crate) struct Serializer {
    callable: Py<PyAny>,
    /// It is the built-in one, and is never called.
    json: bool,
}

/// How payloads become values there.
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
        (message.is_new() && !self.json && message.len > LARGE)
            .then(|| Python::attach(Memory::array))
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
