//! Sending, and what becomes of a message that was sent in part.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::io::Errno;

use super::rest::Rest;
use super::{Channel, NOBODY};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Interest, Wait, closed};
use crate::process;
use crate::stream::Stream;
use crate::wire::{Body, Framing, HEAD_MAX, Head};

/// What the rest of an accepted message needs from a thread that is about to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Help {
    NotNeeded,
    Wanted,
    GivenByAnother,
}

/// A message up to this size, in bytes, is copied behind its head and written as one piece. A longer one
/// fills every frame.
const SHORT: usize = 512;
const _: () = assert!(HEAD_MAX <= SHORT);

/// A message above this size, in bytes, flows better when the stream has room for all of it.
const LARGE: usize = 32 * 1024;

/// What a frame is to the end that sends it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Content {
    #[default]
    Control,
    /// A message, with the length of its payload.
    Message(usize),
    /// The last frame of this direction.
    End,
}

/// A frame that is to be sent, or only the rest of an earlier one where there is nothing in it.
#[derive(Default)]
pub(super) struct Frame<'f, 's> {
    pub(super) parts: &'f mut [IoSlice<'s>],
    pub(super) content: Content,
    /// What goes with it.
    pub(super) descriptors: Vec<OwnedFd>,
}

impl<F: Framing, B: Body> Channel<F, B> {
    /// Sends one message, made of the parts in their order.
    ///
    /// # Errors
    ///
    /// `TooLarge`, `Closed`, `Disconnected`, `TimedOut`, `WouldBlock`, `Interrupted`, `Forked`, `Io`.
    /// A deadline that passes when a part of the message is out is no error: the message is
    /// accepted, and the rest goes out before anything else.
    pub fn send<S: Stream>(&self, stream: &S, parts: &[&[u8]], wait: &mut Wait<'_>) -> Result<()> {
        self.send_with(stream, parts, Vec::new(), wait)
    }

    /// Sends one message, and descriptors with it: copies, which are closed when they are on their way.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send), and [`ErrorKind::InvalidInput`] where the wire or the other end
    /// cannot take them, or so many of them.
    pub fn send_with<S: Stream>(
        &self,
        stream: &S,
        parts: &[&[u8]],
        descriptors: Vec<OwnedFd>,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        if !descriptors.is_empty() {
            self.check_descriptors(stream, descriptors.len())?;
        }
        let (head, len) = self.head(parts, descriptors.len())?;
        let frame = |parts| Frame {
            parts,
            content: Content::Message(len),
            descriptors,
        };
        if len > LARGE && !self.widened.swap(true, Ordering::Relaxed) {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            stream.widen();
        }
        if let [part] = *parts
            && part.len() <= SHORT
        {
            // One piece costs the system less than two.
            let mut bytes = [0; HEAD_MAX + SHORT];
            let (start, end) = (head.as_ref().len(), head.as_ref().len() + part.len());
            bytes[..start].copy_from_slice(head.as_ref());
            bytes[start..end].copy_from_slice(part);
            let bytes = &bytes[..end.max(self.framing.frame_min())];
            return self.send_frame(stream, frame(&mut [IoSlice::new(bytes)]), wait);
        }
        if let [part] = *parts {
            let mut slices = [IoSlice::new(head.as_ref()), IoSlice::new(part)];
            return self.send_frame(stream, frame(&mut slices), wait);
        }
        let frame_min = self.framing.frame_min();
        let padding = frame_min.saturating_sub(head.as_ref().len() + len);
        let mut slices = Vec::with_capacity(parts.len() + 2);
        slices.push(IoSlice::new(head.as_ref()));
        slices.extend(parts.iter().map(|part| IoSlice::new(part)));
        if padding > 0 {
            slices.push(IoSlice::new(&[0; HEAD_MAX][..padding]));
        }
        self.send_frame(stream, frame(&mut slices), wait)
    }

    /// Waits until the rest of an accepted message has gone out.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn flush<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        self.send_frame(stream, Frame::default(), wait)
    }

    /// Checks that so many descriptors may go with a message.
    fn check_descriptors<S: Stream>(&self, stream: &S, count: usize) -> Result<()> {
        let carries = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            stream.carries_descriptors()
        };
        let fault = if !carries {
            "descriptors can go to another process of this host only: use a unix: address or a pair"
        } else if !self.peer.takes_descriptors.load(Ordering::Relaxed) {
            "the other end has not said that it takes descriptors; version 1 of the protocol has no word \
             for them"
        } else if self.framing.head_with(0, count).is_none() {
            "expected at most 16 descriptors with one message"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidInput, fault))
    }

    fn head(&self, parts: &[&[u8]], descriptors: usize) -> Result<(Head, usize)> {
        let len = parts
            .iter()
            .try_fold(0usize, |sum, part| sum.checked_add(part.len()))
            .unwrap_or(usize::MAX);
        self.check_size(len)?;
        let head = self.framing.head_with(len, descriptors);
        let head = head.ok_or_else(|| self.too_large(len))?;
        Ok((head, len))
    }

    pub(super) fn too_large(&self, len: usize) -> Error {
        let limit = u64::try_from(self.message_limit()).unwrap_or(u64::MAX);
        Error::new(
            ErrorKind::TooLarge,
            format!(
                "the message has {len} bytes, and the limit is {}; nothing was sent. Raise the \
                 limit on both ends, or send it in pieces",
                limit.min(self.others_limit())
            ),
        )
    }

    pub(super) fn send_frame<S: Stream>(
        &self,
        stream: &S,
        frame: Frame<'_, '_>,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        if self.is_closed() {
            return Err(self.explain(closed()));
        }
        self.refuse_inherited(&self.sending, "sending")?;
        let outcome = self
            .sender
            .take(&self.gate, wait)
            .map_err(|error| self.explain(error))
            .and_then(|mut rest| {
                if matches!(frame.content, Content::Message(_)) {
                    self.refuse_finished()?;
                    if self.peer.gone.load(Ordering::Relaxed) {
                        return Err(self.gone(Errno::PIPE.into()));
                    }
                }
                self.write_rest(stream, &mut rest, wait)?;
                let is_said = frame.content == Content::End && self.has_ended();
                match frame.parts.is_empty() || is_said {
                    true => Ok(()),
                    false => self.write_frame(stream, &mut rest, frame, wait),
                }
            });
        if self.owes_answer() {
            self.answer_drain(stream);
        }
        if self.unsent.load(Ordering::SeqCst) {
            // A thread that waits for an answer must now help the rest out.
            self.gate.wake_all();
        }
        outcome
    }

    fn write_rest<S: Stream>(
        &self,
        stream: &S,
        rest: &mut Rest,
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
                        rest.len()
                    ),
                )
            })?;
        }
        Ok(())
    }

    /// Writes what it can of the rest without waiting. True if nothing is left.
    pub(super) fn push_rest<S: Stream>(&self, stream: &S, rest: &mut Rest) -> Result<bool> {
        while !rest.bytes.is_empty() {
            match self.write(stream, &[IoSlice::new(rest.bytes.unsent())])? {
                Some(count) => rest.bytes.advance(count),
                None => return Ok(false),
            }
        }
        if !self.write_descriptors(stream, &mut rest.descriptors)? {
            return Ok(false);
        }
        if !self.flush_stream(stream)? {
            return Ok(false);
        }
        if self.sending.load(Ordering::Relaxed) != NOBODY {
            self.release(stream);
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
        rest: &mut Rest,
        frame: Frame<'_, '_>,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        let Frame {
            parts: mut slices,
            content,
            mut descriptors,
        } = frame;
        let mut begun = false;
        let is_large = matches!(content, Content::Message(len) if len > LARGE);
        let mut claimed = is_large && self.claim(stream);
        loop {
            let attempt = match slices.is_empty() {
                false => self.write(stream, slices),
                true => {
                    let written = self.write_descriptors(stream, &mut descriptors);
                    match written.and_then(|done| Ok(done && self.flush_stream(stream)?)) {
                        Ok(true) => break,
                        Ok(false) => Ok(None),
                        Err(error) => Err(error),
                    }
                }
            };
            let error = match attempt {
                Ok(Some(count)) => {
                    begun = true;
                    IoSlice::advance_slices(&mut slices, count);
                    continue;
                }
                Ok(None) => {
                    if begun {
                        self.sending.store(process::id(), Ordering::SeqCst);
                        claimed = claimed || self.claim(stream);
                    }
                    match self.wait_to_write(stream, wait) {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let late = error.kind() == ErrorKind::TimedOut;
            if !begun {
                if claimed {
                    self.release(stream);
                }
                let text = "timed out: the other end does not read; the message was not sent";
                return Err(match late {
                    true => Error::new(ErrorKind::TimedOut, text),
                    false => error,
                });
            }
            if self.is_closed() {
                // The close may have come just when all of it was out.
                if slices.is_empty() && descriptors.is_empty() {
                    break;
                }
                rest.is_cut = true;
                return Err(error);
            }
            self.sending.store(process::id(), Ordering::SeqCst);
            rest.bytes.keep(slices.iter().map(|slice| &**slice));
            rest.descriptors = descriptors;
            self.unsent.store(true, Ordering::SeqCst);
            self.note_accepted(content);
            return match late || error.kind() == ErrorKind::WouldBlock {
                true => Ok(()),
                false => Err(error),
            };
        }
        if claimed {
            self.release(stream);
        }
        self.end_send();
        self.note_accepted(content);
        self.answer_expected.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Notes, in the turn of the sender, that a frame goes out: at once, or what is left of it later.
    fn note_accepted(&self, content: Content) {
        match content {
            Content::Control => {}
            Content::Message(len) => {
                self.counters.sent.count(len);
                self.life.user.store(process::id(), Ordering::Relaxed);
            }
            Content::End => self.note_ended(),
        }
    }

    /// One attempt to write: nothing if it would have to wait.
    pub(super) fn write<S: Stream>(
        &self,
        stream: &S,
        slices: &[IoSlice<'_>],
    ) -> Result<Option<usize>> {
        let outcome = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            stream.write(slices)
        };
        match outcome {
            Ok(0) => Err(Error::os("send", io::Error::from(io::ErrorKind::WriteZero))),
            Ok(count) => Ok(Some(count)),
            Err(error) => self.write_failed(stream, error).map(|()| None),
        }
    }

    /// Sends descriptors with a byte of their own, if there are any. False if they have to wait.
    fn write_descriptors<S: Stream>(
        &self,
        stream: &S,
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<bool> {
        if descriptors.is_empty() {
            return Ok(true);
        }
        let outcome = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            stream.write_descriptors(&borrowed)
        };
        match outcome {
            Ok(()) => {
                descriptors.clear();
                Ok(true)
            }
            // Too many of this user's are on their way, until somebody receives some; no descriptor
            // tells when.
            Err(error) if error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error()) => {
                std::thread::sleep(Duration::from_millis(1));
                Ok(false)
            }
            Err(error) => self.write_failed(stream, error).map(|()| false),
        }
    }

    /// Hands to the system what the stream has taken. False if some of it has to wait.
    pub(super) fn flush_stream<S: Stream>(&self, stream: &S) -> Result<bool> {
        let flushed = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            stream.flush()
        };
        match flushed {
            Ok(()) => Ok(true),
            Err(error) => self.write_failed(stream, error).map(|()| false),
        }
    }

    fn gone(&self, error: io::Error) -> Error {
        let timed_out = Errno::TIMEDOUT.raw_os_error();
        // A stream that was given up tells no more of why.
        let error = match self.lost.load(Ordering::SeqCst) {
            number if number == timed_out => io::Error::from_raw_os_error(number),
            _ => error,
        };
        Error::os("send: the other end is gone", error).with_kind(ErrorKind::Disconnected)
    }

    /// Whether a failed write only has to be made again.
    fn write_failed<S: Stream>(&self, stream: &S, error: io::Error) -> Result<()> {
        match error.kind() {
            io::ErrorKind::WouldBlock if stream.descriptor().is_some() => Ok(()),
            io::ErrorKind::Interrupted if error.raw_os_error().is_some() => Ok(()),
            io::ErrorKind::BrokenPipe => Err(self.gone(error)),
            _ if self.is_lost_by(&error) => Err(self.gone(error)),
            io::ErrorKind::TimedOut => Err(Error::os("send", error).with_kind(ErrorKind::TimedOut)),
            _ => Err(self.heed(Error::os("send", error))),
        }
    }

    fn wait_to_write<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        self.sleep(stream, Interest::Writable, || true, wait)
    }

    pub(super) fn rest_waits(&self) -> bool {
        self.unsent.load(Ordering::SeqCst) && !self.is_inherited(&self.sending)
    }

    /// Pushes the rest of an accepted message out: the other end may not answer before it has it.
    pub(super) fn help_out<S: Stream>(&self, stream: &S) -> Help {
        if !self.rest_waits() {
            return Help::NotNeeded;
        }
        let Some(mut rest) = self.sender.try_take(&self.gate) else {
            return Help::GivenByAnother;
        };
        match self.push_rest(stream, &mut rest) {
            Ok(true) if self.owes_answer() => {
                self.answer_in_turn(stream, &mut rest);
                match rest.is_empty() {
                    true => Help::NotNeeded,
                    false => Help::Wanted,
                }
            }
            Ok(true) => Help::NotNeeded,
            Ok(false) => Help::Wanted,
            Err(_) => {
                // A failure to write never hides what can be read; the next send reports it.
                self.unsent.store(false, Ordering::SeqCst);
                Help::NotNeeded
            }
        }
    }
}
