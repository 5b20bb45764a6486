//! The integration tests: one program, and so one link, with a module for each subject.
//!
//! `cargo test` runs them as threads of one process. `make test` gives each a process of its own,
//! where what a test leaves behind fails it: see tests/rust/test_rust.py and `harness`.

// A failed unwrap is how a test fails.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;
mod harness;
mod vector_files;

#[cfg(feature = "tls")]
mod authority;

mod closing;
mod codecs;
mod descriptors;
mod ends;
mod farewell;
mod fork;
mod framing;
mod full;
mod handshake_vectors;
mod hostile;
mod huge;
mod limits;
#[cfg(feature = "multiprocessing")]
mod lobby;
mod memory;
mod network;
mod offsets;
mod partial_sends;
mod passing;
mod private_addresses;
mod rendezvous;
mod signals;
mod strangers;
mod taken_over;
mod threads;
#[cfg(feature = "tls")]
mod tls;
mod tokens;
#[cfg(feature = "tracing")]
mod tracing;
mod vectors;

/// The entry point of the processes that tests start: plays the role that the environment names, and does
/// nothing otherwise.
#[test]
fn roles() {
    harness::play(&[
        &[("echo", common::echo)],
        descriptors::ROLES,
        ends::ROLES,
        farewell::ROLES,
        fork::ROLES,
        harness::ROLES,
        hostile::ROLES,
        huge::ROLES,
        #[cfg(feature = "tls")]
        memory::ROLES,
        network::ROLES,
        offsets::ROLES,
        passing::ROLES,
        private_addresses::ROLES,
        rendezvous::ROLES,
        signals::ROLES,
        strangers::ROLES,
        #[cfg(feature = "tls")]
        tls::ROLES,
    ]);
}
