//! Receiving, and looking whether there is something to receive.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::Ordering;

use super::send::Help;
use super::{Channel, NOBODY, violated};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Interest, Queue, Wait};
use crate::process;
use crate::stream::Stream;
use crate::turn::Held;
use crate::wire::{Body, Framing, HEAD_MAX, Incoming, Parsed, Step};

impl<F: Framing, B: Body> Channel<F, B> {
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
                    self.spin.found(&mut wait.looking);
                    got += count;
                    Ok(())
                }
                Ok(Err(error)) => self.receive_failed(stream, error, got, Some(len), wait),
                Err(closed) => Err(self.explain(closed)),
            };
            if let Err(error) = outcome {
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

    /// Waits until something can be received, and takes nothing. Meanwhile the rest of an accepted
    /// message goes out.
    ///
    /// # Errors
    ///
    /// As for [`receive`](Self::receive), without those of a message.
    pub fn wait_readable<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        loop {
            let peeked = {
                let _active = self.gate.enter().map_err(|error| self.explain(error))?;
                stream.peek(&mut [0])
            };
            match peeked {
                Ok(_) => return Ok(()),
                Err(error) => self.receive_failed(stream, error, 0, None, wait)?,
            }
        }
    }

    fn begin_receive(&self, wait: &mut Wait<'_>) -> Result<Held<'_, Incoming<F, B>>> {
        if let Some(violation) = self.violation.get() {
            return Err(violated(violation)); // Nothing that follows it can be told apart.
        }
        self.refuse_inherited(&self.receiving, "receiving")?;
        self.receiver
            .take(&self.gate, wait)
            .map_err(|error| self.explain(error))
    }

    fn end_receive(&self) {
        self.receiving.store(NOBODY, Ordering::Relaxed);
        self.answer_expected.store(false, Ordering::Relaxed);
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
            Step::Read(_) => {
                self.spin.found(&mut wait.looking);
                // Noted at once: another thread may fork at any moment.
                self.receiving.store(process::id(), Ordering::Relaxed);
                return Ok(());
            }
            Step::Violated(violation) => return Err(self.violate(violation)),
            Step::Failed(error) => error,
        };
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
                        None => Cow::Borrowed("timed out: no whole message came"),
                    };
                    Error::new(ErrorKind::TimedOut, message)
                })
            }
            io::ErrorKind::Interrupted if error.raw_os_error().is_some() => Ok(()),
            _ if self.is_lost_by(&error) => Err(match begun {
                true => truncated(got, of),
                false => reset(error),
            }),
            io::ErrorKind::TimedOut => {
                Err(Error::os("receive", error).with_kind(ErrorKind::TimedOut))
            }
            _ => Err(Error::os("receive", error)),
        }
    }

    fn wait_to_read<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        let help = self.help_out(stream);
        // A stream of messages flows better when its receiver sleeps until there are several.
        if help == Help::NotNeeded
            && self.answer_expected.load(Ordering::Relaxed)
            && wait.deadline.allows_waiting()
            && self.spin.looks_again(&mut wait.looking)
        {
            return Ok(());
        }
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

    fn ended(&self, frame: &Incoming<F, B>) -> Error {
        if !frame.is_fresh() {
            return truncated(frame.payload().len(), frame.declared());
        }
        match self.lost.load(Ordering::SeqCst) {
            0 => {}
            number => return reset(io::Error::from_raw_os_error(number)),
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
        let mut head = [0; HEAD_MAX];
        let head = &mut head[..frame.missing()];
        let _active = self.gate.enter().map_err(|error| self.explain(error))?;
        let peeked = match stream.peek(head) {
            Ok(peeked) => peeked,
            Err(error) => return Ok(self.is_lost_by(&error)),
        };
        match F::parse(&head[..peeked]) {
            Ok(Parsed::Payload(len)) => {
                let available = stream.available().unwrap_or_default() as u64;
                Ok(available >= len.saturating_add(peeked as u64))
            }
            _ => Ok(false),
        }
    }
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
