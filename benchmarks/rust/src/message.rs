//! The messages that are measured.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};

use crate::Result;

/// The small JSON document: about 50 bytes on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document {
    id: u64,
    name: String,
    ok: bool,
    n: f64,
}

/// A message to send, or the place for one to receive.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    Document(Document),
    Bytes(Bytes),
}

/// Bytes that begin at the same distance from a page's begin in every process.
///
/// Some processors copy several times slower where source and destination lie a few bytes apart
/// modulo the page size, so where an allocator happens to put a buffer could decide a comparison.
#[derive(Debug)]
pub(crate) struct Bytes {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bytes {
    const PAGE: usize = 4096;
    const OFFSET: usize = 64;

    fn new(bytes: impl ExactSizeIterator<Item = u8>) -> Self {
        let len = bytes.len();
        let mut buffer = vec![0; len + 2 * Self::PAGE];
        let to_next_page = Self::PAGE - buffer.as_ptr().addr() % Self::PAGE;
        let start = to_next_page + Self::OFFSET;
        for (place, byte) in buffer[start..].iter_mut().zip(bytes) {
            *place = byte;
        }
        Bytes { buffer, start, len }
    }
}

/// A message as a library allocated it, where the library left it.
impl From<Vec<u8>> for Bytes {
    fn from(buffer: Vec<u8>) -> Self {
        Bytes {
            len: buffer.len(),
            start: 0,
            buffer,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..][..self.len]
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..][..self.len]
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

/// Which message is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Case {
    Json,
    Bytes(usize),
}

impl Case {
    pub(crate) const ALL: [Case; 5] = [
        Case::Json,
        Case::Bytes(64),
        Case::Bytes(4 << 10),
        Case::Bytes(64 << 10),
        Case::Bytes(1 << 20),
    ];

    /// The case as the command line and the JSON output write it.
    pub(crate) fn name(self) -> String {
        match self {
            Case::Json => "json".to_owned(),
            Case::Bytes(size) => size.to_string(),
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self> {
        Ok(if name == "json" {
            Case::Json
        } else {
            Case::Bytes(name.parse()?)
        })
    }

    pub(crate) fn message(self) -> Message {
        match self {
            Case::Json => Message::Document(Document {
                id: 4711,
                name: "ductworks".to_owned(),
                ok: true,
                n: 0.25,
            }),
            Case::Bytes(size) => Message::Bytes(Bytes::new((0..size).map(|index| index as u8))),
        }
    }

    /// What the child answers to a whole stream: a small message of the connection's own kind.
    pub(crate) fn acknowledgement(self) -> Message {
        match self {
            Case::Json => Case::Json.message(),
            Case::Bytes(_) => Message::Bytes(Bytes::new(b"received".iter().copied())),
        }
    }

    /// Bytes of payload that a message takes on the wire of the ducts.
    pub(crate) fn payload_size(self) -> Result<usize> {
        Ok(match self.message() {
            Message::Document(document) => serde_json::to_vec(&document)?.len(),
            Message::Bytes(bytes) => bytes.len(),
        })
    }
}

impl Message {
    /// A place of the same kind and size whose content differs.
    pub(crate) fn blank(&self) -> Message {
        match self {
            Message::Document(_) => Message::Document(Document {
                id: 0,
                name: String::new(),
                ok: false,
                n: 0.0,
            }),
            Message::Bytes(bytes) => Message::Bytes(Bytes::new(bytes.iter().map(|_| 0))),
        }
    }
}
