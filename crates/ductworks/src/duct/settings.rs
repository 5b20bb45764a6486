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

/// The methods that both kinds of options have for them.
macro_rules! settings_methods {
    () => {
        /// The largest message, in bytes, that may be sent or received: the smaller of what both
        /// sides say holds.
        pub fn message_limit(mut self, bytes: usize) -> Self {
            self.settings.message_limit = bytes;
            self
        }

        /// Has a duct over TCP notice within this time, and a second, that the other host is gone;
        /// see [`Duct::set_keepalive`](crate::Duct::set_keepalive).
        pub fn keepalive(mut self, patience: Duration) -> Self {
            self.settings.keepalive = Some(patience);
            self
        }

        /// The name of the codec that the other side has to use too. Unless both sides name theirs,
        /// nothing is compared.
        pub fn codec_name(mut self, name: impl Into<String>) -> Self {
            self.settings.codec = name.into();
            self
        }
    };
}

pub(crate) use settings_methods;
