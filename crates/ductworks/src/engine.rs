//! What a [`Duct`](crate::Duct) is made of, for those who must keep the socket themselves: language
//! bindings, and programs whose streams are no sockets.
//!
//! A [`Channel`] sends and receives whole messages over a [`Stream`] that somebody else owns, such as
//! a [`Socket`]. Each call is given a [`Wait`]: until when it may wait, and perhaps a [`Hook`] around
//! the waiting. A stream that is no socket needs five methods:
//!
//! ```
//! use ductworks::engine::{Channel, Deadline, Stream, Wait};
//! use ductworks::wire::V1;
//! use std::io::{self, IoSlice};
//! use std::os::fd::BorrowedFd;
//! use std::sync::Mutex;
//!
//! /// Gives back what was written to it.
//! #[derive(Default)]
//! struct Loop(Mutex<Vec<u8>>);
//!
//! impl Stream for Loop {
//!     fn descriptor(&self) -> Option<BorrowedFd<'_>> {
//!         None // There is nothing to wait for.
//!     }
//!     fn read(&self, place: &mut [u8]) -> io::Result<usize> {
//!         let count = self.peek(place)?;
//!         self.0.lock().expect("no panic").drain(..count);
//!         Ok(count)
//!     }
//!     fn peek(&self, place: &mut [u8]) -> io::Result<usize> {
//!         io::Read::read(&mut &self.0.lock().expect("no panic")[..], place)
//!     }
//!     fn available(&self) -> io::Result<usize> {
//!         Ok(self.0.lock().expect("no panic").len())
//!     }
//!     fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
//!         io::Write::write_vectored(&mut *self.0.lock().expect("no panic"), parts)
//!     }
//! }
//!
//! let (stream, channel) = (Loop::default(), Channel::<V1>::default());
//! let wait = &mut Wait::until(Deadline::Never);
//! channel.send(&stream, &[b"to ", b"myself"], wait)?;
//! assert_eq!(channel.receive(&stream, wait)?, b"to myself");
//! # Ok::<(), ductworks::Error>(())
//! ```

pub use crate::channel::{Announced, Channel, DEFAULT_MESSAGE_LIMIT};
pub use crate::connection::{Connection, Link};
pub use crate::door::{Door, Refusal};
pub use crate::gate::{Active, Deadline, Gate, Hook, Interest, Wait};
pub use crate::hex::masked;
pub use crate::lobby::{Admitted, Lobby, greet};
pub use crate::process::forked;
pub use crate::stream::{Socket, Stream};
pub use crate::ticket::is_ticket;
pub use crate::transport::private::PrivatePath;
pub use crate::transport::{
    Mark, Session, Wire, adopt, connect_either, pair as socket_pair, prepare, verify_peer,
};
