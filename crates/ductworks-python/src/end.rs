//! A descriptor that belongs to an object of this package, and the channel over it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ductworks::engine::{
    Announced, Channel, Connection, Deadline, Interest, Link, Session, Stream, Wait,
};
use ductworks::wire::Framing;
use pyo3::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PIPE_BUF;

use crate::buffer::Part;
use crate::exchange;
use crate::hook::blocking;
use crate::memory::Memory;
use crate::socket::is_socket;

/// One end of a channel of messages.
pub(crate) struct End<F: Framing + Sync> {
    pub(crate) channel: Channel<F, Memory>,
    number: RawFd,
    session: Option<Box<Session>>,
    is_socket: bool,
    released: AtomicBool,
}

impl<F: Framing + Sync> End<F> {
    pub(crate) fn new(connection: Connection, framing: F, limit: usize) -> Self {
        let (descriptor, session) = connection.into_parts();
        let channel = Channel::new(framing);
        channel.set_message_limit(limit);
        Self {
            channel,
            is_socket: is_socket(&descriptor),
            number: descriptor.into_raw_fd(),
            session,
            released: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }

    /// The number of the descriptor, unless it has been closed.
    pub(crate) fn fileno(&self) -> Option<RawFd> {
        (!self.is_closed()).then_some(self.number)
    }

    /// The stream that the channel works on. After a close the channel does not use it any more.
    pub(crate) fn line(&self) -> Line<'_> {
        // SAFETY: the number is this value's own, and is closed only after `Channel::close`, that is
        // when no thread is inside a call on the stream.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.number) };
        match self.is_socket {
            true => Line::Socket(Link::new(descriptor, self.session.as_deref())),
            false => Line::Pipe(descriptor),
        }
    }

    /// Sends the parts of a message.
    pub(crate) fn send(
        &self,
        py: Python<'_>,
        parts: &[Part<'_>],
        until: Deadline,
    ) -> ductworks::Result<()> {
        let line = self.line();
        match parts {
            [part] => exchange::send(py, &self.channel, &line, &[part.as_bytes()], until),
            parts => {
                let slices: Vec<_> = parts.iter().map(Part::as_bytes).collect();
                exchange::send(py, &self.channel, &line, &slices, until)
            }
        }
    }

    /// Receives a message in the memory that `memory` gives for it.
    pub(crate) fn receive(
        &self,
        py: Python<'_>,
        memory: impl Fn(Announced) -> ductworks::Result<Option<Memory>> + Send + Sync,
        until: Deadline,
    ) -> ductworks::Result<Memory> {
        exchange::receive(py, &self.channel, &self.line(), memory, until)
    }

    /// Sends the parts of a message, and descriptors with it.
    pub(crate) fn send_with(
        &self,
        py: Python<'_>,
        parts: &[Part<'_>],
        descriptors: Vec<OwnedFd>,
        until: Deadline,
    ) -> ductworks::Result<()> {
        let line = self.line();
        let slices: Vec<_> = parts.iter().map(Part::as_bytes).collect();
        blocking(py, until, |wait| {
            self.channel.send_with(&line, &slices, descriptors, wait)
        })
    }

    /// Receives a message and the descriptors that come with it.
    pub(crate) fn receive_with(
        &self,
        py: Python<'_>,
        memory: impl Fn(Announced) -> ductworks::Result<Option<Memory>> + Send + Sync,
        until: Deadline,
    ) -> ductworks::Result<(Memory, Vec<OwnedFd>)> {
        let line = self.line();
        blocking(py, until, |wait| {
            self.channel.receive_with(&line, memory, wait)
        })
    }

    /// Gives the memory of a received message back for the next one.
    pub(crate) fn recycle(&self, memory: Option<Memory>) {
        if let Some(memory) = memory {
            self.channel.recycle(memory);
        }
    }

    /// Waits until something can be read or the end has come, and takes nothing.
    pub(crate) fn wait_readable(&self, wait: &mut Wait<'_>) -> ductworks::Result<()> {
        match self.line() {
            line @ Line::Socket(_) => self.channel.wait_readable(&line, wait),
            Line::Pipe(descriptor) => {
                self.channel
                    .gate()
                    .wait(descriptor, Interest::Readable, wait)
            }
        }
    }

    /// Closes the descriptor and wakes whoever waits in it. Closing again does nothing: the number may be
    /// that of somebody else's descriptor by then.
    pub(crate) fn close(&self) {
        if !self.is_closed() && self.channel.close(&self.line()) {
            drop(self.release());
        }
    }

    /// Checks that the descriptor alone is all that another process needs.
    pub(crate) fn check_portable(&self) -> ductworks::Result<()> {
        match self.line() {
            Line::Socket(link) => link.check_portable(),
            Line::Pipe(_) => Ok(()),
        }
    }

    /// Gives the descriptor up, and the other end does not notice. Nothing if it is closed.
    pub(crate) fn detach(&self) -> ductworks::Result<Option<OwnedFd>> {
        if self.is_closed() {
            return Ok(None);
        }
        self.check_portable()?;
        match self.channel.abandon(&self.line())? {
            true => Ok(self.release()),
            false => Ok(None),
        }
    }

    /// The descriptor of a closed channel, for the first who asks.
    fn release(&self) -> Option<OwnedFd> {
        let first = !self.released.swap(true, Ordering::SeqCst);
        // SAFETY: the number has been this value's own until now, and the channel, which is closed,
        // has let go of it.
        first.then(|| unsafe { OwnedFd::from_raw_fd(self.number) })
    }
}

impl<F: Framing + Sync> Drop for End<F> {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a descriptor is: a socket, or a pipe or something else that is read and written.
pub(crate) enum Line<'a> {
    Socket(Link<'a>),
    Pipe(BorrowedFd<'a>),
}

/// A pipe knows no flag for "do not wait". But a read of one that is ready does not wait, nor does a
/// write of so few bytes (`pipe(7)`), as long as no other process does the same at the same time.
fn when_ready(descriptor: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    let mut look = [PollFd::from_borrowed_fd(descriptor, flags)];
    match rustix::event::poll(&mut look, Some(&Timespec::default()))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

#[deny(clippy::missing_trait_methods)] // A default would not be what the other one does.
impl Stream for Line<'_> {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Socket(socket) => socket.descriptor(),
            Self::Pipe(descriptor) => Some(*descriptor),
        }
    }

    fn read(&self, place: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.read(place),
            Self::Pipe(descriptor) => {
                when_ready(*descriptor, PollFlags::IN)?;
                Ok(rustix::io::read(descriptor, place)?)
            }
        }
    }

    fn read_uninit<'a>(&self, place: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a mut [u8]> {
        match self {
            Self::Socket(socket) => socket.read_uninit(place),
            Self::Pipe(descriptor) => {
                when_ready(*descriptor, PollFlags::IN)?;
                let (filled, _) = rustix::io::read(descriptor, place)?;
                Ok(filled)
            }
        }
    }

    fn peek(&self, place: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.peek(place),
            Self::Pipe(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn available(&self) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.available(),
            Self::Pipe(descriptor) => {
                let count = rustix::io::ioctl_fionread(descriptor)?;
                Ok(count.try_into().unwrap_or(usize::MAX))
            }
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.write(parts),
            Self::Pipe(descriptor) => {
                when_ready(*descriptor, PollFlags::OUT)?;
                let mut piece = [0; PIPE_BUF];
                let mut len = 0;
                for part in parts {
                    let count = part.len().min(PIPE_BUF - len);
                    piece[len..len + count].copy_from_slice(&part[..count]);
                    len += count;
                }
                Ok(rustix::io::write(descriptor, &piece[..len])?)
            }
        }
    }

    fn flush(&self) -> io::Result<()> {
        match self {
            Self::Socket(socket) => socket.flush(),
            Self::Pipe(_) => Ok(()),
        }
    }

    fn finish(&self) -> io::Result<()> {
        match self {
            Self::Socket(socket) => socket.finish(),
            Self::Pipe(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn carries_descriptors(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.carries_descriptors(),
            Self::Pipe(_) => false,
        }
    }

    fn write_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        match self {
            Self::Socket(socket) => socket.write_descriptors(descriptors),
            Self::Pipe(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn read_descriptors<'a>(
        &self,
        place: &'a mut [MaybeUninit<u8>],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<&'a mut [u8]> {
        match self {
            Self::Socket(socket) => socket.read_descriptors(place, descriptors),
            Self::Pipe(_) => self.read_uninit(place),
        }
    }

    fn widen(&self) {
        if let Self::Socket(socket) = self {
            socket.widen();
        }
    }

    fn stretch(&self) {
        if let Self::Socket(socket) = self {
            socket.stretch();
        }
    }

    fn give_up(&self, patience: Duration) -> bool {
        match self {
            Self::Socket(socket) => socket.give_up(patience),
            Self::Pipe(_) => false,
        }
    }

    fn claim(&self) {
        if let Self::Socket(socket) = self {
            socket.claim();
        }
    }

    fn release(&self) {
        if let Self::Socket(socket) = self {
            socket.release();
        }
    }

    fn is_claimed(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_claimed(),
            Self::Pipe(_) => false,
        }
    }

    fn linger(&self, may_be_shared: bool) {
        if let Self::Socket(socket) = self {
            socket.linger(may_be_shared);
        }
    }
}
