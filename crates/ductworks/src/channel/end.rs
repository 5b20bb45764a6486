//! What the two ducts say to each other, and the orderly end.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::rest::Rest;
use super::send::{Content, Frame};
use super::{Channel, NOBODY};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Queue, Wait, closed};
use crate::process::{self, Origin};
use crate::stream::Stream;
use crate::turn::{Held, Turn};
use crate::wire::{Body, CONTROL_LEN, Control, Framing, Mode, Parsed, Violation};

/// What is known of the other end.
#[derive(Debug)]
pub(super) struct Peer {
    /// The largest message that it receives, in bytes.
    pub(super) limit: AtomicU64,
    /// It has said farewell, and nothing else since.
    pub(super) left: AtomicBool,
    /// It has said that nothing follows in its direction, so that it can answer nothing either.
    pub(super) finished: AtomicBool,
    /// A receiver here has been told that it is gone.
    pub(super) gone: AtomicBool,
    /// It takes descriptors.
    pub(super) takes_descriptors: AtomicBool,
    /// How many of this end's messages it has said to have received.
    confirmed: AtomicU64,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(u64::MAX),
            left: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            takes_descriptors: AtomicBool::new(false),
            confirmed: AtomicU64::new(0),
        }
    }
}

/// Where this end stands on the way to its own end.
#[derive(Debug)]
pub(super) struct Life {
    origin: Origin,
    /// Another process has been given a copy.
    exported: AtomicBool,
    /// Another process, or another owner here, goes on with it.
    handed_on: AtomicBool,
    /// It may have been another channel's before.
    taken_over: AtomicBool,
    /// The process that used it last, or [`NOBODY`].
    pub(super) user: AtomicU32,
    sending: AtomicU8,
    /// The process in which a thread has begun to close it, or [`NOBODY`].
    closing: AtomicU32,
}

/// The values of `Life::sending`.
const OPEN: u8 = 0;
/// No message follows: the farewell is accepted, and perhaps not yet written.
const ENDED: u8 = 1;
/// Nothing more is to be said.
const FINISHED: u8 = 2;

impl Default for Life {
    fn default() -> Self {
        Self {
            origin: Origin::here(),
            exported: AtomicBool::new(false),
            handed_on: AtomicBool::new(false),
            taken_over: AtomicBool::new(false),
            user: AtomicU32::new(NOBODY),
            sending: AtomicU8::new(OPEN),
            closing: AtomicU32::new(NOBODY),
        }
    }
}

impl Life {
    /// Whether another process may have been given the end by this one.
    pub(super) fn may_be_shared(&self) -> bool {
        self.exported.load(Ordering::Relaxed) || self.origin.may_be_shared()
    }

    /// Whether another process may have the end, or may still have it.
    pub(super) fn may_be_elsewhere(&self) -> bool {
        self.may_be_shared() || self.taken_over.load(Ordering::Relaxed)
    }
}

/// The questions whether everything has been received, each way.
#[derive(Debug, Default)]
pub(super) struct Drains {
    family: OnceLock<u64>,
    /// How many were asked here.
    asked: AtomicU64,
    /// How many of these the other end has answered.
    answered: AtomicU64,
    /// The last one of the other end that is still to be answered, or zero.
    owed: AtomicU64,
    /// How many threads wait for an answer.
    waiting: AtomicU32,
}

impl Drains {
    /// Where the numbers of this process's questions begin: far from where they do in another one that has
    /// the end, or in a channel that had it before, and far from the last number.
    fn first_id(&self) -> u64 {
        let family = self.family.get_or_init(process::random);
        family.wrapping_add(u64::from(process::id()) << 32) / 4
    }

    /// Which question has the number, if one of this process and channel has.
    fn own(&self, id: u64) -> Option<u64> {
        let count = id.checked_sub(self.first_id())?;
        (count <= self.asked.load(Ordering::SeqCst)).then_some(count)
    }
}

/// Which of two questions is to be answered, if not the old one: the last one, but that those which several
/// threads ask at the same time may come in another order than their numbers.
fn later_question(owed: u64, asked: u64) -> Option<u64> {
    let are_of_one_asker = owed != 0 && owed.abs_diff(asked) < 1 << 31;
    (!are_of_one_asker || asked > owed).then_some(asked)
}

/// In the place of a question's number: the other end has finished, and is told so without a question.
const UNASKED: u64 = u64::MAX;

/// The most frames that a call whose time is up still hears before the next message.
const HEARD_AT_ONCE: u16 = 64;

/// How long a closing end waits for a sender to notice, which is at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Wakes those who wait for an answer, when a receiver has let go of its turn.
pub(super) struct Noticed<'a, F: Framing, B: Body>(pub(super) &'a Channel<F, B>);

impl<F: Framing, B: Body> Drop for Noticed<'_, F, B> {
    fn drop(&mut self) {
        if self.0.drains.waiting.load(Ordering::SeqCst) != 0 {
            self.0.gate.wake_all();
        }
    }
}

impl<F: Framing, B: Body> Channel<F, B> {
    /// Notes the largest message, in bytes, that both ends have agreed on. From now on no larger one is
    /// sent, and none is received unless this end's own limit is raised.
    pub fn agree_on_limit(&self, bytes: u64) {
        self.peer.limit.store(bytes, Ordering::Relaxed);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.set_message_limit(self.message_limit().min(bytes));
    }

    /// Notes whether both ends take descriptors.
    pub fn agree_on_descriptors(&self, taken: bool) {
        self.peer.takes_descriptors.store(taken, Ordering::Relaxed);
    }

    /// Notes that the end comes from elsewhere. How many messages were sent through it there is not known
    /// here, so the number that the other end has received in all tells nothing of those sent from here.
    pub fn take_over(&self) {
        self.life.taken_over.store(true, Ordering::Relaxed);
    }

    /// Notes that another process is given a copy of this end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] in the middle of a message.
    pub fn share(&self) -> Result<()> {
        if self.is_amid_message() {
            return Err(amid_message());
        }
        self.life.exported.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether this process has come by the end with a fork, and made no use of it.
    #[must_use]
    pub fn is_idle_copy(&self) -> bool {
        !self.life.origin.is_here() && !self.is_user()
    }

    /// Whether this process has sent or received a message through the end, and none has since.
    fn is_user(&self) -> bool {
        self.life.user.load(Ordering::Relaxed) == process::id()
    }

    /// Says something to the other end's duct, before or between the messages.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] where the framing cannot say it, and those of
    /// [`send`](Self::send).
    pub fn say<S: Stream>(&self, stream: &S, control: &Control, wait: &mut Wait<'_>) -> Result<()> {
        let frame = self.framing.control(control).ok_or_else(cannot_say)?;
        let frame = Frame {
            parts: &mut [IoSlice::new(&frame)],
            ..Frame::default()
        };
        self.send_frame(stream, frame, wait)
    }

    /// Does what a frame of the other end's duct asks for.
    pub(super) fn obey<S: Stream>(
        &self,
        stream: &S,
        control: Control,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        self.receiving.store(NOBODY, Ordering::Relaxed);
        match control {
            Control::End {
                shared,
                received,
                finish,
                ..
            } => {
                if finish {
                    self.peer.finished.store(true, Ordering::Relaxed);
                }
                // It finishes for all copies.
                if finish || !is_own_farewell(&control) {
                    self.peer.left.store(true, Ordering::Relaxed);
                }
                if !shared {
                    self.peer.confirmed.fetch_max(received, Ordering::SeqCst);
                }
                if finish && !shared {
                    // All that it has sent has been received, and it cannot ask any more.
                    self.drains.owed.store(UNASKED, Ordering::SeqCst);
                    self.answer_drain(stream);
                }
            }
            Control::Drain { id } => {
                let later = |owed| later_question(owed, id);
                let _ = self
                    .drains
                    .owed
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, later);
                self.answer_drain(stream);
            }
            Control::Drained { id, received } => {
                self.peer.confirmed.fetch_max(received, Ordering::SeqCst);
                if let Some(count) = self.drains.own(id) {
                    self.drains.answered.fetch_max(count, Ordering::SeqCst);
                    self.gate.wake_all();
                }
            }
            Control::Hello(hello) if hello.mode == Mode::Open => {
                self.peer.limit.store(hello.limit, Ordering::Relaxed);
            }
            Control::Refused => return Err(self.violate(Violation::Refused)),
            Control::Hello(_) | Control::Proof(_) | Control::Accept => {
                let found = control.name();
                return Err(self.violate(Violation::Unexpected { found }));
            }
        }
        // However many such frames come, they do not keep a call beyond its time.
        wait.heard = wait.heard.saturating_add(1);
        match wait.heard < HEARD_AT_ONCE || wait.deadline.allows_waiting() {
            true => Ok(()),
            false => Err(wait.deadline.error()),
        }
    }

    /// Whether an answer is owed to the other end.
    pub(super) fn owes_answer(&self) -> bool {
        self.drains.owed.load(Ordering::SeqCst) != 0
    }

    /// Answers the other end's question, unless somebody who is sending will.
    pub(super) fn answer_drain<S: Stream>(&self, stream: &S) {
        while self.owes_answer() && !self.is_inherited(&self.sending) {
            let Some(mut rest) = self.sender.try_take(&self.gate) else {
                return; // Who has the turn looks when it is over.
            };
            match self.push_rest(stream, &mut rest) {
                Ok(true) if self.answer_in_turn(stream, &mut rest) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Answers the other end's question, if there is one, with nothing left to go out before. Says whether
    /// that could be done.
    pub(super) fn answer_in_turn<S: Stream>(&self, stream: &S, rest: &mut Rest) -> bool {
        let id = self.drains.owed.swap(0, Ordering::SeqCst);
        if id == 0 {
            return true;
        }
        let received = self.counters.received.messages();
        let taken = {
            let Ok(_active) = self.gate.enter() else {
                return false;
            };
            self.is_taken_elsewhere(stream)
        };
        if taken {
            // It stays owed, unless something later has been asked meanwhile.
            let owed = &self.drains.owed;
            let _ = owed.compare_exchange(0, id, Ordering::SeqCst, Ordering::SeqCst);
            return false;
        }
        let asked = if id == UNASKED { 0 } else { id };
        let answer = Control::Drained {
            id: asked,
            received,
        };
        let Some(frame) = self.framing.control(&answer) else {
            return true;
        };
        let written = match self.write(stream, &[IoSlice::new(&frame)]) {
            Ok(written) => written.unwrap_or(0),
            Err(_) => return false, // The next send reports it.
        };
        let is_out = written == frame.len() && self.flush_stream(stream).unwrap_or(true);
        if !is_out {
            self.sending.store(process::id(), Ordering::SeqCst);
            rest.bytes.keep([&frame[written..]]);
            self.unsent.store(true, Ordering::SeqCst);
            if written > 0 {
                self.claim(stream);
            }
        }
        is_out
    }

    /// Waits until the other end's user has received everything that was sent before. Nothing is
    /// received here meanwhile: while a message stands in front of the answer, another thread has to
    /// receive it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Undrained`] at the deadline or the other end's end, with an upper bound of the
    /// [number](Error::unreceived) of messages that it has not received;
    /// [`ErrorKind::InvalidInput`] where the framing cannot ask; and those of [`poll`](Self::poll).
    pub fn drain<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        let sent = self.counters.sent.messages();
        if !self.framing.says_farewell() {
            return Err(cannot_say());
        }
        if self.is_confirmed(sent) {
            return self.flush(stream, wait);
        }
        let count = self.drains.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let question = Control::Drain {
            id: self.drains.first_id() + count,
        };
        let is_drained =
            || self.drains.answered.load(Ordering::SeqCst) >= count || self.is_confirmed(sent);
        let asked = match self.life.sending.load(Ordering::SeqCst) {
            OPEN => self.say(stream, &question, wait),
            // The other end tells without being asked when it has come to where this one finished.
            _ => self.flush(stream, wait),
        };
        self.drains.waiting.fetch_add(1, Ordering::SeqCst);
        let outcome = match asked {
            // What it said before it went away may be answer enough.
            Err(error) if error.kind() != ErrorKind::Disconnected => Err(error),
            _ => self.await_answer(stream, &is_drained, wait),
        };
        self.drains.waiting.fetch_sub(1, Ordering::SeqCst);
        match outcome {
            Err(_) if is_drained() => Ok(()),
            Err(error) => Err(self.undrained(error, sent)),
            Ok(()) => Ok(()),
        }
    }

    /// Whether the other end has said that it has received so many messages.
    pub(super) fn is_confirmed(&self, sent: u64) -> bool {
        self.confirmed().is_some_and(|confirmed| confirmed >= sent)
    }

    /// How many of the messages that were sent from here the other end has said to have received. What
    /// others have sent through this end is not counted here, so nobody can tell where there may be any.
    fn confirmed(&self) -> Option<u64> {
        let alone = !self.life.may_be_elsewhere();
        alone.then(|| self.peer.confirmed.load(Ordering::SeqCst))
    }

    fn await_answer<S: Stream>(
        &self,
        stream: &S,
        is_drained: &dyn Fn() -> bool,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        while !is_drained() {
            let received = self.counters.received.messages();
            let looked = {
                let _noticed = Noticed(self);
                self.refuse_inherited(&self.receiving, "receiving")?;
                match self.receiver.try_take(&self.gate) {
                    Some(mut frame) => {
                        self.poll_frame(stream, &mut frame, is_drained, wait)?;
                        // Not a message, perhaps, but the end.
                        if !is_drained() && self.is_over(stream)? {
                            return Err(self.ended(&frame));
                        }
                        true
                    }
                    None => false,
                }
            };
            let still = || {
                let same = self.counters.received.messages() == received;
                !is_drained() && same && (looked || self.receiver.is_taken())
            };
            self.gate
                .sleep(None, Queue::Descriptor, still, wait)
                .map_err(|error| self.explain(error))?;
        }
        Ok(())
    }

    fn undrained(&self, error: Error, sent: u64) -> Error {
        let why = match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "until the time was up",
            ErrorKind::Disconnected if self.peer.finished.load(Ordering::Relaxed) => {
                "when the other end finished sending; since then it cannot tell what it receives"
            }
            ErrorKind::Disconnected
            | ErrorKind::PeerDied
            | ErrorKind::Reset
            | ErrorKind::Truncated => "when the other end went away",
            _ => return error,
        };
        let unreceived = sent.saturating_sub(self.confirmed().unwrap_or(0));
        let text = format!(
            "of {sent} messages that were sent, up to {unreceived} had not been received {why}"
        );
        Error::new(ErrorKind::Undrained, text).with_unreceived(unreceived)
    }

    /// Ends the direction in which this end sends: the other end receives what was sent, and then the
    /// end. Receiving goes on. Where the end has copies in other processes, it is over for all of
    /// them.
    ///
    /// # Errors
    ///
    /// As for [`flush`](Self::flush).
    pub fn finish<S: Stream>(&self, stream: &S, wait: &mut Wait<'_>) -> Result<()> {
        if self.is_closed() {
            return Err(self.explain(closed()));
        }
        if self.life.sending.load(Ordering::SeqCst) == FINISHED {
            return Ok(());
        }
        match self.framing.control(&self.farewell(true)) {
            // Whether it has been said is known in the turn of the sender: another thread may finish too.
            Some(frame) => {
                let frame = Frame {
                    parts: &mut [IoSlice::new(&frame)],
                    content: Content::End,
                    ..Frame::default()
                };
                self.send_frame(stream, frame, wait)?;
            }
            None => self.note_ended(),
        }
        self.flush(stream, wait)?;
        let ended = {
            let _active = self.gate.enter().map_err(|error| self.explain(error))?;
            stream.finish()
        };
        match ended {
            Ok(()) => {}
            // It is over as it is.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Err(error) => return Err(Error::os("end the sending direction", error)),
        }
        self.life.sending.store(FINISHED, Ordering::SeqCst);
        Ok(())
    }

    /// Whether the last frame of this direction is accepted.
    pub(super) fn has_ended(&self) -> bool {
        self.life.sending.load(Ordering::SeqCst) != OPEN
    }

    pub(super) fn note_ended(&self) {
        // It may be finished, or closed, by now.
        let state = &self.life.sending;
        let _ = state.compare_exchange(OPEN, ENDED, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Closes the channel without a farewell: the stream goes on elsewhere. The other end is not to
    /// notice.
    ///
    /// Returns, as [`close`](Self::close) does, whether it was this call that closed it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] in the middle of a message, with everything as it was.
    pub fn abandon<S: Stream>(&self, stream: &S) -> Result<bool> {
        let turn = self.sender.try_take(&self.gate);
        if turn.is_none() || self.is_amid_message() {
            return Err(amid_message());
        }
        // Nobody begins a message from here on.
        self.gate.shut();
        drop(turn);
        Ok(self.close_as(stream, || {
            self.life.handed_on.store(true, Ordering::SeqCst);
            self.life.sending.store(FINISHED, Ordering::SeqCst);
        }))
    }

    /// Whether a message has been sent or received in part, here or in the process that forked this one.
    fn is_amid_message(&self) -> bool {
        self.has_partial() || self.has_unsent() || self.sending.load(Ordering::SeqCst) != NOBODY
    }

    /// Whether this thread is the one that closes the channel in this process. A thread that had begun to
    /// in the process that forked this one does nothing here.
    pub(super) fn begin_to_close(&self) -> bool {
        let me = process::id();
        self.life.closing.swap(me, Ordering::SeqCst) != me
    }

    /// Whether the closed channel was in use here and has said farewell, so that nobody goes on with the
    /// stream in this process.
    pub(super) fn has_left(&self) -> bool {
        self.framing.says_farewell()
            && !self.life.handed_on.load(Ordering::SeqCst)
            && !self.is_idle_copy()
    }

    /// Checks that messages may still be sent.
    pub(super) fn refuse_finished(&self) -> Result<()> {
        match self.life.sending.load(Ordering::SeqCst) {
            OPEN => Ok(()),
            _ if self.is_closed() => Err(self.explain(closed())),
            _ => Err(Error::new(
                ErrorKind::Closed,
                "this end has finished sending; it can only receive",
            )),
        }
    }

    fn farewell(&self, finish: bool) -> Control {
        Control::End {
            shared: self.life.may_be_shared(),
            finish,
            process: process::identity(),
            received: self.counters.received.messages(),
        }
    }

    /// Takes a turn from a thread that waited for the descriptor, which the close has just woken.
    fn last_turn<'a, T: Default, S: Stream>(
        &'a self,
        turn: &'a Turn<T>,
        stream: &S,
    ) -> Option<Held<'a, T>> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(held) = turn.try_take(&self.gate) {
                return Some(held);
            }
            let is_woken = stream.descriptor().is_some() && !turn.is_own();
            if !is_woken || Instant::now() >= until {
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// Takes in what the other end's duct has said and nobody has heard. Left unread in a Unix socket, the
    /// system would tell it to the other end as a reset, which means lost messages.
    pub(super) fn hear_last<S: Stream>(&self, stream: &S) {
        let Some(frame) = self.last_turn(&self.receiver, stream) else {
            return;
        };
        let mut place = [0; CONTROL_LEN];
        for _ in 0..HEARD_AT_ONCE {
            if !frame.is_fresh() || !matches!(stream.peek(&mut place), Ok(CONTROL_LEN)) {
                return;
            }
            let Ok(Parsed::Control(control)) = self.framing.parse(&place) else {
                return;
            };
            // Other frames belong to the processes that keep a copy. A process that never used this end
            // reads nothing from it, since another one may be about to.
            let is_for_others =
                self.life.may_be_shared() && !(self.is_user() && is_own_farewell(&control));
            if is_for_others || !matches!(stream.read(&mut place), Ok(CONTROL_LEN)) {
                return;
            }
        }
    }

    /// The last words of an end whose gate has just been closed: the rest of an accepted message, and
    /// the farewell, as far as there is room. Nobody could act on a failure, and nothing is kept.
    pub(super) fn say_farewell<S: Stream>(&self, stream: &S) {
        let Some(mut rest) = self.last_turn(&self.sender, stream) else {
            return;
        };
        // Only now: what had the turn before may have said it.
        let farewell = match self.life.sending.swap(FINISHED, Ordering::SeqCst) {
            OPEN => self.framing.control(&self.farewell(false)),
            _ => None,
        };
        self.unsent.store(false, Ordering::SeqCst);
        let rest = std::mem::take(&mut *rest);
        let is_begun = !rest.is_empty();
        let is_elsewhere = self.is_inherited(&self.sending) || self.is_taken_elsewhere(stream);
        if !rest.is_cut && !is_elsewhere && put_rest(stream, rest) {
            if is_begun && self.is_claimable() {
                stream.release();
            }
            put_farewell(stream, farewell.as_ref().map_or(&[], |frame| frame));
        }
    }
}

/// Whether this very process said it of its own copy of the other end. That tells nothing of the other
/// copies.
fn is_own_farewell(control: &Control) -> bool {
    matches!(control, Control::End { shared: true, process, .. } if *process == process::identity())
}

/// Writes the rest of an accepted message, if there is room for all of it.
fn put_rest<S: Stream>(stream: &S, mut rest: Rest) -> bool {
    while !rest.bytes.is_empty() {
        match put(stream, rest.bytes.unsent()) {
            Some(count) => rest.bytes.advance(count),
            None => return false,
        }
    }
    let descriptors: Vec<_> = rest.descriptors.iter().map(AsFd::as_fd).collect();
    descriptors.is_empty() || stream.write_descriptors(&descriptors).is_ok()
}

fn put_farewell<S: Stream>(stream: &S, mut farewell: &[u8]) {
    let mut stretched = false;
    while !farewell.is_empty() {
        match put(stream, farewell) {
            Some(count) => farewell = &farewell[count..],
            None if stretched => return,
            None => {
                stream.stretch();
                stretched = true;
            }
        }
    }
    if stream.flush().is_err() && !stretched {
        stream.stretch();
        let _ = stream.flush();
    }
}

/// Writes what can be written at once; nothing where that is nothing.
fn put<S: Stream>(stream: &S, bytes: &[u8]) -> Option<usize> {
    loop {
        match stream.write(&[IoSlice::new(bytes)]) {
            Ok(0) => return None,
            Ok(count) => return Some(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn amid_message() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "the duct is in the middle of a message, which only this end can complete: receive it, or flush what \
         was sent, before the descriptor is handed on",
    )
}

fn cannot_say() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "the other end speaks version 1 of the protocol, which has no word for this",
    )
}
