//! What a duct is to be like, whether it is accepted or connects.

use std::time::Duration;

use crate::address::Address;
use crate::channel::DEFAULT_MESSAGE_LIMIT;
use crate::connection::check_keepalive;
use crate::error::Result;
use crate::wire::Terms;

/// What both kinds of options have in common.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// This side's own limit, in bytes.
    pub(crate) message_limit: usize,
    pub(crate) keepalive: Option<Duration>,
    /// The name of the codec, or nothing where it is not to be compared.
    pub(crate) codec: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            message_limit: DEFAULT_MESSAGE_LIMIT,
            keepalive: None,
            codec: String::new(),
        }
    }
}

impl Settings {
    /// Checks what the other end has no say in.
    pub(crate) fn check(&self) -> Result<()> {
        self.keepalive.map_or(Ok(()), check_keepalive)
    }

    /// What is said of it in the handshake.
    pub(crate) fn terms(&self, address: &Address) -> Terms {
        Terms {
            limit: self.message_limit as u64,
            codec: self.codec.clone(),
            descriptors: address.path().is_some(),
        }
    }
}
