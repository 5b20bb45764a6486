//! The native module of the Python package `ductworks`: its classes and functions are documented in
//! `python/ductworks`, which gives them their Python names.

mod buffer;
mod codec;
mod connection;
mod descriptors;
mod duct;
mod end;
mod error;
mod exchange;
mod foreign;
mod hook;
mod json;
mod listener;
mod memory;
mod message;
mod pickle;
mod place;
mod raw;
mod rendezvous;
mod socket;
mod stats;
mod tls;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::codec::{default_deserializer, default_serializer};
    #[pymodule_export]
    use crate::connection::Connection;
    #[pymodule_export]
    use crate::duct::Duct;
    #[pymodule_export]
    use crate::listener::{Listener, connect};
    #[pymodule_export]
    use crate::message::MessageDuct;
    #[pymodule_export]
    use crate::place::PrivatePath;
    #[pymodule_export]
    use crate::raw::{RawDuct, verify_peer};
    #[pymodule_export]
    use crate::rendezvous::{
        DuctListener, SecondDoor, address_of, connect_duct, connect_either, is_ticket, masked,
    };
    #[pymodule_export]
    use crate::socket::{Socket, pipe, socket_pair};
    #[pymodule_export]
    use crate::stats::Stats;

    /// Notes that this process has been forked.
    #[pyfunction]
    fn forked() {
        ductworks::engine::forked();
    }

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add(
            "DEFAULT_MESSAGE_LIMIT",
            ductworks::engine::DEFAULT_MESSAGE_LIMIT,
        )
    }
}
