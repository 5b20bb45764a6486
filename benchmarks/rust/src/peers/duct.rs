//! This library.

use std::time::Duration;

use ductworks::{Duct, Parent};

use super::{Link, Listening};
use crate::Result;
use crate::message::Message;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How messages of bytes are received.
#[derive(Clone, Copy)]
pub(super) enum Receive {
    /// With `recv_into`, into a buffer that is used again.
    IntoPlace,
    /// With `recv_bytes`, as a vector of its own.
    AsVec,
}

pub(super) struct DuctLink {
    duct: Duct,
    receive: Receive,
}

pub(super) struct DuctListening {
    parent: Parent,
    receive: Receive,
}

pub(super) fn listen(receive: Receive) -> Result<DuctListening> {
    Ok(DuctListening {
        parent: Parent::bind()?,
        receive,
    })
}

pub(super) fn connect(address: &str, receive: Receive) -> Result<DuctLink> {
    Ok(DuctLink {
        duct: ductworks::connect(address)?,
        receive,
    })
}

impl Listening for DuctListening {
    fn address(&self) -> String {
        self.parent.ticket().to_string()
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Link>> {
        let duct = self.parent.listen(CONNECT_TIMEOUT)?;
        Ok(Box::new(DuctLink {
            duct,
            receive: self.receive,
        }))
    }
}

impl Link for DuctLink {
    fn send(&mut self, message: &Message) -> Result<()> {
        match message {
            Message::Document(document) => self.duct.send(document)?,
            Message::Bytes(bytes) => self.duct.send_bytes(bytes)?,
        }
        Ok(())
    }

    fn recv(&mut self, place: &mut Message) -> Result<()> {
        match (place, self.receive) {
            (Message::Document(document), _) => *document = self.duct.recv()?,
            (Message::Bytes(bytes), Receive::IntoPlace) => {
                self.duct.recv_into(bytes)?;
            }
            (Message::Bytes(bytes), Receive::AsVec) => *bytes = self.duct.recv_bytes()?.into(),
        }
        Ok(())
    }
}
