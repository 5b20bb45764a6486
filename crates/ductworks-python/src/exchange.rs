//! One message in or out of a socket, for every class: at once where that is possible, and else
//! without the interpreter.

use ductworks::ErrorKind;
use ductworks::engine::{Announced, Channel, Deadline, Stream, Wait};
use ductworks::wire::Framing;
use ductworks::{Error, Result};
use pyo3::prelude::*;

use crate::hook::blocking;
use crate::memory::Memory;

/// A message up to this size, in bytes, is transferred without releasing the interpreter first: the
/// copy is cheaper than that.
pub(crate) const SMALL: usize = 64 * 1024;

/// Sends the parts of a message.
pub(crate) fn send<F: Framing + Sync, S: Stream + Sync>(
    py: Python<'_>,
    channel: &Channel<F, Memory>,
    stream: &S,
    parts: &[&[u8]],
    until: Deadline,
) -> Result<()> {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    if size <= SMALL {
        match channel.send(stream, parts, &mut Wait::until(Deadline::Now)) {
            Ok(()) if channel.has_unsent() => {
                let flushed = blocking(py, until, |wait| channel.flush(stream, wait));
                // The message is accepted, whenever its rest goes out.
                return flushed.or_else(|error| match error.kind() {
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => Ok(()),
                    _ => Err(error),
                });
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
    blocking(py, until, |wait| channel.send(stream, parts, wait))
}

/// Receives a message in the memory that `memory` gives for it.
pub(crate) fn receive<F: Framing + Sync, S: Stream + Sync>(
    py: Python<'_>,
    channel: &Channel<F, Memory>,
    stream: &S,
    memory: impl Fn(Announced) -> Result<Option<Memory>> + Send + Sync,
    until: Deadline,
) -> Result<Memory> {
    let outcome = receive_small(channel, stream, &memory);
    match would_block(&outcome) {
        true => receive_waiting(py, channel, stream, memory, until),
        false => outcome,
    }
}

/// Receives a small message that is here already. Anything else would block.
pub(crate) fn receive_small<F: Framing, S: Stream>(
    channel: &Channel<F, Memory>,
    stream: &S,
    memory: impl Fn(Announced) -> Result<Option<Memory>>,
) -> Result<Memory> {
    let memory = |message: Announced| match message.len <= SMALL {
        true => memory(message),
        // A sender that keeps up with us would keep all other threads waiting.
        false => Err(Error::refusal(ErrorKind::WouldBlock)),
    };
    channel.receive_in(stream, memory, &mut Wait::until(Deadline::Now))
}

/// Receives a message without the interpreter.
pub(crate) fn receive_waiting<F: Framing + Sync, S: Stream + Sync>(
    py: Python<'_>,
    channel: &Channel<F, Memory>,
    stream: &S,
    memory: impl Fn(Announced) -> Result<Option<Memory>> + Send + Sync,
    until: Deadline,
) -> Result<Memory> {
    blocking(py, until, |wait| channel.receive_in(stream, memory, wait))
}

/// Whether a call failed because it may not wait.
pub(crate) fn would_block<T>(outcome: &Result<T>) -> bool {
    outcome
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}
