//! The files in docs/vectors.

// A failed unwrap is how a test fails.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct File<T> {
    vectors: Vec<T>,
}

pub fn vectors<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = format!("{}/../../docs/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let file: File<T> = serde_json::from_str(&text).unwrap();
    assert!(file.vectors.len() > 10, "{path} has few vectors");
    file.vectors
}

/// Bytes in hexadecimal digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Hex(pub Vec<u8>);

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let byte =
            |at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(serde::de::Error::custom);
        (0..digits.len())
            .step_by(2)
            .map(byte)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Hex {
    pub fn array(&self) -> [u8; 32] {
        self.0[..].try_into().unwrap()
    }
}
