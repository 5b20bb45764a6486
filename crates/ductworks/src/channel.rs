//! The engine of a duct: whole messages over a byte stream, never out of step.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Interest, Queue, Wait};
use crate::process;
use crate::turn::{Held, Turn};
use crate::wire::{Body, Framing, Head, Incoming, Outgoing, Step, V1, Violation};

/// The limit on a message's size unless another is set: 64 MiB.
pub const DEFAULT_MESSAGE_LIMIT: usize = 64 * 1024 * 1024;

/// A connected byte stream of somebody else's.
///
/// Every call makes one attempt and does not wait: where it would have to, it fails with
/// [`io::ErrorKind::WouldBlock`], and the channel waits for the descriptor. A stream without a
/// descriptor may block inside the calls instead.
pub trait Stream {
    /// What to wait for, if there is one.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;

    /// Reads into `place` and returns the number of bytes, zero at the end of the stream.
    ///
    /// # Errors
    ///
    /// Whatever the stream reports. The message so far is kept, and reading may go on.
    fn read(&self, place: &mut [u8]) -> io::Result<usize>;

    /// Reads into memory that need not be initialised, and returns the part that was filled.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn read_uninit<'a>(&self, place: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a mut [u8]> {
        let mut bytes = vec![0; place.len()];
        let count = self.read(&mut bytes)?;
        Ok(place[..count].write_copy_of_slice(&bytes[..count]))
    }

    /// Copies what the next [`read`](Self::read) would give, and leaves it there.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn peek(&self, place: &mut [u8]) -> io::Result<usize>;

    /// How many bytes can be read at this moment, or fewer.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn available(&self) -> io::Result<usize>;

    /// Writes from the parts, in order, and returns how many bytes it took.
    ///
    /// # Errors
    ///
    /// Whatever the stream reports. An unfinished message is kept, and writing may go on.
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// A descriptor of a connected stream socket, blocking or not.
///
/// ```
/// use ductworks::engine::{Channel, Deadline, Socket, Wait};
/// use ductworks::wire::V1;
/// use std::os::unix::net::UnixStream;
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// let channel = Channel::<V1>::default();
/// channel.send(&Socket(&ours), &[b"hi"], &mut Wait::until(Deadline::Never))?;
///
/// let mut bytes = [0; 7];
/// std::io::Read::read_exact(&mut theirs, &mut bytes)?;
/// assert_eq!(&bytes, b"\x54\x00\x00\x00\x02hi");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Socket<S>(
    /// The socket.
    pub S,
);

impl<S: AsFd> Stream for Socket<S> {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn read(&self, place: &mut [u8]) -> io::Result<usize> {
        let (count, _) = rustix::net::recv(&self.0, place, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    fn read_uninit<'a>(&self, place: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a mut [u8]> {
        let ((filled, _), _) = rustix::net::recv(&self.0, place, RecvFlags::DONTWAIT)?;
        Ok(filled)
    }

    fn peek(&self, place: &mut [u8]) -> io::Result<usize> {
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        let (count, _) = rustix::net::recv(&self.0, place, flags)?;
        Ok(count)
    }

    fn available(&self) -> io::Result<usize> {
        let count = rustix::io::ioctl_fionread(&self.0)?;
        Ok(count.try_into().unwrap_or(usize::MAX))
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut control = SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(&self.0, parts, &mut control, flags)?)
    }
}

/// Sends and receives whole messages over a [`Stream`] that it does not own.
///
/// This is what a [`Duct`](crate::Duct) is made of, for those who must keep the socket themselves,
/// as a language binding does. All calls of one channel must be given the same stream. Sending and
/// receiving have a lock each, so the two directions never wait for each other.
#[derive(Debug)]
pub struct Channel<F = V1, B = Vec<u8>> {
    gate: Gate,
    sender: Turn<Outgoing>,
    receiver: Turn<Incoming<F, B>>,
    /// The process that is in the middle of sending a frame, or [`NOBODY`].
    sending: AtomicU32,
    /// The process that is in the middle of receiving one.
    receiving: AtomicU32,
    limit: AtomicUsize,
    /// The rest of an accepted message waits for somebody to write it.
    unsent: AtomicBool,
    /// A send has been told of a reset, and the system does not tell it twice.
    reset: AtomicBool,
    /// Why the channel closed itself.
    violation: OnceLock<Violation>,
}

const NOBODY: u32 = 0;

/// What the rest of an accepted message needs from a thread that is about to wait.
#[derive(Clone, Copy)]
enum Help {
    NotNeeded,
    Wanted,
    GivenByAnother,
}

impl<F: Framing, B: Body> Default for Channel<F, B> {
    fn default() -> Self {
        Self {
            gate: Gate::default(),
            sender: Turn::new(Queue::Send),
            receiver: Turn::new(Queue::Receive),
            sending: AtomicU32::new(NOBODY),
            receiving: AtomicU32::new(NOBODY),
            limit: AtomicUsize::new(DEFAULT_MESSAGE_LIMIT),
            unsent: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            violation: OnceLock::new(),
        }
    }
}

impl<F: Framing, B: Body> Channel<F, B> {
    /// The largest message, in bytes, that may be sent or received.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the largest message, in bytes, that may be sent or received.
    pub fn set_message_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Checks that a message of `len` bytes may be sent, before it is made.
    ///
    /// # Errors
    ///
    /// `TooLarge`.
    pub fn check_size(&self, len: usize) -> Result<()> {
        match len <= self.message_limit() && len as u64 <= F::PAYLOAD_MAX {
            true => Ok(()),
            false => Err(self.too_large(len)),
        }
    }

    /// Whether the channel has been closed, here or by a violation of the protocol.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// The violation of the protocol that closed the channel, if that is what closed it.
    #[must_use]
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.get()
    }

    /// What the channel's operations, and the owner's own on the same descriptor, wait at.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Whether a message is under way whose rest waits for somebody to write it.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.rest_waits()
    }

    /// Whether the beginning of a message has been received, and not yet its end.
    #[must_use]
    pub fn has_partial(&self) -> bool {
        self.receiving.load(Ordering::SeqCst) != NOBODY
    }

    /// Closes the channel: whoever waits in it, and every later call, fails with
    /// [`ErrorKind::Closed`]. The rest of an accepted message goes out if it can at once. After the
    /// return no thread is using the stream's descriptor, if it has one. Returns whether the channel
    /// was open until now.
    pub fn close<S: Stream>(&self, stream: &S) -> bool {
        if self.rest_waits()
            && let Some(mut rest) = self.sender.try_take(&self.gate)
        {
            // The farewell of an end that is being closed: nobody could act on its failure.
            let _ = self.push_rest(stream, &mut rest);
        }
        match stream.descriptor() {
            Some(_) => self.gate.close(),
            None => self.gate.shut(),
        }
    }

    /// Sends one message, made of the parts in their order.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `Closed`, `Disconnected`, `TimedOut`, `WouldBlock`, `Interrupted`, `Forked`, `Io`.
    /// A deadline that passes when a part of the message is out is no error: the message is
    /// accepted, and the rest goes out before anything else.
    pub fn send<S: Stream>(&self, stream: &S, parts: &[&[u8]], wait: &mut Wait<'_>) -> Result<()> {
        let head = self.head(parts)?;
        if let [part] = *parts {
            let mut slices = [IoSlice::new(head.as_ref()), IoSlice::new(part)];
            return self.send_frame(stream, &mut slices, wait);
        }
        let mut slices = Vec::with_capacity(parts.len() + 1);
        slices.push(IoSlice::new(head.as_ref()));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        self.send_frame(stream, &mut slices, wait)
    }

    /// Waits until the rest of an accepted message has gone out.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn flush<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        self.send_frame(stream, &mut [], wait)
    }

    /// Receives one message, in memory of the kind that `make` gives for its length, or in what was
    /// recycled where that gives none.
    ///
    /// # Errors
    ///
    /// `Closed`, `Disconnected`, `Reset`, `Truncated`, `TimedOut`, `WouldBlock`, `Interrupted`,
    /// `TooLarge`, `Protocol`, `Forked`, `Io`. After the passing ones among them the next call goes
    /// on where this one stopped, in the memory that was made.
    pub fn receive_in<S: Stream>(
        &self,
        stream: &S,
        make: impl FnOnce(usize) -> Option<B>,
        wait: &mut Wait<'_>,
    ) -> Result<B> {
        let mut frame = self.begin_receive(wait)?;
        if frame.declared().is_none() {
            let len = self.receive_head(stream, &mut frame, wait)?;
            if let Some(memory) = make(len) {
                frame.place_in(memory);
            }
        }
        while !frame.is_complete() {
            self.receive_step(stream, &mut frame, usize::MAX, wait)?;
        }
        self.end_receive();
        Ok(frame.take().unwrap_or_default())
    }

    /// Receives one message. Its memory may be given back with [`recycle`](Self::recycle).
    ///
    /// # Errors
    ///
    /// As for [`receive_in`](Self::receive_in).
    pub fn receive<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<B> {
        self.receive_in(stream, |_| None, wait)
    }

    /// Gives the memory of a received message back for the next one.
    pub fn recycle(&self, memory: B) {
        if let Some(mut frame) = self.receiver.try_take(&self.gate) {
            frame.recycle(memory);
        }
    }

    /// Receives one message into the beginning of `place` and returns its length.
    ///
    /// # Errors
    ///
    /// As for [`receive`](Self::receive), and `BufferTooSmall`, which leaves the message there.
    pub fn receive_into<S: Stream>(
        &self,
        stream: &S,
        place: &mut [u8],
        wait: &mut Wait<'_>,
    ) -> Result<usize> {
        let mut frame = self.begin_receive(wait)?;
        let len = self.receive_head(stream, &mut frame, wait)?;
        let room = place.len();
        let Some(place) = place.get_mut(..len) else {
            self.receiving.store(process::id(), Ordering::SeqCst);
            return Err(Error::new(
                ErrorKind::BufferTooSmall,
                format!("the message has {len} bytes, and the buffer has room for {room}"),
            ));
        };
        // What an interrupted call has read before.
        let mut got = frame.payload().len();
        place[..got].copy_from_slice(frame.payload());
        while got < len {
            let read = self
                .gate
                .enter()
                .map(|_active| stream.read(&mut place[got..]));
            let outcome = match read {
                Ok(Ok(0)) => Err(truncated(got, Some(len))),
                Ok(Ok(count)) => {
                    got += count;
                    Ok(())
                }
                Ok(Err(error)) => self.receive_failed(stream, error, got, Some(len), wait),
                Err(closed) => Err(self.explain(closed)),
            };
            if let Err(error) = outcome {
                self.receiving.store(process::id(), Ordering::SeqCst);
                let known = frame.payload().len();
                // Within the declared length, so it is taken whole.
                let _ = frame.push(&place[known..got], len);
                return Err(error);
            }
        }
        frame.finish();
        self.end_receive();
        Ok(len)
    }

    /// Waits until [`receive`](Self::receive) would return at once, with a whole message or an
    /// error: true; or until the deadline: false. While another thread receives, the next message
    /// is that thread's.
    ///
    /// The last byte of a message always stays in the stream, so that its descriptor is readable
    /// whenever a message waits.
    ///
    /// # Errors
    ///
    /// `Closed`, `Interrupted`, `Forked`, `Io`.
    pub fn poll<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<bool> {
        let outcome = self
            .begin_receive(wait)
            .and_then(|mut frame| self.poll_frame(stream, &mut frame, wait));
        match outcome {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Ok(false),
                ErrorKind::Disconnected | ErrorKind::Reset | ErrorKind::Truncated => Ok(true),
                ErrorKind::TooLarge | ErrorKind::Protocol => Ok(true),
                _ => Err(error),
            },
        }
    }

    fn head(&self, parts: &[&[u8]]) -> Result<Head> {
        let len = parts
            .iter()
            .try_fold(0usize, |sum, part| sum.checked_add(part.len()))
            .unwrap_or(usize::MAX);
        self.check_size(len)?;
        F::head(len).ok_or_else(|| self.too_large(len))
    }

    fn too_large(&self, len: usize) -> Error {
        let limit = u64::try_from(self.message_limit()).unwrap_or(u64::MAX);
        Error::new(
            ErrorKind::TooLarge,
            format!(
                "the message has {len} bytes, and the limit is {}; nothing was sent. Raise the \
                 limit on both ends, or send it in pieces",
                limit.min(F::PAYLOAD_MAX)
            ),
        )
    }

    fn is_inherited(&self, busy: &AtomicU32) -> bool {
        let process = busy.load(Ordering::SeqCst);
        process != NOBODY && process != process::id()
    }

    fn refuse_inherited(&self, busy: &AtomicU32, doing: &str) -> Result<()> {
        if self.is_inherited(busy) {
            return Err(Error::new(
                ErrorKind::Forked,
                format!(
                    "the process was forked while process {} was {doing} a message on this duct, \
                     and only that process can finish it",
                    busy.load(Ordering::SeqCst)
                ),
            ));
        }
        Ok(())
    }

    /// Puts the reason in the place of a bare "closed".
    fn explain(&self, error: Error) -> Error {
        match self.violation.get() {
            Some(violation) if error.kind() == ErrorKind::Closed => violated(violation),
            _ => error,
        }
    }

    fn violate(&self, violation: Violation) -> Error {
        let error = violated(&violation);
        let _ = self.violation.set(violation);
        self.gate.shut();
        error
    }

    // Sending.

    fn send_frame<S: Stream>(
        &self,
        stream: &S,
        slices: &mut [IoSlice<'_>],
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        self.refuse_inherited(&self.sending, "sending")?;
        let outcome = self
            .sender
            .take(&self.gate, wait)
            .map_err(|error| self.explain(error))
            .and_then(|mut rest| {
                self.write_rest(stream, &mut rest, wait)?;
                self.write_frame(stream, &mut rest, slices, wait)
            });
        if self.unsent.load(Ordering::SeqCst) {
            // A thread that waits for an answer must now help the rest out.
            self.gate.wake_all();
        }
        outcome
    }

    fn write_rest<S: Stream>(
        &self,
        stream: &S,
        rest: &mut Outgoing,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        while !self.push_rest(stream, rest)? {
            self.wait_to_write(stream, wait).map_err(|error| {
                if error.kind() != ErrorKind::TimedOut {
                    return error;
                }
                Error::new(
                    ErrorKind::TimedOut,
                    format!(
                        "timed out: {} bytes of an earlier message still wait for the other end \
                         to read; this message was not sent",
                        rest.unsent().len()
                    ),
                )
            })?;
        }
        Ok(())
    }

    /// Writes what it can of the rest without waiting. True if nothing is left.
    fn push_rest<S: Stream>(&self, stream: &S, rest: &mut Outgoing) -> Result<bool> {
        while !rest.is_empty() {
            match self.write(stream, &[IoSlice::new(rest.unsent())])? {
                Some(count) => rest.advance(count),
                None => return Ok(false),
            }
        }
        self.end_send();
        Ok(true)
    }

    fn end_send(&self) {
        if self.sending.load(Ordering::Relaxed) != NOBODY {
            self.unsent.store(false, Ordering::SeqCst);
            self.sending.store(NOBODY, Ordering::SeqCst);
        }
    }

    fn write_frame<S: Stream>(
        &self,
        stream: &S,
        rest: &mut Outgoing,
        mut slices: &mut [IoSlice<'_>],
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        let mut begun = false;
        while !slices.is_empty() {
            let error = match self.write(stream, slices) {
                Ok(Some(count)) => {
                    begun = true;
                    IoSlice::advance_slices(&mut slices, count);
                    continue;
                }
                Ok(None) => {
                    if begun {
                        self.sending.store(process::id(), Ordering::SeqCst);
                    }
                    match self.wait_to_write(stream, wait) {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let late = error.kind() == ErrorKind::TimedOut;
            if !begun && late {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "timed out: the other end does not read; the message was not sent",
                ));
            }
            if !begun {
                return Err(error);
            }
            self.sending.store(process::id(), Ordering::SeqCst);
            rest.keep(slices.iter().map(|slice| &**slice));
            self.unsent.store(true, Ordering::SeqCst);
            return match late || error.kind() == ErrorKind::WouldBlock {
                true => Ok(()),
                false => Err(error),
            };
        }
        self.end_send();
        Ok(())
    }

    /// One attempt to write: nothing if it would have to wait.
    fn write<S: Stream>(&self, stream: &S, slices: &[IoSlice<'_>]) -> Result<Option<usize>> {
        let outcome = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            stream.write(slices)
        };
        match outcome {
            Ok(0) => Err(Error::os("send", io::Error::from(io::ErrorKind::WriteZero))),
            Ok(count) => Ok(Some(count)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock if stream.descriptor().is_some() => Ok(None),
                io::ErrorKind::Interrupted if error.raw_os_error().is_some() => Ok(None),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                    if error.kind() == io::ErrorKind::ConnectionReset {
                        self.reset.store(true, Ordering::SeqCst);
                    }
                    Err(Error::os("send: the other end is gone", error)
                        .with_kind(ErrorKind::Disconnected))
                }
                io::ErrorKind::TimedOut => {
                    Err(Error::os("send", error).with_kind(ErrorKind::TimedOut))
                }
                _ => Err(Error::os("send", error)),
            },
        }
    }

    fn wait_to_write<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        let descriptor = stream.descriptor().map(|fd| (fd, Interest::Writable));
        self.gate
            .sleep(descriptor, Queue::Descriptor, || true, wait)
            .map(drop)
            .map_err(|error| self.explain(error))
    }

    // Receiving.

    fn begin_receive(&self, wait: &mut Wait<'_>) -> Result<Held<'_, Incoming<F, B>>> {
        self.refuse_inherited(&self.receiving, "receiving")?;
        self.receiver
            .take(&self.gate, wait)
            .map_err(|error| self.explain(error))
    }

    fn end_receive(&self) {
        if self.receiving.load(Ordering::Relaxed) != NOBODY {
            self.receiving.store(NOBODY, Ordering::SeqCst);
        }
    }

    /// Reads until the length of the payload is known.
    fn receive_head<S: Stream>(
        &self,
        stream: &S,
        frame: &mut Incoming<F, B>,
        wait: &mut Wait<'_>,
    ) -> Result<usize> {
        loop {
            match frame.declared() {
                Some(len) => return Ok(len),
                None => self.receive_step(stream, frame, usize::MAX, wait)?,
            }
        }
    }

    /// Reads at most `most` bytes of the frame, or waits until some can be read.
    fn receive_step<S: Stream>(
        &self,
        stream: &S,
        frame: &mut Incoming<F, B>,
        most: usize,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        let step = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            if frame.is_large() {
                frame.expect(stream.available().unwrap_or_default());
            }
            frame.fill(self.message_limit(), most, |place| {
                stream.read_uninit(place)
            })
        };
        let error = match step {
            Step::Read(0) => return Err(self.ended(frame)),
            Step::Read(_) => return Ok(()),
            Step::Violated(violation) => return Err(self.violate(violation)),
            Step::Failed(error) => error,
        };
        if frame.is_fresh() {
            return self.receive_failed(stream, error, 0, None, wait);
        }
        self.receiving.store(process::id(), Ordering::SeqCst);
        self.receive_failed(stream, error, frame.payload().len(), frame.declared(), wait)
    }

    /// Deals with a failed read: waits where that was all that it lacked.
    fn receive_failed<S: Stream>(
        &self,
        stream: &S,
        error: io::Error,
        got: usize,
        of: Option<usize>,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        let begun = of.is_some() || self.receiving.load(Ordering::Relaxed) != NOBODY;
        match error.kind() {
            io::ErrorKind::WouldBlock if stream.descriptor().is_some() => {
                self.wait_to_read(stream, wait).map_err(|error| {
                    if error.kind() != ErrorKind::TimedOut {
                        return error;
                    }
                    let message = match of {
                        Some(of) => format!(
                            "timed out in the middle of a message, with {got} of {of} bytes here; \
                             the next call goes on from there"
                        )
                        .into(),
                        None => std::borrow::Cow::Borrowed("timed out: no whole message came"),
                    };
                    Error::new(ErrorKind::TimedOut, message)
                })
            }
            io::ErrorKind::Interrupted if error.raw_os_error().is_some() => Ok(()),
            io::ErrorKind::ConnectionReset if begun => Err(truncated(got, of)),
            io::ErrorKind::ConnectionReset => Err(reset(error)),
            io::ErrorKind::TimedOut if stream.descriptor().is_none() => {
                Err(Error::os("receive", error).with_kind(ErrorKind::TimedOut))
            }
            _ => Err(Error::os("receive", error)),
        }
    }

    fn wait_to_read<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        let help = self.help_out(stream);
        let interest = match help {
            Help::Wanted => Interest::Both,
            Help::NotNeeded | Help::GivenByAnother => Interest::Readable,
        };
        let still = || match help {
            Help::Wanted => true,
            Help::NotNeeded => !self.rest_waits(),
            Help::GivenByAnother => self.sender.is_taken(),
        };
        let descriptor = stream.descriptor().map(|fd| (fd, interest));
        self.gate
            .sleep(descriptor, Queue::Descriptor, still, wait)
            .map(drop)
            .map_err(|error| self.explain(error))
    }

    fn rest_waits(&self) -> bool {
        self.unsent.load(Ordering::SeqCst) && !self.is_inherited(&self.sending)
    }

    /// Pushes the rest of an accepted message out: the other end may not answer before it has it.
    fn help_out<S: Stream>(&self, stream: &S) -> Help {
        if !self.rest_waits() {
            return Help::NotNeeded;
        }
        let Some(mut rest) = self.sender.try_take(&self.gate) else {
            return Help::GivenByAnother;
        };
        match self.push_rest(stream, &mut rest) {
            Ok(true) => Help::NotNeeded,
            Ok(false) => Help::Wanted,
            Err(_) => {
                // A failure to write never hides what can be read; the next send reports it.
                self.unsent.store(false, Ordering::SeqCst);
                Help::NotNeeded
            }
        }
    }

    fn ended(&self, frame: &Incoming<F, B>) -> Error {
        if !frame.is_fresh() {
            return truncated(frame.payload().len(), frame.declared());
        }
        if self.reset.load(Ordering::SeqCst) {
            return reset(Errno::CONNRESET.into());
        }
        Error::new(
            ErrorKind::Disconnected,
            "the other end has closed the duct, and all its messages have been received",
        )
    }

    fn poll_frame<S: Stream>(
        &self,
        stream: &S,
        frame: &mut Incoming<F, B>,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        loop {
            if self.is_whole_in_stream(stream, frame)? {
                return Ok(());
            }
            // An incomplete message is taken in but for its last byte, since a descriptor stays
            // ready for as long as anything lies there, and waiting on it would be no waiting.
            match frame.missing() {
                1 => {
                    let mut last = [0];
                    let peeked = {
                        let _active = self.gate.enter().map_err(|error| self.explain(error))?;
                        stream.peek(&mut last)
                    };
                    match peeked {
                        Ok(0) => return Ok(()),
                        Ok(_) => match frame.completes_with(last[0]) {
                            Ok(true) => return Ok(()),
                            Ok(false) => self.receive_step(stream, frame, 1, wait)?,
                            Err(violation) => return Err(self.violate(violation)),
                        },
                        Err(error) => {
                            let (got, of) = (frame.payload().len(), frame.declared());
                            self.receive_failed(stream, error, got, of, wait)?;
                        }
                    }
                }
                missing => self.receive_step(stream, frame, missing - 1, wait)?,
            }
        }
    }

    /// Whether the stream holds the whole of a frame of which nothing has been read yet.
    fn is_whole_in_stream<S: Stream>(&self, stream: &S, frame: &Incoming<F, B>) -> Result<bool> {
        if !frame.is_fresh() {
            return Ok(false);
        }
        let mut head = [0; crate::wire::HEAD_MAX];
        let head = &mut head[..frame.missing()];
        let _active = self.gate.enter().map_err(|error| self.explain(error))?;
        // A failure shows itself again in the call that follows, which deals with it.
        let Ok(peeked) = stream.peek(head) else {
            return Ok(false);
        };
        match F::parse(&head[..peeked]) {
            Ok(crate::wire::Parsed::Payload(len)) => {
                let available = stream.available().unwrap_or_default() as u64;
                Ok(available >= len.saturating_add(peeked as u64))
            }
            _ => Ok(false),
        }
    }
}

fn violated(violation: &Violation) -> Error {
    let kind = match violation {
        Violation::TooLarge { .. } => ErrorKind::TooLarge,
        Violation::Magic { .. } => ErrorKind::Protocol,
    };
    Error::new(kind, format!("{violation}. The duct is closed")).with_source(violation.clone())
}

fn truncated(got: usize, of: Option<usize>) -> Error {
    let message = match of {
        Some(of) => format!(
            "the other end went away in the middle of a message, after {got} of its {of} bytes"
        ),
        None => "the other end went away in the middle of a message's header".into(),
    };
    Error::new(ErrorKind::Truncated, message)
}

fn reset(error: io::Error) -> Error {
    Error::os(
        "receive: the other end died, or closed without reading all that it was sent",
        error,
    )
    .with_kind(ErrorKind::Reset)
}
