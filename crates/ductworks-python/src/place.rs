//! Private places for the names of sockets.

use ductworks::engine;
use pyo3::prelude::*;

use crate::error::raised;

/// A path for a socket, in a fresh directory of its own that nobody else can enter. The path is
/// chosen at once, and the directory is made by `create`.
#[pyclass(frozen, module = "ductworks._native")]
pub(crate) struct PrivatePath(engine::PrivatePath);

#[pymethods]
impl PrivatePath {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        engine::PrivatePath::choose()
            .map(Self)
            .map_err(|error| raised(py, error))
    }

    /// The socket's path.
    #[getter]
    fn path(&self) -> String {
        self.0.path().to_string_lossy().into_owned()
    }

    /// Makes the directory with mode 0700, and clears away what killed processes of this user have
    /// left.
    fn create(&self, py: Python<'_>) -> PyResult<()> {
        self.0.create().map_err(|error| raised(py, error))
    }

    /// Removes the socket and the directory, in the process that chose the path only.
    fn remove(&self) {
        self.0.remove();
    }
}
