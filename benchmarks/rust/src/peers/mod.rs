//! The libraries that are measured, each behind the same two calls.

mod bare;
mod channel;
mod duct;

use crate::Result;
use crate::message::{Case, Message};
use duct::Receive;

pub(crate) use duct::Over;

/// One end of a connection.
pub(crate) trait Link {
    fn send(&mut self, message: &Message) -> Result<()>;

    /// Receives into `place`, which has the kind of the message and room for it.
    fn recv(&mut self, place: &mut Message) -> Result<()>;
}

/// A listening end, before its child is there.
pub(crate) trait Listening {
    fn address(&self) -> String;
    fn accept(self: Box<Self>) -> Result<Box<dyn Link>>;
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Peer {
    /// This library, receiving bytes into a buffer that is used again, as `Bare` does.
    Ductworks,
    /// This library, receiving each message of bytes as a vector of its own, as `IpcChannel` does.
    DuctworksVec,
    /// This library with version 1 of its protocol.
    DuctworksV1,
    /// This library over TLS.
    DuctworksTls,
    /// A Unix stream from std: a length, then the payload.
    Bare,
    /// The crate ipc-channel. Its documents travel as postcard, not as JSON.
    IpcChannel,
}

impl Peer {
    pub(crate) const ALL: [Peer; 6] = [
        Peer::Ductworks,
        Peer::DuctworksVec,
        Peer::DuctworksV1,
        Peer::DuctworksTls,
        Peer::Bare,
        Peer::IpcChannel,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Ductworks => "ductworks",
            Peer::DuctworksVec => "ductworks Vec",
            Peer::DuctworksV1 => "ductworks v1",
            Peer::DuctworksTls => "ductworks TLS",
            Peer::Bare => "bare",
            Peer::IpcChannel => "ipc-channel",
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self> {
        let peer = Peer::ALL.into_iter().find(|peer| peer.name() == name);
        peer.ok_or_else(|| format!("unknown peer {name}").into())
    }

    pub(crate) fn listen(self, case: Case) -> Result<Box<dyn Listening>> {
        Ok(match self {
            Peer::Ductworks => Box::new(duct::listen(Over::Unix, Receive::IntoPlace)?),
            Peer::DuctworksVec => Box::new(duct::listen(Over::Unix, Receive::AsVec)?),
            Peer::DuctworksV1 => Box::new(duct::listen(Over::UnixV1, Receive::IntoPlace)?),
            Peer::DuctworksTls => Box::new(duct::listen(Over::Tls, Receive::IntoPlace)?),
            Peer::Bare => Box::new(bare::listen()?),
            Peer::IpcChannel => channel::listen(case)?,
        })
    }

    pub(crate) fn connect(self, case: Case, address: &str) -> Result<Box<dyn Link>> {
        Ok(match self {
            Peer::Ductworks => Box::new(duct::connect(Over::Unix, address, Receive::IntoPlace)?),
            Peer::DuctworksVec => Box::new(duct::connect(Over::Unix, address, Receive::AsVec)?),
            Peer::DuctworksV1 => {
                Box::new(duct::connect(Over::UnixV1, address, Receive::IntoPlace)?)
            }
            Peer::DuctworksTls => Box::new(duct::connect(Over::Tls, address, Receive::IntoPlace)?),
            Peer::Bare => Box::new(bare::connect(address)?),
            Peer::IpcChannel => channel::connect(case, address)?,
        })
    }
}
