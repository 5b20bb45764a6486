//! This library.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ductworks::{Duct, ListenOptions, Parent, Ticket};

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

/// What the messages travel over.
#[derive(Clone, Copy)]
pub(crate) enum Over {
    /// A Unix socket, with version 2 of the protocol and a token.
    Unix,
    /// A Unix socket, with version 1.
    UnixV1,
    /// TLS on the loopback interface.
    Tls,
}

impl Over {
    pub(crate) fn bind(self) -> Result<Parent> {
        Ok(match self {
            Self::Unix => Parent::bind()?,
            Self::UnixV1 => ListenOptions::new().v1(true).bind_private()?.into(),
            Self::Tls => Parent::bind_to("tls:127.0.0.1:0")?,
        })
    }

    pub(crate) fn connect(self, ticket: &str) -> Result<Duct> {
        if let Self::UnixV1 = self {
            // Connecting by address would find out that both ends know version 2.
            let ticket: Ticket = ticket.parse()?;
            let path = ticket.address().path().ok_or("no Unix address")?;
            let socket = OwnedFd::from(UnixStream::connect(path)?);
            return Ok(Duct::try_from(socket)?);
        }
        Ok(ductworks::connect(ticket)?)
    }
}

pub(super) struct DuctLink {
    duct: Duct,
    receive: Receive,
}

pub(super) struct DuctListening {
    parent: Parent,
    receive: Receive,
}

pub(super) fn listen(over: Over, receive: Receive) -> Result<DuctListening> {
    Ok(DuctListening {
        parent: over.bind()?,
        receive,
    })
}

pub(super) fn connect(over: Over, address: &str, receive: Receive) -> Result<DuctLink> {
    Ok(DuctLink {
        duct: over.connect(address)?,
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
