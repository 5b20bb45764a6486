//! The least that carries messages over a Unix stream: what a duct is compared with.

use std::io::{IoSlice, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use tempfile::TempDir;

use super::{Link, Listening};
use crate::Result;
use crate::message::Message;

const HEADER: usize = 5;
const MAGIC: u8 = 0x54;

pub(super) struct Bare {
    stream: UnixStream,
    /// Received documents are parsed from here.
    buffer: Vec<u8>,
}

pub(super) struct BareListening {
    listener: UnixListener,
    path: String,
    /// Removes the socket when the child is in.
    _directory: TempDir,
}

pub(super) fn listen() -> Result<BareListening> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bare").to_string_lossy().into_owned();
    Ok(BareListening {
        listener: UnixListener::bind(&path)?,
        path,
        _directory: directory,
    })
}

pub(super) fn connect(address: &str) -> Result<Bare> {
    Ok(Bare::new(UnixStream::connect(address)?))
}

impl Listening for BareListening {
    fn address(&self) -> String {
        self.path.clone()
    }

    fn accept(self: Box<Self>) -> Result<Box<dyn Link>> {
        Ok(Box::new(Bare::new(self.listener.accept()?.0)))
    }
}

impl Link for Bare {
    fn send(&mut self, message: &Message) -> Result<()> {
        match message {
            Message::Document(document) => self.send_payload(&serde_json::to_vec(document)?),
            Message::Bytes(bytes) => self.send_payload(bytes),
        }
    }

    fn recv(&mut self, place: &mut Message) -> Result<()> {
        match place {
            Message::Document(document) => {
                let length = recv_header(&mut self.stream)?;
                self.buffer.resize(length, 0);
                self.stream.read_exact(&mut self.buffer)?;
                *document = serde_json::from_slice(&self.buffer)?;
            }
            Message::Bytes(bytes) => {
                let length = recv_header(&mut self.stream)?;
                let place = bytes.get_mut(..length).ok_or("a longer message came")?;
                self.stream.read_exact(place)?;
            }
        }
        Ok(())
    }
}

impl Bare {
    fn new(stream: UnixStream) -> Self {
        Bare {
            stream,
            buffer: Vec::new(),
        }
    }

    fn send_payload(&mut self, payload: &[u8]) -> Result<()> {
        let mut header = [0; HEADER];
        header[0] = MAGIC;
        header[1..].copy_from_slice(&u32::try_from(payload.len())?.to_be_bytes());
        let mut slices = &mut [IoSlice::new(&header), IoSlice::new(payload)][..];
        while !slices.is_empty() {
            let written = self.stream.write_vectored(slices)?;
            if written == 0 {
                return Err("the stream takes no more".into());
            }
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(())
    }
}

/// The length of the payload that follows.
fn recv_header(stream: &mut UnixStream) -> Result<usize> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let [magic, length @ ..] = header;
    if magic != MAGIC {
        return Err("not a message".into());
    }
    Ok(u32::from_be_bytes(length) as usize)
}
