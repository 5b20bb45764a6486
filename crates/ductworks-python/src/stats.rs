//! What has gone through a duct, as a Python object.

use pyo3::prelude::*;

/// What has gone through one end, counted in this process.
#[pyclass(frozen, get_all, eq, module = "ductworks")]
#[derive(Clone, PartialEq)]
pub(crate) struct Stats {
    /// How many messages were accepted for sending.
    messages_sent: u64,
    /// How many messages were received whole.
    messages_received: u64,
    /// The bytes of all messages that were sent, without what the wire adds.
    bytes_sent: u64,
    /// The bytes of all messages that were received.
    bytes_received: u64,
    /// The bytes of the largest message that was sent.
    largest_sent: usize,
    /// The bytes of the largest message that was received.
    largest_received: usize,
    /// How often a thread had to wait: for the other end to send, or to make room by receiving.
    waits: u64,
}

#[pymethods]
impl Stats {
    fn __repr__(&self) -> String {
        format!(
            "Stats(messages_sent={}, messages_received={}, bytes_sent={}, bytes_received={}, \
             largest_sent={}, largest_received={}, waits={})",
            self.messages_sent,
            self.messages_received,
            self.bytes_sent,
            self.bytes_received,
            self.largest_sent,
            self.largest_received,
            self.waits,
        )
    }
}

impl From<ductworks::Stats> for Stats {
    fn from(stats: ductworks::Stats) -> Self {
        Self {
            messages_sent: stats.sent.messages,
            messages_received: stats.received.messages,
            bytes_sent: stats.sent.bytes,
            bytes_received: stats.received.bytes,
            largest_sent: stats.sent.largest,
            largest_received: stats.received.largest,
            waits: stats.waits,
        }
    }
}
