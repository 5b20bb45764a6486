//! How values become messages.

use std::error::Error as StdError;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a codec reports. It becomes the [source](crate::Error::into_source) of the duct's error.
pub type CodecError = Box<dyn StdError + Send + Sync + 'static>;

/// A format of messages. What it can write and read is said by [`Encode`] and [`Decode`].
///
/// A format for every type that serde knows is a few lines, and so is one for types of its own, such
/// as the messages of Protocol Buffers:
///
/// ```
/// use ductworks::{Codec, CodecError, Decode, Encode};
/// use serde::{Serialize, de::DeserializeOwned};
///
/// /// JSON that people can read on the wire.
/// #[derive(Clone, Copy)]
/// struct Pretty;
///
/// impl Codec for Pretty {
///     fn name(&self) -> &'static str {
///         "pretty JSON"
///     }
/// }
///
/// impl<T: Serialize + ?Sized> Encode<T> for Pretty {
///     fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
///         Ok(serde_json::to_writer_pretty(out, value)?)
///     }
/// }
///
/// impl<T: DeserializeOwned> Decode<T> for Pretty {
///     fn decode(&self, message: Vec<u8>) -> Result<T, CodecError> {
///         Ok(serde_json::from_slice(&message)?)
///     }
/// }
///
/// let (a, b) = ductworks::pair()?;
/// a.with_codec(Pretty).send(&["one line", "each"])?;
/// assert_eq!(b.recv::<Vec<String>>()?, ["one line", "each"]);
/// # Ok::<(), ductworks::Error>(())
/// ```
pub trait Codec {
    /// The format's name, for error messages.
    fn name(&self) -> &'static str;
}

/// A format that can write a `T`.
pub trait Encode<T: ?Sized>: Codec {
    /// Appends the payload for `value` to `out`.
    ///
    /// # Errors
    ///
    /// If the format cannot express the value. Nothing is sent then.
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

/// A format that can read a `T`.
pub trait Decode<T>: Codec {
    /// Reads a value from a whole payload.
    ///
    /// # Errors
    ///
    /// If the payload is malformed or does not hold a `T`.
    fn decode(&self, message: Vec<u8>) -> Result<T, CodecError>;
}

/// UTF-8 JSON, the default, which the original library speaks too.
///
/// Like `serde_json`, it writes a float that is no number as `null`, and refuses the `NaN` and
/// `Infinity` that Python's `json` writes.
///
/// ```
/// use ductworks::{Encode, Json};
///
/// let mut payload = Vec::new();
/// Json.encode(&(1, "two"), &mut payload)?;
/// assert_eq!(payload, br#"[1,"two"]"#);
/// # Ok::<(), ductworks::CodecError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Codec for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }
}

impl<T: Serialize + ?Sized> Encode<T> for Json {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(serde_json::to_writer(out, value)?)
    }
}

impl<T: DeserializeOwned> Decode<T> for Json {
    fn decode(&self, message: Vec<u8>) -> Result<T, CodecError> {
        Ok(serde_json::from_slice(&message)?)
    }
}

/// [MessagePack](https://github.com/msgpack/msgpack/blob/master/spec.md): smaller than JSON, with
/// binary data and every number kept exactly. Structures are written as maps with their fields'
/// names, which is what other languages expect. Needs the feature `msgpack`.
///
/// ```
/// use ductworks::MessagePack;
///
/// let (a, b) = ductworks::pair()?;
/// let (a, b) = (a.with_codec(MessagePack), b.with_codec(MessagePack));
/// a.send(&(1.5, f64::INFINITY))?;
/// assert_eq!(b.recv::<(f64, f64)>()?, (1.5, f64::INFINITY));
/// # Ok::<(), ductworks::Error>(())
/// ```
#[cfg(feature = "msgpack")]
#[derive(Clone, Copy, Debug, Default)]
pub struct MessagePack;

#[cfg(feature = "msgpack")]
impl Codec for MessagePack {
    fn name(&self) -> &'static str {
        "MessagePack"
    }
}

#[cfg(feature = "msgpack")]
impl<T: Serialize + ?Sized> Encode<T> for MessagePack {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(rmp_serde::encode::write_named(out, value)?)
    }
}

/// How deep values may be nested, as for JSON: the stack is not a peer's to fill.
#[cfg(feature = "msgpack")]
const MESSAGE_PACK_DEPTH: usize = 128;

#[cfg(feature = "msgpack")]
impl<T: DeserializeOwned> Decode<T> for MessagePack {
    fn decode(&self, message: Vec<u8>) -> Result<T, CodecError> {
        let mut rest = &message[..];
        let mut decoder = rmp_serde::Deserializer::new(&mut rest);
        decoder.set_max_depth(MESSAGE_PACK_DEPTH);
        let value = T::deserialize(&mut decoder)?;
        match rest.len() {
            0 => Ok(value),
            extra => Err(format!("{extra} bytes follow the value").into()),
        }
    }
}

/// No format at all: the payload is the bytes, or the UTF-8 text, themselves.
///
/// It sends whatever lends its bytes (`&[u8]`, `Vec<u8>`, `str`, `String`, ...) and receives
/// whatever can be made of them (`Vec<u8>`, `String`, ...).
/// [`send_bytes`](crate::Duct::send_bytes) and [`recv_bytes`](crate::Duct::recv_bytes) do the same
/// on a duct of any codec.
///
/// ```
/// use ductworks::{ErrorKind, Raw};
///
/// let (a, b) = ductworks::pair()?;
/// let (a, b) = (a.with_codec(Raw), b.with_codec(Raw));
/// a.send("hello")?;
/// assert_eq!(b.recv::<Vec<u8>>()?, b"hello");
/// a.send(&b"\xff"[..])?;
/// assert_eq!(b.recv::<String>().unwrap_err().kind(), ErrorKind::Decode);
/// # Ok::<(), ductworks::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec for Raw {
    fn name(&self) -> &'static str {
        "raw bytes"
    }
}

impl<T: AsRef<[u8]> + ?Sized> Encode<T> for Raw {
    fn encode(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(value.as_ref());
        Ok(())
    }
}

impl<T> Decode<T> for Raw
where
    T: TryFrom<Vec<u8>>,
    T::Error: Into<CodecError>,
{
    fn decode(&self, message: Vec<u8>) -> Result<T, CodecError> {
        T::try_from(message).map_err(Into::into)
    }
}
