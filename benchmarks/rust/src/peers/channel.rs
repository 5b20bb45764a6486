//! The crate ipc-channel: one channel each way.

use ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcReceiver, IpcSender,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Link, Listening};
use crate::Result;
use crate::message::{Case, Document, Message};

/// The parent's ends of both channels; the child makes the channels and sends these.
type Ends<S, R> = (S, R);
type ByteEnds = Ends<IpcBytesSender, IpcBytesReceiver>;
type DocumentEnds = Ends<IpcSender<Document>, IpcReceiver<Document>>;

struct Server<E> {
    server: IpcOneShotServer<E>,
    name: String,
}

struct Bytes(ByteEnds);
struct Documents(DocumentEnds);

pub(super) fn listen(case: Case) -> Result<Box<dyn Listening>> {
    Ok(match case {
        Case::Json => Box::new(Server::<DocumentEnds>::new()?),
        Case::Bytes(_) => Box::new(Server::<ByteEnds>::new()?),
    })
}

pub(super) fn connect(case: Case, name: &str) -> Result<Box<dyn Link>> {
    Ok(match case {
        Case::Json => {
            let (to_child, from_parent) = ipc::channel::<Document>()?;
            let (to_parent, from_child) = ipc::channel::<Document>()?;
            give(name, (to_child, from_child))?;
            Box::new(Documents((to_parent, from_parent)))
        }
        Case::Bytes(_) => {
            let (to_child, from_parent) = ipc::bytes_channel()?;
            let (to_parent, from_child) = ipc::bytes_channel()?;
            give(name, (to_child, from_child))?;
            Box::new(Bytes((to_parent, from_parent)))
        }
    })
}

fn give<E: Serialize>(name: &str, ends: E) -> Result<()> {
    Ok(IpcSender::connect(name.to_owned())?.send(ends)?)
}

impl<E: Serialize + DeserializeOwned> Server<E> {
    fn new() -> Result<Self> {
        let (server, name) = IpcOneShotServer::new()?;
        Ok(Server { server, name })
    }
}

impl Listening for Server<DocumentEnds> {
    fn address(&self) -> String {
        self.name.clone()
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Link>> {
        Ok(Box::new(Documents(self.server.accept()?.1)))
    }
}

impl Listening for Server<ByteEnds> {
    fn address(&self) -> String {
        self.name.clone()
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Link>> {
        Ok(Box::new(Bytes(self.server.accept()?.1)))
    }
}

impl Link for Documents {
    fn send(&mut self, message: &Message) -> Result<()> {
        match message {
            // It takes its messages by value.
            Message::Document(document) => Ok(self.0.0.send(document.clone())?),
            Message::Bytes(_) => Err("this channel carries documents".into()),
        }
    }

    fn recv(&mut self, place: &mut Message) -> Result<()> {
        *place = Message::Document(self.0.1.recv()?);
        Ok(())
    }
}

impl Link for Bytes {
    fn send(&mut self, message: &Message) -> Result<()> {
        match message {
            Message::Bytes(bytes) => Ok(self.0.0.send(bytes)?),
            Message::Document(_) => Err("this channel carries bytes".into()),
        }
    }

    fn recv(&mut self, place: &mut Message) -> Result<()> {
        *place = Message::Bytes(self.0.1.recv()?.into());
        Ok(())
    }
}
