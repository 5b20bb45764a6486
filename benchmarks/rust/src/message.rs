//! The messages that are measured.

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

/// A message to send, or the place for one to receive; byte messages reuse their buffer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Document(Document),
    Bytes(Vec<u8>),
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
            Case::Bytes(size) => Message::Bytes((0..=255).cycle().take(size).collect()),
        }
    }

    /// What the child answers to a whole stream: a small message of the connection's own kind.
    pub(crate) fn acknowledgement(self) -> Message {
        match self {
            Case::Json => Case::Json.message(),
            Case::Bytes(_) => Message::Bytes(b"received".to_vec()),
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
            Message::Bytes(bytes) => Message::Bytes(vec![0; bytes.len()]),
        }
    }
}
