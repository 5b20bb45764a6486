//! Receiving, and looking whether there is something to receive.

use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::end::Noticed;
use super::send::Help;
use super::{Channel, NOBODY, violated};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Deadline, Interest, Wait};
use crate::process;
use crate::stream::Stream;
use crate::turn::Held;
use crate::wire::{Body, Framing, HEAD_MAX, Incoming, Parsed, Step, V2, Violation};

/// A message whose length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its length in bytes.
    pub len: usize,
    /// How many of them are here: earlier calls have received them, which ended before the message was
    /// complete, or they came together with its head.
    pub arrived: usize,
}

impl Announced {
    /// Whether next to nothing is here yet.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.arrived < HEAD_MAX
    }
}

/// A frame whose memory may be lent for this call only, however that ends.
struct Placed<'a, B: Body>(&'a mut Incoming<B>);

impl<B: Body> Drop for Placed<'_, B> {
    fn drop(&mut self) {
        self.0.vacate();
    }
}

impl<F: Framing, B: Body> Channel<F, B> {
    /// Receives one message, in the memory that `make` gives for it, or in what was recycled where
    /// that gives none. `make` is asked once a call, as soon as the message's length is known; what
    /// it refuses stays there for the next call.
    ///
    /// # Errors
    ///
    /// `Closed`, `Disconnected`, `Reset`, `Truncated`, `TimedOut`, `WouldBlock`, `Interrupted`,
    /// `TooLarge`, `Protocol`, `Forked`, `Io`, and what `make` returns. After the passing ones among
    /// them the next call goes on where this one stopped.
    pub fn receive_in<S: Stream>(
        &self,
        stream: &S,
        make: impl FnOnce(Announced) -> Result<Option<B>>,
        wait: &mut Wait<'_>,
    ) -> Result<B> {
        // Descriptors that nobody asks for are closed.
        self.receive_with(stream, make, wait)
            .map(|(message, _)| message)
    }

    /// Receives one message as [`receive_in`](Self::receive_in) does, and the descriptors that come with
    /// it. They are close-on-exec.
    ///
    /// # Errors
    ///
    /// As for [`receive_in`](Self::receive_in). `Io` also where the process has no room for the
    /// descriptors; then the message is consumed, and all of them are closed.
    pub fn receive_with<S: Stream>(
        &self,
        stream: &S,
        make: impl FnOnce(Announced) -> Result<Option<B>>,
        wait: &mut Wait<'_>,
    ) -> Result<(B, Vec<OwnedFd>)> {
        let _noticed = Noticed(self);
        if self.owes_answer() {
            // One that another process was in the way of.
            self.answer_drain(stream);
        }
        let mut frame = self.begin_receive(wait)?;
        let len = self.receive_head(stream, &mut frame, wait)?;
        let arrived = frame.payload().len();
        if let Some(memory) = make(Announced { len, arrived })? {
            frame
                .place_in(memory)
                .map_err(|error| Error::os("make room for the message", error))?;
        }
        let frame = Placed(&mut frame);
        let mut descriptors = Vec::new();
        while !frame.0.is_complete() {
            match frame.0.awaited_descriptors() {
                None => self.receive_step(stream, frame.0, usize::MAX, wait)?,
                // The last step: what it brings is returned, or closed.
                Some(_) => descriptors = self.receive_descriptors(stream, frame.0, wait)?,
            }
        }
        self.end_receive(len);
        let message = frame.0.take().unwrap_or_default();
        Ok((message, descriptors))
    }

    /// Receives one message. Its memory may be given back with [`recycle`](Self::recycle).
    ///
    /// # Errors
    ///
    /// As for [`receive_in`](Self::receive_in).
    pub fn receive<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<B> {
        self.receive_in(stream, |_| Ok(None), wait)
    }

    /// Gives the memory of a received message back for the next one.
    pub fn recycle(&self, memory: B) {
        if let Some(mut frame) = self.receiver.try_take(&self.gate) {
            frame.recycle(memory);
        }
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
        let _noticed = Noticed(self);
        let outcome = self
            .begin_receive(wait)
            .and_then(|mut frame| self.poll_frame(stream, &mut frame, &|| false, wait));
        match outcome {
            Ok(()) => Ok(true),
            Err(error) => match error.kind() {
                ErrorKind::TimedOut | ErrorKind::WouldBlock => Ok(false),
                ErrorKind::Disconnected
                | ErrorKind::PeerDied
                | ErrorKind::Reset
                | ErrorKind::Truncated => Ok(true),
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

    fn begin_receive(&self, wait: &mut Wait<'_>) -> Result<Held<'_, Incoming<B>>> {
        if let Some(violation) = self.violation.get() {
            return Err(violated(violation)); // Nothing that follows it can be told apart.
        }
        self.refuse_inherited(&self.receiving, "receiving")?;
        self.receiver
            .take(&self.gate, wait)
            .map_err(|error| self.explain(error))
    }

    fn end_receive(&self, len: usize) {
        self.counters.received.count(len);
        self.receiving.store(NOBODY, Ordering::Relaxed);
        self.life.user.store(process::id(), Ordering::Relaxed);
        if self.peer.left.load(Ordering::Relaxed) {
            // Somebody else goes on with a copy of the other end.
            self.peer.left.store(false, Ordering::Relaxed);
        }
        self.answer_expected.store(false, Ordering::Relaxed);
    }

    /// Reads until the length of the payload is known.
    fn receive_head<S: Stream>(
        &self,
        stream: &S,
        frame: &mut Incoming<B>,
        wait: &mut Wait<'_>,
    ) -> Result<usize> {
        loop {
            if let Some(len) = frame.declared() {
                return Ok(len);
            }
            self.receive_step(stream, frame, usize::MAX, wait)?;
            if let Some(control) = frame.take_control() {
                self.obey(stream, control, wait)?;
            }
        }
    }

    /// Reads at most `most` bytes of the frame, or waits until some can be read.
    fn receive_step<S: Stream>(
        &self,
        stream: &S,
        frame: &mut Incoming<B>,
        most: usize,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        let step = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            if frame.is_large() {
                frame.expect(stream.available().unwrap_or_default());
            }
            frame.fill(&self.framing, self.message_limit(), most, |place| {
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

    /// Reads the byte behind a frame, and the descriptors that come with it; or waits for it.
    fn receive_descriptors<S: Stream>(
        &self,
        stream: &S,
        frame: &mut Incoming<B>,
        wait: &mut Wait<'_>,
    ) -> Result<Vec<OwnedFd>> {
        if !self.peer.takes_descriptors.load(Ordering::Relaxed) {
            let found = "descriptors, which the two ends have not agreed on,";
            return Err(self.violate(Violation::Unexpected { found }));
        }
        let announced = frame.awaited_descriptors().map_or(0, usize::from);
        let mut descriptors = Vec::new();
        let step = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            frame.fill(&self.framing, self.message_limit(), 1, |place| {
                stream.read_descriptors(place, &mut descriptors)
            })
        };
        match step {
            Step::Read(0) => return Err(self.ended(frame)),
            Step::Read(_) => {}
            Step::Violated(violation) => return Err(self.violate(violation)),
            Step::Failed(error) => {
                let (got, of) = (frame.payload().len(), frame.declared());
                self.receive_failed(stream, error, got, of, wait)?;
                return Ok(descriptors);
            }
        }
        if descriptors.len() > announced {
            let fault = "more descriptors come than were announced";
            let kind = V2::MESSAGE;
            return Err(self.violate(Violation::Malformed { kind, fault }));
        }
        if descriptors.len() < announced {
            let message = frame.take().unwrap_or_default();
            self.end_receive(message.len());
            let doing = "receive all descriptors of the message, which is lost";
            return Err(Error::os(doing, Errno::MFILE));
        }
        Ok(descriptors)
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
                false => self.reset(error),
            }),
            io::ErrorKind::TimedOut => {
                Err(Error::os("receive", error).with_kind(ErrorKind::TimedOut))
            }
            _ => Err(self.heed(Error::os("receive", error))),
        }
    }

    /// A stream that finds its own bytes changed is as bad as one in which somebody says nonsense.
    pub(super) fn heed(&self, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Protocol => self.violate(Violation::Stream {
                fault: error.to_string(),
            }),
            _ => error,
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
        self.sleep(stream, interest, still, wait)
    }

    /// Whether nothing more can be read.
    pub(super) fn is_over<S: Stream>(&self, stream: &S) -> Result<bool> {
        let _active = self.gate.enter().map_err(|error| self.explain(error))?;
        let ended = matches!(stream.peek(&mut [0]), Ok(0));
        Ok(ended || self.lost.load(Ordering::SeqCst) != 0)
    }

    pub(super) fn ended(&self, frame: &Incoming<B>) -> Error {
        // An end that has only finished sending still receives. Version 1 has no word for that, and another
        // process may have heard it.
        let has_finished = self.peer.finished.load(Ordering::Relaxed);
        if self.framing.says_farewell() && !has_finished && !self.life.may_be_elsewhere() {
            self.peer.gone.store(true, Ordering::Relaxed);
        }
        if !frame.is_fresh() {
            return truncated(frame.payload().len(), frame.declared());
        }
        match self.lost.load(Ordering::SeqCst) {
            0 => {}
            number => return self.reset(io::Error::from_raw_os_error(number)),
        }
        if self.has_died() {
            return Error::new(ErrorKind::PeerDied, DIED);
        }
        Error::new(ErrorKind::Disconnected, ENDED)
    }

    /// Whether the other end, which is gone, went without the farewell that it owes.
    fn has_died(&self) -> bool {
        self.framing.says_farewell() && !self.peer.left.load(Ordering::Relaxed)
    }

    fn reset(&self, error: io::Error) -> Error {
        if self.has_died() {
            return Error::os(DIED_UNREAD, error).with_kind(ErrorKind::PeerDied);
        }
        // It may have left unread what was no message.
        if self.framing.says_farewell() && self.is_confirmed(self.counters.sent.messages()) {
            return Error::new(ErrorKind::Disconnected, ENDED);
        }
        Error::os(
            "receive: the other end died, or closed without reading all that it was sent",
            error,
        )
        .with_kind(ErrorKind::Reset)
    }

    /// Hears what the other end's duct has to say, as far as it lies whole in front of everything
    /// else, and takes nothing of a message.
    ///
    /// # Errors
    ///
    /// As for [`poll`](Self::poll).
    pub fn hear<S: Stream>(&self, stream: &S) -> Result<()> {
        let wait = &mut Wait::until(Deadline::Now);
        let Some(mut frame) = self.receiver.try_take(&self.gate) else {
            return Ok(());
        };
        let mut head = [0; HEAD_MAX];
        while frame.is_fresh() {
            let peeked = {
                let _active = self.gate.enter().map_err(|error| self.explain(error))?;
                stream.peek(&mut head).unwrap_or_default()
            };
            match self.framing.parse(&head[..peeked]) {
                Ok(Parsed::Control(_)) => {
                    self.receive_step(stream, &mut frame, usize::MAX, wait)?;
                }
                _ => break,
            }
            if let Some(control) = frame.take_control() {
                self.obey(stream, control, wait)?;
            }
        }
        Ok(())
    }

    /// Waits until a whole message, or the end, is there, or it is enough.
    pub(super) fn poll_frame<S: Stream>(
        &self,
        stream: &S,
        frame: &mut Incoming<B>,
        is_enough: &dyn Fn() -> bool,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        loop {
            if is_enough() || self.is_whole_in_stream(stream, frame)? {
                return Ok(());
            }
            // An incomplete message is taken in but for its last byte, since a descriptor stays
            // ready for as long as anything lies there, and waiting on it would be no waiting.
            match frame.missing(&self.framing) {
                1 => {
                    let mut last = [0];
                    let peeked = {
                        let _active = self.gate.enter().map_err(|error| self.explain(error))?;
                        stream.peek(&mut last)
                    };
                    match peeked {
                        Ok(0) => return Ok(()),
                        Ok(_) => match frame.completes_with(&self.framing, last[0]) {
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
            if let Some(control) = frame.take_control() {
                self.obey(stream, control, wait)?;
            }
        }
    }

    /// Whether the stream holds the whole of a frame of which nothing has been read yet.
    fn is_whole_in_stream<S: Stream>(&self, stream: &S, frame: &Incoming<B>) -> Result<bool> {
        if !frame.is_fresh() {
            return Ok(false);
        }
        let mut head = [0; HEAD_MAX];
        let head = &mut head[..frame.missing(&self.framing)];
        let _active = self.gate.enter().map_err(|error| self.explain(error))?;
        let peeked = match stream.peek(head) {
            Ok(peeked) => peeked,
            Err(error) => return Ok(self.is_lost_by(&error)),
        };
        let bytes = &head[..peeked];
        match self.framing.parse(bytes) {
            Ok(Parsed::Payload { len, head }) => {
                let available = stream.available().unwrap_or_default() as u64;
                let frame = len.saturating_add(head as u64);
                Ok(match self.framing.descriptors(bytes) {
                    0 => available >= frame,
                    _ => available > frame.max(self.framing.frame_min() as u64),
                })
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

const ENDED: &str = "the other end has closed the duct, and all its messages have been received";

const DIED: &str = "the other end died: it is gone without a farewell. All that came of its messages has \
                    been received";

const DIED_UNREAD: &str = "receive: the other end died, without a farewell and without reading all that it \
                           was sent";
