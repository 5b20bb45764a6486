//! The engine of a duct: whole messages over a byte stream, never out of step.

mod claim;
mod end;
mod receive;
mod rest;
mod send;
mod stats;

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Interest, Queue, Wait};
use crate::process;
use crate::spin::Spin;
use crate::stream::Stream;
use crate::turn::Turn;
use crate::wire::{Body, Framing, Incoming, V1, Violation};
use end::{Drains, Life, Peer};
use rest::Rest;
use stats::Counters;

pub use receive::Announced;
pub use stats::{Stats, Traffic};

/// The limit on a message's size unless another is set: 64 MiB.
pub const DEFAULT_MESSAGE_LIMIT: usize = 64 * 1024 * 1024;

/// Sends and receives whole messages over a [`Stream`] that it does not own.
///
/// This is what a [`Duct`](crate::Duct) is made of, for those who must keep the socket themselves,
/// as a language binding does. All calls of one channel must be given the same stream. Sending and
/// receiving have a lock each, so the two directions never wait for each other.
#[derive(Debug)]
pub struct Channel<F = V1, B = Vec<u8>> {
    framing: F,
    gate: Gate,
    sender: Turn<Rest>,
    receiver: Turn<Incoming<B>>,
    /// The process that is in the middle of sending a frame, or [`NOBODY`].
    sending: AtomicU32,
    /// The process that is in the middle of receiving one.
    receiving: AtomicU32,
    limit: AtomicUsize,
    /// The stream has been told that large messages come.
    widened: AtomicBool,
    /// The rest of an accepted message waits for somebody to write it.
    unsent: AtomicBool,
    /// The error number with which the connection was lost, or zero: the system tells it only once.
    lost: AtomicI32,
    /// For how long something sent may be unanswered, in milliseconds, or zero for ever.
    patience: AtomicU64,
    spin: Spin,
    counters: Counters,
    /// A message has been sent since the last one was received, so an answer may be on its way.
    answer_expected: AtomicBool,
    peer: Peer,
    life: Life,
    drains: Drains,
    /// Why the channel closed itself.
    violation: OnceLock<Violation>,
}

const NOBODY: u32 = 0;

/// How often at least somebody who waits looks whether the other host still answers.
const LOOK_AFTER: Duration = Duration::from_millis(250);

impl<F: Framing + Default, B: Body> Default for Channel<F, B> {
    fn default() -> Self {
        Self::new(F::default())
    }
}

impl<F: Framing, B: Body> Channel<F, B> {
    /// A channel of messages that are framed so.
    #[must_use]
    pub fn new(framing: F) -> Self {
        Self {
            framing,
            gate: Gate::default(),
            sender: Turn::new(Queue::Send),
            receiver: Turn::new(Queue::Receive),
            sending: AtomicU32::new(NOBODY),
            receiving: AtomicU32::new(NOBODY),
            limit: AtomicUsize::new(DEFAULT_MESSAGE_LIMIT),
            widened: AtomicBool::new(false),
            unsent: AtomicBool::new(false),
            lost: AtomicI32::new(0),
            patience: AtomicU64::new(0),
            spin: Spin::default(),
            counters: Counters::default(),
            answer_expected: AtomicBool::new(false),
            peer: Peer::default(),
            life: Life::default(),
            drains: Drains::default(),
            violation: OnceLock::new(),
        }
    }

    /// How its messages are framed.
    #[must_use]
    pub fn framing(&self) -> &F {
        &self.framing
    }

    /// The largest message, in bytes, that may be sent or received.
    #[must_use]
    pub fn message_limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the largest message, in bytes, that may be sent or received.
    pub fn set_message_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Sets for how long something that was sent may go without any answer of the other host, while
    /// somebody waits in the channel: beyond that, the other end is taken for dead. None is for ever.
    pub fn set_patience(&self, patience: Option<Duration>) {
        let milliseconds = patience.map_or(0, |patience| patience.as_millis().max(1));
        let milliseconds = u64::try_from(milliseconds).unwrap_or(u64::MAX);
        self.patience.store(milliseconds, Ordering::Relaxed);
    }

    /// Sleeps until the stream is ready, or something else may have changed.
    fn sleep<S: Stream>(
        &self,
        stream: &S,
        interest: Interest,
        still_wanted: impl FnOnce() -> bool,
        wait: &mut Wait<'_>,
    ) -> Result<()> {
        self.counters.wait(wait);
        let descriptor = stream.descriptor().map(|fd| (fd, interest));
        let queue = Queue::Descriptor;
        let patience = Duration::from_millis(self.patience.load(Ordering::Relaxed));
        let slept = match patience.is_zero() {
            true => self.gate.sleep(descriptor, queue, still_wanted, wait),
            false => {
                let until = wait.deadline;
                wait.deadline = until.or_after(LOOK_AFTER);
                let slept = self.gate.sleep(descriptor, queue, still_wanted, wait);
                wait.deadline = until;
                let is_ready = matches!(slept, Ok(true));
                if !is_ready
                    && let Ok(_active) = self.gate.enter()
                    && stream.give_up(patience)
                {
                    let number = Errno::TIMEDOUT.raw_os_error();
                    self.lost.store(number, Ordering::SeqCst);
                }
                match slept {
                    // It was the look that was due, and not the caller's time.
                    Err(error) if error.kind() == ErrorKind::TimedOut && until.allows_waiting() => {
                        Ok(false)
                    }
                    slept => slept,
                }
            }
        };
        slept.map(drop).map_err(|error| self.explain(error))
    }

    /// Checks that a message of `len` bytes may be sent, before it is made.
    ///
    /// # Errors
    ///
    /// `TooLarge`.
    pub fn check_size(&self, len: usize) -> Result<()> {
        match len <= self.message_limit() && len as u64 <= self.others_limit() {
            true => Ok(()),
            false => Err(self.too_large(len)),
        }
    }

    /// The largest message that the wire can express and the other end takes.
    fn others_limit(&self) -> u64 {
        self.framing
            .payload_max()
            .min(self.peer.limit.load(Ordering::Relaxed))
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

    /// What has gone through it, counted in this process.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.counters.read()
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
    /// [`ErrorKind::Closed`]. The rest of an accepted message goes out if it can at once, and so does
    /// the farewell where the framing has one; then it may take [a moment](Stream::linger) until they
    /// have arrived. After the return no thread is using the stream's descriptor, if it has one.
    ///
    /// Returns whether it was this call that closed it, so that its caller may let go of the descriptor:
    /// a second one does not touch the stream, which may be somebody else's by then.
    pub fn close<S: Stream>(&self, stream: &S) -> bool {
        self.close_as(stream, || {})
    }

    /// The same, and whoever closes it notes how.
    fn close_as<S: Stream>(&self, stream: &S, note: impl FnOnce()) -> bool {
        let inside = self.gate.hold();
        let was_open = self.gate.shut();
        if !self.begin_to_close() {
            drop(inside);
            if stream.descriptor().is_some() {
                // Whoever closes it at the same time is to have said the last word.
                self.gate.await_others(0);
            }
            return false;
        }
        note();
        self.say_farewell(stream);
        if stream.descriptor().is_some() {
            self.gate.await_others(1);
        }
        if was_open && self.has_left() {
            self.hear_last(stream);
            stream.linger(self.life.may_be_shared());
        }
        true
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
                    process::pid_of(busy.load(Ordering::SeqCst))
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

    /// Whether the error is the system's word that the connection is lost.
    fn is_lost_by(&self, error: &io::Error) -> bool {
        let lost = error.raw_os_error().filter(|number| {
            [
                Errno::CONNRESET,
                Errno::TIMEDOUT,
                Errno::HOSTUNREACH,
                Errno::NETUNREACH,
                Errno::NETDOWN,
            ]
            .contains(&Errno::from_raw_os_error(*number))
        });
        if let Some(number) = lost {
            self.lost.store(number, Ordering::SeqCst);
        }
        lost.is_some()
    }
}

fn violated(violation: &Violation) -> Error {
    let kind = match violation {
        Violation::TooLarge { .. } => ErrorKind::TooLarge,
        Violation::Refused => ErrorKind::PermissionDenied,
        Violation::Magic { .. }
        | Violation::Negative { .. }
        | Violation::Malformed { .. }
        | Violation::Stream { .. }
        | Violation::Unexpected { .. } => ErrorKind::Protocol,
    };
    Error::new(kind, format!("{violation}. The duct is closed")).with_source(violation.clone())
}
