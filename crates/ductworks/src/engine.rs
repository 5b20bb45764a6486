//! What a [`Duct`](crate::Duct) is made of, for those who must keep the socket themselves: language
//! bindings, and programs whose streams are no sockets.

pub use crate::channel::{Channel, DEFAULT_MESSAGE_LIMIT, Socket, Stream};
pub use crate::gate::{Active, Deadline, Gate, Hook, Interest, Wait};
pub use crate::transport::private::PrivatePath;
pub use crate::transport::{prepare, verify_peer};
