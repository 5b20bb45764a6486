//! Keys and certificates, from the files that a program names.

use std::path::{Path, PathBuf};

use ductworks::{Identity, Roots};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The key and certificates of two files, which may be the same one.
pub(crate) fn identity(
    py: Python<'_>,
    certificates: Option<PathBuf>,
    key: Option<PathBuf>,
) -> PyResult<Option<Identity>> {
    let certificates = match (certificates, &key) {
        (Some(path), _) => path,
        (None, None) => return Ok(None),
        (None, Some(_)) => {
            return Err(PyValueError::new_err(
                "keyfile needs the certfile that goes with it",
            ));
        }
    };
    let key_file = key.as_deref().unwrap_or(&certificates);
    let identity = Identity::from_pem(read(py, key_file)?, read(py, &certificates)?);
    identity.map(Some).map_err(|error| {
        let files = format!("{} and {}", key_file.display(), certificates.display());
        PyValueError::new_err(format!("{files}: {error}"))
    })
}

/// The certificates of authorities in a file.
pub(crate) fn roots(py: Python<'_>, file: Option<PathBuf>) -> PyResult<Option<Roots>> {
    let Some(file) = file else {
        return Ok(None);
    };
    let roots = Roots::from_pem(read(py, &file)?);
    roots
        .map(Some)
        .map_err(|error| PyValueError::new_err(format!("{}: {error}", file.display())))
}

/// Python's own errors tell what was wrong with a file.
fn read(py: Python<'_>, file: &Path) -> PyResult<Vec<u8>> {
    let path = py.import("pathlib")?.getattr("Path")?.call1((file,))?;
    path.call_method0("read_bytes")?.extract()
}
