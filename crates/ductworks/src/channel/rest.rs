//! What is left of a message that was sent in part.

use std::os::fd::OwnedFd;

use crate::wire::Outgoing;

/// The unwritten rest of an accepted message: bytes, and then the descriptors that go with it.
#[derive(Debug, Default)]
pub(super) struct Rest {
    pub(super) bytes: Outgoing,
    pub(super) descriptors: Vec<OwnedFd>,
    /// Nobody will complete the frame, since the channel was closed in the middle of it. Nothing may follow:
    /// the other end would take it for what is missing.
    pub(super) is_cut: bool,
}

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.descriptors.is_empty()
    }

    /// How many bytes are still to be written.
    pub(super) fn len(&self) -> usize {
        self.bytes.unsent().len() + usize::from(!self.descriptors.is_empty())
    }
}
