//! Waiting without the interpreter, and with an ear for signals.

use std::time::Duration;

use ductworks::engine::{Deadline, Hook, Wait};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The hook of an operation that runs detached from the interpreter: a signal runs its Python
/// handlers, and what they raise ends the operation.
pub(crate) struct Signals;

/// How long a signal that came just before a wait can go unnoticed.
const ATTENTION: Duration = Duration::from_millis(200);

impl Hook for Signals {
    /// Python runs its handlers in the main thread only.
    fn attention(&self) -> Option<Duration> {
        let main = rustix::thread::gettid() == rustix::process::getpid();
        main.then_some(ATTENTION)
    }

    fn interrupted(&mut self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Python::attach(|py| py.check_signals()).map_err(Into::into)
    }
}

/// Runs a blocking operation without the interpreter.
pub(crate) fn blocking<T: Send>(
    py: Python<'_>,
    deadline: Deadline,
    operation: impl FnOnce(&mut Wait<'_>) -> T + Send,
) -> T {
    py.detach(|| operation(&mut Wait::hooked(deadline, &mut Signals)))
}

/// A timeout in seconds as Python programs give it: None waits for ever, zero not at all.
pub(crate) fn deadline(timeout: Option<f64>) -> PyResult<Deadline> {
    let Some(seconds) = timeout else {
        return Ok(Deadline::Never);
    };
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!(
            "timeout must be non-negative, got {seconds}"
        )));
    }
    if seconds == 0.0 {
        return Ok(Deadline::Now);
    }
    // What no Duration can hold is longer than anything lives.
    Ok(Duration::try_from_secs_f64(seconds).map_or(Deadline::Never, Deadline::after))
}
