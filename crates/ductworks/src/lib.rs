//! x
mod address;
mod channel;
mod codec;
mod duct;
mod error;
mod gate;
mod listener;
mod process;
mod rendezvous;
mod transport;
mod turn;
pub mod wire;

pub mod engine;

pub use address::Address;
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
pub use codec::{Codec, CodecError, Decode, Encode, Json, Raw};
pub use duct::{Duct, Receiver, Sender, pair};
pub use error::{Error, ErrorKind, Result};
pub use listener::{ListenOptions, Listener};
pub use rendezvous::{ConnectOptions, Parent, connect};
