//! What holds for any input whatever. Each module has one function `run`, which takes the bytes that a
//! fuzzer has made up, and panics if they break a promise.
//!
//! The programs in `targets/` give them to libFuzzer; `tests` below runs them over the kept inputs,
//! with neither libFuzzer nor a C++ compiler.

pub mod address;
pub mod challenge;
pub mod connection;
mod decoder;
pub mod handshake;
mod input;
mod measured;
pub mod ticket;
pub mod v1;
pub mod v2;

/// What checks an input.
pub type Run = fn(&[u8]);

/// The name of each target, and what it runs.
pub const TARGETS: [(&str, Run); 7] = [
    ("v1", v1::run),
    ("v2", v2::run),
    ("connection", connection::run),
    ("handshake", handshake::run),
    ("challenge", challenge::run),
    ("address", address::run),
    ("ticket", ticket::run),
];

#[cfg(test)]
mod tests;
