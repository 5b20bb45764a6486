//! Where connections come in: the sockets that listen at one address.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, epoll};

use crate::address::Address;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Interest, Queue, Wait};
use crate::process;
use crate::transport::private::PrivatePath;
use crate::transport::{self, Accepted, Bound, BoundPath, Wire};

/// The sockets that listen at one address, and their names.
///
/// A Unix address admits only processes of the same user; others are turned away, and listening goes
/// on. Its names are removed when the door is closed or dropped, by the process that made them.
#[derive(Debug)]
pub struct Door {
    address: Address,
    entries: Vec<Entry>,
    /// An epoll instance that is ready when somebody is at one of the entries, or when one of those
    /// who wait in a lobby behind has something to say.
    ready: OwnedFd,
    /// The process whose epoll instance that is.
    process: u32,
    names: Mutex<Names>,
    gate: Gate,
}

#[derive(Debug)]
struct Entry {
    socket: OwnedFd,
    wire: Wire,
}

/// The names go in the opposite order of their making, and the private place around them last.
#[derive(Debug, Default)]
struct Names {
    bound: Vec<BoundPath>,
    _place: Option<PrivatePath>,
}

impl Drop for Names {
    fn drop(&mut self) {
        while let Some(name) = self.bound.pop() {
            drop(name);
        }
    }
}

/// Somebody at a [`Door`].
#[derive(Debug)]
pub(crate) enum Knock {
    /// A connected socket, and what is spoken over it.
    Peer(OwnedFd, Wire),
    /// Somebody who has been turned away.
    Stranger(Refusal),
}

/// Who was turned away, and why. The other end has not been told more than that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Who it was: a process id, or an address on the network.
    pub peer: String,
    /// What was wrong.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused {}: {}", self.peer, self.reason)
    }
}

impl Refusal {
    pub(crate) fn new(peer: String, reason: String) -> Self {
        Self { peer, reason }
    }
}

impl Door {
    /// Listens at an address, with one entry for each of the wires. `insecure` allows TCP addresses
    /// that other hosts can reach.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind`](crate::Listener::bind).
    ///
    /// ```
    /// use ductworks::engine::{Deadline, Door, Wait, Wire};
    ///
    /// let door = Door::bind(&"tcp:127.0.0.1:0".parse()?, &[Wire::Plain], 128, false)?;
    /// let guest = std::net::TcpStream::connect(("127.0.0.1", door.address().port().unwrap()))?;
    /// let socket = door.accept(&mut Wait::until(Deadline::Never))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(address: &Address, wires: &[Wire], backlog: u16, insecure: bool) -> Result<Self> {
        transport::refuse_tls(address)?;
        Self::bind_to(address, wires, backlog, insecure)
    }

    /// The same at any address. Whoever binds where TLS is spoken has to see to it that it is.
    pub(crate) fn bind_to(
        address: &Address,
        wires: &[Wire],
        backlog: u16,
        insecure: bool,
    ) -> Result<Self> {
        let bound = transport::bind(address, wires, backlog.into(), insecure)?;
        Self::with(bound, wires, None)
    }

    /// Listens at a private, random Unix address, with one entry for each of the wires.
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind_private`](crate::Listener::bind_private).
    pub fn bind_private(wires: &[Wire], backlog: u16) -> Result<Self> {
        let (place, bound) = transport::bind_private(wires, backlog.into())?;
        Self::with(bound, wires, Some(place))
    }

    fn with(bound: Vec<Bound>, wires: &[Wire], place: Option<PrivatePath>) -> Result<Self> {
        let ready = epoll_instance()?;
        let mut address = None;
        let mut entries = Vec::with_capacity(bound.len());
        let mut names = Names {
            bound: Vec::with_capacity(bound.len()),
            _place: place,
        };
        for (bound, wire) in bound.into_iter().zip(wires) {
            watch(&ready, &bound.socket)?;
            address.get_or_insert(bound.address);
            names.bound.extend(bound.name);
            entries.push(Entry {
                socket: bound.socket,
                wire: *wire,
            });
        }
        let nowhere = || Error::new(ErrorKind::InvalidInput, "expected at least one wire");
        Ok(Self {
            address: address.ok_or_else(nowhere)?,
            entries,
            ready,
            process: process::id(),
            names: Mutex::new(names),
            gate: Gate::default(),
        })
    }

    /// The same door, whose address names this host.
    pub(crate) fn known_as(mut self, host: String) -> Result<Self> {
        self.address = self.address.at(host)?;
        Ok(self)
    }

    /// Whether the name for a wire at a Unix address is one that somebody has left behind.
    #[must_use]
    pub fn is_abandoned(address: &Address, wire: Wire) -> bool {
        address
            .path()
            .is_some_and(|path| transport::is_abandoned(path, wire))
    }

    /// Where to connect.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Waits for somebody to connect.
    ///
    /// # Errors
    ///
    /// `Closed`, `WouldBlock`, `TimedOut`, `Interrupted`, `Io`.
    pub fn accept(&self, wait: &mut Wait<'_>) -> Result<OwnedFd> {
        loop {
            match self.next()? {
                Some(Knock::Peer(socket, _)) => return Ok(socket),
                Some(Knock::Stranger(_)) => continue,
                None => {}
            }
            let descriptor = Some((self.ready.as_fd(), Interest::Readable));
            self.gate
                .sleep(descriptor, Queue::Descriptor, || true, wait)
                .map_err(|error| self.late(error))?;
        }
    }

    /// Whether somebody is at one of the entries.
    pub(crate) fn has_somebody(&self) -> bool {
        let entries = self.entries.iter();
        let mut looks: Vec<_> = entries
            .map(|entry| PollFd::new(&entry.socket, PollFlags::IN))
            .collect();
        rustix::event::poll(&mut looks, Some(&Timespec::default())).is_ok_and(|count| count > 0)
    }

    /// Who is at one of the entries, if somebody is.
    pub(crate) fn next(&self) -> Result<Option<Knock>> {
        for entry in &self.entries {
            loop {
                let _active = self.gate.enter()?;
                match transport::accept(entry.socket.as_fd())? {
                    Accepted::Peer(socket) => return Ok(Some(Knock::Peer(socket, entry.wire))),
                    Accepted::Stranger { peer, reason } => {
                        return Ok(Some(Knock::Stranger(Refusal::new(peer, reason))));
                    }
                    Accepted::Gone => {}
                    Accepted::Nobody => break,
                }
            }
        }
        Ok(None)
    }

    /// Where the door is in the hands of a forked process: another epoll instance that watches the
    /// entries. That of the parent must not be touched.
    pub(crate) fn watch_as_fork(&self) -> Result<Option<OwnedFd>> {
        if self.process == process::id() {
            return Ok(None);
        }
        let own = epoll_instance()?;
        for entry in &self.entries {
            watch(&own, &entry.socket)?;
        }
        Ok(Some(own))
    }

    /// What waits go through.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Tells what a wait waited for.
    pub(crate) fn late(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::TimedOut => Error::new(
                ErrorKind::TimedOut,
                format!("timed out: nobody connected to {}", self.address.shown()),
            ),
            _ => error,
        }
    }

    /// Stops listening and removes the names. Whoever waits in it, and every later call, fails with
    /// `Closed`.
    pub fn close(&self) {
        if self.gate.close() {
            // In the opposite order of their making, as the names go.
            for entry in self.entries.iter().rev() {
                transport::bury(entry.socket.as_fd());
            }
        }
        let names = self
            .names
            .lock()
            .map(|mut names| std::mem::take(&mut *names));
        drop(names);
    }
}

pub(crate) fn epoll_instance() -> Result<OwnedFd> {
    epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| Error::os("make an epoll instance", e))
}

/// Makes an epoll instance ready when the socket is.
pub(crate) fn watch(ready: impl AsFd, socket: impl AsFd) -> Result<()> {
    let data = epoll::EventData::new_u64(0);
    epoll::add(ready, socket, data, epoll::EventFlags::IN)
        .map_err(|e| Error::os("watch a connection", e))
}

impl AsFd for Door {
    /// Readable when there is reason to [accept](Self::accept).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}
