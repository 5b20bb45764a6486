//! A message channel between any two processes: one send is one recv.
//!
//! A [`Duct`] is one end of a channel. What one end sends, the other end receives: the same messages,
//! whole, in the same order. The two processes may be forked, started by exec, written in different
//! languages, or run on different hosts; the messages travel over a Unix or TCP socket, with TLS or without, in a
//! format that can be spoken without this crate.
//!
//! # Getting started
//!
//! [`pair`] makes both ends at once. Values are sent as [`Json`] unless another codec is
//! [chosen](Duct::with_codec), so whatever serde can write and read can be sent:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Job {
//!     id: u32,
//!     text: String,
//! }
//!
//! let (a, b) = ductworks::pair()?;
//!
//! a.send(&Job { id: 1, text: "count these four words".into() })?;
//! let job: Job = b.recv()?;
//! assert_eq!(job.text.split(' ').count(), 4);
//!
//! b.send("done")?; // the two directions are independent of each other
//! a.send_bytes(b"\x00\xff")?; // and bytes go past the codec
//! assert_eq!(a.recv::<String>()?, "done");
//! assert_eq!(b.recv_bytes()?, b"\x00\xff");
//! # assert_eq!(job.id, 1);
//! # Ok::<(), ductworks::Error>(())
//! ```
//!
//! All methods take `&self`, and may be called from several threads at the same time. A duct can be
//! [split](Duct::split) into a [`Sender`] and a [`Receiver`].
//!
//! # A parent and its child
//!
//! Two programs find each other by an [`Address`]: a plain string, fit for an argument or an
//! environment variable. The parent [binds](Parent::bind) a private address, starts the child, and
//! [waits](Parent::listen) for it; the child [connects](connect). From then on they are two ends of a
//! channel like any other, and nobody else can connect.
//!
//! This program is both: it starts itself again as its own worker.
//!
//! ```standalone_crate
//! use std::env;
//! use std::error::Error;
//! use std::process::Command;
//! use std::time::Duration;
//!
//! use ductworks::{ErrorKind, Parent};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     match env::var("DUCT") {
//!         Ok(ticket) => count_words(&ticket),
//!         Err(_) => ask_a_worker(),
//!     }
//! }
//!
//! fn ask_a_worker() -> Result<(), Box<dyn Error>> {
//!     let parent = Parent::bind()?;
//!     let mut worker = Command::new(env::current_exe()?)
//!         .env("DUCT", parent.ticket().to_string()) // a secret, so not an argument
//!         .spawn()?;
//!     let duct = parent.listen(Duration::from_secs(30))?;
//!
//!     duct.send("count these four words")?;
//!     duct.send("and these")?;
//!     assert_eq!(duct.recv::<usize>()?, 4);
//!     assert_eq!(duct.recv::<usize>()?, 2);
//!
//!     drop(duct); // the worker sees the end, and ends
//!     assert!(worker.wait()?.success());
//!     Ok(())
//! }
//!
//! fn count_words(ticket: &str) -> Result<(), Box<dyn Error>> {
//!     let duct = ductworks::connect(ticket)?;
//!     loop {
//!         match duct.recv::<String>() {
//!             Ok(text) => duct.send(&text.split_whitespace().count())?,
//!             Err(error) if error.kind() == ErrorKind::Disconnected => return Ok(()),
//!             Err(error) => return Err(error.into()),
//!         }
//!     }
//! }
//! ```
//!
//! [`Parent::bind_to`] takes an address of one's choice, such as `tcp:127.0.0.1:0`. A [`Listener`]
//! accepts any number of children at one address. A child that has inherited a connected socket turns
//! it into a duct with `Duct::try_from`, or with [`Duct::from_inherited`] where it knows only the
//! number.
//!
//! A [`Ticket`] is an address and a secret, the token, which admits one child. A Unix address admits only
//! processes of the same user besides. At a TCP address nothing is encrypted: without
//! [consent](ListenOptions::insecure_network) a parent or listener binds the loopback interface only.
//!
//! # On another host
//!
//! With the feature `tls`, a listener at a `tls:` address makes itself a key, and its ticket tells how to
//! recognise it: whoever has the ticket has all that it takes to connect, safely.
//!
#![cfg_attr(feature = "tls", doc = "```")]
#![cfg_attr(not(feature = "tls"), doc = "```ignore")]
//! use ductworks::{Listener, connect};
//!
//! let listener = Listener::bind("tls:0.0.0.0:0")?;
//! println!("to paste on the other host: {}", listener.ticket());
//! # let ticket = listener.ticket();
//! # let port = ticket.address().port().unwrap();
//! # let here = ductworks::Address::tls("127.0.0.1", port, ticket.address().pin().copied())?;
//! # let ticket = ductworks::Ticket::new(here, ticket.token().cloned());
//! # let other = std::thread::spawn(move || connect(ticket)?.send("hello"));
//! let duct = listener.accept()?;
//! # assert_eq!(duct.recv::<String>()?, "hello");
//! # other.join().expect("no panic")?;
//! # Ok::<(), ductworks::Error>(())
//! ```
//!
//! Certificates work as well: see `ListenOptions::identity` and `ConnectOptions::roots`.
//!
//! # Waiting and the end
//!
//! Every operation has three forms: the plain one waits, the `try_` one does not, and the `_timeout`
//! one waits for so long at most, however the message may trickle in. A call that is given up loses
//! nothing, at whatever byte it was: the next one goes on from there.
//!
//! ```
//! use std::time::Duration;
//! use ductworks::ErrorKind;
//!
//! let (a, b) = ductworks::pair()?;
//! # let worker = std::thread::spawn(move || {
//! #     let text: String = b.recv()?;
//! #     std::thread::sleep(Duration::from_millis(100));
//! #     b.send(&text.split_whitespace().count())
//! # });
//! a.send("count these four words")?;
//! let count = loop {
//!     match a.recv_timeout::<usize>(Duration::from_millis(20)) {
//!         Ok(count) => break count,
//!         Err(error) if error.kind() == ErrorKind::TimedOut => println!("still counting"),
//!         Err(error) => return Err(error),
//!     }
//! };
//! assert_eq!(count, 4);
//! # worker.join().expect("no panic")?;
//! # Ok::<(), ductworks::Error>(())
//! ```
//!
//! When the other end closes or dies, what had arrived is received first. Then every receive fails:
//! with [`Disconnected`](ErrorKind::Disconnected) after a close, with
//! [`PeerDied`](ErrorKind::PeerDied) after a death, with [`Truncated`](ErrorKind::Truncated) in the middle
//! of a message.
//!
//! ```
//! # use ductworks::ErrorKind;
//! let (a, b) = ductworks::pair()?;
//! b.send(&4)?;
//! b.close();
//!
//! assert_eq!(a.recv::<usize>()?, 4);
//! assert_eq!(a.recv::<usize>().unwrap_err().kind(), ErrorKind::Disconnected);
//! # Ok::<(), ductworks::Error>(())
//! ```
//!
//! A send that returned means that the message is accepted and on its way, not that it has been
//! received. Where that matters, let the other end answer, or [`drain`](Duct::drain).
//!
//! [`close`](Duct::close) wakes whoever is blocked in the duct, in any thread. The socket
//! ([`AsFd`](std::os::fd::AsFd)) may be watched with `poll(2)`, epoll and their like at any moment, for
//! the duct never reads past the message that it returns: the socket is readable for as long as a
//! message waits.
//!
//! # Other languages
//!
//! What two ducts say to each other is in `docs/protocol.md` of the repository, with test vectors; of
//! version 1 a message is the byte `0x54`, its length as a big-endian `u32`, and the payload
//! ([`wire::V1`]). A Python worker for the parent above, with the package `ductworks`:
//!
//! ```python
//! import os
//! import ductworks
//!
//! with ductworks.connect(os.environ.pop("DUCT")) as duct:
//!     for text in duct:
//!         duct.send(len(text.split()))
//! ```
//!
//! In the other direction, [`connect`] takes the bare path that a Python parent calls its
//! `listener_address`.
//!
//! # Features
//!
//! - `tls`: TLS 1.3 at `tls:` addresses, `Identity` and `Roots`.
//! - `msgpack`: the codec `MessagePack`.
//! - `tracing`: an event of the `tracing` crate for everybody whom a listener refuses.
//! - `multiprocessing`: the authentication of Python's `multiprocessing.connection`,
//!   `wire::Challenge`.
//!
//! Any other format is a few lines: see [`Codec`]. [`Raw`] sends bytes and text as they are.
//!
//! # Platform
//!
//! Linux, with Rust 1.93 or newer; tested on x86-64. The crate starts no threads and no runtime. A duct
//! holds one descriptor. A thread that has to wait, on however many ducts, holds one more while it
//! lives, and the first [`close`](Duct::close) of a process makes one that serves all later ones.

mod address;
mod channel;
mod codec;
mod connect;
mod connection;
mod door;
mod duct;
mod error;
mod gate;
mod hex;
mod listener;
mod lobby;
mod memory;
mod process;
mod rendezvous;
mod spin;
mod stream;
mod ticket;
mod transport;
mod turn;
pub mod wire;

pub mod engine;

pub use address::{Address, Pin};
pub use channel::{Stats, Traffic};
#[cfg(feature = "msgpack")]
pub use codec::MessagePack;
pub use codec::{Codec, CodecError, Decode, Encode, Json, Raw};
pub use connect::ConnectOptions;
pub use duct::{Duct, Receiver, Sender, pair};
pub use error::{Error, ErrorKind, Result};
pub use listener::{ListenOptions, Listener};
pub use rendezvous::{Parent, connect};
pub use ticket::Ticket;
#[cfg(feature = "tls")]
pub use transport::{Identity, Roots};
